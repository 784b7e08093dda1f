#![allow(clippy::unwrap_used, clippy::expect_used)]
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::Word;

const TEMPERATURE: f32 = 0.01;
const LAMBDA: f32 = 0.33;
const TEXT_WEIGHTS: TextWeights = TextWeights { trained: 1.0 - LAMBDA, others: LAMBDA };

/// Regions and words at random, of length 1, near enough to one another that no probability is
/// quite 0 or 1.
struct Scene {
    vocabulary: Vocabulary,
    background: Vec<f32>,
    boxes: Vec<[f32; 4]>,
    objectness: Vec<f32>,
    text: Vec<f32>,
    image: Vec<f32>,
    objectness_weight: f32,
}

fn unit_row(random: &mut StdRng, size: usize) -> Vec<f32> {
    // A common direction and a little of each row's own: cosines around 0.95, as CLIP's are close.
    let mut row: Vec<f32> = (0..size).map(|_| 1.0 + 0.3 * (random.random::<f32>() - 0.5)).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= length);
    row
}

impl Scene {
    fn random(words: usize, regions: usize, size: usize) -> Self {
        let random = &mut StdRng::seed_from_u64(7);
        let mut rows = |count: usize| (0..count).flat_map(|_| unit_row(random, size)).collect::<Vec<f32>>();
        let (embeddings, background, text, image) = (rows(words), rows(1), rows(regions), rows(regions));
        let words = (0..words).map(|index| Word {
            word: format!("word {index}"),
            synonyms: vec![],
            threshold: None,
            trained_on: index % 3 == 0,
        });
        let boxes = (0..regions).map(|index| {
            let left = 10.0 * index as f32;
            [left, 0.0, left + 9.0, 9.0]
        });
        Self {
            vocabulary: Vocabulary {
                teacher: "test".into(),
                words: words.collect(),
                prompts: vec!["{}".into()],
                embeddings,
                embedding_size: size,
            },
            background,
            boxes: boxes.collect(),
            objectness: (0..regions).map(|index| 1.0 - 0.9 * index as f32 / regions as f32).collect(),
            text,
            image,
            objectness_weight: 0.25,
        }
    }

    fn detect(&self, settings: &DetectionSettings) -> Vec<Detection> {
        let mut scorer = Scorer::new(
            &self.vocabulary,
            TEMPERATURE,
            &self.background,
            TEXT_WEIGHTS,
            self.objectness_weight,
        )
        .unwrap();
        let mut out = vec![];
        // Twice, so that a buffer that remembers the last frame is found out.
        for _ in 0..2 {
            scorer.detect(&self.boxes, &self.objectness, &self.text, &self.image, settings, &mut out);
        }
        out
    }

    /// The score of a region as a word, straight from the formula, in f64.
    fn plain_score(&self, region: usize, word: usize) -> f64 {
        let size = self.background.len();
        let row = |of: &[f32], index: usize| of[index * size..][..size].to_vec();
        let logit = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() / f64::from(TEMPERATURE)
        };
        let words: Vec<_> =
            (0..self.vocabulary.words.len()).map(|index| row(&self.vocabulary.embeddings, index)).collect();
        let (text, image) = (row(&self.text, region), row(&self.image, region));
        let against_words = |a: &[f32]| words.iter().map(|word| logit(a, word).exp()).sum::<f64>();
        let p_text =
            logit(&text, &words[word]).exp() / (logit(&text, &self.background).exp() + against_words(&text));
        let p_image = logit(&image, &words[word]).exp() / against_words(&image);
        let lambda = f64::from(LAMBDA);
        let a = if self.vocabulary.words[word].trained_on { 1.0 - lambda } else { lambda };
        let g = f64::from(self.objectness_weight);
        let p = p_text.powf(a) * p_image.powf(1.0 - a);
        p.powf(1.0 - g) * f64::from(self.objectness[region]).powf(g)
    }
}

fn everything() -> DetectionSettings {
    DetectionSettings {
        score_threshold: 0.0,
        nms_iou: 1.0,
        voting_iou: 1.0,
        max_detections: usize::MAX,
        words_per_region: usize::MAX,
    }
}

fn one_label() -> DetectionSettings {
    DetectionSettings { words_per_region: 1, ..everything() }
}

#[test]
fn every_score_is_the_papers_formula_to_four_digits() {
    let scene = Scene::random(40, 30, 96);
    let found = scene.detect(&everything());
    assert_eq!(found.len(), 40 * 30);
    for detection in found {
        let expected = scene.plain_score(detection.region, detection.word);
        assert!((f64::from(detection.score) / expected - 1.0).abs() < 1e-3, "{detection:?}, {expected}");
        assert_eq!(detection.objectness, scene.objectness[detection.region]);
    }
}

#[test]
fn detections_come_best_first() {
    let found = Scene::random(5, 20, 16).detect(&everything());
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
}

#[test]
fn with_one_word_a_region_each_region_carries_its_best_word() {
    let scene = Scene::random(12, 20, 32);
    let found = scene.detect(&one_label());
    assert_eq!(found.len(), 20);
    for detection in found {
        let scores = (0..12).map(|word| scene.plain_score(detection.region, word));
        let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(detection.word, best.0);
    }
}

#[test]
fn with_three_words_a_region_they_are_its_three_best() {
    let scene = Scene::random(12, 1, 32);
    let settings = DetectionSettings { words_per_region: 3, ..everything() };
    let found: Vec<usize> = scene.detect(&settings).iter().map(|detection| detection.word).collect();
    let mut ranked: Vec<usize> = (0..12).collect();
    ranked.sort_by(|a, b| scene.plain_score(0, *b).total_cmp(&scene.plain_score(0, *a)));
    assert_eq!(found, ranked[..3]);
}

#[test]
fn overlapping_regions_compete_across_words_only_with_one_word_a_region() {
    let mut scene = Scene::random(4, 8, 16);
    scene.boxes = vec![[0.0, 0.0, 10.0, 10.0]; 8];
    let settings = DetectionSettings { nms_iou: 0.5, ..one_label() };
    assert_eq!(scene.detect(&settings).len(), 1);
    let settings = DetectionSettings { nms_iou: 0.5, ..everything() };
    let mut words: Vec<usize> = scene.detect(&settings).iter().map(|detection| detection.word).collect();
    words.sort_unstable();
    assert_eq!(words, [0, 1, 2, 3]);
}

#[test]
fn a_words_own_threshold_goes_before_the_common_one() {
    let mut scene = Scene::random(1, 1, 16);
    let score = scene.detect(&one_label())[0].score;
    let above = DetectionSettings { score_threshold: score + 0.01, ..one_label() };
    let below = DetectionSettings { score_threshold: score - 0.01, ..one_label() };
    assert_eq!((scene.detect(&above).len(), scene.detect(&below).len()), (0, 1));
    scene.vocabulary.words[0].threshold = Some(score - 0.01);
    assert_eq!(scene.detect(&above).len(), 1);
    scene.vocabulary.words[0].threshold = Some(score + 0.01);
    assert_eq!(scene.detect(&below).len(), 0);
}

#[test]
fn leaving_out_regions_that_cannot_reach_the_threshold_changes_nothing() {
    let scene = Scene::random(6, 40, 16);
    let all = scene.detect(&everything());
    for score_threshold in [0.05, 0.2, 0.4, 0.7] {
        let expected: Vec<_> =
            all.iter().filter(|detection| detection.score >= score_threshold).copied().collect();
        assert_eq!(scene.detect(&DetectionSettings { score_threshold, ..everything() }), expected);
    }
}

#[test]
fn the_number_of_detections_is_limited_to_the_best() {
    let scene = Scene::random(3, 20, 16);
    let all = scene.detect(&one_label());
    let few = scene.detect(&DetectionSettings { max_detections: 4, ..one_label() });
    assert_eq!(few, all[..4]);
}

#[test]
fn regions_that_are_no_boxes_are_passed_over() {
    let mut scene = Scene::random(3, 5, 16);
    scene.boxes[1] = [5.0, 5.0, 5.0, 9.0];
    scene.boxes[2] = [f32::NAN, 0.0, 1.0, 1.0];
    scene.boxes[3] = [0.0, 0.0, f32::INFINITY, 1.0];
    let mut regions: Vec<usize> =
        scene.detect(&one_label()).iter().map(|detection| detection.region).collect();
    regions.sort_unstable();
    assert_eq!(regions, [0, 4]);
}

#[test]
fn no_regions_and_nan_embeddings_are_no_detections() {
    let mut scene = Scene::random(3, 2, 16);
    scene.text[..16].fill(f32::NAN);
    let regions: Vec<usize> = scene.detect(&one_label()).iter().map(|detection| detection.region).collect();
    assert_eq!(regions, [1]);
    assert!(Scene::random(3, 0, 16).detect(&one_label()).is_empty());
}

#[test]
fn a_word_more_is_a_row_more_and_there_is_no_limit() {
    let scene = Scene::random(5000, 2, 8);
    assert_eq!(scene.detect(&everything()).len(), 10_000);
}

#[test]
fn a_vocabulary_of_another_size_is_refused() {
    let scene = Scene::random(2, 1, 16);
    let refused = Scorer::new(&scene.vocabulary, TEMPERATURE, &[1.0], TEXT_WEIGHTS, 0.2);
    assert!(refused.is_err());
}
