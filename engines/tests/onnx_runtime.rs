//! What the engines crate does with real ONNX files on the real ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use prost::Message as _;
use wordsight_detection::{ResizeFilter, ResizeMode, ResizeSettings, ScoreFunction};
use wordsight_engines::{
    CpuEngine, Engine, EngineError, Input, OnnxSession, PortSpec, Regions, StudentFacts, TensorView,
};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, Storage};

const WIDTH: usize = 4;
const HEIGHT: usize = 2;

/// A student of two proposals and three-number embeddings: `boxes` and `objectness` are constants,
/// the text embedding is the frame's mean colour and the image embedding its opposite, unnormalised.
struct TinyStudent {
    metadata: Vec<(&'static str, String)>,
    embedding_columns: i64,
}

impl TinyStudent {
    fn new() -> Self {
        let metadata = [
            ("wordsight.format", "1"),
            ("wordsight.teacher", "colours"),
            ("wordsight.temperature", "0.01"),
            ("wordsight.background", "[0.6, 0.8, 0]"),
            ("wordsight.ensemble_lambda", "0.33"),
            ("wordsight.objectness_weight", "0.25"),
            ("wordsight.training", r#"{"steps": 7}"#),
        ];
        Self { metadata: metadata.map(|(key, value)| (key, value.to_owned())).to_vec(), embedding_columns: 3 }
    }

    fn with(mut self, key: &'static str, value: Option<&str>) -> Self {
        self.metadata.retain(|(present, _)| *present != key);
        self.metadata.extend(value.map(|value| (key, value.to_owned())));
        self
    }

    fn model(&self) -> ModelProto {
        let mut graph = Graph::new("tiny", Storage::F32);
        let image = graph.input("image", ElementType::Uint8, &[1, 3, HEIGHT as i64, WIDTH as i64]);
        let pixels = graph.cast(&image, ElementType::Float);
        let pixels = graph.reshape(&pixels, &[1, 3, (WIDTH * HEIGHT) as i64]);
        let sums = graph.reduce_sum(&pixels, &[2]);
        let count = graph.scalar((WIDTH * HEIGHT) as f32);
        let mean = graph.div(&sums, &count);
        let mean = graph.reshape(&mean, &[1, 3]);
        let text = graph.concat(&[&mean, &mean], 0);
        let minus_one = graph.scalar(-1.0);
        let opposite = graph.mul(&text, &minus_one);
        let boxes = graph.floats(&[2, 4], &[0.0, 0.0, 2.0, 1.0, 1.0, 0.5, 4.0, 2.0]);
        let objectness = graph.floats(&[2], &[0.9, 0.1]);
        graph.output(&boxes, "boxes", ElementType::Float, &[2, 4]);
        graph.output(&objectness, "objectness", ElementType::Float, &[2]);
        graph.output(&text, "text_embeddings", ElementType::Float, &[2, self.embedding_columns]);
        graph.output(&opposite, "image_embeddings", ElementType::Float, &[2, self.embedding_columns]);
        graph.into_model(&self.metadata)
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("student.onnx");
        wordsight_onnx::write(&self.model(), &path).unwrap();
        path
    }
}

fn refusal(student: &TinyStudent) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = CpuEngine::open(&student.write(folder.path()), 1).err().unwrap();
    assert!(matches!(error, EngineError::NotAStudent { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn an_engine_reads_the_students_facts_and_finds_its_regions() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = CpuEngine::open(&TinyStudent::new().write(folder.path()), 1).unwrap();
    let facts = engine.facts();
    assert_eq!((facts.input_width(), facts.input_height()), (WIDTH, HEIGHT));
    assert_eq!((facts.proposals, facts.embedding_size), (2, 3));
    assert_eq!(facts.teacher, "colours");
    let ScoreFunction::Softmax { background, .. } = &facts.scores else { panic!("{facts:?}") };
    assert_eq!(background, &[0.6, 0.8, 0.0]);
    assert_eq!(facts.training["steps"], 7);

    let planes: Vec<u8> = [10, 20, 30].iter().flat_map(|&x| [x; WIDTH * HEIGHT]).collect();
    let mut regions = Regions::default();
    for _ in 0..2 {
        engine.infer(&planes, &mut regions).unwrap();
        assert_eq!(regions.boxes_in_input, [[0.0, 0.0, 2.0, 1.0], [1.0, 0.5, 4.0, 2.0]]);
        assert_eq!(regions.objectness, [0.9, 0.1]);
        assert_eq!(regions.text_embeddings, [10.0, 20.0, 30.0, 10.0, 20.0, 30.0]);
        assert_eq!(regions.image_embeddings[..3], [-10.0, -20.0, -30.0]);
    }
}

#[test]
fn an_engine_refuses_a_frame_of_the_wrong_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = CpuEngine::open(&TinyStudent::new().write(folder.path()), 1).unwrap();
    let error = engine.infer(&[0; 5], &mut Regions::default()).unwrap_err();
    assert!(error.to_string().contains("24 elements, and 5 were given"), "{error}");
}

#[test]
fn a_student_without_a_fact_is_refused_with_the_facts_name() {
    for (key, _) in TinyStudent::new().metadata {
        let error = refusal(&TinyStudent::new().with(key, None));
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_student_with_an_impossible_fact_is_refused_with_the_reason() {
    let cases = [
        ("wordsight.format", "3", "reads \"1\" and \"2\""),
        ("wordsight.temperature", "0", "above 0"),
        ("wordsight.temperature", "NaN", "not a number"),
        ("wordsight.background", "[1, 0]", "2 numbers"),
        ("wordsight.background", "[1, 1, 1]", "length"),
        ("wordsight.ensemble_lambda", "1.5", "between 0 and 1"),
        ("wordsight.trained_text_weight", "-0.5", "between 0 and 1"),
        ("wordsight.objectness_weight", "-1", "between 0 and 1"),
        ("wordsight.training", "{", "wordsight.training"),
    ];
    for (key, value, reason) in cases {
        let error = refusal(&TinyStudent::new().with(key, Some(value)));
        assert!(error.contains(reason), "{key} = {value}: {error}");
    }
}

#[test]
fn a_student_of_the_second_format_says_how_frames_are_resized_and_scored() {
    let second =
        || TinyStudent::new().with("wordsight.format", Some("2")).with("wordsight.scores", Some("softmax"));
    let folder = tempfile::tempdir().unwrap();
    let student = second()
        .with("wordsight.resize", Some("pad"))
        .with("wordsight.resize_filter", Some("gaussian"))
        .with("wordsight.padding", Some("[1, 2, 3]"))
        .with("wordsight.training", None);
    let facts = CpuEngine::open(&student.write(folder.path()), 1).unwrap().facts().clone();
    let resize = ResizeSettings {
        input_size: (WIDTH, HEIGHT),
        mode: ResizeMode::Pad,
        filter: ResizeFilter::Gaussian,
        padding: [1, 2, 3],
    };
    assert_eq!((facts.resize, facts.objectness_weight), (resize, 0.25));

    for (key, value, reason) in [
        ("wordsight.scores", "relu", "\"softmax\" or \"sigmoid\""),
        ("wordsight.scores", "sigmoid", "with \"sigmoid\" as `wordsight.scores` they must be"),
        ("wordsight.resize", "crop", "[\"letterbox\", \"stretch\", \"pad\"]"),
        ("wordsight.resize_filter", "nearest", "\"bicubic\""),
        ("wordsight.padding", "[300, 0, 0]", "three whole numbers from 0 to 255"),
        ("wordsight.padding", "", "three whole numbers from 0 to 255"),
        ("wordsight.temperature", "0", "above 0"),
    ] {
        let error = refusal(&second().with(key, Some(value)));
        assert!(error.contains(reason), "{key} = {value}: {error}");
    }
}

#[test]
fn a_model_that_is_no_student_is_refused() {
    let mut graph = Graph::new("other", Storage::F32);
    let x = graph.input("x", ElementType::Float, &[-1, 2]);
    let doubled = graph.add(&x, &x);
    graph.output(&doubled, "doubled", ElementType::Float, &[-1, 2]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.onnx");
    wordsight_onnx::write(&graph.into_model(&[]), &path).unwrap();
    let error = CpuEngine::open(&path, 1).err().unwrap().to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("inputs"), "{error}");
}

#[test]
fn a_missing_and_a_corrupt_file_are_named_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.onnx");
    let missing = CpuEngine::open(&path, 1).err().unwrap();
    assert!(matches!(missing, EngineError::Unreadable { .. }), "{missing:?}");
    std::fs::write(&path, b"this is no protobuf").unwrap();
    let corrupt = CpuEngine::open(&path, 1).err().unwrap();
    assert!(matches!(corrupt, EngineError::NotAModel { .. }), "{corrupt:?}");
    for error in [missing.to_string(), corrupt.to_string()] {
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_session_takes_a_dynamic_batch_and_tells_its_ports() {
    let mut graph = Graph::new("double", Storage::F32);
    let x = graph.input("x", ElementType::Float, &[-1, 2]);
    let doubled = graph.add(&x, &x);
    graph.output(&doubled, "doubled", ElementType::Float, &[-1, 2]);
    let bytes = graph.into_model(&[("note", "hello".to_owned())]).encode_to_vec();
    let mut session = OnnxSession::from_bytes(&bytes, "double", 0).unwrap();
    let expected =
        PortSpec { name: "x".into(), shape: vec![-1, 2], element_type: wordsight_engines::ElementType::F32 };
    assert_eq!(session.inputs(), [expected]);
    assert_eq!(session.metadata("note").as_deref(), Some("hello"));
    assert_eq!(session.metadata("absent"), None);
    for rows in [1, 3] {
        let data = vec![1.5; rows * 2];
        let input = Input { name: "x", shape: &[rows, 2], data: TensorView::F32(&data) };
        let outputs = session.run(&[input]).unwrap();
        assert_eq!(outputs[0].shape, [rows, 2]);
        assert_eq!(outputs[0].data, vec![3.0; rows * 2]);
    }
}

#[test]
fn an_output_that_is_not_float_is_refused_by_name() {
    let mut graph = Graph::new("integers", Storage::F32);
    let x = graph.input("x", ElementType::Float, &[1]);
    let rounded = graph.cast(&x, ElementType::Int64);
    graph.output(&rounded, "rounded", ElementType::Int64, &[1]);
    let bytes = graph.into_model(&[]).encode_to_vec();
    let mut session = OnnxSession::from_bytes(&bytes, "integers", 1).unwrap();
    let input = Input { name: "x", shape: &[1], data: TensorView::F32(&[1.0]) };
    let error = session.run(&[input]).unwrap_err().to_string();
    assert!(error.contains("`rounded`") && error.contains("32-bit float"), "{error}");
}

#[test]
fn a_pipe_without_a_writer_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("student.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(CpuEngine::open(&pipe, 1).err().map(|error| error.to_string())));
    let error = receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("it waits for a writer");
    assert!(error.is_some_and(|error| error.contains("it is a pipe")));
}

#[test]
fn keys_that_mean_nothing_in_a_student_are_known() {
    let unused = |student: TinyStudent| StudentFacts::unused_keys(&student.model(), "tiny").unwrap();
    assert_eq!(unused(TinyStudent::new()), [""; 0]);
    // How a student of the first format takes frames is fixed.
    let more = TinyStudent::new().with("wordsight.resize", Some("fold")).with("wordsight.id", Some("x"));
    assert_eq!(unused(more.with("wordsight.precision", Some("fp16"))), ["wordsight.id", "wordsight.resize"]);
}
