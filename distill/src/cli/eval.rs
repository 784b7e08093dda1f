//! `wordsight-distill eval-photographs` and `eval-tracking`: how good a student is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_distill::eval::{self, Detector};
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Collection;
use wordsight_distill::scenes::clips::Props;
use wordsight_teacher::Teacher;
use wordsight_tracking::TrackingSettings;

use super::report::{photograph_rows, trained_on, vocabulary_for, write_json};

/// Arguments of `eval-photographs`.
#[derive(Args)]
pub struct EvalPhotographs {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Folder with imagenet.json and photographs.
    #[arg(long)]
    data: PathBuf,
    /// The teacher's folder.
    #[arg(long)]
    teacher: PathBuf,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Arguments of `eval-tracking`.
#[derive(Args)]
pub struct EvalTracking {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Folder with imagenet.json, cutouts and backgrounds.
    #[arg(long)]
    data: PathBuf,
    /// Words; the clips show those that there are cutouts of. By default --words of the cutouts', embedded by --teacher.
    #[arg(long, required_unless_present = "teacher")]
    vocabulary: Option<PathBuf>,
    /// The teacher's folder.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// How many words, without --vocabulary.
    #[arg(long, default_value_t = 40)]
    words: usize,
    /// How many clips.
    #[arg(long, default_value_t = 24)]
    clips: usize,
    /// Seconds of each clip.
    #[arg(long, default_value_t = 6.0, value_parser = seconds)]
    length_s: f32,
    /// Frames per second.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=120))]
    fps: u32,
    /// Of how many frames one is looked at, as on a slower device; may be given more than once.
    #[arg(long, default_values_t = [1, 3], value_parser = clap::value_parser!(u32).range(1..))]
    every: Vec<u32>,
    /// The same seed makes the same clips.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The least score of a detection, for words without a threshold of their own.
    #[arg(long, default_value_t = 0.3, value_parser = super::share)]
    score_threshold: f32,
    /// Weak detections have at least this share of the threshold.
    #[arg(long, default_value_t = 0.5, value_parser = super::share)]
    weak_fraction: f32,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Nothing that is read is written.
pub(super) fn check_outputs<'a>(
    given: impl IntoIterator<Item = Option<&'a PathBuf>>,
    data: &Path,
    teacher: Option<&PathBuf>,
    json: Option<&PathBuf>,
) -> Result<()> {
    let mut inputs = super::inputs(given);
    inputs.add(&data.join("imagenet.json"));
    inputs.add_pictures(data);
    teacher.into_iter().for_each(|teacher| super::add_teacher(&mut inputs, teacher));
    super::check_report(&inputs, json, None)
}

/// The main objects of photographs.
pub fn photographs(arguments: &EvalPhotographs) -> Result<()> {
    let EvalPhotographs { student, data, teacher, json } = arguments;
    check_outputs([Some(student)], data, Some(teacher), json.as_ref())?;
    let rows = photograph_rows(student, data, &mut Teacher::open(teacher)?)?;
    let rows: BTreeMap<_, _> = rows.iter().map(|(name, row)| (*name, row)).collect();
    write_json(json.as_deref(), &rows)
}

/// Things through clips.
pub fn tracking(arguments: &EvalTracking) -> Result<()> {
    let EvalTracking { student, data, vocabulary, teacher, json, .. } = arguments;
    check_outputs([Some(student), vocabulary.as_ref()], data, teacher.as_ref(), json.as_ref())?;
    let collection = Collection::load(&arguments.data)?;
    let vocabulary = match (&arguments.vocabulary, &arguments.teacher) {
        (Some(path), _) => Vocabulary::load(path)?,
        (None, Some(teacher)) => {
            let words = spread(&collection.words_of(&collection.with_cutouts()), arguments.words);
            vocabulary_for(&arguments.student, words, &mut Teacher::open(teacher)?)?
        }
        (None, None) => anyhow::bail!(Mistake::new("name a --vocabulary or a --teacher")),
    };
    let words: Vec<String> = vocabulary.shown().iter().map(|word| word.word.clone()).collect();
    let props = Props::gather(&collection, &arguments.data.join("backgrounds"), &words)?;
    let settings = eval::tracking::Settings {
        clips: arguments.clips,
        seed: arguments.seed,
        length_s: arguments.length_s,
        rate: arguments.fps,
        every: arguments.every.clone(),
        detection: DetectionSettings {
            score_threshold: arguments.score_threshold,
            weak_fraction: arguments.weak_fraction,
            ..eval::AS_DEVICES
        },
        tracking: TrackingSettings::default(),
    };
    let mut detector = Detector::open(&arguments.student, &vocabulary)?;
    let rows = eval::tracking::rows(&mut detector, &props, &settings)?;
    println!(
        "{} clips of {} s; {} words of {}, {}",
        arguments.clips,
        arguments.length_s,
        words.len(),
        vocabulary.teacher,
        trained_on(&vocabulary)
    );
    print!("{}", eval::tracking::table(&rows));
    write_json(arguments.json.as_deref(), &rows)
}

/// A length of time above 0, in seconds.
fn seconds(text: &str) -> Result<f32, String> {
    let seconds: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds > 0.0 && seconds <= 600.0 {
        Ok(seconds)
    } else {
        Err("it is more than 0, up to 600".to_owned())
    }
}

/// So many of the words, from the first to the last.
fn spread(words: &[String], count: usize) -> Vec<String> {
    let count = count.clamp(1, words.len().max(1));
    (0..count.min(words.len())).map(|place| words[place * words.len() / count].clone()).collect()
}
