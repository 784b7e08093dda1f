//! What the shipped student finds with integers in its graph, as a plan has them, and without: on ONNX Runtime, which
//! computes them in float here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use wordsight_calibration::{
    Layers, Method, Ranges, Target, observed, quantize, to_f16_around_integers, without_integers,
};
use wordsight_detection::{Preprocessor, iou};
use wordsight_engines::{
    CpuEngine, Engine, Input, OnnxSession, Regions, StudentFacts, StudentOutput, TensorView,
};
use wordsight_onnx::proto::{ElementType, ModelProto, TensorProto};

fn demo(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(name)
}

/// The first frame of the demo's clip, letterboxed.
fn frame(facts: &StudentFacts) -> Vec<u8> {
    let clip = std::fs::read(demo("clip.mjpeg")).unwrap();
    let frame = image::load_from_memory(&clip).unwrap().to_rgb8();
    let mut preprocessor = Preprocessor::new(facts.resize);
    let mut planes = vec![0; preprocessor.output_len()];
    preprocessor.run(frame.as_raw(), frame.width() as usize, frame.height() as usize, &mut planes);
    planes
}

/// The shipped student for TensorRT, with thresholds from that frame.
fn quantised(shipped: &ModelProto) -> ModelProto {
    let layers = Layers::of(shipped).unwrap();
    let tensors: Vec<&str> = layers.tensors().into_iter().collect();
    let watched = wordsight_onnx::encode(&observed(shipped, tensors.iter().copied()));
    let mut session = OnnxSession::from_bytes(&watched, "the watched student", 0).unwrap();
    let facts = StudentFacts::of_model(shipped, "the shipped student").unwrap();
    let (image, shape) = (frame(&facts), [1, 3, facts.input_height(), facts.input_width()]);
    let input = Input { name: StudentFacts::INPUT, shape: &shape, data: TensorView::U8(&image) };
    let mut ranges = Ranges::default();
    let watch = |output: usize, _: &[i64], values: &[f32]| {
        if let Some(at) = output.checked_sub(StudentOutput::OF_SOFTMAX.len()) {
            ranges.add(tensors[at], values);
        }
    };
    session.run_each(&[input], watch).unwrap();
    quantize(shipped, &layers, &ranges, Method::Max, Target::TensorRt).unwrap()
}

fn found_by(model: &ModelProto) -> Regions {
    let bytes = wordsight_onnx::encode(model);
    let mut engine = CpuEngine::from_bytes_in_float(&bytes, "a student", 0).unwrap();
    let mut regions = Regions::default();
    engine.infer(&frame(engine.facts()), &mut regions).unwrap();
    regions
}

/// The cosine that a tenth of the embeddings of regions that both propose are below, and how many regions those are.
fn agreement(one: &Regions, other: &Regions) -> (f32, usize) {
    let size = one.text_embeddings.len() / one.boxes_in_input.len();
    let row = |regions: &Regions, at: usize| regions.text_embeddings[at * size..][..size].to_vec();
    let mut cosines: Vec<f32> = Vec::new();
    for (at, corners) in one.boxes_in_input.iter().enumerate() {
        let overlaps = other.boxes_in_input.iter().map(|there| iou(*corners, *there));
        let (place, overlap) = overlaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        if overlap >= 0.8 {
            cosines.push(row(one, at).into_iter().zip(row(other, place)).map(|(a, b)| a * b).sum());
        }
    }
    cosines.sort_by(f32::total_cmp);
    (cosines[cosines.len() / 10], cosines.len())
}

#[test]
fn a_relu_in_front_of_integers_is_the_clip_that_it_stands_for() {
    let shipped = wordsight_onnx::read(&demo("student.onnx")).unwrap();
    let model = quantised(&shipped);
    let is_clip = |name: &str| {
        shipped.graph.as_ref().unwrap().node.iter().any(|node| node.name == name && node.op_type == "Clip")
    };
    let mut clipped = model.clone();
    let graph = clipped.graph.as_mut().unwrap();
    let mut changed = 0;
    for node in graph.node.iter_mut().filter(|node| node.op_type == "Relu" && is_clip(&node.name)) {
        "Clip".clone_into(&mut node.op_type);
        node.input.extend(["test/low".to_owned(), "test/high".to_owned()]);
        changed += 1;
    }
    for (name, limit) in [("test/low", 0.0_f32), ("test/high", 6.0)] {
        let bytes = limit.to_le_bytes().to_vec();
        graph.initializer.push(TensorProto::constant(name, ElementType::Float, &[], bytes));
    }
    assert!(changed > 25, "{changed}");
    let found = found_by(&model);
    assert!(found == found_by(&clipped) && found.objectness[0] > 0.1, "to the last bit");
}

/// Bounds are what one frame leaves room for; the weights are those of the integers each time.
#[test]
fn integers_with_fp16_around_them_and_their_absence_change_little() {
    let shipped = wordsight_onnx::read(&demo("student.onnx")).unwrap();
    let model = quantised(&shipped);
    let float = found_by(&shipped);
    for (what, other, least) in [
        ("integers", model.clone(), 0.975),
        ("FP16 around integers", to_f16_around_integers(&model).unwrap(), 0.97),
        ("without integers", without_integers(&model).unwrap(), 0.97),
    ] {
        let (cosine, same) = agreement(&float, &found_by(&other));
        println!("{what}: a tenth below {cosine}, {same} of {} regions", float.boxes_in_input.len());
        assert!(cosine > least && same * 10 >= float.boxes_in_input.len() * 8, "{what}: {cosine}, {same}");
    }
}
