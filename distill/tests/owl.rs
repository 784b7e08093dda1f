//! OWL-ViT and OWLv2 of six sizes, imported, against transformers' processors, models and post-processing.
//!
//! The models are small and have random weights; `distill/tests/reference_owl.py` has made them and what is expected.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use wordsight_detection::{DetectionSettings, Preprocessor, Scorer, Vocabulary, Word};
use wordsight_distill::owl::{ImportSettings, Imported, import};
use wordsight_engines::{CpuEngine, Engine, Regions};
use wordsight_teacher::{EmbedCaptions, TextTeacher};

const MODELS: [&str; 6] = ["owlvit-a", "owlvit-b", "owlvit-c", "owlv2-a", "owlv2-b", "owlv2-c"];

fn fixtures() -> PathBuf {
    support::checkout("distill/tests/fixtures/owl")
}

/// What an import has written.
struct Made {
    student: PathBuf,
    teacher: PathBuf,
    imported: Imported,
}

fn imported(source: &Path, folder: &Path) -> anyhow::Result<Made> {
    let (student, teacher) = (folder.join("student.onnx"), folder.join("teacher"));
    let settings =
        ImportSettings { student: &student, teacher: &teacher, name: None, objectness_weight: 0.0 };
    let imported = import(source, &settings)?;
    Ok(Made { student, teacher, imported })
}

/// The words, their captions and the pictures that transformers was given.
fn asked() -> [Vec<String>; 3] {
    let text = fs::read_to_string(fixtures().join("expected/words.json")).unwrap();
    let asked: Value = serde_json::from_str(&text).unwrap();
    ["words", "captions", "images"].map(|key| serde_json::from_value(asked[key].clone()).unwrap())
}

struct Expected(Vec<u8>);

impl Expected {
    fn of(model: &str) -> Self {
        Self(fs::read(fixtures().join(format!("expected/{model}.safetensors"))).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let data = tensors.tensor(name).unwrap();
        data.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Every region by its best word, whatever its score, as transformers gives them.
const EVERY_REGION: DetectionSettings = DetectionSettings {
    score_threshold: 0.0,
    nms_iou: 1.0,
    voting_iou: 1.0,
    max_detections: usize::MAX,
    words_per_region: 1,
    weak_fraction: 1.0,
};

fn vocabulary(teacher: &mut TextTeacher, words: &[String], captions: &[String]) -> Vocabulary {
    let embeddings = teacher.embed_texts(captions).unwrap();
    Vocabulary {
        teacher: teacher.id().to_owned(),
        student: None,
        words: words.iter().map(Word::new).collect(),
        prompts: vec!["{}".to_owned()],
        embedding_size: embeddings[0].len(),
        embeddings: embeddings.concat(),
    }
}

fn clipped([left, top, right, bottom]: [f32; 4], (width, height): (f32, f32)) -> [f32; 4] {
    [left.clamp(0.0, width), top.clamp(0.0, height), right.clamp(0.0, width), bottom.clamp(0.0, height)]
}

/// The largest differences of scores and of boxes (as a share of the photograph's longer side).
fn differences(made: &Made, model: &str) -> (f32, f32) {
    let [words, captions, images] = asked();
    let expected = Expected::of(model);
    let mut teacher = TextTeacher::open(&made.teacher).unwrap();
    let vocabulary = vocabulary(&mut teacher, &words, &captions);
    let of_texts = largest(&vocabulary.embeddings, &expected.floats("text_embeddings"));
    assert!(of_texts < 1e-5, "{model}: text embeddings are off by {of_texts}");

    let mut engine = CpuEngine::open(&made.student, 1).unwrap();
    let facts = engine.facts().clone();
    let mut scorer = Scorer::new(&vocabulary, &facts.scores, facts.objectness_weight).unwrap();
    let mut preprocessor = Preprocessor::new(facts.resize);
    let (mut input, mut regions) = (vec![0; preprocessor.output_len()], Regions::default());
    let (mut found, mut worst) = (Vec::new(), (0.0_f32, 0.0_f32));
    for image in &images {
        let picture = image::open(fixtures().join(format!("images/{image}.png"))).unwrap().to_rgb8();
        let size = (picture.width() as usize, picture.height() as usize);
        let letterbox = preprocessor.run(picture.as_raw(), size.0, size.1, &mut input);
        engine.infer(&input, &mut regions).unwrap();
        scorer.detect(regions.view(), &EVERY_REGION, &mut found);
        assert_eq!(found.len(), facts.proposals);
        let frame = (size.0 as f32, size.1 as f32);
        let boxes = expected.floats(&format!("boxes_{image}"));
        let scores = expected.floats(&format!("scores_{image}"));
        let labels = expected.floats(&format!("labels_{image}"));
        for ((wanted, score), label) in boxes.as_chunks().0.iter().zip(&scores).zip(&labels) {
            let wanted = clipped(*wanted, frame);
            // Of the best 64 some stand in another order here, by differences in the last digits.
            let nearest = found.iter().filter(|found| found.word as f32 == *label).map(|found| {
                let here = letterbox.box_in_frame_from_input(found.box_in_input);
                (largest(&here, &wanted) / frame.0.max(frame.1), (found.score - score).abs())
            });
            let (of_box, of_score) = nearest.min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1))).unwrap();
            worst = (worst.0.max(of_score), worst.1.max(of_box));
        }
    }
    worst
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_imported_model_finds_what_transformers_finds() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    for model in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let (of_scores, of_boxes) = differences(&made, model);
        println!("{model}: scores within {of_scores:.1e}, boxes within {of_boxes:.1e}");
        assert!(of_scores < 1e-4 && of_boxes < 1e-4, "{model}: {of_scores} {of_boxes}");
    }
}

#[test]
fn a_photograph_becomes_the_processors_bytes() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    for model in ["owlvit-a", "owlv2-a"] {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let [_, _, images] = asked();
        let picture = image::open(fixtures().join(format!("images/{}.png", images[0]))).unwrap().to_rgb8();
        let resize = CpuEngine::open(&made.student, 1).unwrap().facts().resize;
        let mut input = vec![0; resize.input_len()];
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Preprocessor::new(resize).run(picture.as_raw(), width, height, &mut input);
        let pixels = Expected::of(model).floats("pixel_values");
        let config = fs::read_to_string(fixtures().join(model).join("preprocessor_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let number = |key: &str, channel: usize| config[key][channel].as_f64().unwrap();
        let plane = pixels.len() / 3;
        let others = pixels.iter().zip(&input).enumerate().filter(|(at, (pixel, byte))| {
            let (deviation, mean) = (number("image_std", at / plane), number("image_mean", at / plane));
            let level = (f64::from(**pixel) * deviation + mean) * 255.0;
            (level - f64::from(**byte)).abs() > 0.01
        });
        assert_eq!(others.count(), 0, "{model}, of {}", input.len());
    }
}
