//! The same regions, scored by a vocabulary of two words. `cargo run -p wordsight-detection --example words_meet_regions`
#![allow(missing_docs)]

use wordsight_detection::{
    DetectionSettings, RegionsView, ScoreFunction, Scorer, TextWeights, Vocabulary, VocabularyError, Word,
};

fn main() -> Result<(), VocabularyError> {
    let vocabulary = Vocabulary {
        teacher: "example".to_owned(),
        student: None,
        words: vec![Word::new("cat"), Word::new("dog")],
        prompts: vec!["a photo of a {}.".to_owned()],
        embeddings: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        embedding_size: 3,
    };
    let function = ScoreFunction::Softmax {
        temperature: 0.02,
        background: vec![0.0, 0.0, 1.0],
        text_weights: TextWeights { trained: 0.67, others: 0.33 },
    };
    let objectness_weight = 0.5;
    let mut scorer = Scorer::new(&vocabulary, &function, objectness_weight)?;
    let settings = DetectionSettings {
        score_threshold: 0.3,
        nms_iou: 0.4,
        voting_iou: 1.0,
        max_detections: 20,
        words_per_region: 1,
        weak_fraction: 1.0,
    };
    // What an engine gives: two regions, each with an objectness and an embedding of either head.
    let boxes = [[10.0, 10.0, 60.0, 60.0], [100.0, 20.0, 180.0, 90.0]];
    let embeddings = [0.9, 0.3, 0.3, 0.2, 0.1, 0.97];
    let mut found = Vec::new();
    let regions = RegionsView::of_two_heads(&boxes, &[0.9, 0.8], &embeddings, &embeddings);
    scorer.detect(regions, &settings, &mut found);
    for detection in &found {
        let word = &vocabulary.words[detection.word].word;
        println!("{word} {:.2} {:?}", detection.score, detection.box_in_input);
    }
    Ok(())
}
