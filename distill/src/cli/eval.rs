//! `wordsight-distill eval`, `eval-photographs`, `eval-tracking` and `bars`: how good a student is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Row, Rules};
use wordsight_distill::eval::photographs::Evaluation;
use wordsight_distill::eval::true_boxes::{self, TrueBoxes};
use wordsight_distill::eval::{self, Detector};
use wordsight_distill::export;
use wordsight_distill::photographs::Collection;
use wordsight_distill::scenes::clips::Props;
use wordsight_distill::student::Head;
use wordsight_distill::train::Checkpoint;
use wordsight_teacher::Teacher;
use wordsight_tracking::TrackingSettings;

use super::Origin;
use super::export::{Scoring, export_student};

/// What `eval` is told.
#[derive(Args)]
pub struct Eval {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Annotations in COCO's or LVIS's format.
    #[arg(long)]
    annotations: PathBuf,
    /// The images' folder.
    #[arg(long)]
    images: PathBuf,
    /// Words, one of them for every category; by default the categories' names, embedded by --teacher.
    #[arg(long, required_unless_present = "teacher")]
    vocabulary: Option<PathBuf>,
    /// Whose rules apply.
    #[arg(long, value_enum, default_value_t = Rules::Coco)]
    protocol: Rules,
    /// The teacher's folder.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// Have the teacher judge crops of the student's proposals too, on so many of the images.
    #[arg(long, default_value_t = 0, requires = "teacher")]
    teacher_on_crops: usize,
    /// Also name the objects in their true boxes, by student and teacher.
    #[arg(long, requires = "teacher")]
    true_boxes: bool,
    /// EfficientNet-Lite0's weights, for --true-boxes.
    #[arg(long, default_value = super::BACKBONE)]
    backbone: PathBuf,
    #[command(flatten)]
    small: super::small_vocabularies::Arguments,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What `eval-photographs` is told.
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

/// What `eval-tracking` is told.
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

/// What `bars` is told.
#[derive(Args)]
pub struct Bars {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Folder of trainings with a fresh head, each in a folder of the head's name; left out where missing.
    #[arg(long)]
    heads: Option<PathBuf>,
    /// Scenes that `scenes --part validation` made.
    #[arg(long)]
    scenes: PathBuf,
    /// Folder with imagenet.json, photographs and coco_tiny/.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    origin: Origin,
    /// Scenes on which the teacher judges crops: two crops a proposal take seconds an image.
    #[arg(long, default_value_t = 50)]
    teacher_on_crops: usize,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Average precision on annotated images, or what users of small vocabularies see there.
pub fn run(arguments: &Eval) -> Result<()> {
    let set = AnnotatedSet::load(&arguments.annotations, &arguments.images)?;
    if let (true, Some(teacher)) = (arguments.small.are_asked_for(), &arguments.teacher) {
        return arguments.small.run(&arguments.student, &set, teacher, arguments.json.as_deref());
    }
    let mut teacher = arguments.teacher.as_deref().map(Teacher::open).transpose()?;
    let vocabulary = match (&arguments.vocabulary, &mut teacher) {
        (Some(path), _) => Vocabulary::load(path)?,
        (None, Some(teacher)) => {
            let mut vocabulary = vocabulary_for(&arguments.student, set.names(), teacher)?;
            if let Some(competitors) = &arguments.small.competitors {
                competitors.append_to(&mut vocabulary, teacher)?;
            }
            vocabulary
        }
        (None, None) => anyhow::bail!("either --vocabulary or --teacher"),
    };
    let mut detector = Detector::open(&arguments.student, &vocabulary)?;
    let mut rows = Vec::new();
    let mut named = None;
    if let Some(teacher) = &mut teacher {
        ensure!(
            teacher.id() == detector.facts().teacher,
            "the student learned from {}, not from {}",
            detector.facts().teacher,
            teacher.id()
        );
        if arguments.teacher_on_crops > 0 {
            let part = set.first(arguments.teacher_on_crops);
            rows.extend(annotated::student_and_teacher_rows(
                &mut detector,
                teacher,
                &vocabulary,
                &part,
                arguments.protocol,
            )?);
        }
        if arguments.true_boxes {
            named = Some(true_boxes_of(
                &arguments.student,
                &arguments.backbone,
                &detector,
                teacher,
                &vocabulary,
                &set,
            )?);
        }
    }
    if arguments.teacher_on_crops < set.len() {
        rows.push(annotated::student_row("student", &mut detector, &vocabulary, &set, arguments.protocol)?);
    }
    println!("{} words of {}, {}", vocabulary.shown().len(), vocabulary.teacher, trained_on(&vocabulary));
    print!("{}", annotated::table(&rows));
    if let Some(named) = &named {
        print!("{}", true_boxes::table(named));
    }
    write_json(arguments.json.as_deref(), &json!({ "rows": rows, "true_boxes": named }))
}

/// The main objects of photographs.
pub fn photographs(arguments: &EvalPhotographs) -> Result<()> {
    let EvalPhotographs { student, data, teacher, json } = arguments;
    let rows = photograph_rows(student, data, &mut Teacher::open(teacher)?)?;
    let rows: BTreeMap<_, _> = rows.iter().map(|(name, row)| (*name, row)).collect();
    write_json(json.as_deref(), &rows)
}

/// Things through clips.
pub fn tracking(arguments: &EvalTracking) -> Result<()> {
    let collection = Collection::load(&arguments.data)?;
    let vocabulary = match (&arguments.vocabulary, &arguments.teacher) {
        (Some(path), _) => Vocabulary::load(path)?,
        (None, Some(teacher)) => {
            let words = spread(&collection.words_of(&collection.with_cutouts()), arguments.words);
            vocabulary_for(&arguments.student, words, &mut Teacher::open(teacher)?)?
        }
        (None, None) => anyhow::bail!("either --vocabulary or --teacher"),
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

type PhotographRows = [(&'static str, eval::photographs::Row); 2];

/// Prints the table, and returns its rows: base and novel.
fn photograph_rows(student: &Path, data: &Path, teacher: &mut Teacher) -> Result<PhotographRows> {
    let collection = Collection::load(data)?;
    let vocabulary = eval::photographs::vocabulary_of(&collection, teacher)?;
    let mut evaluation = Evaluation::new(student, &vocabulary, teacher)?;
    let rows = [
        ("base, held out", evaluation.run(&collection, &collection.held_out(), "base")?),
        ("novel", evaluation.run(&collection, &collection.novel(), "novel")?),
    ];
    println!(
        "vocabulary: all {} words, base and novel; teacher: {}",
        vocabulary.shown().len(),
        vocabulary.teacher
    );
    print!("{}", eval::photographs::table(&rows));
    Ok(rows)
}

/// One thing asked of a student, and what it does.
#[derive(Serialize)]
struct Bar {
    what: String,
    asked: String,
    got: String,
    met: bool,
}

/// Everything that is asked of a student.
pub fn bars(arguments: &Bars) -> Result<()> {
    let Bars { student, heads, scenes, data, origin, .. } = arguments;
    let mut teacher = Teacher::open(&origin.teacher)?;
    let set = AnnotatedSet::load(&scenes.join("annotations.json"), &scenes.join("images"))?;
    let collection = Collection::load(data)?;
    let trained: HashSet<String> =
        collection.training().iter().map(|photograph| photograph.name.clone()).collect();
    let vocabulary = eval::vocabulary_of(set.names(), &trained, &mut teacher)?;

    println!("Validation scenes; {} words, {}", vocabulary.shown().len(), trained_on(&vocabulary));
    let mut of_heads = Vec::new();
    let mut detector = Detector::open(student, &vocabulary)?;
    for head in Head::ALL {
        let Some(folder) =
            heads.as_ref().map(|heads| heads.join(head.name())).filter(|folder| folder.is_dir())
        else {
            continue;
        };
        let input_size = detector.facts().input_width;
        of_heads.push(head_row(head, &folder, input_size, origin, &mut teacher, &vocabulary, &set)?);
    }
    let shipped = annotated::student_row("the student", &mut detector, &vocabulary, &set, Rules::Coco)?;
    let mut rows = of_heads.clone();
    rows.push(shipped.clone());
    print!("{}", annotated::table(&rows));

    let part = set.first(arguments.teacher_on_crops);
    println!("\nOver the same proposals, {} scenes", part.len());
    let pair =
        annotated::student_and_teacher_rows(&mut detector, &mut teacher, &vocabulary, &part, Rules::Coco)?;
    print!("{}", annotated::table(&pair));

    let coco = data.join("coco_tiny");
    let coco = AnnotatedSet::load(&coco.join("instances.json"), &coco.join("images"))?;
    println!("\nTransfer: COCO photographs, {} words, no box of them in training", coco.names().len());
    let coco_words = vocabulary_for(student, coco.names(), &mut teacher)?;
    let mut coco_detector = Detector::open(student, &coco_words)?;
    let transfer =
        annotated::student_row("the student", &mut coco_detector, &coco_words, &coco, Rules::Coco)?;
    print!("{}", annotated::table(std::slice::from_ref(&transfer)));
    let [small, medium, large] =
        transfer.proposal_recall_by_size.map(|recall| 100.0 * recall.unwrap_or_default());
    println!("AR@100 of proposals by size: small {small:.1}, medium {medium:.1}, large {large:.1}");
    let named = true_boxes_of(student, &origin.backbone, &coco_detector, &mut teacher, &coco_words, &coco)?;
    print!("{}", true_boxes::table(&named));

    println!("\nPhotographs that training never saw");
    let of_photographs = photograph_rows(student, data, &mut teacher)?;

    let bars = judge(&of_heads, &shipped, &pair, &transfer, &named, &of_photographs);
    println!();
    for bar in &bars {
        println!(
            "{:<5} {}: asked {}, got {}",
            if bar.met { "ok" } else { "BELOW" },
            bar.what,
            bar.asked,
            bar.got
        );
    }
    let photographs: BTreeMap<_, _> = of_photographs.iter().map(|(name, row)| (*name, row)).collect();
    write_json(
        arguments.json.as_deref(),
        &json!({
            "scenes": rows, "teacher_on_crops": pair, "transfer": transfer, "true_boxes": named,
            "photographs": photographs, "bars": bars,
        }),
    )
}

/// A training's row: exported beside its checkpoint for the shipped student's input, with the usual scoring.
fn head_row(
    head: Head,
    training: &Path,
    input_size: usize,
    origin: &Origin,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
) -> Result<Row> {
    let exported = training.join("student.onnx");
    let scoring = Scoring { temperature: 0.02, ensemble_lambda: 0.33, objectness_weight: 0.5 };
    export_student(training, origin, None, Some(input_size), &scoring, &exported)?;
    let mut vocabulary = vocabulary.clone();
    if head == Head::Supervised {
        // Its own vectors for the words that it learned; the others' text embeddings mean nothing to it.
        let checkpoint = Checkpoint::open(training)?;
        let (student, _, _) = origin.student(
            teacher,
            &checkpoint.config,
            checkpoint.words.len(),
            &Device::flex().autodiff(),
        )?;
        let student = checkpoint.student(training, student)?;
        let vectors = student.regions.words().context("a supervised head has vectors of its words")?;
        let vectors: Vec<f32> = vectors.into_data().iter().collect();
        let size = vocabulary.embedding_size;
        for (name, vector) in checkpoint.words.iter().zip(vectors.chunks_exact(size)) {
            let place = vocabulary.words.iter().position(|word| &word.word == name);
            let place = place.with_context(|| format!("the scenes have no category {name}"))?;
            vocabulary.embeddings[place * size..(place + 1) * size].copy_from_slice(vector);
        }
    }
    let mut detector = Detector::open(&exported, &vocabulary)?;
    annotated::student_row(head.name(), &mut detector, &vocabulary, set, Rules::Coco)
}

fn judge(
    heads: &[Row],
    shipped: &Row,
    [student, teacher]: &[Row; 2],
    transfer: &Row,
    named: &TrueBoxes,
    [(_, base), (_, novel)]: &PhotographRows,
) -> Vec<Bar> {
    let ap50 = |part: &Option<wordsight_evaluation::Summary>| {
        100.0 * part.as_ref().and_then(|part| part.ap50).unwrap_or_default()
    };
    let mut bars = Vec::new();
    let mut at_least = |what: &str, got: f64, asked: f64, unit: &str| {
        bars.push(Bar {
            what: what.to_owned(),
            asked: format!(">= {asked:.1}{unit}"),
            got: format!("{got:.1}{unit}"),
            met: got >= asked,
        });
    };
    let percent = |share: Option<f64>| 100.0 * share.unwrap_or_default();
    let (student_ap50, teacher_ap50) = (percent(student.all.ap50), percent(teacher.all.ap50));
    at_least("AP50 of student against teacher on crops", student_ap50, teacher_ap50, "");
    at_least("time of teacher on crops in student's", teacher.milliseconds / student.milliseconds, 50.0, "x");
    at_least("novel in base AP50 on scenes", 100.0 * ap50(&shipped.novel) / ap50(&shipped.base), 60.0, "%");
    at_least("AR@100 of proposals on scenes", percent(shipped.proposal_recall), 60.0, "");
    at_least("AR@100 of proposals on COCO photographs", percent(transfer.proposal_recall), 40.0, "");
    at_least("AP50 on COCO photographs", percent(transfer.all.ap50), 15.0, "");
    let first = |named: &true_boxes::Named| 100.0 * named.first as f64 / named.objects.max(1) as f64;
    at_least(
        "COCO objects in true boxes, first word, against the teacher",
        first(&named.student),
        first(&named.teacher),
        "%",
    );
    at_least("photographs, right word in top 5, base", 100.0 * f64::from(base.top5), 80.0, "%");
    at_least("photographs, right word in top 5, novel", 100.0 * f64::from(novel.top5), 75.0, "%");

    let of = |head: Head| heads.iter().find(|row| row.who == head.name()).map(|row| ap50(&row.novel));
    let order = [Head::Supervised, Head::VildText, Head::Vild, Head::VildEnsemble];
    if let [Some(supervised), Some(text), Some(vild), Some(ensemble)] = order.map(of) {
        bars.push(Bar {
            what: "novel AP50 of fresh heads".to_owned(),
            asked: "supervised < vild-text < vild <= vild-ensemble".to_owned(),
            got: format!("{supervised:.1}, {text:.1}, {vild:.1}, {ensemble:.1}"),
            met: supervised < text && text < vild && vild <= ensemble,
        });
    }
    bars
}

/// Reads an exported student back as a model and names objects in their true boxes.
fn true_boxes_of(
    student: &Path,
    backbone: &Path,
    detector: &Detector,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
) -> Result<TrueBoxes> {
    let weights = super::read_backbone(backbone)?;
    let (untrained, _) = wordsight_distill::start::untrained(&weights, teacher, &Device::flex())?;
    let model = export::read_student(student, untrained)
        .context("true boxes can only be named by a student that starts from the classifier")?;
    true_boxes::name_true_boxes(&model, detector.facts(), &weights, teacher, vocabulary, set)
}

/// A vocabulary of these names, those marked that the student's training had boxes of.
pub(super) fn vocabulary_for(
    student: &Path,
    names: Vec<String>,
    teacher: &mut Teacher,
) -> Result<Vocabulary> {
    let engine = wordsight_engines::CpuEngine::open(student, 1)?;
    let trained = eval::trained_words(wordsight_engines::Engine::facts(&engine));
    eval::vocabulary_of(names, &trained, teacher)
}

fn trained_on(vocabulary: &Vocabulary) -> String {
    let count = vocabulary.shown().iter().filter(|word| word.trained_on).count();
    format!("{count} of them trained on (base), {} not (novel)", vocabulary.shown().len() - count)
}

pub(super) fn write_json(path: Option<&Path>, value: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, serde_json::to_string_pretty(value)?)
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}
