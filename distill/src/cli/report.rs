//! What several commands print or write the same way.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::Serialize;
use wordsight_detection::Vocabulary;
use wordsight_distill::eval::annotated::AnnotatedSet;
use wordsight_distill::eval::photographs::Evaluation;
use wordsight_distill::eval::true_boxes::{self, TrueBoxes};
use wordsight_distill::eval::{self, Detector};
use wordsight_distill::export;
use wordsight_distill::photographs::Collection;
use wordsight_teacher::Teacher;

pub(super) type PhotographRows = [(&'static str, eval::photographs::Row); 2];

/// Prints the table, and returns its rows: base and novel.
pub(super) fn photograph_rows(student: &Path, data: &Path, teacher: &mut Teacher) -> Result<PhotographRows> {
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

/// Reads an exported student back as a model and names objects in their true boxes.
pub(super) fn true_boxes_of(
    student: &Path,
    backbone: &Path,
    detector: &Detector,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
) -> Result<TrueBoxes> {
    let weights = super::read_backbone(backbone)?;
    let sizes = export::read_sizes(student)?;
    let untrained = wordsight_distill::start::untrained(&weights, &sizes, teacher.text(), &Device::flex())?;
    let model = export::read_student(student, untrained)
        .context("true boxes can only be named by a student that starts from the classifier")?;
    true_boxes::name_true_boxes(&model, &sizes, detector.facts(), teacher, vocabulary, set)
}

/// A vocabulary of these names, those marked that the student's training had boxes of.
pub(super) fn vocabulary_for(
    student: &Path,
    names: Vec<String>,
    teacher: &mut Teacher,
) -> Result<Vocabulary> {
    let engine = wordsight_engines::CpuEngine::open(student, 1)?;
    let trained = wordsight_engines::Engine::facts(&engine).trained_words();
    eval::vocabulary_of(names, &trained, teacher)
}

pub(super) fn trained_on(vocabulary: &Vocabulary) -> String {
    let words = vocabulary.shown();
    let count = words.iter().filter(|word| word.trained_on).count();
    format!("{count} of them trained on (base), {} not (novel)", words.len() - count)
}

pub(super) fn write_json(path: Option<&Path>, value: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)?;
    wordsight_files::write_result(path, |output| output.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}
