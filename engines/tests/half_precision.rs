//! The shipped student in FP16, as a plan gets it: what its pooling moves, and what it finds, against FP32.
//!
//! ONNX Runtime has no kernels for FP16 on a processor: it computes in FP32 and leaves out the rounding between. So every
//! tensor that is of FP16 in the graph is rounded by casts of our own here ([`rounded`]), as a GPU writes it to memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use half::f16;
use wordsight_calibration::{element_types, fold_casts, observed, to_f16};
use wordsight_detection::{Preprocessor, iou};
use wordsight_engines::{
    CpuEngine, Engine, Input, OnnxSession, Regions, StudentFacts, StudentOutput, Tensor, TensorView,
};
use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{ElementType, ModelProto, NodeProto, TensorProto};

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(name)
}

fn shipped() -> ModelProto {
    wordsight_onnx::read(&demo("student.onnx")).unwrap()
}

/// Four frames of the demo's clip and four of its photographs, letterboxed.
fn images(facts: &StudentFacts) -> Vec<Vec<u8>> {
    let clip = std::fs::read(demo("clip.mjpeg")).unwrap();
    let starts: Vec<usize> =
        clip.windows(3).enumerate().filter(|(_, at)| *at == [0xff, 0xd8, 0xff]).map(|(at, _)| at).collect();
    let frames = starts.iter().step_by(starts.len().div_ceil(4)).map(|&at| clip[at..].to_vec());
    let mut photographs: Vec<PathBuf> =
        std::fs::read_dir(demo("photographs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    photographs.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    photographs.sort();
    let photographs =
        photographs.iter().step_by(photographs.len().div_ceil(4)).map(|path| std::fs::read(path).unwrap());
    let mut preprocessor = Preprocessor::new(facts.resize);
    let letterboxed = |jpeg: Vec<u8>| {
        let picture = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap().to_rgb8();
        let mut planes = vec![0; preprocessor.output_len()];
        preprocessor.run(picture.as_raw(), picture.width() as usize, picture.height() as usize, &mut planes);
        planes
    };
    frames.chain(photographs).map(letterboxed).collect()
}

/// Products of two tensors that the graph computes, and that are in FP16 behind the conversion: pooling's.
fn pooling(half: &ModelProto) -> Vec<&NodeProto> {
    let graph = half.graph.as_ref().unwrap();
    let types = element_types(graph);
    let is_half = |tensor: &str| types.get(tensor) == Some(&(ElementType::Float16 as i32));
    let is_constant = |tensor: &String| graph.initializer.iter().any(|constant| constant.name == *tensor);
    let products = graph.node.iter().filter(|node| node.op_type == "MatMul");
    products.filter(|node| is_half(&node.output[0]) && !node.input.iter().any(is_constant)).collect()
}

fn cast(from: &str, to: &str, element: ElementType) -> NodeProto {
    NodeProto::new("Cast", vec![from.to_owned()], to, &[("to", Attribute::Int(element as i64))])
}

/// The model in FP32, with what was of FP16 rounded to it, but for `exact`.
fn rounded(half: &ModelProto, exact: &BTreeSet<String>) -> ModelProto {
    let mut model = half.clone();
    let graph = model.graph.as_mut().unwrap();
    let types = element_types(half.graph.as_ref().unwrap());
    let is_half = |tensor: &String| types.get(tensor.as_str()) == Some(&(ElementType::Float16 as i32));
    for constant in
        graph.initializer.iter_mut().filter(|constant| constant.data_type == ElementType::Float16 as i32)
    {
        let values =
            constant.raw_data.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32());
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        *constant = TensorProto::constant(&constant.name, ElementType::Float, &constant.dims, bytes);
    }
    for mut node in std::mem::take(&mut graph.node) {
        let output = node.output[0].clone();
        let moves = matches!(node.op_type.as_str(), "Reshape" | "Transpose");
        if node.op_type == "Cast" && (is_half(&node.input[0]) || exact.contains(&output)) {
            node = NodeProto::new("Identity", vec![node.input[0].clone()], &output, &[]);
        } else if node.op_type == "Cast" && is_half(&output) {
            graph.node.push(cast(&node.input[0], &format!("{output}/half"), ElementType::Float16));
            node = cast(&format!("{output}/half"), &output, ElementType::Float);
        } else if is_half(&output) && !moves && !exact.contains(&output) {
            (node.name, node.output) = (format!("{output}/exact"), vec![format!("{output}/exact")]);
            graph.node.push(node);
            graph.node.push(cast(
                &format!("{output}/exact"),
                &format!("{output}/half"),
                ElementType::Float16,
            ));
            node = cast(&format!("{output}/half"), &output, ElementType::Float);
        }
        graph.node.push(node);
    }
    model
}

/// What pooling rounds since it is in FP16: the shares, and what is between the two products with the fine map.
fn rounded_by_pooling(half: &ModelProto) -> BTreeSet<String> {
    let graph = half.graph.as_ref().unwrap();
    let casts: BTreeSet<&str> =
        graph.node.iter().filter(|node| node.op_type == "Cast").map(|node| node.output[0].as_str()).collect();
    let pooling = pooling(half);
    let shares = pooling.iter().flat_map(|node| &node.input).filter(|input| casts.contains(input.as_str()));
    shares.chain(&pooling[0].output).cloned().collect()
}

fn found_by(model: &ModelProto, images: &[Vec<u8>]) -> Vec<Regions> {
    let mut engine = CpuEngine::from_bytes_in_float(&wordsight_onnx::encode(model), "a student", 0).unwrap();
    let found = |image: &Vec<u8>| {
        let mut regions = Regions::default();
        engine.infer(image, &mut regions).unwrap();
        regions
    };
    images.iter().map(found).collect()
}

/// How far regions at the same place are apart: sides in pixels of the input, objectness, and what a cosine lacks of 1.
#[derive(Debug)]
struct Apart {
    sides: Vec<f64>,
    objectness: Vec<f64>,
    cosines: Vec<f64>,
}

impl Apart {
    fn of(reference: &[Regions], other: &[Regions]) -> Self {
        let mut apart = Self { sides: Vec::new(), objectness: Vec::new(), cosines: Vec::new() };
        let difference = |a: f32, b: f32| f64::from((a - b).abs());
        for (one, two) in reference.iter().zip(other) {
            let size = one.text_embeddings.len() / one.boxes_in_input.len();
            for (at, corners) in one.boxes_in_input.iter().enumerate() {
                let overlaps = two.boxes_in_input.iter().map(|there| iou(*corners, *there)).enumerate();
                let (place, overlap) = overlaps.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
                // Below, another proposal has won the place.
                if overlap < 0.9 {
                    continue;
                }
                let sides = corners.iter().zip(two.boxes_in_input[place]).map(|(&a, b)| difference(a, b));
                apart.sides.push(sides.fold(0.0, f64::max));
                apart.objectness.push(difference(one.objectness[at], two.objectness[place]));
                for (a, b) in [
                    (&one.text_embeddings, &two.text_embeddings),
                    (&one.image_embeddings, &two.image_embeddings),
                ] {
                    let rows = a[at * size..].iter().zip(&b[place * size..]).take(size);
                    apart.cosines.push(1.0 - rows.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>());
                }
            }
        }
        for values in [&mut apart.sides, &mut apart.objectness, &mut apart.cosines] {
            values.sort_by(f64::total_cmp);
        }
        apart
    }

    /// Median, 99 of 100, largest: of sides, objectness, cosines.
    fn figures(&self) -> [[f64; 3]; 3] {
        [&self.sides, &self.objectness, &self.cosines].map(|values| {
            [values[values.len() / 2], values[values.len() * 99 / 100], values[values.len() - 1]]
        })
    }
}

#[test]
fn pooling_in_fp16_costs_a_tenth_of_what_fp16_does() {
    let shipped = shipped();
    let facts = StudentFacts::of_model(&shipped, "the shipped student").unwrap();
    let images = images(&facts);
    let half = fold_casts(&to_f16(&shipped).unwrap());
    let float = found_by(&shipped, &images);
    let before = found_by(&rounded(&half, &rounded_by_pooling(&half)), &images);
    let now = found_by(&rounded(&half, &BTreeSet::new()), &images);

    let all = images.len() * facts.proposals;
    let (of_before, of_now, between) =
        (Apart::of(&float, &before), Apart::of(&float, &now), Apart::of(&before, &now));
    for (what, apart) in [
        ("FP32 against FP16 with pooling in FP32", &of_before),
        ("FP32 against FP16", &of_now),
        ("the one FP16 against the other", &between),
    ] {
        println!(
            "{what}, {} of {all} regions: [median, 99 of 100, largest] of sides, objectness, 1 - cosine: {:?}",
            apart.sides.len(),
            apart.figures()
        );
    }
    assert!(of_now.sides.len() * 50 >= all * 49, "regions at the same place: {}", of_now.sides.len());
    // No worse than before by more than what the two are apart.
    for (before, now) in of_before.figures().into_iter().zip(of_now.figures()) {
        for (before, now) in before.into_iter().zip(now) {
            assert!(now <= 1.1 * before + 1e-6, "{now} now, {before} before");
        }
    }
    let [[_, _, sides], [_, _, objectness], [_, _, cosine]] = between.figures();
    assert_eq!(between.sides.len(), all, "the same proposals");
    assert!(sides < 0.25 && objectness < 5e-4 && cosine < 1e-5, "{sides} {objectness} {cosine}");
}

/// What the graph computes of an image, by the names of tensors.
fn watched(model: &ModelProto, tensors: &[&str], image: &[u8]) -> Vec<Tensor> {
    let bytes = wordsight_onnx::encode(&observed(model, tensors.iter().copied()));
    let mut session = OnnxSession::from_bytes(&bytes, "the watched student", 0).unwrap();
    let facts = StudentFacts::of_model(model, "the shipped student").unwrap();
    let shape = [1, 3, facts.input_height(), facts.input_width()];
    let input = Input { name: StudentFacts::INPUT, shape: &shape, data: TensorView::U8(image) };
    session.run(&[input]).unwrap().split_off(StudentOutput::OF_SOFTMAX.len())
}

#[test]
fn pooling_in_fp16_moves_half_the_bytes_and_stays_within_what_is_pooled() {
    let shipped = shipped();
    let facts = StudentFacts::of_model(&shipped, "the shipped student").unwrap();
    let half = fold_casts(&to_f16(&shipped).unwrap());
    let (types, products) = (element_types(half.graph.as_ref().unwrap()), pooling(&half));
    assert_eq!(products.len(), 3);
    let nodes = &shipped.graph.as_ref().unwrap().node;
    let ports =
        |node: &NodeProto| -> Vec<String> { node.input.iter().chain(&node.output).cloned().collect() };
    let (mut before, mut now) = (0, 0);
    for product in products {
        let float = nodes.iter().find(|node| node.name == product.name).unwrap();
        let names = ports(float);
        let tensors =
            watched(&shipped, &names.iter().map(String::as_str).collect::<Vec<_>>(), &images(&facts)[0]);
        for (tensor, name) in tensors.iter().zip(ports(product)) {
            let bytes = if types[name.as_str()] == ElementType::Float16 as i32 { 2 } else { 4 };
            before += 4 * tensor.data.len();
            now += bytes * tensor.data.len();
        }
        assert_within(&product.name, &tensors);
    }
    println!("pooling's products read and write {before} bytes in FP32, {now} in FP16");
    assert_eq!(2 * now, before);
    assert!(before > 20_000_000, "{before}: of a student of 448 pixels and 100 regions");
}

/// Shares add up to one, so that FP16 holds what comes of them; added up in FP16 too, as a GPU may do, they lose little.
fn assert_within(name: &str, tensors: &[Tensor]) {
    let [left, right, product] = tensors else { panic!("a product has two sides") };
    let (inner, columns) = (left.shape[left.shape.len() - 1], right.shape[right.shape.len() - 1]);
    let rows = left.data.len() / inner;
    // Of many matrices each has its own right side.
    let rows_of_one = left.shape[left.shape.len() - 2];
    let row = |at: usize| -> Vec<f16> {
        left.data[at * inner..][..inner].iter().map(|&x| f16::from_f32(x)).collect()
    };
    let column = |matrix: usize, at: usize| -> Vec<f16> {
        let start = if right.shape.len() == 2 { 0 } else { matrix * inner * columns };
        (0..inner).map(|place| f16::from_f32(right.data[start + place * columns + at])).collect()
    };
    let largest = |of: &[f32]| of.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    // The side whose rows or columns are shares: all of them between 0 and 1, and 1 in sum.
    let shares_are_left =
        (0..rows).all(|at| (row(at).iter().map(|x| x.to_f32()).sum::<f32>() - 1.0).abs() < 2e-3);
    let shares_are_right =
        (0..columns).all(|at| (column(0, at).iter().map(|x| x.to_f32()).sum::<f32>() - 1.0).abs() < 2e-3);
    assert!(shares_are_left || shares_are_right, "{name}: neither side's are shares");
    let pooled = largest(if shares_are_left { &right.data } else { &left.data });
    assert!(largest(&product.data) <= 1.002 * pooled && pooled < 1e3, "{name}: {pooled}");

    let mut worst = 0.0_f32;
    for at in (0..rows).step_by(rows.div_ceil(100)) {
        let one = row(at);
        for place in (0..columns).step_by(columns.div_ceil(100)) {
            let sum =
                one.iter().zip(column(at / rows_of_one, place)).fold(f16::ZERO, |sum, (a, b)| sum + *a * b);
            worst = worst.max((sum.to_f32() - product.data[at * columns + place]).abs());
        }
    }
    println!("{name}: up to {pooled}; added up in FP16 {worst} away");
    assert!(worst <= 0.01 * pooled, "{name}: {worst} of {pooled}");
}
