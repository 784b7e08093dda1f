//! What a user of a small vocabulary sees, with competitors and without, on annotated images.
//!
//! Takes a student, annotated images and named vocabularies. Returns a [`Row`] for each: precision, recall and
//! calibration at the default threshold and at others ([`super::operating_point`]), one label a region, as a device
//! shows it. The engine runs once for each image, whatever the number of vocabularies.
//!
//! A detection can only be judged if its word is annotated: others are left out, and counted.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use serde::Serialize;
use wordsight_detection::{Detection, DetectionSettings, Letterbox, Scorer, Vocabulary};
use wordsight_engines::CpuEngine;
use wordsight_evaluation::GroundTruth;

use super::annotated::{AnnotatedSet, aligned};
use super::operating_point::{Judged, Kind, Object, Point, Shown, judge};
use super::{AS_DEVICES, Detector, scorer};
use crate::progress;

/// The thresholds of the table. Each is tried as a device would: what is below it has no vote on boxes.
pub const THRESHOLDS: [f32; 6] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
/// The precision whose threshold is looked for, and from which score on.
const WANTED_PRECISION: f64 = 0.5;
const LOWEST_THRESHOLD: f32 = 0.02;

/// A vocabulary to evaluate.
pub struct Contender {
    /// What the table calls it.
    pub name: String,
    /// The words and what competes with them.
    pub vocabulary: Vocabulary,
}

/// What a user sees with one vocabulary.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which vocabulary.
    pub name: String,
    /// Words that are shown.
    pub words: usize,
    /// Of these, words that are annotated.
    pub annotated_words: usize,
    /// Hidden words.
    pub competitors: usize,
    /// Images.
    pub images: usize,
    /// Objects that are to be found.
    pub objects: usize,
    /// At the default threshold.
    pub default: Point,
    /// Detections at the default threshold that are of words that aren't annotated, and not judged.
    pub not_judged: usize,
    /// At other thresholds.
    pub thresholds: Vec<Point>,
    /// The lowest threshold at which half of what is shown is right; none where that is never so.
    pub half_right: Option<Point>,
    /// At the threshold with the best F1; none where nothing is shown.
    pub best_f1: Option<Point>,
}

/// One vocabulary on its way through the images.
struct Run {
    scorer: Scorer,
    /// For each shown word the category that it names.
    categories: Vec<Option<u64>>,
    /// For each of [`Run::thresholds`].
    judged: Vec<Vec<Judged>>,
    not_judged: usize,
    objects: usize,
}

/// The rows of these vocabularies.
///
/// # Errors
/// When student and vocabularies don't fit, a vocabulary has no annotated word, or an image can't be read.
pub fn rows(engine: CpuEngine, contenders: &[Contender], set: &AnnotatedSet) -> Result<Vec<Row>> {
    let Some(first) = contenders.first() else { return Ok(Vec::new()) };
    let mut detector = Detector::of(engine, &first.vocabulary)?;
    let mut runs = contenders
        .iter()
        .map(|contender| Run::new(contender, &detector, set))
        .collect::<Result<Vec<Run>>>()?;
    let mut truths: HashMap<u64, Vec<&GroundTruth>> = HashMap::new();
    for truth in &set.truth.ground_truths {
        truths.entry(truth.image).or_default().push(truth);
    }
    let bar = progress::bar(set.len() as u64, "images");
    for file in set.files() {
        let picture = file.open()?;
        let letterbox = detector.infer(&picture)?;
        let truths = truths.get(&file.id).map_or(&[][..], Vec::as_slice);
        let objects: Vec<Object> =
            truths.iter().map(|truth| object(truth, [picture.width(), picture.height()])).collect();
        for run in &mut runs {
            run.look(&detector, &letterbox, &objects);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(contenders.iter().zip(runs).map(|(contender, run)| run.row(contender, set.len())).collect())
}

fn object(truth: &GroundTruth, image_size: [u32; 2]) -> Object {
    let [left, top, width, height] = truth.box_in_image.map(|value| value as f32);
    let box_in_image = [left, top, left + width, top + height];
    Object { category: truth.category, box_in_image, kind: Kind::of(box_in_image, truth.crowd, image_size) }
}

impl Run {
    fn new(contender: &Contender, detector: &Detector, set: &AnnotatedSet) -> Result<Self> {
        let Contender { name, vocabulary } = contender;
        vocabulary.check_against(&detector.facts().teacher, detector.facts().embedding_size)?;
        let categories: Vec<Option<u64>> =
            vocabulary.shown().iter().map(|word| set.category_of(&word.word)).collect();
        ensure!(
            categories.iter().any(Option::is_some),
            "none of the words of {name} is a category of the annotations: take names of theirs, for example {:?}",
            set.names().into_iter().take(5).collect::<Vec<_>>()
        );
        Ok(Self {
            scorer: scorer(vocabulary, detector.facts())?,
            categories,
            judged: vec![Vec::new(); Self::thresholds().count()],
            not_judged: 0,
            objects: 0,
        })
    }

    /// The default one, the lowest, those of the table.
    fn thresholds() -> impl Iterator<Item = f32> {
        [AS_DEVICES.score_threshold, LOWEST_THRESHOLD].into_iter().chain(THRESHOLDS)
    }

    fn look(&mut self, detector: &Detector, letterbox: &Letterbox, objects: &[Object]) {
        let asked_for = |object: &&Object| {
            object.kind == Kind::Wanted && self.categories.contains(&Some(object.category))
        };
        self.objects += objects.iter().filter(asked_for).count();
        let mut detections: Vec<Detection> = Vec::new();
        for (place, score_threshold) in Self::thresholds().enumerate() {
            self.scorer.detect(
                detector.regions.view(),
                &DetectionSettings { score_threshold, ..AS_DEVICES },
                &mut detections,
            );
            let shown: Vec<Shown> = detections
                .iter()
                .filter_map(|detection| {
                    let box_in_image = letterbox.box_in_frame_from_input(detection.box_in_input);
                    let category = self.categories[detection.word]?;
                    Some(Shown { category, score: detection.score, box_in_image })
                })
                .collect();
            if place == 0 {
                self.not_judged += detections.len() - shown.len();
            }
            self.judged[place].extend(judge(objects, &shown));
        }
    }

    fn row(self, contender: &Contender, images: usize) -> Row {
        let Self { objects, .. } = self;
        let lowest = self.judged.get(1).map_or(&[][..], Vec::as_slice);
        let mut points = Self::thresholds()
            .zip(&self.judged)
            .map(|(threshold, judged)| Point::of(threshold, judged, objects));
        Row {
            name: contender.name.clone(),
            words: contender.vocabulary.shown().len(),
            annotated_words: self.categories.iter().flatten().count(),
            competitors: contender.vocabulary.hidden().len(),
            images,
            objects,
            default: points.next().unwrap_or_default(),
            not_judged: self.not_judged,
            thresholds: points.skip(1).collect(),
            half_right: Point::of_precision(WANTED_PRECISION, lowest, objects),
            best_f1: Point::of_best_f1(lowest, objects),
        }
    }
}

/// The rows as tables for people.
pub fn table(rows: &[Row]) -> String {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
    let mut lines = vec![
        ["", "words", "competitors", "objects", "shown", "right", "precision", "recall", "F1", "ECE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines[0].extend(["half right from", "recall there", "best F1", "from"].map(str::to_owned));
    for row in rows {
        let Point { detections, right, precision, recall, f1, ece, .. } = row.default;
        let mut line = vec![row.name.clone()];
        line.extend(
            [row.words, row.competitors, row.objects, detections, right].map(|count| count.to_string()),
        );
        line.extend([precision, recall, f1, ece].map(share));
        let threshold = |point: Option<&Point>| {
            point.map_or_else(|| "-".to_owned(), |point| format!("{:.2}", point.threshold))
        };
        let (half_right, best) = (row.half_right.as_ref(), row.best_f1.as_ref());
        line.extend([threshold(half_right), share(half_right.and_then(|point| point.recall))]);
        line.extend([share(best.and_then(|point| point.f1)), threshold(best)]);
        lines.push(line);
    }
    let mut by_threshold = vec![vec!["precision / recall at a threshold of".to_owned()]];
    by_threshold[0].extend(THRESHOLDS.map(|threshold| format!("{threshold:.1}")));
    for row in rows {
        let cell = |point: &Point| format!("{} / {}", share(point.precision), share(point.recall));
        let cells = row.thresholds.iter().map(cell);
        by_threshold.push(std::iter::once(row.name.clone()).chain(cells).collect());
    }
    let mut text = format!(
        "at the default threshold of {}, one word a region, objects of at least 32x32 in 640:\n{}\n{}",
        AS_DEVICES.score_threshold,
        aligned(&lines),
        aligned(&by_threshold)
    );
    for row in rows.iter().filter(|row| row.annotated_words < row.words) {
        text += &format!(
            "{}: {} of the words aren't annotated; {} detections of theirs are not judged\n",
            row.name,
            row.words - row.annotated_words,
            row.not_judged
        );
    }
    text
}
