//! The graph with integers in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{
    ElementType, GraphProto, ModelProto, NodeProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

use crate::normalisation::folded;
use crate::view::View;
use crate::{Bias, CalibrationError, Kind, Layer, Layers, Method, Ranges, Threshold};

/// What is to run the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// TensorRT: symmetric `int8` activations and weights, biases in float.
    TensorRt,
    /// ONNX Runtime on a processor: `uint8` activations with a zero point, `int8` weights, `int32`
    /// biases, which is what its integer convolution and `Gemm` take. Weights have 63 steps to each side: without
    /// VNNI, two products of full range overflow the 16 bits that x86 adds them in.
    Cpu,
}

impl Target {
    /// Steps of a weight to each side of 0.
    fn weight_steps(self) -> f32 {
        match self {
            Self::TensorRt => 127.0,
            Self::Cpu => 63.0,
        }
    }
}

/// The model with some tensors as outputs behind its own, in the order given.
pub fn observed<'a>(model: &ModelProto, tensors: impl IntoIterator<Item = &'a str>) -> ModelProto {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        for tensor in tensors {
            let tensor_type = TensorTypeProto { elem_type: ElementType::Float as i32, shape: None };
            graph.output.push(ValueInfoProto {
                name: tensor.to_owned(),
                r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
            });
        }
    }
    model
}

/// The model with its `layers` in integers. For a processor the image's normalisation goes into the first
/// convolution, which stays in float.
///
/// # Errors
/// When there is no layer, a tensor was never watched, or a layer's weights are not constants.
pub fn quantize(
    model: &ModelProto,
    layers: &Layers,
    ranges: &Ranges,
    method: Method,
    target: Target,
) -> Result<ModelProto, CalibrationError> {
    let without_normalisation = (target == Target::Cpu).then(|| folded(model));
    let model = without_normalisation.as_ref().unwrap_or(model);
    let view = View::of(model).filter(|_| layers.iter().next().is_some());
    let view = view.ok_or(CalibrationError::NothingToQuantise)?;
    let mut writer = Writer { target, graph: GraphProto::default() };

    let shares = layers.shares();
    let mut steps: HashMap<&str, Step> = HashMap::new();
    for tensor in layers.tensors() {
        let method = if shares.contains(tensor) { Method::Max } else { method };
        steps.insert(tensor, Step::of(ranges.threshold(tensor, method)?, target));
    }
    let by_name: BTreeMap<&str, &Layer> = layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
    let biases = layers.iter().filter_map(|layer| match &layer.kind {
        Kind::Linear { bias } => bias.as_ref().map(|bias| bias.node.as_str()),
        _ => None,
    });
    let biases: BTreeSet<&str> = biases.collect();
    for input in &view.graph.input {
        if let Some(step) = steps.get(input.name.as_str()) {
            writer.pair(&input.name, *step);
        }
    }
    for node in view.graph.node.iter().filter(|node| !biases.contains(node.name.as_str())) {
        let mut node = node.clone();
        // Everybody takes the rounded values: what a layer makes leaves it in integers.
        for input in &mut node.input {
            if steps.contains_key(input.as_str()) {
                *input = dequantised(input);
            }
        }
        if let Some(layer) = by_name.get(node.name.as_str()) {
            let input_scale = layer.inputs.first().map_or(1.0, |input| steps[input.as_str()].scale);
            match &layer.kind {
                Kind::Convolution => writer.convolution(&mut node, input_scale, &view)?,
                Kind::Linear { bias } => writer.linear(&mut node, bias.as_ref(), input_scale, &view)?,
                Kind::Sum | Kind::Product => {}
            }
        }
        let outputs = node.output.clone();
        writer.graph.node.push(node);
        for output in outputs {
            if let Some(step) = steps.get(output.as_str()) {
                writer.pair(&output, *step);
            }
        }
    }
    let mut graph = GraphProto {
        initializer: view.graph.initializer.iter().cloned().chain(writer.graph.initializer).collect(),
        node: writer.graph.node,
        ..view.graph.clone()
    };
    remove_unused(&mut graph);
    let mut quantised = ModelProto { graph: Some(graph), ..model.clone() };
    quantised.doc_string = format!("INT8 for {target:?}, thresholds by {}", method.name());
    Ok(quantised)
}

/// The size of a step and the integer that stands for 0.
#[derive(Debug, Clone, Copy)]
struct Step {
    scale: f32,
    zero: i32,
}

impl Step {
    fn of(threshold: Threshold, target: Target) -> Self {
        let Threshold { low, high } = threshold;
        match target {
            Target::TensorRt => Self { scale: (high.max(-low) / 127.0).max(f32::MIN_POSITIVE), zero: 0 },
            Target::Cpu => {
                let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
                Self { scale, zero: (-low / scale).round().clamp(0.0, 255.0) as i32 }
            }
        }
    }
}

/// Adds nodes and constants.
struct Writer {
    target: Target,
    graph: GraphProto,
}

impl Writer {
    fn constant(&mut self, name: String, element: ElementType, dims: &[i64], raw_data: Vec<u8>) -> String {
        self.graph.initializer.push(TensorProto::constant(&name, element, dims, raw_data));
        name
    }

    fn node(&mut self, op: &str, inputs: Vec<String>, output: &str, attributes: &[(&str, Attribute)]) {
        self.graph.node.push(NodeProto::new(op, inputs, output, attributes));
    }

    /// A tensor to integers and back.
    fn pair(&mut self, tensor: &str, step: Step) {
        let (element, zero) = match self.target {
            Target::TensorRt => (ElementType::Int8, step.zero as u8),
            Target::Cpu => (ElementType::Uint8, step.zero as u8),
        };
        let scale = self.constant(
            format!("{tensor}_scale"),
            ElementType::Float,
            &[],
            step.scale.to_le_bytes().to_vec(),
        );
        let zero = self.constant(format!("{tensor}_zero"), element, &[], vec![zero]);
        let integers = format!("{tensor}_quantised");
        self.node("QuantizeLinear", vec![tensor.to_owned(), scale.clone(), zero.clone()], &integers, &[]);
        self.node("DequantizeLinear", vec![integers, scale, zero], &dequantised(tensor), &[]);
    }

    /// A convolution's weights in integers, a step for every output channel, and for a processor its bias.
    fn convolution(
        &mut self,
        node: &mut NodeProto,
        input_scale: f32,
        view: &View<'_>,
    ) -> Result<(), CalibrationError> {
        let no_weights = || CalibrationError::NoWeights(node.name.clone());
        let (weight, dims, values) = weights_of(node, view).ok_or_else(no_weights)?;
        let channels = usize::try_from(dims[0]).map_err(|_| no_weights())?;
        let (integers, scales) = symmetric(&values, channels, self.target.weight_steps());
        let name = self.weights(&weight, dims, integers, &scales, 0);
        node.input[1] = name;
        let bias = node.input.get(2).cloned().filter(|_| self.target == Target::Cpu);
        if let Some(bias) = bias {
            let (_, values) = view.floats(&bias).ok_or_else(no_weights)?;
            node.input[2] = self.bias(&bias, &values, &scales, input_scale);
        }
        Ok(())
    }

    /// A matrix product and its bias as one `Gemm`, a step for every column of its weights. As two nodes ONNX Runtime
    /// would join them itself, before it looks for integers, and then compute in float.
    fn linear(
        &mut self,
        node: &mut NodeProto,
        bias: Option<&Bias>,
        input_scale: f32,
        view: &View<'_>,
    ) -> Result<(), CalibrationError> {
        let no_weights = || CalibrationError::NoWeights(node.name.clone());
        let (weight, dims, values) = weights_of(node, view).ok_or_else(no_weights)?;
        let [rows, columns] = [0, 1].map(|axis| dims.get(axis).map_or(0, |&size| size as usize));
        let (integers, scales) =
            symmetric(&transposed(&values, rows, columns), columns, self.target.weight_steps());
        let integers = transposed(&integers, columns, rows);
        let name = self.weights(&weight, dims, integers, &scales, 1);
        node.op_type = "Gemm".to_owned();
        node.input[1] = name;
        if let Some(bias) = bias {
            let (_, values) = view.floats(&bias.constant).ok_or_else(no_weights)?;
            let name = self.bias(&bias.constant, &values, &scales, input_scale);
            node.input.push(name);
            node.output = vec![bias.output.clone()];
        }
        Ok(())
    }

    /// Weights with a step for every place on an axis; returns what they are in float.
    fn weights(
        &mut self,
        weight: &str,
        dims: &[i64],
        integers: Vec<i8>,
        scales: &[f32],
        axis: i64,
    ) -> String {
        let bytes = integers.into_iter().map(|integer| integer as u8).collect();
        let quantised = self.constant(format!("{weight}_int8"), ElementType::Int8, dims, bytes);
        let scale = self.floats(format!("{weight}_scale"), scales);
        let zeros = vec![0; scales.len()];
        let zero = self.constant(format!("{weight}_zero"), ElementType::Int8, &[scales.len() as i64], zeros);
        let name = dequantised(weight);
        self.node("DequantizeLinear", vec![quantised, scale, zero], &name, &[("axis", Attribute::Int(axis))]);
        name
    }

    /// A bias in the integers that the sums of products are in; returns what it is in float.
    fn bias(&mut self, bias: &str, values: &[f32], weight_scales: &[f32], input_scale: f32) -> String {
        let scales: Vec<f32> = weight_scales.iter().map(|scale| scale * input_scale).collect();
        let integers = values.iter().zip(&scales).flat_map(|(value, scale)| {
            let integer = (f64::from(*value) / f64::from(*scale)).round();
            (integer.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32).to_le_bytes()
        });
        let (dims, bytes) = ([scales.len() as i64], integers.collect());
        let quantised = self.constant(format!("{bias}_int32"), ElementType::Int32, &dims, bytes);
        let scale = self.floats(format!("{bias}_scale"), &scales);
        let zero =
            self.constant(format!("{bias}_zero"), ElementType::Int32, &dims, vec![0; 4 * scales.len()]);
        let name = dequantised(bias);
        self.node("DequantizeLinear", vec![quantised, scale, zero], &name, &[("axis", Attribute::Int(0))]);
        name
    }

    fn floats(&mut self, name: String, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Float, &[values.len() as i64], bytes)
    }
}

fn dequantised(tensor: &str) -> String {
    format!("{tensor}_dequantised")
}

/// Symmetric integers of so many steps to each side, row by row, and each row's step.
fn symmetric(values: &[f32], rows: usize, steps: f32) -> (Vec<i8>, Vec<f32>) {
    let length = values.len() / rows.max(1);
    let mut integers = Vec::with_capacity(values.len());
    let scales = values.chunks_exact(length.max(1)).map(|row| {
        let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = if largest > 0.0 { largest / steps } else { 1.0 };
        integers.extend(row.iter().map(|x| (x / scale).round().clamp(-steps, steps) as i8));
        scale
    });
    let scales = scales.collect();
    (integers, scales)
}

/// The constant that a node multiplies with: its name, shape and values.
fn weights_of<'a>(node: &NodeProto, view: &View<'a>) -> Option<(String, &'a [i64], Vec<f32>)> {
    let weight = node.input.get(1)?;
    let (dims, values) = view.floats(weight)?;
    Some((weight.clone(), dims, values))
}

/// Rows become columns.
fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Removes constants and casts of constants that nobody takes any more.
pub fn remove_unused(graph: &mut GraphProto) {
    let constants: BTreeSet<String> =
        graph.initializer.iter().map(|constant| constant.name.clone()).collect();
    let taken = |graph: &GraphProto| -> BTreeSet<String> {
        let outputs = graph.output.iter().map(|output| output.name.clone());
        graph.node.iter().flat_map(|node| node.input.iter().cloned()).chain(outputs).collect()
    };
    let used = taken(graph);
    graph.node.retain(|node| {
        let of_constants = node.input.iter().all(|input| constants.contains(input));
        node.op_type != "Cast" || !of_constants || node.output.iter().any(|output| used.contains(output))
    });
    let used = taken(graph);
    graph.initializer.retain(|constant| used.contains(&constant.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_weights_uses_all_of_its_steps() {
        let (integers, scales) =
            symmetric(&[1.0, -2.0, 0.5, 0.0, 0.0, 0.0, -0.001, 0.0005, 0.00025], 3, 127.0);
        assert_eq!(integers[..3], [64, -127, 32]);
        assert_eq!((&integers[3..6], scales[1]), (&[0, 0, 0][..], 1.0));
        assert_eq!(integers[6], -127);
    }

    #[test]
    fn columns_become_rows_and_rows_columns() {
        let rows = transposed(&[1, 2, 3, 4, 5, 6], 2, 3);
        assert_eq!(rows, [1, 4, 2, 5, 3, 6]);
        assert_eq!(transposed(&rows, 3, 2), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn zero_is_exact_for_both_targets() {
        for target in [Target::TensorRt, Target::Cpu] {
            for (low, high) in [(0.0, 6.0), (-1.0, 3.0), (-2.0, 0.0), (0.0, 0.0)] {
                let step = Step::of(Threshold { low, high }, target);
                assert!(step.scale > 0.0);
                let largest = (255 - step.zero) as f32 * step.scale;
                assert!(target == Target::TensorRt || largest >= high - step.scale, "{step:?}");
            }
        }
        assert_eq!(Step::of(Threshold { low: -1.0, high: 3.0 }, Target::Cpu).zero, 64);
    }
}
