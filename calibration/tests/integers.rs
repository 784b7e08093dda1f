//! Where integers begin and end in a graph for TensorRT, and what is around them in a plan.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use wordsight_calibration::{
    CalibrationError, Layers, Method, Ranges, Target, fold_casts, quantize, to_f16, to_f16_around_integers,
    without_integers,
};
use wordsight_onnx::proto::{ElementType, ModelProto, NodeProto};
use wordsight_onnx::{Attribute, Graph, Storage, Value};

/// A stem; a residual block; a sum of two convolutions; a map that is enlarged and added to one; means of cells.
fn student() -> ModelProto {
    let mut graph = Graph::new("student", Storage::F32);
    let image = graph.input("image", ElementType::Uint8, &[1, 4, 4, 4]);
    let convolve = |graph: &mut Graph, x: &Value| {
        let weights: Vec<f32> = (0..16).map(|at| (at as f32 - 7.0) / 16.0).collect();
        let weights = graph.exact_floats(&[4, 4, 1, 1], &weights);
        let bias = graph.exact_floats(&[4], &[0.5, 0.25, -0.5, 0.0]);
        graph.node("Conv", &[x, &weights, &bias], &[])
    };
    graph.scope("stem");
    let pixels = graph.cast(&image, ElementType::Float);
    let stem = convolve(&mut graph, &pixels);
    let stem = graph.clip(&stem, 0.0, 6.0);
    graph.scope("residual");
    let before = convolve(&mut graph, &stem);
    let before = graph.clip(&before, 0.0, 6.0);
    let widened = convolve(&mut graph, &before);
    let widened = graph.clip(&widened, 0.0, 6.0);
    let narrowed = convolve(&mut graph, &widened);
    let added = graph.add(&narrowed, &before);
    graph.scope("both");
    let first = convolve(&mut graph, &added);
    let second = convolve(&mut graph, &added);
    let both = graph.add(&first, &second);
    graph.scope("pyramid");
    let lateral = convolve(&mut graph, &both);
    let lateral = graph.clip(&lateral, 0.0, 6.0);
    let (no_region, scales) = (graph.exact_floats(&[0], &[]), graph.exact_floats(&[4], &[1.0; 4]));
    let enlarged = graph.node("Resize", &[&lateral, &no_region, &scales], &[]);
    let finer = convolve(&mut graph, &both);
    let mixed = graph.add(&finer, &enlarged);
    let last = convolve(&mut graph, &mixed);
    let last = graph.node("Relu", &[&last], &[]);
    graph.scope("pooling");
    let mean = graph.node(
        "ReduceMean",
        &[&last],
        &[("axes", Attribute::Ints(&[2])), ("keepdims", Attribute::Int(0))],
    );
    graph.output(&mean, "mean", ElementType::Float, &[1, 4, 4]);
    graph.into_model(&[])
}

fn shipped() -> ModelProto {
    wordsight_onnx::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx")).unwrap()
}

/// In integers, where every tensor holds what is given.
fn quantised(model: &ModelProto, held: &[f32], target: Target) -> ModelProto {
    let layers = Layers::of(model).unwrap();
    let mut ranges = Ranges::default();
    layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, held));
    quantize(model, &layers, &ranges, Method::Max, target).unwrap()
}

fn nodes<'a>(model: &'a ModelProto, op: &str) -> Vec<&'a NodeProto> {
    model.graph.as_ref().unwrap().node.iter().filter(|node| node.op_type == op).collect()
}

/// The operator that makes a node's input.
fn producer<'a>(model: &'a ModelProto, node: &NodeProto, input: usize) -> &'a str {
    let made = &model.graph.as_ref().unwrap().node;
    made.iter()
        .find(|other| other.output.contains(&node.input[input]))
        .map_or("", |producer| &producer.op_type)
}

fn producers<'a>(model: &'a ModelProto, op: &str, inputs: usize) -> Vec<Vec<&'a str>> {
    nodes(model, op)
        .into_iter()
        .map(|node| (0..inputs).map(|input| producer(model, node, input)).collect())
        .collect()
}

#[test]
fn a_sum_takes_its_skip_side_in_integers_and_the_convolution_that_it_is_fused_with_in_float() {
    let model = quantised(&student(), &[-1.0, 6.0], Target::TensorRt);
    assert_eq!(
        producers(&model, "Add", 2),
        [["Conv", "DequantizeLinear"], ["DequantizeLinear", "Conv"], ["Conv", "Resize"]],
        "residual, the later of two, and the pyramid, which is none of the layers"
    );
    // A processor has everything in integers.
    let model = quantised(&student(), &[-1.0, 6.0], Target::Cpu);
    assert_eq!(producers(&model, "Add", 2)[0], ["DequantizeLinear"; 2]);
}

#[test]
fn what_is_not_in_integers_takes_float_and_no_pair_is_left_over() {
    let model = quantised(&student(), &[-1.0, 6.0], Target::TensorRt);
    assert_eq!(producers(&model, "Resize", 1), [["Clip"]]);
    assert_eq!(producers(&model, "ReduceMean", 1), [["Relu"]]);
    assert_eq!(producers(&model, "Conv", 1)[1..], vec![["DequantizeLinear"]; 8]);
    let taken = |name: &String| nodes_of(&model).iter().any(|node| node.input.contains(name));
    assert!(nodes(&model, "DequantizeLinear").iter().all(|node| taken(&node.output[0])));
}

fn nodes_of(model: &ModelProto) -> &[NodeProto] {
    &model.graph.as_ref().unwrap().node
}

#[test]
fn a_clip_whose_limit_is_the_integers_own_is_a_relu() {
    // That of the pyramid is enlarged as it is.
    for (held, left) in [([-1.0, 6.0], 1), ([-1.0, 4.0], 1), ([-1.0, 7.0], 4)] {
        let model = quantised(&student(), &held, Target::TensorRt);
        assert_eq!(nodes(&model, "Clip").len(), left, "{held:?}");
        assert_eq!(nodes(&model, "Relu").len(), 5 - left);
    }
    assert_eq!(nodes(&quantised(&student(), &[-1.0, 6.0], Target::Cpu), "Clip").len(), 4);
}

#[test]
fn the_shipped_student_has_nothing_left_between_its_convolutions_and_sums() {
    let model = quantised(&shipped(), &[-1.0, 6.0], Target::TensorRt);
    let sums: Vec<_> =
        producers(&model, "Add", 2).into_iter().filter(|sides| sides.contains(&"DequantizeLinear")).collect();
    let of = |sides: [&str; 2]| sums.iter().filter(|sum| ***sum == sides).count();
    assert_eq!(of(["Conv", "DequantizeLinear"]), 12, "residuals");
    assert_eq!(of(["DequantizeLinear", "Conv"]), 1, "the neck's, of two convolutions");
    assert_eq!(of(["DequantizeLinear"; 2]), 2, "the neck's, with an activation in front of it");
    assert_eq!(sums.len(), 15);
    for op in ["Resize", "Transpose", "Reshape", "MatMul"] {
        assert!(producers(&model, op, 1).iter().all(|sides| sides[0] != "DequantizeLinear"), "{op}");
    }
}

#[test]
fn a_plan_has_fp16_around_integers() {
    for model in [student(), shipped()] {
        // As `wordsight-distill quantize` makes it: the rest in FP16.
        let model = to_f16(&quantised(&model, &[-1.0, 6.0], Target::TensorRt)).unwrap();
        let plan = fold_casts(&to_f16_around_integers(&model).unwrap());
        assert_eq!(wordsight_onnx::precision_of(&plan), "int8");
        assert_eq!(plan.opset_import[0].version, 19);
        let graph = plan.graph.as_ref().unwrap();
        let element = |name: &String| {
            graph
                .initializer
                .iter()
                .find(|constant| constant.name == *name)
                .map(|constant| constant.data_type)
        };
        for node in nodes(&plan, "QuantizeLinear").into_iter().chain(nodes(&plan, "DequantizeLinear")) {
            assert_eq!(element(&node.input[1]), Some(ElementType::Float16 as i32), "{}", node.name);
        }
        // From the image's cast to the last convolution nothing is cast.
        assert!(producers(&plan, "Conv", 3)[1..].iter().flatten().all(|producer| *producer != "Cast"));
        assert!(producers(&plan, "QuantizeLinear", 1).iter().flatten().all(|producer| *producer != "Cast"));
        assert!(nodes(&plan, "ReduceMean").iter().all(|node| node.input.len() == 2), "axes are an input");
    }
    let refused = |model: &ModelProto| to_f16_around_integers(model).unwrap_err();
    assert!(matches!(refused(&student()), CalibrationError::OtherIntegers));
    let of_a_processor = quantised(&student(), &[-1.0, 6.0], Target::Cpu);
    assert!(matches!(refused(&of_a_processor), CalibrationError::OtherIntegers));
}

/// Every name is made once, and before it is taken.
fn assert_in_order(model: &ModelProto) {
    let graph = model.graph.as_ref().unwrap();
    let constants = graph.initializer.iter().map(|constant| constant.name.as_str());
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let mut made: BTreeSet<&str> = BTreeSet::new();
    constants.chain(inputs).for_each(|name| assert!(made.insert(name), "{name} twice"));
    for node in &graph.node {
        for input in &node.input {
            assert!(made.contains(input.as_str()), "{input} before it is made, by {}", node.name);
        }
        node.output.iter().for_each(|output| assert!(made.insert(output), "{output} twice"));
    }
}

#[test]
fn a_graph_that_was_converted_before_stays_in_order() {
    let int8 = to_f16(&quantised(&shipped(), &[-1.0, 6.0], Target::TensorRt)).unwrap();
    assert_in_order(&int8);
    assert_in_order(&fold_casts(&to_f16_around_integers(&int8).unwrap()));
    assert_in_order(&fold_casts(&to_f16(&without_integers(&int8).unwrap()).unwrap()));
    assert_in_order(&fold_casts(&to_f16(&shipped()).unwrap()));
}

#[test]
fn without_its_integers_a_student_cuts_off_where_they_did() {
    let whole = to_f16(&quantised(&student(), &[-1.0, 5.0], Target::TensorRt)).unwrap();
    let float = to_f16(&without_integers(&whole).unwrap()).unwrap();
    assert_eq!(wordsight_onnx::precision_of(&float), "fp16");
    assert!(nodes(&float, "QuantizeLinear").is_empty() && nodes(&float, "DequantizeLinear").is_empty());
    let graph = float.graph.as_ref().unwrap();
    let limits: Vec<f32> = nodes(&float, "Clip")
        .iter()
        .map(|node| {
            let limit = graph.initializer.iter().find(|constant| constant.name == node.input[2]).unwrap();
            let bytes = limit.raw_data.as_slice().try_into().unwrap();
            half::f16::from_le_bytes(bytes).to_f32()
        })
        .collect();
    // Those of the residual by their integers, the pyramid's by itself.
    assert!(limits.len() == 4 && limits[..3].iter().all(|limit| (limit - 5.0).abs() < 0.01), "{limits:?}");
    assert_eq!(limits[3].to_bits(), 6.0_f32.to_bits());
    assert_eq!(nodes(&float, "Relu").len(), 1);
    assert!(matches!(without_integers(&student()), Err(CalibrationError::OtherIntegers)));
}
