//! An exported file computes what the trained model computes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::path::PathBuf;

use burn::module::Param;
use burn::tensor::{Device, Distribution, Tensor};
use wordsight_detection::{ScoreFunction, TextWeights};
use wordsight_distill::export::{self, ScoringFacts, text_weights};
use wordsight_distill::start;
use wordsight_distill::student::{Head, Student, StudentConfig};
use wordsight_engines::{CpuEngine, Engine};
use wordsight_standin::efficientnet::Weights;
use wordsight_standin::pth;
use wordsight_teacher::Teacher;

const ENSEMBLE: TextWeights = TextWeights { trained: 0.75, others: 0.25 };

fn facts() -> ScoringFacts {
    ScoringFacts {
        teacher: "somebody".to_owned(),
        temperature: 0.01,
        text_weights: ENSEMBLE,
        objectness_weight: 0.75,
        training: serde_json::json!({ "steps": 3 }),
    }
}

/// A student of the shipped sizes before any training (`start::untrained`), and what it is made of.
struct Untrained {
    student: Student,
    sizes: StudentConfig,
    backbone: Weights,
    names: Vec<Vec<f32>>,
    folder: tempfile::TempDir,
}

impl Untrained {
    fn new() -> Option<Self> {
        let made_by = "run `make teacher` first";
        let teacher = support::needed(".deps/teacher", made_by)?;
        let backbone = support::needed(".deps/efficientnet-lite0.pth", made_by)?;
        let backbone = pth::read_pth(&backbone).unwrap();
        let mut teacher = Teacher::open(&teacher).unwrap();
        let sizes = StudentConfig::new(teacher.embedding_size());
        let names = start::embed_names(&wordsight_standin::class_names(), teacher.text()).unwrap();
        let student = Student::new(&sizes, &backbone, &names, &Device::flex()).unwrap();
        Some(Self { student, sizes, backbone, names, folder: tempfile::tempdir().unwrap() })
    }

    /// Writes a student as a file.
    fn export(&self, student: &Student, facts: &ScoringFacts, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        wordsight_onnx::write(&export::student_model(student, &self.sizes, facts).unwrap(), &path).unwrap();
        path
    }
}

#[test]
fn the_exported_file_answers_like_the_model_and_carries_its_facts() {
    let Some(untrained) = Untrained::new() else { return };
    let pictures = support::clip_frames(6);
    assert_eq!(pictures.len(), 20);

    let student = untrained.student.clone().rounded_to_f16();
    let path = untrained.export(&student, &facts(), "student.onnx");
    let parity = export::compare(&student, &untrained.sizes, &path, &pictures).unwrap();
    println!("{}", serde_json::to_string(&parity).unwrap());
    // This student is untrained, so that its cells are much alike and rounding decides more often.
    assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.05, "{parity:?}");

    let engine = CpuEngine::open(&path, 1).unwrap();
    let read = engine.facts();
    assert_eq!(
        (read.input_width(), read.input_height(), read.proposals, read.embedding_size),
        (416, 416, 100, 384)
    );
    let ScoreFunction::Softmax { temperature, background, text_weights } = &read.scores else {
        panic!("{:?}", read.scores)
    };
    assert_eq!((*temperature, read.objectness_weight), (0.01, 0.75));
    assert_eq!((text_weights.trained, text_weights.others), (0.75, 0.25));
    assert_eq!(read.teacher, "somebody");
    assert_eq!(read.training["steps"], 3);
    let length: f32 = background.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-4);
}

/// The layers that are zero before training, as training may leave them: or two of them would read back as one.
fn as_if_trained(mut student: Student) -> Student {
    let random = |weight: &Param<Tensor<2>>| {
        Param::from_tensor(Tensor::random(
            weight.val().dims(),
            Distribution::Normal(0.0, 0.02),
            &Device::flex(),
        ))
    };
    Device::flex().seed(4);
    student.refiner.shifts.weight = random(&student.refiner.shifts.weight);
    student.regions.text.weight = random(&student.regions.text.weight);
    student.regions.image = student.regions.image.map(|mut image| {
        image.weight = random(&image.weight);
        image
    });
    student
}

#[test]
fn an_exported_student_is_read_back_as_the_model_that_it_was() {
    let Some(untrained) = Untrained::new() else { return };
    let student = as_if_trained(untrained.student.clone()).rounded_to_f16();
    let path = untrained.export(&student, &facts(), "student.onnx");
    assert_eq!(export::read_sizes(&path).unwrap(), untrained.sizes);
    // Into a student of other random numbers.
    Device::flex().seed(5);
    let other =
        Student::new(&untrained.sizes, &untrained.backbone, &untrained.names, &Device::flex()).unwrap();
    let other = export::read_student(&path, other).unwrap();
    let parity = export::compare(&other, &untrained.sizes, &path, &support::clip_frames(20)).unwrap();
    println!("{}", serde_json::to_string(&parity).unwrap());
    assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.02, "{parity:?}");
}

#[test]
fn the_shipped_student_is_read_back_as_the_model_that_it_was() {
    let Some(untrained) = Untrained::new() else { return };
    let shipped = support::checkout("demo/student.onnx");
    let sizes = export::read_sizes(&shipped).unwrap();
    let student = Student::new(&sizes, &untrained.backbone, &untrained.names, &Device::flex()).unwrap();
    let student = export::read_student(&shipped, student).unwrap();
    let parity = export::compare(&student, &sizes, &shipped, &support::clip_frames(20)).unwrap();
    println!("{}", serde_json::to_string(&parity).unwrap());
    assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.02, "{parity:?}");
}

#[test]
fn every_kind_of_head_exports_and_says_how_it_is_scored() {
    let Some(untrained) = Untrained::new() else { return };
    let Untrained { student, sizes, backbone, .. } = &untrained;
    for (head, weights) in
        [(Head::Supervised, (1.0, 1.0)), (Head::VildImage, (0.0, 0.0)), (Head::VildEnsemble, (0.75, 0.25))]
    {
        let student = start::with_fresh_head(student.clone(), sizes, backbone, head, 7).unwrap();
        let student = student.rounded_to_f16();
        let facts = ScoringFacts { text_weights: text_weights(head, ENSEMBLE), ..facts() };
        let path = untrained.export(&student, &facts, &format!("{}.onnx", head.name()));
        let parity = export::compare(&student, sizes, &path, &support::clip_frames(60)).unwrap();
        assert!(parity.worst() <= 1e-3 && parity.swapped <= 0.05, "{}: {parity:?}", head.name());
        let engine = CpuEngine::open(&path, 1).unwrap();
        let facts = engine.facts();
        let ScoreFunction::Softmax { text_weights: found, .. } = &facts.scores else { panic!("{facts:?}") };
        assert_eq!((found.trained, found.others), weights, "{}", head.name());
    }
}
