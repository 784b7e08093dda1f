//! `wordsight-distill check-student`: compares a student's figures with the required ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use wordsight_detection::Vocabulary;
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Row, Rules};
use wordsight_distill::eval::{Detector, small_vocabularies, true_boxes};
use wordsight_distill::student::Head;
use wordsight_distill::train::Checkpoint;
use wordsight_teacher::Teacher;

use super::Origin;
use super::export::{Scoring, export_student};
use super::report::{PhotographRows, photograph_rows, trained_on, true_boxes_of, vocabulary_for, write_json};

/// Arguments of `check-student`.
#[derive(Args)]
pub struct Arguments {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Folder of trainings with a fresh head, each in a folder of the head's name; left out where missing.
    #[arg(long)]
    heads: Option<PathBuf>,
    /// Folder with annotated/coco/, imagenet.json and photographs.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    origin: Origin,
    /// Photographs on which the teacher judges crops: two crops a proposal take seconds a photograph.
    #[arg(long, default_value_t = 50)]
    teacher_on_crops: usize,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One thing asked of a student, and what it does.
#[derive(Serialize)]
struct Check {
    what: String,
    asked: String,
    got: String,
    met: bool,
}

/// Everything that is asked of a student, printed as tables.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { student, data, origin, .. } = arguments;
    let given = [Some(student), Some(&origin.backbone)];
    super::eval::check_outputs(given, data, Some(&origin.teacher), arguments.json.as_ref())?;
    let mut teacher = Teacher::open(&origin.teacher)?;
    let coco = data.join("annotated/coco");
    let set = AnnotatedSet::load(&coco.join("coco_val.json"), &coco.join("images"))?;
    let vocabulary = vocabulary_for(student, set.names(), &mut teacher)?;
    let mut detector = Detector::open(student, &vocabulary)?;

    println!(
        "COCO photographs that training never saw; {} words, {}",
        set.names().len(),
        trained_on(&vocabulary)
    );
    let of_heads = head_rows(arguments, detector.facts().input_width(), &mut teacher, &vocabulary, &set)?;
    let whole = annotated::student_row("the student", &mut detector, &vocabulary, &set, Rules::Coco)?;
    let mut rows = of_heads.clone();
    rows.push(whole.clone());
    print!("{}", annotated::table(&rows));
    print!("{}", annotated::word_table(std::slice::from_ref(&whole), &["person".to_owned()]));

    let part = set.first(arguments.teacher_on_crops);
    println!("\nOver the same proposals, {} photographs", part.len());
    let pair =
        annotated::student_and_teacher_rows(&mut detector, &mut teacher, &vocabulary, &part, Rules::Coco)?;
    print!("{}", annotated::table(&pair));
    let named = true_boxes_of(student, &origin.backbone, &detector, &mut teacher, &vocabulary, &part)?;
    print!("{}", true_boxes::table(&named));

    println!("\nWhat a user of a vocabulary sees");
    let small = super::small_vocabularies::all_rows(student, &set, &mut teacher)?;
    print!("{}", small_vocabularies::table(&small));

    println!("\nImageNet photographs that training never saw");
    let photographs = photograph_rows(student, data, &mut teacher)?;

    let checks = judge(&of_heads, &whole, &pair, &small, &photographs);
    println!();
    for check in &checks {
        let verdict = if check.met { "ok" } else { "BELOW" };
        println!("{verdict:<5} {}: asked {}, got {}", check.what, check.asked, check.got);
    }
    let photographs: BTreeMap<_, _> = photographs.iter().map(|(name, row)| (*name, row)).collect();
    write_json(
        arguments.json.as_deref(),
        &json!({
            "coco": rows, "teacher_on_crops": pair, "true_boxes": named, "small_vocabularies": small,
            "photographs": photographs, "checks": checks,
        }),
    )
}

/// The rows of trainings with a fresh head.
fn head_rows(
    arguments: &Arguments,
    input_size: usize,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
) -> Result<Vec<Row>> {
    let Some(heads) = &arguments.heads else { return Ok(Vec::new()) };
    let there = Head::ALL.into_iter().map(|head| (head, heads.join(head.name())));
    there
        .filter(|(_, folder)| folder.is_dir())
        .map(|(head, folder)| {
            head_row(head, &folder, input_size, &arguments.origin, teacher, vocabulary, set)
        })
        .collect()
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
    export_student(training, origin, None, Some(input_size), &Scoring::default(), &exported)?;
    let mut vocabulary = vocabulary.clone();
    if head == Head::Supervised {
        // Its own vectors for the words that it learned; the others' text embeddings mean nothing to it.
        let checkpoint = Checkpoint::open(training)?;
        let (sizes, words) = (checkpoint.sizes(training)?, checkpoint.words.len());
        let device = Device::flex().autodiff();
        let student = origin.student(teacher.text(), &sizes, checkpoint.config.fresh_head, words, &device)?;
        let student = checkpoint.student(training, student)?;
        let vectors = student.regions.words().context("a supervised head has vectors of its words")?;
        let vectors: Vec<f32> = vectors.into_data().iter().collect();
        let size = vocabulary.embedding_size;
        for (name, vector) in checkpoint.words.iter().zip(vectors.chunks_exact(size)) {
            if let Some(place) = vocabulary.words.iter().position(|word| &word.word == name) {
                vocabulary.embeddings[place * size..(place + 1) * size].copy_from_slice(vector);
            }
        }
    }
    let mut detector = Detector::open(&exported, &vocabulary)?;
    annotated::student_row(head.name(), &mut detector, &vocabulary, set, Rules::Coco)
}

fn judge(
    heads: &[Row],
    whole: &Row,
    [student, teacher]: &[Row; 2],
    small: &[small_vocabularies::Row],
    [(_, base), (_, novel)]: &PhotographRows,
) -> Vec<Check> {
    let percent = |share: Option<f64>| 100.0 * share.unwrap_or_default();
    let mut checks = Vec::new();
    let mut at_least = |what: &str, got: f64, asked: f64| {
        checks.push(Check {
            what: what.to_owned(),
            asked: format!(">= {asked:.1}"),
            got: format!("{got:.1}"),
            met: got >= asked,
        });
    };
    at_least("AP50, 80 words", percent(whole.all.ap50), 25.0);
    at_least("AR@100 of proposals, whatever they show", percent(whole.proposal_recall), 33.0);
    at_least("AP50 of person", percent(whole.words.get("person").map(|person| person.ap50)), 45.0);
    at_least("AP of large objects", percent(whole.all.ap_large), 25.0);
    at_least("AP50, against the teacher's on crops", percent(student.all.ap50), percent(teacher.all.ap50));
    if let Some(ten) = small.iter().find(|row| row.words == 10 && row.competitors > 0) {
        at_least("precision of ten words at the default threshold, %", percent(ten.default.precision), 50.0);
        at_least("recall of the same, %", percent(ten.default.recall), 25.0);
    }
    at_least("photographs, right word in top 5, base, %", 100.0 * f64::from(base.top5), 85.0);
    at_least("photographs, right word in top 5, novel, %", 100.0 * f64::from(novel.top5), 82.0);

    let of = |head: Head| heads.iter().find(|row| row.who == head.name()).map(|row| percent(row.all.ap50));
    if let [Some(image), Some(text), Some(ensemble)] =
        [Head::VildImage, Head::VildText, Head::VildEnsemble].map(of)
    {
        checks.push(Check {
            what: "AP50 of fresh heads".to_owned(),
            asked: "vild-image < vild-text <= vild-ensemble".to_owned(),
            got: format!("{image:.1}, {text:.1}, {ensemble:.1}"),
            met: image < text && text <= ensemble,
        });
    }
    checks
}
