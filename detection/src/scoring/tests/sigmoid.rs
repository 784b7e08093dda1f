//! Students whose regions have one embedding, a shift and a scale.
use super::*;

/// A scene's regions with a shift and a scale each.
struct Shifted {
    scene: Scene,
    shift: Vec<f32>,
    scale: Vec<f32>,
}

impl Shifted {
    fn random(words: usize, regions: usize, size: usize) -> Self {
        let scene = Scene::of_things(words, regions, size, 0.5);
        let random = &mut StdRng::seed_from_u64(11);
        let mut numbers =
            |range: std::ops::Range<f32>| (0..regions).map(|_| random.random_range(range.clone())).collect();
        Self { shift: numbers(-0.6..0.1), scale: numbers(3.0..20.0), scene }
    }

    fn regions(&self) -> RegionsView<'_> {
        let with_one_head = RegionsView { image_embeddings: &[], ..self.scene.regions() };
        RegionsView { logit_shift: &self.shift, logit_scale: &self.scale, ..with_one_head }
    }

    fn detect(&self, objectness_weight: f32, settings: &DetectionSettings) -> Vec<Detection> {
        let mut scorer =
            Scorer::new(&self.scene.vocabulary, &ScoreFunction::Sigmoid, objectness_weight).unwrap();
        let mut out = vec![];
        for _ in 0..2 {
            scorer.detect(self.regions(), settings, &mut out);
        }
        out
    }

    /// OWL-ViT's formula (`OwlViTClassPredictionHead` in transformers), in f64.
    fn score(&self, region: usize, word: usize, objectness_weight: f64) -> f64 {
        let size = self.scene.background.len();
        let row = |rows: &[f32], at: usize| rows[at * size..][..size].to_vec();
        let (text, word) = (row(&self.scene.text, region), row(&self.scene.vocabulary.embeddings, word));
        let cosine: f64 = text.iter().zip(&word).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let logit = (cosine + f64::from(self.shift[region])) * f64::from(self.scale[region]);
        let p = 1.0 / (1.0 + (-logit).exp());
        p.powf(1.0 - objectness_weight) * f64::from(self.scene.objectness[region]).powf(objectness_weight)
    }
}

#[test]
fn every_score_is_the_logistic_of_the_shifted_and_scaled_cosine() {
    for (words, regions) in [(1, 5), (40, 30), (1203, 7), (17, 1)] {
        let shifted = Shifted::random(words, regions, 96);
        for objectness_weight in [0.0, 0.25] {
            let found = shifted.detect(objectness_weight, &everything());
            assert_eq!(found.len(), words * regions);
            for detection in found {
                let expected = shifted.score(detection.region, detection.word, f64::from(objectness_weight));
                assert!((f64::from(detection.score) - expected).abs() < 1e-5, "{detection:?}, {expected}");
            }
        }
    }
}

#[test]
fn a_region_has_its_best_word_and_other_words_change_no_score() {
    let shifted = Shifted::random(300, 40, 64);
    let found = shifted.detect(0.0, &one_label());
    assert_eq!(found.len(), 40);
    for detection in &found {
        let scores = (0..300).map(|word| shifted.score(detection.region, word, 0.0));
        let best = scores.fold(0.0, f64::max);
        assert!((f64::from(detection.score) - best).abs() < 1e-5);
    }
    let mut fewer = Shifted::random(300, 40, 64);
    let vocabulary = &mut fewer.scene.vocabulary;
    vocabulary.words.truncate(50);
    vocabulary.embeddings.truncate(50 * 64);
    let threshold = DetectionSettings { score_threshold: 0.3, ..everything() };
    let of_few = fewer.detect(0.0, &threshold);
    let of_all = shifted.detect(0.0, &threshold);
    assert!(!of_few.is_empty());
    for detection in of_few {
        let same =
            of_all.iter().find(|found| (found.region, found.word) == (detection.region, detection.word));
        assert_eq!(same.map(|found| found.score), Some(detection.score));
    }
}

#[test]
fn a_region_whose_best_word_is_hidden_shows_nothing() {
    let mut shifted = Shifted::random(30, 20, 64);
    let all = shifted.detect(0.0, &one_label());
    shifted.scene = shifted.scene.hiding(10);
    let expected: Vec<Detection> = all.into_iter().filter(|found| found.word < 20).collect();
    assert!(!expected.is_empty() && expected.len() < 20);
    assert_eq!(shifted.detect(0.0, &one_label()), expected);
}

#[test]
fn a_table_for_others_says_that_it_is_of_one_head() {
    let shifted = Shifted::random(5, 2, 16);
    let scorer = Scorer::new(&shifted.scene.vocabulary, &ScoreFunction::Sigmoid, 0.0).unwrap();
    let table = scorer.table(&one_label());
    assert!(table.is_sigmoid && table.text_weights == [1.0; 5]);
    assert_eq!(table.background_and_words[..16], [0.0; 16]);
    assert_eq!(table.background_and_words[16..], shifted.scene.vocabulary.embeddings);
}
