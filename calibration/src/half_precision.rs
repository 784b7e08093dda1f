//! The graph in FP16, for runtimes that take types as they stand in the file (TensorRT's strongly typed networks).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use half::f16;
use wordsight_onnx::proto::{AttributeProto, ElementType, ModelProto, NodeProto, TensorProto};
use wordsight_onnx::{Attribute, lift_constants};

use crate::CalibrationError;
use crate::integers::{drop_idle_casts, raise_operator_set, steps_are_of_f16};
use crate::types::element_types;
use crate::view::View;

/// The model with its convolutions, all that leads to them, its linear layers and its pooling in FP16.
///
/// What stays in FP32 is little work and has numbers that FP16 lacks: coordinates (at 400 pixels its steps are a quarter
/// of one), exponentials, softmaxes and norms. Inputs and outputs keep their types.
///
/// Pooling is a product of shares of cells, computed from boxes in FP32 and rounded, with what the cells hold. Shares of
/// one bin add up to one, so nothing is larger than what is pooled, which FP16 has held already.
///
/// Of a quantised model this is what quantisation left in float: the stem, the heads, the linear layers. `QuantizeLinear`
/// of the operator set that we write takes FP32 alone, so what computes in integers keeps that type around it;
/// [`to_f16_around_integers`] takes a newer one.
///
/// # Errors
/// When the model has no convolution in float.
pub fn to_f16(model: &ModelProto) -> Result<ModelProto, CalibrationError> {
    halved(model, false)
}

/// A quantised model with FP16 in front of its integers and behind them too, by the steps of `QuantizeLinear` and
/// `DequantizeLinear`, as operator set 19 has them: TensorRT's networks have the types of the file, and FP32 between
/// integers costs them more time than the integers save. For a plan; programs read the file as it was.
///
/// # Errors
/// When the model isn't quantised as for [`Target::TensorRt`](crate::Target::TensorRt), with steps of FP16.
pub fn to_f16_around_integers(model: &ModelProto) -> Result<ModelProto, CalibrationError> {
    if !model.graph.as_ref().is_some_and(steps_are_of_f16) {
        return Err(CalibrationError::OtherIntegers);
    }
    let mut halved = halved(model, true)?;
    raise_operator_set(&mut halved);
    Ok(halved)
}

fn halved(model: &ModelProto, around_integers: bool) -> Result<ModelProto, CalibrationError> {
    let mut model = model.clone();
    model.graph.as_mut().into_iter().for_each(lift_constants);
    let view = View::of(&model).ok_or(CalibrationError::NothingToQuantise)?;
    let types = element_types(view.graph);
    // Indices, shapes and truth values stay what they are.
    let is_of_floats = |tensor: &str| {
        let is_one = |element: ElementType| types.get(tensor) == Some(&(element as i32));
        !types.contains_key(tensor) || is_one(ElementType::Float) || is_one(ElementType::Float16)
    };
    let halves = nodes_in_f16(&view, around_integers, &is_of_floats);
    if halves.is_empty() {
        return Err(CalibrationError::NothingToQuantise);
    }
    let made_in_f16: BTreeSet<&str> = view
        .graph
        .node
        .iter()
        .filter(|node| halves.contains(node.name.as_str()) && node.op_type != "QuantizeLinear")
        .flat_map(|node| node.output.iter().map(String::as_str))
        .filter(|output| is_of_floats(output))
        .collect();

    let mut writer =
        Writer { view: &view, constants: BTreeMap::new(), casts: BTreeSet::new(), nodes: Vec::new() };
    for node in &view.graph.node {
        let mut node = node.clone();
        let is_half = halves.contains(node.name.as_str());
        if is_half && node.op_type == "Cast" {
            let (name, to) = cast_to(ElementType::Float16);
            node.attribute = vec![AttributeProto::new(name, &to)];
        } else {
            let floats = if is_half { float_inputs(&node) } else { 0..node.input.len() };
            for input in node.input[floats].iter_mut().filter(|input| is_of_floats(input)) {
                *input = match (is_half, made_in_f16.contains(input.as_str())) {
                    (true, false) => writer.in_f16(input),
                    (false, true) => writer.in_f32(input),
                    _ => input.clone(),
                };
            }
        }
        writer.nodes.push(node);
    }
    let Writer { constants, nodes, .. } = writer;
    if let Some(graph) = &mut model.graph {
        graph.node = nodes;
        graph.initializer.extend(constants.into_values());
        drop_idle_casts(graph);
    }
    Ok(model)
}

/// Convolutions in float, whatever leads to one, linear layers with their sums and activations, and pooling; around
/// integers also what is between these.
fn nodes_in_f16<'a>(
    view: &View<'a>,
    around_integers: bool,
    is_of_floats: &impl Fn(&str) -> bool,
) -> BTreeSet<&'a str> {
    let mut halves = BTreeSet::new();
    let is_in_integers = |node: &NodeProto| {
        let made_of_integers = |input: &String| {
            view.producer(input).is_some_and(|producer| producer.op_type == "DequantizeLinear")
        };
        match node.op_type.as_str() {
            _ if around_integers => false,
            "QuantizeLinear" | "DequantizeLinear" => true,
            "Conv" => node.input.get(1).is_some_and(made_of_integers),
            _ => false,
        }
    };
    let begins =
        |node: &&NodeProto| node.op_type == "Conv" || (around_integers && node.op_type == "DequantizeLinear");
    let mut towards: Vec<&NodeProto> = view.graph.node.iter().filter(begins).collect();
    while let Some(node) = towards.pop() {
        if !is_in_integers(node) && halves.insert(node.name.as_str()) {
            // Behind integers is what they were made of.
            let inputs = if node.op_type == "DequantizeLinear" { 0..1 } else { float_inputs(node) };
            let leads = |input: &&String| {
                // Integers between the two of a pair lead back to what was quantised.
                let is_quantised =
                    view.producer(input).is_some_and(|producer| producer.op_type == "QuantizeLinear");
                !view.is_constant(input) && (is_quantised || is_of_floats(input))
            };
            let inputs = node.input[inputs].iter().filter(leads);
            towards.extend(inputs.filter_map(|input| view.producer(input)));
        }
    }
    for node in &view.graph.node {
        let of_halves = |input: &String| {
            view.producer(input).is_some_and(|producer| halves.contains(producer.name.as_str()))
        };
        let weights = node.input.get(1).is_some_and(|weights| view.is_constant(weights));
        let goes_on = match node.op_type.as_str() {
            "MatMul" => weights || pools(node, &halves, view),
            "Add" if around_integers && node.input.iter().all(of_halves) => true,
            "Add" => weights && node.input.first().is_some_and(of_halves),
            "Relu" | "Clip" => node.input.first().is_some_and(of_halves),
            _ => false,
        };
        if goes_on {
            halves.insert(node.name.as_str());
            for input in node.input.iter().filter(|_| node.op_type == "MatMul") {
                let (origin, moves) = origin_of(input, view);
                if origin.is_some_and(|origin| halves.contains(origin.name.as_str())) {
                    halves.extend(moves.iter().map(|node| node.name.as_str()));
                }
            }
        }
    }
    halves
}

/// Whether a product has a tensor in FP16 on one side and fractions that weigh it on the other.
fn pools(node: &NodeProto, halves: &BTreeSet<&str>, view: &View<'_>) -> bool {
    let [left, right] = node.input.as_slice() else { return false };
    let is_half =
        |side: &str| origin_of(side, view).0.is_some_and(|node| halves.contains(node.name.as_str()));
    (is_half(left) && is_share(right, view)) || (is_half(right) && is_share(left, view))
}

/// Whether a tensor's numbers lie between 0 and 1 by the way it is made: what a cell counts by its distance,
/// `Relu(1 - Abs(distance))`, and means and products of that. Coordinates are none.
fn is_share(tensor: &str, view: &View<'_>) -> bool {
    let Some(producer) = view.producer(tensor) else { return false };
    let of_inputs = |count: usize| producer.input.iter().take(count).all(|input| is_share(input, view));
    match producer.op_type.as_str() {
        "Reshape" | "Transpose" | "ReduceMean" | "Cast" => of_inputs(1),
        "Mul" => of_inputs(2),
        "Relu" => producer.input.first().and_then(|input| view.producer(input)).is_some_and(|difference| {
            let [most, distance] = difference.input.as_slice() else { return false };
            difference.op_type == "Sub"
                && view.floats(most).is_some_and(|(_, most)| most.iter().all(|most| *most <= 1.0))
                && view.producer(distance).is_some_and(|distance| distance.op_type == "Abs")
        }),
        _ => false,
    }
}

/// What made a tensor's numbers, and the nodes that only moved or cast them since.
fn origin_of<'a>(tensor: &str, view: &View<'a>) -> (Option<&'a NodeProto>, Vec<&'a NodeProto>) {
    let (mut origin, mut moves) = (view.producer(tensor), Vec::new());
    while let Some(node) =
        origin.filter(|node| matches!(node.op_type.as_str(), "Reshape" | "Transpose" | "Cast"))
    {
        moves.push(node);
        origin = node.input.first().and_then(|input| view.producer(input));
    }
    (origin, moves)
}

/// Which of a node's inputs have its own type.
fn float_inputs(node: &NodeProto) -> Range<usize> {
    let count = node.input.len();
    match node.op_type.as_str() {
        "Resize" | "MaxPool" | "Cast" | "Reshape" => 0..count.min(1),
        "QuantizeLinear" => 0..count.min(2),
        "DequantizeLinear" => 1.min(count)..count.min(2),
        _ => 0..count,
    }
}

fn cast_to(element: ElementType) -> (&'static str, Attribute<'static>) {
    ("to", Attribute::Int(element as i64))
}

struct Writer<'v, 'a> {
    view: &'v View<'a>,
    constants: BTreeMap<String, TensorProto>,
    casts: BTreeSet<String>,
    nodes: Vec<NodeProto>,
}

impl Writer<'_, '_> {
    /// A tensor of FP32 for a node of FP16.
    fn in_f16(&mut self, tensor: &str) -> String {
        let name = self.named(tensor, "f16");
        if let Some((dims, values)) = self.view.floats(tensor) {
            self.constants.entry(name.clone()).or_insert_with(|| {
                let bytes = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
                TensorProto::constant(&name, ElementType::Float16, dims, bytes)
            });
            return name;
        }
        self.cast(tensor, name, ElementType::Float16)
    }

    /// A tensor of FP16 for a node of FP32.
    fn in_f32(&mut self, tensor: &str) -> String {
        self.cast(tensor, self.named(tensor, "f32"), ElementType::Float)
    }

    /// A name of its own: a model that was converted before has such names already.
    fn named(&self, tensor: &str, suffix: &str) -> String {
        let mut name = format!("{tensor}_{suffix}");
        while self.view.producer(&name).is_some() || self.view.constant(&name).is_some() {
            name.push('_');
        }
        name
    }

    fn cast(&mut self, tensor: &str, name: String, to: ElementType) -> String {
        if self.casts.insert(name.clone()) {
            self.nodes.push(NodeProto::new("Cast", vec![tensor.to_owned()], &name, &[cast_to(to)]));
        }
        name
    }
}
