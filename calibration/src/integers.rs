//! Graphs that contain integers already, for TensorRT: the types around the integers, and the same graph without them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use half::f16;
use wordsight_onnx::proto::{ElementType, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::CalibrationError;
use crate::types::{cast_to, element_types};
use crate::view::{View, remove_unused};

/// The operator set whose `QuantizeLinear` and `DequantizeLinear` take FP16.
const OPERATOR_SET: i64 = 19;

/// Whether a graph is quantised with symmetric `int8` alone, and with steps that FP16 says exactly.
pub fn steps_are_of_f16(graph: &GraphProto) -> bool {
    let constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|constant| (constant.name.as_str(), constant)).collect();
    let mut converted = graph.node.iter().filter(|node| is_conversion(node)).peekable();
    let fits = |node: &NodeProto| {
        let [_, step, zero] = node.input.as_slice() else { return false };
        let (Some(step), Some(zero)) = (constants.get(step.as_str()), constants.get(zero.as_str())) else {
            return false;
        };
        let is_exact = |step: f32| f16::from_f32(step).to_f32().to_bits() == step.to_bits();
        zero.data_type == ElementType::Int8 as i32
            && zero.raw_data.iter().all(|&zero| zero == 0)
            && step.data_type == ElementType::Float as i32
            && step.raw_data.as_chunks::<4>().0.iter().all(|&step| is_exact(f32::from_le_bytes(step)))
    };
    converted.peek().is_some() && converted.all(fits)
}

fn is_conversion(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
}

/// Removes casts to the type that a tensor has, and those to FP16 of what was cast from it.
pub fn drop_idle_casts(graph: &mut GraphProto) {
    let types = element_types(graph);
    let half = Some(ElementType::Float16 as i32);
    let mut source: HashMap<String, String> = HashMap::new();
    let mut same: HashMap<String, String> = HashMap::new();
    for node in graph.node.iter().filter(|node| node.op_type == "Cast") {
        let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { continue };
        let input = same.get(input).unwrap_or(input);
        let (from, to) = (types.get(input.as_str()).copied(), cast_to(node));
        let origin = source.get(input).filter(|_| to == half);
        if from == to {
            same.insert(output.clone(), input.clone());
        } else if let Some(origin) = origin {
            same.insert(output.clone(), origin.clone());
        } else if from == half && to == Some(ElementType::Float as i32) {
            source.insert(output.clone(), input.clone());
        }
    }
    rename(graph, &same);
    graph.node.retain(|node| !node.output.iter().any(|output| same.contains_key(output)));
    remove_casts_of_nothing(graph);
    remove_unused(graph);
}

fn rename(graph: &mut GraphProto, same: &HashMap<String, String>) {
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(other) = same.get(input) {
            input.clone_from(other);
        }
    }
}

/// Removes casts whose result is no longer used.
fn remove_casts_of_nothing(graph: &mut GraphProto) {
    let outputs = graph.output.iter().map(|output| output.name.clone());
    let used: BTreeSet<String> =
        graph.node.iter().flat_map(|node| node.input.iter().cloned()).chain(outputs).collect();
    graph
        .node
        .retain(|node| node.op_type != "Cast" || node.output.iter().any(|output| used.contains(output)));
}

/// The model in the operator set that has FP16 around integers. Of what we write, `ReduceMean` is what changed since ours:
/// its axes are an input there.
pub fn raise_operator_set(model: &mut ModelProto) {
    let own = model.opset_import.iter_mut().find(|set| set.domain.is_empty());
    let Some(own) = own.filter(|own| own.version < OPERATOR_SET) else { return };
    let axes_are_inputs = own.version >= 18;
    own.version = OPERATOR_SET;
    let Some(graph) = model.graph.as_mut().filter(|_| !axes_are_inputs) else { return };
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ReduceMean") {
        let at = node.attribute.iter().position(|attribute| attribute.name == "axes");
        if let Some(axes) = at.map(|at| node.attribute.remove(at).ints) {
            let name = format!("{}_axes", node.name);
            let bytes = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
            let dims = [axes.len() as i64];
            graph.initializer.push(TensorProto::constant(&name, ElementType::Int64, &dims, bytes));
            node.input.push(name);
        }
    }
}

/// A quantised model in float again, for a runtime that has no kernels for its integers: weights as the integers have
/// them, and activations cut off where integers end.
///
/// # Errors
/// When the model isn't quantised, or an integer of it isn't a constant.
pub fn without_integers(model: &ModelProto) -> Result<ModelProto, CalibrationError> {
    let view = View::of(model).ok_or(CalibrationError::OtherIntegers)?;
    let types = element_types(view.graph);
    let mut constants: BTreeMap<String, TensorProto> = BTreeMap::new();
    let mut same: HashMap<String, String> = HashMap::new();
    let mut limits: HashMap<&str, f32> = HashMap::new();
    for node in view.graph.node.iter().filter(|node| node.op_type == "DequantizeLinear") {
        let (Some(integers), Some(output)) = (node.input.first(), node.output.first()) else { continue };
        if let Some(constant) = view.constant(integers) {
            constants.insert(output.clone(), in_float(node, constant, &view)?);
            continue;
        }
        let made = view.producer(integers).filter(|producer| producer.op_type == "QuantizeLinear");
        let float =
            made.and_then(|producer| producer.input.first()).ok_or(CalibrationError::OtherIntegers)?;
        same.insert(output.clone(), float.clone());
        if let Some(relu) = relu_in_front(float, &view) {
            limits.insert(&relu.name, largest(node, &view)?);
        }
    }
    if same.is_empty() {
        return Err(CalibrationError::OtherIntegers);
    }
    let mut graph = view.graph.clone();
    graph.node.retain(|node| !is_conversion(node));
    for node in &mut graph.node {
        let Some(&high) = limits.get(node.name.as_str()) else { continue };
        "Clip".clone_into(&mut node.op_type);
        let is_half = node.input.first().and_then(|input| types.get(input.as_str()))
            == Some(&(ElementType::Float16 as i32));
        for (what, limit) in [("low", 0.0), ("high", high)] {
            let name = format!("{}_{what}", node.name);
            constants.insert(name.clone(), scalar(&name, limit, is_half));
            node.input.push(name);
        }
    }
    rename(&mut graph, &same);
    graph.initializer.extend(constants.into_values());
    remove_unused(&mut graph);
    Ok(ModelProto { graph: Some(graph), ..model.clone() })
}

/// The `Relu` that made a tensor for integers alone.
fn relu_in_front<'a>(tensor: &str, view: &View<'a>) -> Option<&'a NodeProto> {
    view.only_consumer(tensor)?;
    let producer = view.producer(tensor)?;
    match producer.op_type.as_str() {
        "Relu" => Some(producer),
        "Cast" => relu_in_front(producer.input.first()?, view),
        _ => None,
    }
}

/// The largest number that the integers can represent.
fn largest(node: &NodeProto, view: &View<'_>) -> Result<f32, CalibrationError> {
    let (steps, zeros, element) = steps_of(node, view)?;
    let most = if element == ElementType::Uint8 as i32 { 255.0 } else { 127.0 };
    Ok((most - zeros.first().copied().unwrap_or(0.0)) * steps.first().copied().unwrap_or(0.0))
}

/// Steps, what stands for 0, and the integers' type.
fn steps_of(node: &NodeProto, view: &View<'_>) -> Result<(Vec<f32>, Vec<f32>, i32), CalibrationError> {
    let [_, step, zero] = node.input.as_slice() else { return Err(CalibrationError::OtherIntegers) };
    let (_, steps) = view.floats(step).ok_or(CalibrationError::OtherIntegers)?;
    let zero = view.constant(zero).ok_or(CalibrationError::OtherIntegers)?;
    Ok((steps, integers_of(zero), zero.data_type))
}

fn integers_of(constant: &TensorProto) -> Vec<f32> {
    let raw = &constant.raw_data;
    if constant.data_type == ElementType::Int32 as i32 {
        raw.as_chunks::<4>().0.iter().map(|&bytes| i32::from_le_bytes(bytes) as f32).collect()
    } else if constant.data_type == ElementType::Uint8 as i32 {
        raw.iter().map(|&byte| f32::from(byte)).collect()
    } else {
        raw.iter().map(|&byte| f32::from(byte.cast_signed())).collect()
    }
}

/// A constant of integers as what it stands for.
fn in_float(
    node: &NodeProto,
    constant: &TensorProto,
    view: &View<'_>,
) -> Result<TensorProto, CalibrationError> {
    let (steps, zeros, _) = steps_of(node, view)?;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").and_then(|axis| axis.i);
    let axis = usize::try_from(axis.unwrap_or(1)).map_err(|_| CalibrationError::OtherIntegers)?;
    let inner: i64 = constant.dims.iter().skip(axis + 1).product();
    let inner = usize::try_from(inner).unwrap_or(1).max(1);
    let at = |values: &[f32], place: usize| match values {
        [one] => *one,
        many => many.get(place / inner % many.len().max(1)).copied().unwrap_or(0.0),
    };
    let values = integers_of(constant).into_iter().enumerate();
    let bytes = values
        .flat_map(|(place, value)| ((value - at(&zeros, place)) * at(&steps, place)).to_le_bytes())
        .collect();
    let name = node.output.first().cloned().unwrap_or_default();
    Ok(TensorProto::constant(&name, ElementType::Float, &constant.dims, bytes))
}

fn scalar(name: &str, value: f32, is_half: bool) -> TensorProto {
    if is_half {
        let bytes = f16::from_f32(value).to_le_bytes().to_vec();
        return TensorProto::constant(name, ElementType::Float16, &[], bytes);
    }
    TensorProto::constant(name, ElementType::Float, &[], value.to_le_bytes().to_vec())
}
