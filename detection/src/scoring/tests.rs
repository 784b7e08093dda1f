#![allow(clippy::unwrap_used, clippy::expect_used)]
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::Word;

mod hidden;
mod sigmoid;

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
        let words =
            (0..words).map(|index| Word { trained_on: index % 3 == 0, ..Word::new(format!("word {index}")) });
        let boxes = (0..regions).map(|index| {
            let left = 10.0 * index as f32;
            [left, 0.0, left + 9.0, 9.0]
        });
        Self {
            vocabulary: Vocabulary {
                teacher: "test".into(),
                student: None,
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

    /// The same with regions near words, as a student's are: `share` of every embedding is a word's.
    fn of_things(words: usize, regions: usize, size: usize, share: f32) -> Self {
        let mut scene = Self::random(words, regions, size);
        let Self { text, image, vocabulary, background, .. } = &mut scene;
        // Less in common than CLIP's: a word of a thousand has a chance.
        for rows in [&mut *text, &mut *image, &mut vocabulary.embeddings, background] {
            for row in rows.chunks_exact_mut(size) {
                let common = 0.9 * row.iter().sum::<f32>() / size as f32;
                row.iter_mut().for_each(|x| *x -= common);
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        for head in [text, image] {
            for (region, row) in head.chunks_exact_mut(size).enumerate() {
                let word = &vocabulary.embeddings[region * 7 % words * size..][..size];
                row.iter_mut().zip(word).for_each(|(x, y)| *x += share * (y - *x));
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        scene
    }

    /// The same with its last words hidden.
    fn hiding(mut self, count: usize) -> Self {
        self.vocabulary.words.iter_mut().rev().take(count).for_each(|word| word.hidden = true);
        self
    }

    fn is_hidden(&self, word: usize) -> bool {
        self.vocabulary.words[word].hidden
    }

    fn scorer(&self) -> Scorer {
        Scorer::new(&self.vocabulary, &self.softmax(TEXT_WEIGHTS), self.objectness_weight).unwrap()
    }

    fn softmax(&self, text_weights: TextWeights) -> ScoreFunction {
        ScoreFunction::Softmax { temperature: TEMPERATURE, background: self.background.clone(), text_weights }
    }

    fn regions(&self) -> RegionsView<'_> {
        RegionsView::of_two_heads(&self.boxes, &self.objectness, &self.text, &self.image)
    }

    fn detect(&self, settings: &DetectionSettings) -> Vec<Detection> {
        self.detect_by(self.scorer(), settings)
    }

    fn detect_by(&self, mut scorer: Scorer, settings: &DetectionSettings) -> Vec<Detection> {
        let mut out = vec![];
        // Twice, so that a buffer that remembers the last frame is found out.
        for _ in 0..2 {
            scorer.detect(self.regions(), settings, &mut out);
        }
        out
    }

    /// That what is found is what the formula finds, each score to `tolerance`; tells the share of panels that bytes
    /// let the regions skip, where there are bytes.
    fn expect_the_formulas(&self, settings: &DetectionSettings, tolerance: f64) -> Option<f32> {
        let found = self.detect(settings);
        let mut wanted: Vec<(usize, usize, f64)> = Vec::new();
        for region in 0..self.boxes.len() {
            let scores = self.plain_scores(region);
            let mut ranked: Vec<usize> = (0..scores.len()).collect();
            ranked.retain(|&word| settings.words_per_region == 1 || !self.is_hidden(word));
            ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            ranked.truncate(settings.words_per_region);
            wanted.extend(ranked.iter().map(|&word| (region, word, scores[word])));
        }
        let threshold_of =
            |word: usize| self.vocabulary.words[word].threshold.unwrap_or(settings.score_threshold);
        wanted.retain(|&(_, word, score)| !self.is_hidden(word) && score >= f64::from(threshold_of(word)));
        assert!(settings.score_threshold == 0.0 || !wanted.is_empty());
        assert_eq!(found.len(), wanted.len(), "{settings:?}");
        for (region, word, score) in wanted {
            let found = found.iter().find(|found| (found.region, found.word) == (region, word)).unwrap();
            assert!((f64::from(found.score) - score).abs() < tolerance, "{found:?} {score}");
        }
        let mut scorer = self.scorer();
        scorer.rank(self.regions(), settings);
        scorer.screen.map(|screen| screen.skipped())
    }

    /// The score of a region as a word, straight from the formula, in f64.
    fn plain_score(&self, region: usize, word: usize) -> f64 {
        self.plain_scores(region)[word]
    }

    /// The same of all words.
    fn plain_scores(&self, region: usize) -> Vec<f64> {
        let size = self.background.len();
        let logit = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() / f64::from(TEMPERATURE)
        };
        let against_words = |head: &[f32]| -> Vec<f64> {
            let row = &head[region * size..][..size];
            self.vocabulary.embeddings.chunks_exact(size).map(|word| logit(row, word).exp()).collect()
        };
        let (text, image) = (against_words(&self.text), against_words(&self.image));
        let background = logit(&self.text[region * size..][..size], &self.background).exp();
        let (text_sum, image_sum) = (background + text.iter().sum::<f64>(), image.iter().sum::<f64>());
        let (lambda, g) = (f64::from(LAMBDA), f64::from(self.objectness_weight));
        let words = self.vocabulary.words.iter().zip(text.iter().zip(&image));
        let scores = words.map(|(word, (text, image))| {
            let a = if word.trained_on { 1.0 - lambda } else { lambda };
            let p = (text / text_sum).powf(a) * (image / image_sum).powf(1.0 - a);
            p.powf(1.0 - g) * f64::from(self.objectness[region]).powf(g)
        });
        scores.collect()
    }
}

fn everything() -> DetectionSettings {
    DetectionSettings {
        score_threshold: 0.0,
        nms_iou: 1.0,
        voting_iou: 1.0,
        max_detections: usize::MAX,
        words_per_region: usize::MAX,
        weak_fraction: 1.0,
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
fn with_many_words_every_score_is_still_the_formulas() {
    for (words, words_per_region) in [(1203, 1), (1203, 3), (2500, 2500)] {
        let scene = Scene::of_things(words, 6, 100, 0.5);
        for score_threshold in [0.0, 0.02] {
            let settings = DetectionSettings { words_per_region, score_threshold, ..everything() };
            scene.expect_the_formulas(&settings, 1e-4);
        }
    }
}

#[test]
fn where_most_words_are_skipped_every_score_is_still_the_formulas() {
    let mut scene = Scene::of_things(2600, 9, 384, 0.7);
    // The best word of region 1, which isn't told: nor is the next in its place.
    scene.vocabulary.words[7].threshold = Some(0.999);
    for (words_per_region, score_threshold) in [(1, 0.3), (3, 1e-3), (2600, 1e-6)] {
        let settings = DetectionSettings { words_per_region, score_threshold, ..everything() };
        let skipped = scene.expect_the_formulas(&settings, 2e-5);
        assert!(skipped.is_none_or(|skipped| skipped > 0.9), "{skipped:?}, {words_per_region} a region");
    }
}

#[test]
fn where_some_words_are_skipped_every_score_is_still_the_formulas() {
    let scene = Scene::of_things(2600, 9, 384, 0.5);
    for words_per_region in [1, 3] {
        let settings = DetectionSettings { words_per_region, score_threshold: 0.02, ..everything() };
        let skipped = scene.expect_the_formulas(&settings, 2e-5);
        assert!(skipped.is_none_or(|skipped| skipped > 0.2 && skipped < 0.9), "{skipped:?}");
    }
}

#[test]
fn where_all_words_are_alike_none_is_skipped() {
    let scene = Scene::random(2600, 9, 384);
    for words_per_region in [1, 3, 2600] {
        let settings = DetectionSettings { words_per_region, score_threshold: 1e-4, ..everything() };
        let skipped = scene.expect_the_formulas(&settings, 2e-5);
        assert!(skipped.is_none_or(|skipped| skipped == 0.0), "{skipped:?}, {words_per_region} a region");
    }
}

#[test]
fn a_glance_in_bytes_drops_no_region_that_is_told() {
    for share in [0.0, 0.3, 0.6] {
        let mut scene = Scene::of_things(300, 50, 96, share);
        scene.vocabulary.words[7].threshold = Some(0.01);
        scene.vocabulary.words[8].threshold = Some(0.9);
        for score_threshold in [0.02, 0.1, 0.2, 0.3, 0.5, 0.9] {
            for words_per_region in [1, 4] {
                let weak_fraction = if words_per_region == 1 { 0.5 } else { 1.0 };
                let settings =
                    DetectionSettings { score_threshold, words_per_region, weak_fraction, ..everything() };
                let by_floats_alone = Scorer { screen: None, ..scene.scorer() };
                assert_eq!(scene.detect(&settings), scene.detect_by(by_floats_alone, &settings));
            }
        }
    }
}

#[test]
fn a_glance_in_bytes_drops_most_regions_that_are_not_told() {
    let scene = Scene::of_things(1203, 50, 384, 0.0);
    let mut scorer = scene.scorer();
    if scorer.screen.is_none() {
        return;
    }
    let settings = DetectionSettings { score_threshold: 0.9, ..one_label() };
    scorer.rank(scene.regions(), &settings);
    assert!(scorer.chosen.len() < 10, "{}", scorer.chosen.len());
}

#[test]
fn a_threshold_that_changes_between_frames_is_followed() {
    let scene = Scene::of_things(100, 30, 32, 0.4);
    let mut scorer = scene.scorer();
    for (score_threshold, weak_fraction) in [(0.5, 1.0), (0.1, 1.0), (0.0, 1.0), (0.3, 1.0), (0.3, 0.5)] {
        let settings = DetectionSettings { score_threshold, weak_fraction, ..one_label() };
        let mut found = vec![];
        scorer.detect(scene.regions(), &settings, &mut found);
        assert_eq!(found, scene.detect(&settings));
    }
}

#[test]
fn equal_words_come_in_the_order_of_the_vocabulary() {
    // A word of either group, and a copy of each: with the same weights all four are alike.
    let mut scene = Scene::random(40, 3, 16);
    let row = scene.vocabulary.embeddings[..16].to_vec();
    for word in 0..40 {
        scene.vocabulary.embeddings[word * 16..][..16].copy_from_slice(&row);
    }
    for words in [1, 2, 5, 39] {
        let settings = DetectionSettings { words_per_region: words, ..everything() };
        let weights = TextWeights { trained: 0.5, others: 0.5 };
        let scorer = Scorer::new(&scene.vocabulary, &scene.softmax(weights), 0.25).unwrap();
        let mut found = scene.detect_by(scorer, &settings);
        found.retain(|found| found.region == 0);
        found.sort_by_key(|found| found.word);
        assert_eq!(found.iter().map(|found| found.word).collect::<Vec<_>>(), (0..words).collect::<Vec<_>>());
    }
}

#[test]
fn ranking_and_settling_apart_is_detecting() {
    let scene = Scene::of_things(70, 20, 32, 0.4);
    let mut scorer = scene.scorer();
    let mut found = vec![];
    scorer.rank(scene.regions(), &one_label());
    scorer.select(&one_label(), &mut found);
    assert_eq!(found, scene.detect(&one_label()));
    let ranked: Vec<Ranked> =
        found.iter().map(|&Detection { region, word, score, .. }| Ranked { region, word, score }).collect();
    let mut settled = vec![];
    scorer.take_ranked(&scene.boxes, &scene.objectness, &ranked, &one_label());
    scorer.select(&one_label(), &mut settled);
    assert_eq!(settled, found);
}

#[test]
fn a_table_for_others_has_the_words_in_their_order() {
    let scene = Scene::random(37, 1, 10);
    let table = scene.scorer().table(&everything());
    assert_eq!(table.background_and_words[..10], scene.background);
    assert_eq!(table.background_and_words[10..], scene.vocabulary.embeddings);
}

#[test]
fn a_scorer_of_the_same_words_detects_the_same_whatever_the_other_was_asked() {
    let scene = Scene::of_things(2600, 9, 384, 0.5);
    let mut scorer = scene.scorer();
    let unlike = DetectionSettings { score_threshold: 0.9, weak_fraction: 0.5, ..one_label() };
    scorer.detect(scene.regions(), &unlike, &mut vec![]);
    for score_threshold in [0.0, 0.02] {
        let settings = DetectionSettings { score_threshold, words_per_region: 3, ..everything() };
        assert_eq!(scene.detect_by(scorer.of_same_words(), &settings), scene.detect(&settings));
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
fn weak_detections_come_last_and_change_nothing_about_the_others() {
    for words_per_region in [1, 4] {
        let mut scene = Scene::of_things(60, 80, 32, 0.4);
        // Many overlap, and words have thresholds of their own, so that a weak one may have the better score.
        for (region, place) in scene.boxes.iter_mut().enumerate() {
            let left = 3.0 * (region % 20) as f32;
            *place = [left, 0.0, left + 20.0, 20.0];
        }
        let (nms_iou, voting_iou) = (0.5, 0.4);
        let all = DetectionSettings { nms_iou, voting_iou, words_per_region, ..everything() };
        let scores: Vec<f32> = scene.detect(&all).iter().map(|detection| detection.score).collect();
        let score_threshold = scores[scores.len() / 2];
        let own_threshold = (1.5 * score_threshold).min(0.9);
        for word in 0..60 {
            scene.vocabulary.words[word].threshold = (word % 3 == 0).then_some(own_threshold);
        }
        let without = DetectionSettings { score_threshold, ..all };
        let with = DetectionSettings { weak_fraction: 0.3, ..without };
        let (without, found) = (scene.detect(&without), scene.detect(&with));
        let (strong, weak) = found.split_at(without.len());
        assert_eq!(strong, without);
        assert!(!strong.is_empty() && !weak.is_empty(), "{} and {}", strong.len(), weak.len());
        assert!(strong.iter().all(|detection| !detection.is_weak) && weak.iter().all(|weak| weak.is_weak));
        for weak in weak {
            let threshold = if weak.word % 3 == 0 { own_threshold } else { score_threshold };
            assert!(weak.score < threshold && weak.score >= 0.3 * threshold);
        }
    }
}

#[test]
fn weak_detections_are_the_same_whoever_ranked_the_words() {
    let mut scene = Scene::of_things(70, 20, 32, 0.4);
    scene.vocabulary.words[7].threshold = Some(0.9);
    let settings = DetectionSettings { score_threshold: 0.3, weak_fraction: 0.5, ..one_label() };
    let found = scene.detect(&settings);
    assert!(found.iter().any(|detection| detection.is_weak) && found.iter().any(|found| !found.is_weak));
    let mut scorer = scene.scorer();
    let thresholds = scorer.table(&settings).thresholds;
    assert_eq!((thresholds[7], thresholds[8]), (0.45, 0.15));
    let ranked: Vec<Ranked> =
        found.iter().map(|&Detection { region, word, score, .. }| Ranked { region, word, score }).collect();
    let mut settled = vec![];
    scorer.take_ranked(&scene.boxes, &scene.objectness, &ranked, &settings);
    scorer.select(&settings, &mut settled);
    assert_eq!(settled, found);
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
    let function = ScoreFunction::Softmax {
        temperature: TEMPERATURE,
        background: vec![1.0],
        text_weights: TEXT_WEIGHTS,
    };
    let refused = Scorer::new(&scene.vocabulary, &function, 0.2);
    assert!(refused.is_err());
}
