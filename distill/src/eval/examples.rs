//! What examples give beside words, or in their place.
//!
//! Takes a student, annotated photographs to take examples from and others to judge by, and tells for each number of
//! examples a word how often the right word comes first: by text, by examples alone, and by both, for all words and
//! where half of them have examples. It judges the regions in which the student saw an annotated object (IoU of at
//! least 0.5, objects of at least 32x32 in 640), so that proposals play no part in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use wordsight_detection::{DetectionSettings, RegionsView, Vocabulary, WordExamples, iou};

use super::annotated::{AnnotatedSet, aligned};
use super::operating_point::Kind;
use super::{AS_DEVICES, Detector, scorer};
use crate::progress;

/// A region shows an object from this IoU on.
const SAME: f32 = 0.5;
/// Fewer objects of a word say nothing about it.
const FEWEST_JUDGED: usize = 5;
/// Draws of examples whose mean is told.
const DRAWS: u64 = 3;
/// All regions keep their best word, whatever the score and their neighbours.
const EVERY_REGION: DetectionSettings = DetectionSettings {
    score_threshold: 0.0,
    nms_iou: 1.0,
    voting_iou: 1.0,
    max_detections: usize::MAX,
    words_per_region: 1,
    ..AS_DEVICES
};

/// Regions in which a student saw objects, with the places of their words.
#[derive(Default)]
struct SeenObjects {
    words: Vec<usize>,
    text_embeddings: Vec<f32>,
    image_embeddings: Vec<f32>,
}

/// Share of the objects whose word came first, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Top1 {
    /// Of all objects.
    pub objects: f64,
    /// The mean over words.
    pub words: f64,
}

/// What so many examples a word give.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Examples a word.
    pub examples: usize,
    /// Examples alone.
    pub alone: Top1,
    /// Text and examples.
    pub both: Top1,
    /// Where half of the words have examples: of these words, the mean over words by text, then with examples.
    pub taught: [f64; 2],
    /// The same of the other half.
    pub others: [f64; 2],
}

/// What examples give.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Words that had enough examples and enough objects.
    pub words: usize,
    /// Objects that were judged.
    pub objects: usize,
    /// By text alone.
    pub text: Top1,
    /// By the number of examples.
    pub rows: Vec<Row>,
}

/// What examples give. `vocabulary`: a word for each category of `judged`, and none beside.
///
/// # Errors
/// When student and vocabulary don't fit, a photograph can't be read, or no word has enough examples.
pub fn evaluate(
    student: &Path,
    vocabulary: &Vocabulary,
    (given, judged): (&AnnotatedSet, &AnnotatedSet),
    counts: &[usize],
    seed: u64,
) -> Result<Report> {
    let mut detector = Detector::open(student, vocabulary)?;
    let given = SeenObjects::of(given, vocabulary, &mut detector)?;
    let mut judged = SeenObjects::of(judged, vocabulary, &mut detector)?;
    let most = counts.iter().copied().max().unwrap_or(0);
    let has_enough = |word: usize| given.count(word) >= most && judged.count(word) >= FEWEST_JUDGED;
    let words: Vec<usize> = (0..vocabulary.words.len()).filter(|&word| has_enough(word)).collect();
    ensure!(!words.is_empty(), "no word has {most} examples and {FEWEST_JUDGED} objects to judge by");
    let vocabulary = part_of(vocabulary, &words);
    let given = given.of_words(&words, vocabulary.embedding_size);
    judged = judged.of_words(&words, vocabulary.embedding_size);
    let evaluation = ExampleEvaluation { detector, vocabulary, given, judged };
    let text = evaluation.top1(&evaluation.vocabulary)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = counts.iter().map(|&count| evaluation.row(count, &mut rng)).collect::<Result<_>>()?;
    Ok(Report { words: words.len(), objects: evaluation.judged.words.len(), text: Top1::of(&text), rows })
}

/// Some words of a vocabulary.
fn part_of(vocabulary: &Vocabulary, places: &[usize]) -> Vocabulary {
    let size = vocabulary.embedding_size;
    let row = |&place: &usize| &vocabulary.embeddings[place * size..][..size];
    Vocabulary {
        words: places.iter().map(|&place| vocabulary.words[place].clone()).collect(),
        embeddings: places.iter().flat_map(row).copied().collect(),
        ..vocabulary.clone()
    }
}

impl SeenObjects {
    fn of(set: &AnnotatedSet, vocabulary: &Vocabulary, detector: &mut Detector) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (place, word) in vocabulary.words.iter().enumerate() {
            set.category_of(&word.word).and_then(|category| places.insert(category, place));
        }
        let size = vocabulary.embedding_size;
        let mut seen = Self::default();
        let bar = progress::bar(set.len() as u64, "photographs");
        for file in set.files() {
            let picture = file.open()?;
            let letterbox = detector.infer(&picture)?;
            let regions = &detector.regions;
            let boxes: Vec<[f32; 4]> = regions
                .boxes_in_input
                .iter()
                .map(|&box_in_input| letterbox.box_in_frame_from_input(box_in_input))
                .collect();
            for truth in set.truth.ground_truths.iter().filter(|truth| truth.image == file.id) {
                let [left, top, width, height] = truth.box_in_image.map(|value| value as f32);
                let box_in_image = [left, top, left + width, top + height];
                let kind = Kind::of(box_in_image, truth.crowd, [picture.width(), picture.height()]);
                let nearest = boxes.iter().map(|&own| iou(own, box_in_image)).enumerate();
                let Some((region, overlap)) = nearest.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
                let Some(&word) = places.get(&truth.category) else { continue };
                if kind == Kind::Wanted && overlap >= SAME {
                    seen.words.push(word);
                    seen.text_embeddings.extend_from_slice(&regions.text_embeddings[region * size..][..size]);
                    seen.image_embeddings
                        .extend_from_slice(&regions.image_embeddings[region * size..][..size]);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(seen)
    }

    fn count(&self, word: usize) -> usize {
        self.words.iter().filter(|&&own| own == word).count()
    }

    /// Objects of these words, which then have the places in this list.
    fn of_words(&self, words: &[usize], size: usize) -> Self {
        let mut part = Self::default();
        for (at, word) in self.words.iter().enumerate() {
            if let Some(place) = words.iter().position(|own| own == word) {
                part.words.push(place);
                part.text_embeddings.extend_from_slice(&self.text_embeddings[at * size..][..size]);
                part.image_embeddings.extend_from_slice(&self.image_embeddings[at * size..][..size]);
            }
        }
        part
    }

    /// So many of a word's regions, drawn.
    fn draw(&self, word: usize, count: usize, size: usize, rng: &mut impl Rng) -> Vec<Vec<f32>> {
        let mut places: Vec<usize> = (0..self.words.len()).filter(|&at| self.words[at] == word).collect();
        places.shuffle(rng);
        places.iter().take(count).map(|&at| self.text_embeddings[at * size..][..size].to_vec()).collect()
    }
}

struct ExampleEvaluation {
    detector: Detector,
    vocabulary: Vocabulary,
    given: SeenObjects,
    judged: SeenObjects,
}

impl ExampleEvaluation {
    fn row(&self, count: usize, rng: &mut ChaCha8Rng) -> Result<Row> {
        let words = self.vocabulary.words.len();
        let [mut alone, mut both] = [Top1::default(); 2];
        let [mut taught, mut others] = [[0.0; 2]; 2];
        let text = self.top1(&self.vocabulary)?;
        for _ in 0..DRAWS {
            let examples: Vec<WordExamples> =
                (0..words).map(|word| self.examples(word, count, rng)).collect();
            both.add(Top1::of(&self.top1(&self.with(&examples)?)?));
            alone.add(Top1::of(&self.top1(&self.alone(examples.clone())?)?));
            let mut order: Vec<usize> = (0..words).collect();
            order.shuffle(rng);
            let (with, without) = order.split_at(words / 2);
            let of_half: Vec<WordExamples> = with.iter().map(|&word| examples[word].clone()).collect();
            let mixed = self.top1(&self.with(&of_half)?)?;
            for (sums, half) in [(&mut taught, with), (&mut others, without)] {
                let mean = |shares: &[(usize, usize)]| mean_over(half.iter().map(|&word| shares[word]));
                sums[0] += mean(&text) / DRAWS as f64;
                sums[1] += mean(&mixed) / DRAWS as f64;
            }
        }
        Ok(Row { examples: count, alone, both, taught, others })
    }

    fn examples(&self, word: usize, count: usize, rng: &mut ChaCha8Rng) -> WordExamples {
        let regions = self.given.draw(word, count, self.vocabulary.embedding_size, rng);
        WordExamples { word: self.vocabulary.words[word].word.clone(), regions, is_negative: false }
    }

    fn with(&self, examples: &[WordExamples]) -> Result<Vocabulary> {
        let (facts, mut vocabulary) = (self.detector.facts(), self.vocabulary.clone());
        vocabulary.add_examples(facts.shown(&facts.id()), examples)?;
        Ok(vocabulary)
    }

    /// Examples without their texts.
    fn alone(&self, mut examples: Vec<WordExamples>) -> Result<Vocabulary> {
        examples.iter_mut().for_each(|word| word.word.push_str(", by example"));
        let made = self.with(&examples)?;
        let of_text = self.vocabulary.words.len();
        Ok(part_of(&made, &(of_text..made.words.len()).collect::<Vec<_>>()))
    }

    /// For each word, how many of its objects are named by it, and how many there are.
    fn top1(&self, vocabulary: &Vocabulary) -> Result<Vec<(usize, usize)>> {
        let count = self.judged.words.len();
        let mut scorer = scorer(vocabulary, self.detector.facts())?;
        let mut named = Vec::new();
        // Side by side, so that none suppresses another.
        let boxes: Vec<[f32; 4]> =
            (0..count).map(|at| [2.0 * at as f32, 0.0, 2.0 * at as f32 + 1.0, 1.0]).collect();
        let objectness = vec![1.0; count];
        let regions = RegionsView::of_two_heads(
            &boxes,
            &objectness,
            &self.judged.text_embeddings,
            &self.judged.image_embeddings,
        );
        scorer.detect(regions, &EVERY_REGION, &mut named);
        let mut shares = vec![(0, 0); vocabulary.words.len()];
        for &word in &self.judged.words {
            shares[word].1 += 1;
        }
        for detection in named {
            let word = self.judged.words[detection.region];
            shares[word].0 += usize::from(detection.word == word);
        }
        Ok(shares)
    }
}

fn mean_over(shares: impl Iterator<Item = (usize, usize)>) -> f64 {
    let shares: Vec<f64> = shares.map(|(right, of)| right as f64 / of.max(1) as f64).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

impl Top1 {
    fn of(shares: &[(usize, usize)]) -> Self {
        let (right, of) = shares.iter().fold((0, 0), |sums, share| (sums.0 + share.0, sums.1 + share.1));
        Self { objects: right as f64 / of.max(1) as f64, words: mean_over(shares.iter().copied()) }
    }

    /// Adds one of the draws to their mean.
    fn add(&mut self, draw: Self) {
        self.objects += draw.objects / DRAWS as f64;
        self.words += draw.words / DRAWS as f64;
    }
}

/// The report as a table for people.
pub fn table(report: &Report) -> String {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let cells = |top1: Top1| [percent(top1.words), percent(top1.objects)];
    let mut lines = vec![
        [
            "examples a word",
            "alone",
            "(objects)",
            "with text",
            "(objects)",
            "half the words:",
            "these",
            "others",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let [words, objects] = cells(report.text);
    let none = || "-".to_owned();
    lines.push(vec!["0".to_owned(), none(), none(), words, objects, String::new(), none(), none()]);
    for row in &report.rows {
        let gain = |[before, after]: [f64; 2]| format!("{:+.1}", 100.0 * (after - before));
        let mut line = vec![row.examples.to_string()];
        line.extend(cells(row.alone));
        line.extend(cells(row.both));
        line.extend([String::new(), gain(row.taught), gain(row.others)]);
        lines.push(line);
    }
    format!(
        "the right word first, %: mean over {} words (and of all {} objects); where half of the words have examples, \
         what that changes:\n{}",
        report.words,
        report.objects,
        aligned(&lines)
    )
}
