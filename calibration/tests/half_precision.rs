//! Which products are in FP16 behind the conversion: pooling's among them, coordinates and suppression not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use wordsight_calibration::{
    Layers, Method, Ranges, Target, element_types, fold_casts, quantize, to_f16, to_f16_around_integers,
    without_integers,
};
use wordsight_onnx::proto::{AttributeProto, AttributeType, ElementType, ModelProto, NodeProto, TensorProto};
use wordsight_onnx::{Attribute, Graph, Storage, Value};

fn shipped() -> ModelProto {
    wordsight_onnx::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx")).unwrap()
}

fn quantised(model: &ModelProto) -> ModelProto {
    let layers = Layers::of(model).unwrap();
    let mut ranges = Ranges::default();
    layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
    quantize(model, &layers, &ranges, Method::Max, Target::TensorRt).unwrap()
}

/// Products by the scopes that they stand in, `pooling`, and whether all that they take and make is in FP16.
fn products(model: &ModelProto) -> Vec<(&str, bool)> {
    let graph = model.graph.as_ref().unwrap();
    let types = element_types(graph);
    let is_half = |tensor: &String| types.get(tensor.as_str()) == Some(&(ElementType::Float16 as i32));
    let products = graph.node.iter().filter(|node| node.op_type == "MatMul");
    products
        .map(|node| {
            let halves = node.input.iter().chain(&node.output).filter(|tensor| is_half(tensor)).count();
            assert!([0, 3].contains(&halves), "{} is of one type", node.name);
            (node.name.split('/').next().unwrap(), halves == 3)
        })
        .collect()
}

/// Nodes between a product and whatever computed what it takes, by operator.
fn in_front_of<'a>(node: &NodeProto, model: &'a ModelProto) -> Vec<&'a str> {
    let graph = model.graph.as_ref().unwrap();
    let moves = ["Cast", "Reshape", "Transpose"];
    let mut found = Vec::new();
    let mut inputs: Vec<&String> = node.input.iter().collect();
    while let Some(input) = inputs.pop() {
        let producer = graph.node.iter().find(|node| node.output.contains(input));
        if let Some(producer) = producer.filter(|producer| moves.contains(&producer.op_type.as_str())) {
            found.push(producer.op_type.as_str());
            inputs.extend(&producer.input[..1]);
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn all_products_of_the_shipped_student_but_suppression_s_are_in_fp16() {
    let float = shipped();
    assert!(products(&float).iter().all(|(_, is_half)| !is_half));
    let int8 = to_f16(&quantised(&float)).unwrap();
    for (what, model) in [
        ("of FP32", to_f16(&float).unwrap()),
        ("of FP32, twice", to_f16(&to_f16(&float).unwrap()).unwrap()),
        ("around integers", to_f16_around_integers(&int8).unwrap()),
        ("without integers", to_f16(&without_integers(&int8).unwrap()).unwrap()),
    ] {
        let of_scope = |scope: &str| -> Vec<bool> {
            let products = products(&model).into_iter().filter(|(of, _)| *of == scope);
            products.map(|(_, is_half)| is_half).collect()
        };
        assert_eq!(of_scope("proposals"), [false; 2], "{what}: suppression's");
        assert_eq!(of_scope("pooling"), [true; 2], "{what}: from the fine map");
        assert_eq!(of_scope("refiner"), [true; 2], "{what}");
        assert_eq!(of_scope("regions"), [true; 10], "{what}: from the coarse map, and the heads");

        // What is pooled comes as it was made: the one cast is that of the shares.
        let graph = fold_casts(&model).graph.unwrap();
        let model = ModelProto { graph: Some(graph), ..model };
        let nodes = &model.graph.as_ref().unwrap().node;
        let pooling: Vec<&NodeProto> = nodes
            .iter()
            .filter(|node| node.op_type == "MatMul" && node.name.starts_with("pooling/"))
            .collect();
        let casts = |node: &NodeProto| in_front_of(node, &model).iter().filter(|op| **op == "Cast").count();
        assert_eq!(pooling.iter().map(|node| casts(node)).collect::<Vec<_>>(), [1, 1], "{what}");
        let linear = |name: &&NodeProto| name.op_type == "MatMul" && name.name.starts_with("refiner/");
        assert_eq!(casts(nodes.iter().find(linear).unwrap()), 0, "{what}: what was pooled goes on as it is");
    }
}

/// What pools, given cells `[4,8]` that a convolution made: the sides of a product.
type Product = fn(&mut Graph, &Value) -> (Value, Value);

/// A convolution and a product with what it made.
fn with_product(product: Product) -> ModelProto {
    let mut graph = Graph::new("product", Storage::F32);
    let image = graph.input("image", ElementType::Float, &[1, 8, 2, 2]);
    let weights = graph.exact_floats(&[8, 8, 1, 1], &[0.5; 64]);
    let map = graph.node("Conv", &[&image, &weights], &[]);
    let cells = graph.reshape(&map, &[8, 4]);
    let cells = graph.transpose(&cells, &[1, 0]);
    let (left, right) = product(&mut graph, &cells);
    let pooled = graph.matmul(&left, &right);
    graph.output(&pooled, "pooled", ElementType::Float, &[5, 8]);
    graph.into_model(&[])
}

fn places(graph: &mut Graph) -> Value {
    graph.input("places", ElementType::Float, &[5, 1])
}

/// `[5,4]`: what each of four cells counts at each place, by `Relu(most - Abs(distance))`.
fn tents(graph: &mut Graph, most: f32) -> Value {
    let (places, cells, most) =
        (places(graph), graph.exact_floats(&[1, 4], &[0.0, 1.0, 2.0, 3.0]), graph.scalar(most));
    let apart = graph.sub(&cells, &places);
    let apart = graph.node("Abs", &[&apart], &[]);
    let tents = graph.sub(&most, &apart);
    graph.node("Relu", &[&tents], &[])
}

#[test]
fn a_product_with_shares_is_in_fp16_and_one_with_coordinates_is_not() {
    let of = |product: Product| {
        let model = to_f16(&with_product(product)).unwrap();
        let found = products(&model);
        found[0].1
    };
    assert!(of(|graph, cells| (tents(graph, 1.0), cells.clone())), "tents");
    assert!(
        of(|graph, cells| {
            let tents = tents(graph, 1.0);
            let tents = graph.reshape(&tents, &[5, 1, 4]);
            let mean = [("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(0))];
            let mean = graph.node("ReduceMean", &[&tents], &mean);
            (graph.mul(&mean, &mean), cells.clone())
        }),
        "means and products of them"
    );
    assert!(
        of(|graph, cells| {
            let tents = tents(graph, 1.0);
            (graph.transpose(cells, &[1, 0]), graph.transpose(&tents, &[1, 0]))
        }),
        "on the right side"
    );
    assert!(!of(|graph, cells| (tents(graph, 448.0), cells.clone())), "more than a share");
    assert!(
        !of(|graph, cells| {
            let (places, ones) = (places(graph), graph.exact_floats(&[1, 4], &[1.0; 4]));
            (graph.mul(&places, &ones), cells.clone())
        }),
        "coordinates"
    );
    assert!(
        !of(|graph, cells| {
            let turned = graph.transpose(cells, &[1, 0]);
            (graph.matmul(cells, &turned), cells.clone())
        }),
        "two maps: what they come to has no bound"
    );
}

#[test]
fn casts_are_of_what_is_small() {
    let half = to_f16(&shipped()).unwrap();
    let graph = half.graph.as_ref().unwrap();
    let casts: BTreeSet<&str> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Cast" && node.name.starts_with("pooling/"))
        .map(|node| node.input[0].as_str())
        .collect();
    // Rows and columns of the fine map, and cells of the coarse one.
    assert_eq!(casts.len(), 3, "{casts:?}");
}

/// As exporters of other people write them: indices, sizes, and numbers in `Constant` nodes.
#[test]
fn indices_and_sizes_in_front_of_a_convolution_stay_whole_numbers() {
    let mut graph = Graph::new("of others", Storage::F32);
    let image = graph.input("image", ElementType::Float, &[1, 8, 8, 8]);
    let channels = graph.ints(&[0, 2, 4, 6]);
    let chosen = graph.node("Gather", &[&image, &channels], &[("axis", Attribute::Int(1))]);
    let [starts, ends, axes] = [&[0_i64, 0][..], &[6, 6], &[2, 3]].map(|values| graph.ints(values));
    let cut = graph.node("Slice", &[&chosen, &starts, &ends, &axes], &[]);
    let divisor = graph.scalar(255.0);
    let scaled = graph.div(&cut, &divisor);
    let weights = graph.floats(&[4, 4, 3, 3], &[0.1; 144]);
    let made = graph.node("Conv", &[&scaled, &weights], &[]);
    graph.output(&made, "made", ElementType::Float, &[1, 4, 4, 4]);
    let mut model = graph.into_model(&[]);
    let graph = model.graph.as_mut().unwrap();
    let is_divisor = |constant: &TensorProto| constant.dims.is_empty();
    let place = graph.initializer.iter().position(is_divisor).unwrap();
    let constant = graph.initializer.remove(place);
    let mut node = NodeProto::new("Constant", Vec::new(), &constant.name, &[]);
    node.attribute = vec![AttributeProto {
        name: "value".to_owned(),
        t: Some(constant),
        r#type: AttributeType::Tensor as i32,
        ..AttributeProto::default()
    }];
    graph.node.insert(0, node);

    let halved = to_f16(&model).unwrap();
    let graph = halved.graph.as_ref().unwrap();
    let types = element_types(graph);
    let is = |tensor: &String, element: ElementType| types.get(tensor.as_str()) == Some(&(element as i32));
    for node in &graph.node {
        match node.op_type.as_str() {
            "Gather" | "Slice" => {
                assert!(is(&node.input[0], ElementType::Float16), "{}", node.op_type);
                assert!(
                    node.input[1..].iter().all(|input| is(input, ElementType::Int64)),
                    "{}",
                    node.op_type
                );
            }
            "Div" | "Conv" => assert!(node.input.iter().all(|input| is(input, ElementType::Float16))),
            _ => {}
        }
    }
}
