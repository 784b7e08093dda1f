//! `wordsight-distill label`: a detector completes annotations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{ArgAction, Args};
use serde_json::json;
use wordsight_detection::Vocabulary;
use wordsight_distill::device::TrainDevice;
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Rules};
use wordsight_distill::images::Images;
use wordsight_distill::label::answers::{self, AnswerManifest};
use wordsight_distill::label::yolox::{Answer, COCO_NAMES, Suppression, Yolox};
use wordsight_distill::label::{self, AnnotationFile, Detect, Format, Settings, StudentDetector};
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Unreadable;
use wordsight_distill::table::{self, Shard};
use wordsight_files::Content;

use super::report::write_json;

/// Arguments of `label`.
#[derive(Args)]
pub struct Arguments {
    /// The detector, a YOLOX as ONNX.
    #[arg(long, required_unless_present = "student", conflicts_with = "student")]
    detector: Option<PathBuf>,
    /// Instead of a detector: a student, ours or an imported one.
    #[arg(long, requires = "vocabulary")]
    student: Option<PathBuf>,
    /// What the student looks for (.safetensors).
    #[arg(long, requires = "student")]
    vocabulary: Option<PathBuf>,
    /// The detector's words, one a line in its output's order; COCO's 80 by default.
    #[arg(long, conflicts_with = "student")]
    names: Option<PathBuf>,
    /// Annotations to complete, in COCO's format; without them all are the detector's.
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// The images: their folder, tar shards (a .tar, a folder of them, or a pattern as in 'photographs-{000..099}.tar'), or a
    /// .txt with one a line.
    #[arg(long)]
    images: PathBuf,
    /// Detections of this score and more become annotations.
    #[arg(long, default_value_t = 0.35, value_parser = super::share)]
    object: f32,
    /// Detections between this score and --object become annotations that training ignores.
    #[arg(long, default_value_t = 0.10, value_parser = super::share)]
    ignore: f32,
    /// Whether the annotations have every object of their own categories. If so, further detections of them are
    /// ignored.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    complete_for_own: bool,
    /// Further words, comma-separated, of which nothing is left to annotate, though no category is named so.
    #[arg(long, value_delimiter = ',')]
    complete_for: Vec<String>,
    /// Leave out, by name, pictures that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
    /// Where a student computes: cpu, cuda or cuda:N (an ONNX Runtime with CUDA, see docs/teacher.md).
    #[arg(long, default_value_t = TrainDevice::Cpu, conflicts_with = "detector")]
    device: TrainDevice,
    /// How many photographs at once on the processor; by default one a core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Instead of completing the annotations, say how good the detector is on them.
    #[arg(
        long,
        requires = "annotations",
        conflicts_with_all = ["object", "ignore", "complete_for_own", "complete_for", "answers", "format", "output"]
    )]
    evaluate: bool,
    /// A folder that keeps the detector's answers: what is in it is not looked at again.
    #[arg(long)]
    answers: Option<PathBuf>,
    /// Look at one of n equal parts of the photographs alone, 1/n to n/n, and write no annotations: a task of an array on
    /// a cluster. `merge` joins the parts of --answers; then run it again without --shard.
    #[arg(long, requires = "answers", conflicts_with = "evaluate")]
    shard: Option<Shard>,
    /// How annotations are written.
    #[arg(long, value_enum, default_value_t = Format::Coco)]
    format: Format,
    /// The annotation file to write, or the folder, as --format has it.
    #[arg(long, short, required_unless_present_any = ["evaluate", "shard"])]
    output: Option<PathBuf>,
    /// Also write the counts, or with --evaluate the figures, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Arguments {
    /// The detector's or the student's file.
    fn detector(&self) -> Result<&Path> {
        let file = self.detector.as_deref().or(self.student.as_deref());
        file.ok_or_else(|| Mistake::new("name a --detector, or a --student and a --vocabulary").into())
    }

    /// What new annotations say they come from.
    fn source(&self) -> Result<String> {
        Ok(self.detector()?.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Whether only some of the photographs are looked at.
    fn is_part(&self) -> bool {
        self.shard.is_some_and(|shard| shard != Shard::WHOLE)
    }

    fn unreadable(&self) -> Unreadable {
        Unreadable::of_flag(self.skip_unreadable)
    }
}

/// Completes annotations, or evaluates who would.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { detector, student, vocabulary, names, annotations, output, answers, .. } = arguments;
    let mut inputs =
        super::inputs([detector, student, vocabulary, names, annotations].map(|path| path.as_ref()));
    super::add_images(&mut inputs, &arguments.images)?;
    match arguments.format {
        Format::Coco | Format::LabelStudio => super::check_report(&inputs, output.as_ref(), None)?,
        Format::Cvat => {
            output.as_ref().map(|path| inputs.check(path, Content::Xml)).transpose()?.unwrap_or(())
        }
        Format::Yolo | Format::Voc => {
            output.as_ref().map(|path| inputs.check_folder(path)).transpose()?;
            output.as_ref().map(|path| label::check_folder(arguments.format, path)).transpose()?;
        }
    }
    answers.as_ref().map(|path| inputs.check_folder(path)).transpose()?;
    super::check_report(&inputs, arguments.json.as_ref(), None)?;
    let mut detectors = open_detectors(arguments)?;
    match (&arguments.annotations, &arguments.output) {
        (Some(annotations), _) if arguments.evaluate => evaluate(arguments, annotations, &mut detectors),
        (_, output) => complete(arguments, output.as_deref(), &mut detectors),
    }
}

fn open_detectors(arguments: &Arguments) -> Result<Vec<Box<dyn Detect>>> {
    let threads = arguments.threads.map_or_else(table::workers, usize::from);
    if let (Some(student), Some(vocabulary)) = (&arguments.student, &arguments.vocabulary) {
        let vocabulary = Vocabulary::load(vocabulary)?;
        let open = |placement| {
            Ok(Box::new(StudentDetector::open(student, &vocabulary, placement)?) as Box<dyn Detect>)
        };
        return arguments.device.placements(threads).into_iter().map(open).collect();
    }
    let text = match &arguments.names {
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the detector's words {}", path.display()))?,
        None => COCO_NAMES.to_owned(),
    };
    let names: Arc<[String]> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let detector = arguments.detector()?;
    let open = |_| Ok(Box::new(Yolox::open(detector, Arc::clone(&names))?) as Box<dyn Detect>);
    (0..threads).map(open).collect()
}

fn complete(arguments: &Arguments, output: Option<&Path>, detectors: &mut [Box<dyn Detect>]) -> Result<()> {
    let settings = Settings {
        object_score: arguments.object,
        ignore_score: arguments.ignore,
        complete_for_own: arguments.complete_for_own,
        complete_for: arguments.complete_for.clone(),
    };
    ensure!(
        settings.ignore_score <= settings.object_score,
        Mistake::new(format!(
            "--ignore {} is above --object {}: it is the lower of the two",
            settings.ignore_score, settings.object_score
        ))
    );
    let images = Images::open(&arguments.images)?;
    let mut file = match &arguments.annotations {
        Some(path) => AnnotationFile::load(path, &images)?,
        // A part needs no sizes but its own photographs'.
        None if arguments.is_part() && arguments.unreadable() == Unreadable::Refused => {
            AnnotationFile::of_names(&images)?
        }
        None => AnnotationFile::of_images(&images, arguments.unreadable())?,
    };
    let suppression = Suppression { score_threshold: settings.ignore_score, ..label::TO_LABEL };
    let Some(answers) = answers(arguments, &file, &images, detectors, &suppression)? else { return Ok(()) };
    let output = output.ok_or_else(|| Mistake::new("name the file to write with --output"))?;
    let names = detectors.first().map_or(&[][..], |detector| detector.names());
    let counts = label::complete(&mut file, &answers, names, &arguments.source()?, &settings);
    label::write(&file, arguments.format, output)?;
    println!(
        "{} photographs: {} boxes annotated, {} objects and {} ignored boxes added, {} detections dropped; {}",
        counts.images,
        counts.annotated,
        counts.objects,
        counts.ignored,
        counts.dropped,
        output.display()
    );
    write_json(arguments.json.as_deref(), &counts)
}

/// What the detectors find in every image; none where one of several parts was looked at.
fn answers(
    arguments: &Arguments,
    file: &AnnotationFile,
    images: &Images,
    detectors: &mut [Box<dyn Detect>],
    suppression: &Suppression,
) -> Result<Option<Vec<Vec<Answer>>>> {
    let unreadable = arguments.unreadable();
    let Some(folder) = &arguments.answers else {
        return Ok(Some(label::detect_all(detectors, file, images, unreadable, suppression)?));
    };
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let detector = read(arguments.detector()?)?;
    let words = arguments.vocabulary.as_deref().or(arguments.names.as_deref()).map(read).transpose()?;
    let manifest = AnswerManifest::new(file, &[&detector, &words.unwrap_or_default()], suppression);
    let shard = arguments.shard.unwrap_or(Shard::WHOLE);
    answers::look(detectors, file, images, unreadable, (&manifest, suppression), shard, folder)?;
    if shard != Shard::WHOLE {
        println!("answers in {}", folder.display());
        return Ok(None);
    }
    Ok(Some(answers::read(&manifest, folder)?))
}

fn evaluate(arguments: &Arguments, annotations: &Path, detectors: &mut [Box<dyn Detect>]) -> Result<()> {
    let images = Images::open(&arguments.images)?;
    let set = AnnotatedSet::of_images(annotations, &images)?.readable(arguments.unreadable())?;
    let file = AnnotationFile::load(annotations, &images)?;
    let began = Instant::now();
    let answers = label::detect_all(detectors, &file, &images, arguments.unreadable(), &label::TO_EVALUATE)?;
    let time = began.elapsed();
    let names = detectors.first().map_or(&[][..], |detector| detector.names());
    let detections = label::detections(&file, &answers, names, &set);
    let who = arguments.source()?;
    let row = annotated::fixed_words_row(&who, &set, detections, time, Rules::Coco);
    print!("{}", annotated::table(std::slice::from_ref(&row)));
    write_json(arguments.json.as_deref(), &json!({ "rows": [row] }))
}
