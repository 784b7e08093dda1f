//! What an exported file says is what the trained model says.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use burn::tensor::Device;
use wordsight_distill::export::{self, ScoringFacts, text_weights};
use wordsight_distill::start;
use wordsight_distill::student::Head;
use wordsight_engines::{CpuEngine, Engine};
use wordsight_teacher::{Teacher, pth};

fn facts() -> ScoringFacts {
    ScoringFacts {
        teacher: "somebody".to_owned(),
        temperature: 0.01,
        text_weights: text_weights(Head::VildEnsemble, 0.25),
        objectness_weight: 0.75,
        training: serde_json::json!({ "steps": 3 }),
    }
}

#[test]
fn the_exported_file_answers_like_the_model_and_carries_its_facts() {
    let made_by = "run `make teacher` first";
    let (Some(teacher), Some(backbone)) =
        (support::needed(".deps/teacher", made_by), support::needed(".deps/efficientnet-lite0.pth", made_by))
    else {
        return;
    };
    let backbone = pth::read_pth(&backbone).unwrap();
    let (student, config) =
        start::untrained(&backbone, &mut Teacher::open(&teacher).unwrap(), &Device::flex()).unwrap();
    let pictures = support::clip_frames(6);
    assert_eq!(pictures.len(), 20);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.onnx");
    let student = student.rounded_to_f16();
    let model = export::student_model(&student, &config, &backbone, &facts()).unwrap();
    wordsight_onnx::write(&model, &path).unwrap();
    let parity = export::compare(&student, &config, &backbone, &path, &pictures).unwrap();
    println!("{}", serde_json::to_string(&parity).unwrap());
    // This student is untrained, so that its cells are much alike and rounding decides more often.
    assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.05, "{parity:?}");

    let engine = CpuEngine::open(&path, 1).unwrap();
    let read = engine.facts();
    assert_eq!(
        (read.input_width, read.input_height, read.proposals, read.embedding_size),
        (416, 416, 100, 384)
    );
    assert_eq!((read.temperature, read.ensemble_lambda, read.objectness_weight), (0.01, 0.25, 0.75));
    assert_eq!(read.trained_text_weight, 0.75);
    assert_eq!(read.teacher, "somebody");
    assert_eq!(read.training["steps"], 3);
    let length: f32 = read.background.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-4);
}

#[test]
fn an_exported_student_is_read_back_as_the_model_that_it_was() {
    let made_by = "run `make teacher` first";
    let (Some(teacher), Some(backbone)) =
        (support::needed(".deps/teacher", made_by), support::needed(".deps/efficientnet-lite0.pth", made_by))
    else {
        return;
    };
    let backbone = pth::read_pth(&backbone).unwrap();
    let (untrained, mut config) =
        start::untrained(&backbone, &mut Teacher::open(&teacher).unwrap(), &Device::flex()).unwrap();
    let shipped = support::checkout("demo/student.onnx");
    config.input_size = CpuEngine::open(&shipped, 1).unwrap().facts().input_width;
    let student = export::read_student(&shipped, untrained).unwrap();
    let parity = export::compare(&student, &config, &backbone, &shipped, &support::clip_frames(20)).unwrap();
    println!("{}", serde_json::to_string(&parity).unwrap());
    assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.02, "{parity:?}");
}

#[test]
fn every_kind_of_head_exports_and_says_how_it_is_scored() {
    let made_by = "run `make teacher` first";
    let (Some(teacher), Some(backbone)) =
        (support::needed(".deps/teacher", made_by), support::needed(".deps/efficientnet-lite0.pth", made_by))
    else {
        return;
    };
    let backbone = pth::read_pth(&backbone).unwrap();
    let mut teacher = Teacher::open(&teacher).unwrap();
    let (untrained, config) = start::untrained(&backbone, &mut teacher, &Device::flex()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (head, weights) in
        [(Head::Supervised, (1.0, 1.0)), (Head::VildImage, (0.0, 0.0)), (Head::VildEnsemble, (0.75, 0.25))]
    {
        let student = start::with_fresh_head(untrained.clone(), &config, &backbone, head, 7).unwrap();
        let student = student.rounded_to_f16();
        let path = folder.path().join(format!("{}.onnx", head.name()));
        let facts = ScoringFacts { text_weights: text_weights(head, 0.25), ..facts() };
        let model = export::student_model(&student, &config, &backbone, &facts).unwrap();
        wordsight_onnx::write(&model, &path).unwrap();
        let parity = export::compare(&student, &config, &backbone, &path, &support::clip_frames(60)).unwrap();
        assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.05, "{}: {parity:?}", head.name());
        let engine = CpuEngine::open(&path, 1).unwrap();
        let facts = engine.facts();
        assert_eq!((facts.trained_text_weight, facts.ensemble_lambda), weights, "{}", head.name());
    }
}
