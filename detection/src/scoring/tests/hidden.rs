use super::*;

#[test]
fn hidden_words_take_part_in_every_softmax_and_are_never_told() {
    for (words, hidden) in [(40, 30), (40, 39), (1203, 600)] {
        let scene = Scene::of_things(words, 60, 96, 0.5).hiding(hidden);
        for (words_per_region, score_threshold) in [(1, 0.0), (1, 0.02), (2, 0.02), (3, 0.0), (40, 1e-4)] {
            let settings = DetectionSettings { words_per_region, score_threshold, ..everything() };
            scene.expect_the_formulas(&settings, 1e-4);
            let settings = DetectionSettings { weak_fraction: 0.0, ..settings };
            assert!(scene.detect(&settings).iter().all(|found| !scene.is_hidden(found.word)));
        }
    }
}

#[test]
fn with_one_word_a_region_a_hidden_word_wins_the_region_and_shows_nothing() {
    let scene = Scene::of_things(40, 20, 96, 0.6);
    let all = scene.detect(&one_label());
    let hiding = Scene::of_things(40, 20, 96, 0.6).hiding(15);
    let expected: Vec<_> = all.iter().filter(|found| !hiding.is_hidden(found.word)).copied().collect();
    assert!(!expected.is_empty() && expected.len() < all.len(), "{} of {}", expected.len(), all.len());
    assert_eq!(hiding.detect(&one_label()), expected);
}

#[test]
fn with_more_words_a_region_hidden_words_take_none_of_its_places() {
    let scene = Scene::random(40, 8, 32).hiding(36);
    let settings = DetectionSettings { words_per_region: 3, ..everything() };
    let found = scene.detect(&settings);
    assert_eq!(found.len(), 8 * 3);
    let settings = DetectionSettings { words_per_region: 30, ..everything() };
    assert_eq!(scene.detect(&settings).len(), 8 * 4, "there are no more to show");
}

#[test]
fn with_hidden_words_bytes_drop_no_region_that_is_told() {
    for share in [0.3, 0.6] {
        let mut scene = Scene::of_things(2600, 50, 96, share).hiding(2300);
        scene.vocabulary.words[7].threshold = Some(0.01);
        for score_threshold in [0.02, 0.1, 0.3, 0.5] {
            for words_per_region in [1, 4] {
                let settings = DetectionSettings { score_threshold, words_per_region, ..everything() };
                let by_floats_alone = Scorer { screen: None, ..scene.scorer() };
                assert_eq!(scene.detect(&settings), scene.detect_by(by_floats_alone, &settings));
            }
        }
    }
}

#[test]
fn a_table_for_others_keeps_hidden_words_out_of_the_ranking() {
    let scene = Scene::random(37, 1, 10).hiding(30);
    let table = scene.scorer().table(&DetectionSettings { score_threshold: 0.3, ..one_label() });
    assert_eq!((table.thresholds[6], table.thresholds[7]), (0.3, f32::INFINITY));
    assert!(table.text_weights.iter().all(|weight| weight.is_finite()), "hidden words compete for a region");
    let table = scene.scorer().table(&everything());
    assert_eq!(table.words_per_region, 7);
    assert!(table.text_weights[6].is_finite() && table.text_weights[7].is_nan());
    assert_eq!(table.background_and_words[10..], scene.vocabulary.embeddings);
}
