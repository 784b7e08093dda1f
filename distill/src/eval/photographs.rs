//! How well a student names the main object of photographs that training never saw.
//!
//! Takes a student file, a teacher and a [`Collection`]. Returns one row of figures for the held-out base photographs
//! and one for the novel ones, beside the teacher's own. The vocabulary is all words of the collection, base and
//! novel, so a novel word competes with every base word (what ViLD calls the generalised setting).
//!
//! "In the top five" has three readings, and all are counted: among the five detections with the highest scores,
//! several of which may have the same word; among the five best distinct words, each by its best detection only; and
//! with one word a region, as people see it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde::Serialize;
use wordsight_detection::{Detection, DetectionSettings, Vocabulary, iou};
use wordsight_teacher::Teacher;

use super::{Detector, EVALUATION};
use crate::photographs::{Collection, Photograph, open_picture};
use crate::progress;

/// An object counts as found from this IoU.
const FOUND_IOU: f32 = 0.5;
/// Right among this many.
const TOP: usize = 5;

/// As people see detections: one word a region.
const SHOWN: DetectionSettings = DetectionSettings { words_per_region: 1, ..EVALUATION };

/// Shares of photographs, 0 to 1.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Photographs.
    pub photographs: usize,
    /// Any of the student's proposals covers the object.
    pub proposed: f32,
    /// The best detection is right in word and box.
    pub top1: f32,
    /// One of the five best detections is.
    pub top5: f32,
    /// One of the five best words is, each by its best detection.
    pub top5_words: f32,
    /// One of the five best detections is, with one word a region.
    pub top5_shown: f32,
    /// The teacher, given the true box: the right word is its first.
    pub teacher_top1: f32,
    /// The teacher, given the true box: among its first five.
    pub teacher_top5: f32,
}

/// The vocabulary of all words of a collection; words that training saw are marked.
pub fn vocabulary_of(collection: &Collection, teacher: &mut Teacher) -> Result<Vocabulary> {
    let trained = collection.training().iter().map(|photograph| photograph.name.clone()).collect();
    super::vocabulary_of(collection.words(), &trained, teacher)
}

/// Evaluates a student on some photographs.
pub struct Evaluation<'a> {
    detector: Detector,
    teacher: &'a mut Teacher,
    vocabulary: &'a Vocabulary,
}

impl<'a> Evaluation<'a> {
    /// Opens the student and checks that it speaks the vocabulary's language.
    pub fn new(student: &Path, vocabulary: &'a Vocabulary, teacher: &'a mut Teacher) -> Result<Self> {
        Ok(Self { detector: Detector::open(student, vocabulary)?, teacher, vocabulary })
    }

    /// The figures over `photographs`, all of which must have a trusted box.
    pub fn run(
        &mut self,
        collection: &Collection,
        photographs: &[&Photograph],
        what: &'static str,
    ) -> Result<Row> {
        ensure!(!photographs.is_empty(), "there are no {what} photographs to evaluate on");
        let bar = progress::bar(photographs.len() as u64, what);
        let mut row = Row::default();
        for photograph in photographs {
            row.add(&self.one(collection, photograph)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(row.mean())
    }

    fn one(&mut self, collection: &Collection, photograph: &Photograph) -> Result<Row> {
        let path = collection.folder.join(&photograph.file);
        let picture = open_picture(&path)?;
        let object =
            photograph.trusted_box().with_context(|| format!("{} has no trusted box", photograph.file))?;
        let word = self.vocabulary.words.iter().position(|word| word.word == photograph.name);
        let word = word.with_context(|| format!("the vocabulary lacks the word {}", photograph.name))?;

        let letterbox = self.detector.infer(&picture)?;
        let in_frame = |box_in_input| letterbox.box_in_frame_from_input(box_in_input);
        let proposed = self
            .detector
            .regions
            .boxes_in_input
            .iter()
            .any(|&proposal| iou(in_frame(proposal), object) >= FOUND_IOU);
        let right = |detection: &Detection| {
            detection.word == word && iou(in_frame(detection.box_in_input), object) >= FOUND_IOU
        };
        let detections = self.detector.detect(&EVALUATION);
        let shown = self.detector.detect(&SHOWN);
        let mut best_of_words: Vec<&Detection> = Vec::new();
        for detection in &detections {
            if best_of_words.iter().all(|better| better.word != detection.word) {
                best_of_words.push(detection);
            }
        }
        let rank = self.teacher_rank(&picture, object, word)?;
        let share = |is: bool| f32::from(u8::from(is));
        Ok(Row {
            photographs: 1,
            proposed: share(proposed),
            top1: share(detections.first().is_some_and(right)),
            top5: share(detections.iter().take(TOP).any(right)),
            top5_words: share(best_of_words.iter().take(TOP).any(|detection| right(detection))),
            top5_shown: share(shown.iter().take(TOP).any(right)),
            teacher_top1: share(rank < 1),
            teacher_top5: share(rank < TOP),
        })
    }

    /// How many words the teacher likes better than the right one for the object's true box.
    fn teacher_rank(&mut self, picture: &RgbImage, object: [f32; 4], word: usize) -> Result<usize> {
        let crops = self.teacher.embed_crops(picture, &[object])?;
        let crop = crops.first().context("the teacher returned no embedding")?;
        let rows = self.vocabulary.embeddings.chunks_exact(self.vocabulary.embedding_size);
        let cosines: Vec<f32> = rows.map(|row| row.iter().zip(crop).map(|(a, b)| a * b).sum()).collect();
        Ok(cosines.iter().filter(|&&cosine| cosine > cosines[word]).count())
    }
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.photographs += other.photographs;
        for (sum, value) in self.shares_mut().into_iter().zip(other.clone().shares_mut()) {
            *sum += *value;
        }
    }

    fn mean(mut self) -> Self {
        let count = self.photographs.max(1) as f32;
        for share in self.shares_mut() {
            *share /= count;
        }
        self
    }

    fn shares_mut(&mut self) -> [&mut f32; 7] {
        [
            &mut self.proposed,
            &mut self.top1,
            &mut self.top5,
            &mut self.top5_words,
            &mut self.top5_shown,
            &mut self.teacher_top1,
            &mut self.teacher_top5,
        ]
    }
}

/// The rows as a table for people.
pub fn table(rows: &[(&str, Row)]) -> String {
    let mut text = String::from(
        "main object found, % of photographs       |         student          |  with one | teacher on true box\n\
         photographs            n   proposed | top-1  top-5  top-5 words | word: top-5 |  top-1  top-5\n",
    );
    for (name, row) in rows {
        let percent = |share: f32| format!("{:.1}", 100.0 * share);
        text += &format!(
            "{name:<18} {:>5} {:>10} | {:>5} {:>6} {:>12} | {:>11} | {:>6} {:>6}\n",
            row.photographs,
            percent(row.proposed),
            percent(row.top1),
            percent(row.top5),
            percent(row.top5_words),
            percent(row.top5_shown),
            percent(row.teacher_top1),
            percent(row.teacher_top5),
        );
    }
    text
}
