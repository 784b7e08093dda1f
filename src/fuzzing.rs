//! Entry points for fuzzers: one function for each parser of what others have written.
//!
//! Each function takes any bytes, and panics where it finds something wrong. The fuzzers in `fuzz/` call them millions
//! of times (`scripts/fuzz`); `cargo test` calls them with the seeds in `fuzz/seeds`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is found is told by a panic"
)]

use std::path::Path;

use wordsight_capture::SourceUri;
use wordsight_capture::framing::{Framer, FramingError, check_whole};
use wordsight_detection::{DetectionSettings, ResizeSettings, ScoreFunction, TextWeights, Vocabulary};
use wordsight_engines::{StudentFacts, StudentOutput};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, Storage};

use crate::config::Config;
use crate::scoring::FrameScorer;

/// Where the files would lie.
const FOLDER: &str = "/nowhere";
/// Longer embeddings than a teacher's are read, but not scored with: that would take a fuzzer's time.
const LONGEST_EMBEDDING: usize = 1 << 12;

/// A configuration is read, or refused in words.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::parse(text, &Path::new(FOLDER).join("wordsight.toml")) {
        Ok(config) => config,
        Err(error) => return assert_told(&error),
    };
    match config.sinks() {
        Ok(sinks) => sinks.iter().for_each(|sink| drop((sink.place(), sink.folder()))),
        Err(error) => assert_told(&error),
    }
    if let Err(error) = config.zones() {
        assert_told(&error);
    }
    match config.source_uri() {
        Ok(source) => drop((source.display().to_owned(), source.is_live())),
        Err(error) => assert_told(&error),
    }
    drop(SourceUri::parse(text));
    if let Err(error) = config.http.settings() {
        assert_told(&error);
    }
}

/// A vocabulary is read, or refused in words; one that is read can be scored with.
pub fn vocabulary(bytes: &[u8]) {
    let vocabulary = match Vocabulary::of_bytes(bytes, Path::new("words.safetensors")) {
        Ok(vocabulary) => vocabulary,
        Err(error) => return assert_told(&error),
    };
    let size = vocabulary.embedding_size;
    if size > LONGEST_EMBEDDING {
        return;
    }
    let mut background = vec![0.0; size];
    background[0] = 1.0;
    let student = StudentFacts {
        teacher: vocabulary.teacher.clone(),
        resize: ResizeSettings::letterbox(64, 64),
        outputs: StudentOutput::OF_SOFTMAX.to_vec(),
        proposals: 2,
        embedding_size: size,
        scores: ScoreFunction::Softmax {
            temperature: 0.01,
            background,
            text_weights: TextWeights { trained: 0.7, others: 0.3 },
        },
        objectness_weight: 0.2,
        region_statistics: None,
        stated_id: None,
        training: serde_json::Value::Null,
    };
    let settings = DetectionSettings {
        score_threshold: 0.0,
        nms_iou: 0.5,
        voting_iou: 0.5,
        max_detections: 10,
        words_per_region: 2,
        weak_fraction: 1.0,
    };
    if let Err(error) = FrameScorer::new(&vocabulary, &student, settings) {
        assert_told(&error);
    }
}

/// A student's facts are read, or refused in words: from any file, and by any metadata of one that is whole otherwise. The
/// first byte tells which.
pub fn student(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let model = if kind % 2 == 0 {
        match wordsight_onnx::decode(bytes) {
            Ok(model) => model,
            Err(reason) => return assert!(!reason.is_empty()),
        }
    } else {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        student_with(pairs.map(|(key, value)| (key, value.to_owned())).collect())
    };
    wordsight_onnx::precision_of(&model);
    let facts = match StudentFacts::of_model(&model, "student.onnx") {
        Ok(facts) => facts,
        Err(error) => return assert_told(&error),
    };
    let mut weights = vec![facts.objectness_weight];
    if let ScoreFunction::Softmax { temperature, background, text_weights } = &facts.scores {
        assert!(*temperature > 0.0 && temperature.is_finite());
        assert_eq!(background.len(), facts.embedding_size);
        weights.extend([text_weights.trained, text_weights.others]);
    }
    assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)), "{weights:?}");
    // What is made for it: an input, and the regions.
    let most = 1 << 30;
    let input = facts.input_width().checked_mul(facts.input_height()).and_then(|area| area.checked_mul(3));
    assert!(input.is_some_and(|bytes| bytes <= most), "{facts:?}");
    assert!(facts.proposals.checked_mul(facts.embedding_size).is_some_and(|numbers| numbers <= most));
}

/// A student without layers, with this metadata.
fn student_with(metadata: Vec<(&str, String)>) -> ModelProto {
    let mut graph = Graph::new("student", Storage::F32);
    graph.input("image", ElementType::Uint8, &[1, 3, 64, 64]);
    let boxes = graph.floats(&[2, 4], &[0.0; 8]);
    let objectness = graph.floats(&[2], &[0.0; 2]);
    let embeddings = graph.floats(&[2, 2], &[0.0; 4]);
    graph.output(&boxes, "boxes", ElementType::Float, &[2, 4]);
    graph.output(&objectness, "objectness", ElementType::Float, &[2]);
    graph.output(&embeddings, "text_embeddings", ElementType::Float, &[2, 2]);
    graph.output(&embeddings, "image_embeddings", ElementType::Float, &[2, 2]);
    graph.into_model(&metadata)
}

/// A stream is cut into JPEGs that are whole, in the same way however it is read, and comes to an end.
pub fn framing(bytes: &[u8]) {
    let at_once = jpegs_in(bytes, bytes.len().max(1));
    let [first_capacity, ..] = bytes else { return };
    let in_bits = jpegs_in(bytes, usize::from(first_capacity % 7) + 1);
    assert_eq!(at_once, in_bits, "however it is read");
    let whole = at_once.iter().flatten();
    assert!(whole.clone().map(Vec::len).sum::<usize>() <= bytes.len());
    for jpeg in whole {
        check_whole(jpeg).expect("what came out goes in again");
    }
}

fn jpegs_in(bytes: &[u8], capacity: usize) -> Vec<Result<Vec<u8>, String>> {
    let mut framer = Framer::new(std::io::BufReader::with_capacity(capacity, bytes));
    let (mut jpegs, mut jpeg) = (Vec::new(), Vec::new());
    loop {
        match framer.next_jpeg(&mut jpeg) {
            Ok(true) => jpegs.push(Ok(jpeg.clone())),
            Ok(false) => return jpegs,
            Err(FramingError::Io(error)) => panic!("memory can be read: {error}"),
            Err(error) => jpegs.push(Err(error.to_string())),
        }
        assert!(jpegs.len() <= bytes.len(), "it gets on");
    }
}

/// What comes over a connection is answered, whatever it is.
#[cfg(any(test, fuzzing))]
pub fn http(bytes: &[u8]) {
    crate::http::fuzz::fuzz(bytes);
}

/// A plan's manifest is read, or refused in words.
#[cfg(feature = "tensorrt")]
pub fn manifest(bytes: &[u8]) {
    use wordsight_engines::tensorrt::Manifest;
    let plan = Path::new("student.plan");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Manifest::parse(text, plan) {
        Ok(manifest) => {
            assert!(manifest.key.differences(&manifest.key).is_empty());
            let written = serde_json::to_string(&manifest).expect("what was read can be written");
            Manifest::parse(&written, plan).expect("and read again");
        }
        Err(error) => assert_told(&error),
    }
}

/// An error says something, in a sentence or a few lines: what is refused isn't poured out whole.
fn assert_told(error: &dyn std::error::Error) {
    assert!(!error.to_string().trim().is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a function on every seed of a target; returns how many there are.
    fn try_seeds(target: &str, function: fn(&[u8])) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let seeds =
            std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let seeds: Vec<Vec<u8>> = seeds.collect();
        seeds.iter().for_each(|seed| function(seed));
        seeds.len()
    }

    #[test]
    fn every_seed_of_the_fuzzers_is_read_or_refused_in_words() {
        assert!(try_seeds("configuration", configuration) > 2);
        assert!(try_seeds("vocabulary", vocabulary) > 2);
        assert!(try_seeds("student", student) > 2);
        assert!(try_seeds("framing", framing) > 2);
        assert!(try_seeds("http", http) > 2);
        #[cfg(feature = "tensorrt")]
        assert!(try_seeds("manifest", manifest) > 2);
    }
}
