//! Inserts `QuantizeLinear`/`DequantizeLinear` pairs into a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use half::f16;
use serde::{Deserialize, Serialize};
use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{
    ElementType, GraphProto, ModelProto, NodeProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

use crate::normalisation::folded;
use crate::view::{View, remove_unused};
use crate::{Bias, CalibrationError, Kind, Layer, Layers, Method, Ranges, Threshold};

/// What is to run the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// TensorRT: symmetric `int8` activations and weights, biases in float. Pairs stand where its fusions look for them: in
    /// front of what computes in integers, and of a sum with a convolution on one side alone. Steps are numbers of FP16,
    /// for [`to_f16_around_integers`](crate::to_f16_around_integers).
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

    /// A step of at least this size.
    fn step(self, least: f32) -> f32 {
        match self {
            Self::TensorRt => f16_at_least(least),
            Self::Cpu => least.max(f32::MIN_POSITIVE),
        }
    }
}

/// The smallest number of FP16 above 0 that is not less.
fn f16_at_least(least: f32) -> f32 {
    let near = f16::from_f32(least.max(f16::MIN_POSITIVE_SUBNORMAL.to_f32()));
    if near.to_f32() < least { f16::from_bits(near.to_bits() + 1).to_f32() } else { near.to_f32() }
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
    let rounding = Rounding::of(layers, &view, ranges, method, target)?;
    let mut writer = Writer { target, graph: GraphProto::default() };

    let by_name: BTreeMap<&str, &Layer> = layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
    let biases: BTreeSet<&str> = layers.iter().filter_map(Layer::bias_node).collect();
    let inputs = view.graph.input.iter().map(|input| input.name.as_str());
    writer.pairs(inputs, &rounding);
    for node in view.graph.node.iter().filter(|node| !biases.contains(node.name.as_str())) {
        let mut node = rounding.applied_to(node, &view);
        if let Some(layer) = by_name.get(node.name.as_str()) {
            let input_step = layer.inputs.first().and_then(|input| rounding.step(input));
            let input_scale = input_step.map_or(1.0, |step| step.scale);
            match &layer.kind {
                Kind::Convolution => writer.convolution(&mut node, input_scale, &view)?,
                Kind::Linear { bias } => writer.linear(&mut node, bias.as_ref(), input_scale, &view)?,
                Kind::Sum | Kind::Product => {}
            }
        }
        let outputs = node.output.clone();
        writer.graph.node.push(node);
        writer.pairs(outputs.iter().map(String::as_str), &rounding);
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

/// Which tensors are rounded, to which steps, and who takes them so.
struct Rounding<'a> {
    /// Of each tensor that a node takes rounded.
    steps: HashMap<&'a str, Step>,
    consumers: Rounded<'a>,
}

impl<'a> Rounding<'a> {
    fn of(
        layers: &'a Layers,
        view: &View<'_>,
        ranges: &Ranges,
        method: Method,
        target: Target,
    ) -> Result<Self, CalibrationError> {
        let consumers = match target {
            Target::TensorRt => Rounded::of(layers, view),
            Target::Cpu => Rounded::Everybody,
        };
        let shares = layers.shares();
        let mut steps = HashMap::new();
        for tensor in layers.tensors().into_iter().filter(|tensor| consumers.by_any_consumer(tensor)) {
            let method = if shares.contains(tensor) { Method::Max } else { method };
            steps.insert(tensor, Step::of(ranges.threshold(tensor, method)?, target));
        }
        Ok(Self { steps, consumers })
    }

    fn step(&self, tensor: &str) -> Option<Step> {
        self.steps.get(tensor).copied()
    }

    /// A node with the inputs that it takes rounded.
    fn applied_to(&self, node: &NodeProto, view: &View<'_>) -> NodeProto {
        let mut node = node.clone();
        if self.is_relu_for_integers(&node, view) {
            "Relu".clone_into(&mut node.op_type);
            node.input.truncate(1);
        }
        for input in &mut node.input {
            if self.step(input).is_some() && self.consumers.by(&node.name, input) {
                *input = dequantised(input);
            }
        }
        node
    }

    /// Whether integers alone take a `Clip` and cut off what is above its limit: TensorRT fuses a `Relu` for certain.
    fn is_relu_for_integers(&self, node: &NodeProto, view: &View<'_>) -> bool {
        let Some(high) = highest(node, view) else { return false };
        node.output.iter().all(|output| {
            self.consumers.by_all_consumers(output, view)
                && self.step(output).is_some_and(|step| step.saturates_at(high))
        })
    }
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
            Target::TensorRt => Self { scale: target.step(high.max(-low) / 127.0), zero: 0 },
            Target::Cpu => {
                let scale = target.step((high - low) / 255.0);
                Self { scale, zero: (-low / scale).round().clamp(0.0, 255.0) as i32 }
            }
        }
    }

    /// Whether everything from `high` on becomes the largest integer of TensorRT's.
    fn saturates_at(self, high: f32) -> bool {
        (high / self.scale).round_ties_even() >= 127.0
    }
}

/// Which nodes take the rounded values of a tensor instead of the original ones.
enum Rounded<'a> {
    /// All consumers: a layer's output leaves it in integers (ONNX Runtime's integer kernels).
    Everybody,
    /// Nodes and which of their inputs.
    Inputs(BTreeSet<(&'a str, &'a str)>),
}

impl<'a> Rounded<'a> {
    /// Layers alone, so that what stays in float takes float; and of a sum of convolutions not the side that
    /// TensorRT fuses with it ("suboptimal quantization fusions", NVIDIA, Working with Quantized Types).
    fn of(layers: &'a Layers, view: &View<'_>) -> Self {
        let takes = |layer: &'a Layer| {
            let fused = layer.fused_side(view);
            let inputs = layer.inputs.iter().filter(move |input| Some(input.as_str()) != fused);
            inputs.map(|input| (layer.name.as_str(), input.as_str()))
        };
        Self::Inputs(layers.iter().flat_map(takes).collect())
    }

    fn by(&self, node: &str, tensor: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Inputs(inputs) => inputs.contains(&(node, tensor)),
        }
    }

    fn by_any_consumer(&self, tensor: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Inputs(inputs) => inputs.iter().any(|(_, taken)| *taken == tensor),
        }
    }

    /// Whether no node takes the original values. For a processor they stay.
    fn by_all_consumers(&self, tensor: &str, view: &View<'_>) -> bool {
        matches!(self, Self::Inputs(_))
            && view.consumers(tensor).iter().all(|consumer| self.by(&consumer.name, tensor))
            && !view.graph.output.iter().any(|output| output.name == tensor)
    }
}

/// The upper limit of a `Clip` from 0 on.
fn highest(node: &NodeProto, view: &View<'_>) -> Option<f32> {
    let [_, low, high] = node.input.as_slice() else { return None };
    let limit = |name: &str| view.floats(name).and_then(|(_, values)| values.first().copied());
    (node.op_type == "Clip" && limit(low) == Some(0.0)).then(|| limit(high))?
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

    /// Those of the tensors that are rounded to integers and back.
    fn pairs<'t>(&mut self, tensors: impl Iterator<Item = &'t str>, rounding: &Rounding<'_>) {
        for tensor in tensors {
            if let Some(step) = rounding.step(tensor) {
                self.pair(tensor, step);
            }
        }
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
        let (integers, scales) = symmetric(&values, channels, self.target);
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
        let (integers, scales) = symmetric(&transposed(&values, rows, columns), columns, self.target);
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

/// Symmetric integers of a target, row by row, and each row's step.
fn symmetric(values: &[f32], rows: usize, target: Target) -> (Vec<i8>, Vec<f32>) {
    let steps = target.weight_steps();
    let length = values.len() / rows.max(1);
    let mut integers = Vec::with_capacity(values.len());
    let scales = values.chunks_exact(length.max(1)).map(|row| {
        let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = if largest > 0.0 { target.step(largest / steps) } else { 1.0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_weights_uses_all_of_its_steps() {
        let rows = [0.9, -2.0, 0.5, 0.0, 0.0, 0.0, -0.001, 0.0005, 0.00025];
        for (target, first) in [(Target::TensorRt, [57, -127, 32]), (Target::Cpu, [28, -63, 16])] {
            let (integers, scales) = symmetric(&rows, 3, target);
            assert_eq!(integers[..3], first);
            assert_eq!((&integers[3..6], scales[1]), (&[0, 0, 0][..], 1.0));
            assert!(f32::from(integers[6]) <= 1.0 - target.weight_steps(), "{integers:?}");
        }
    }

    #[test]
    fn tensorrt_s_steps_are_numbers_of_fp16_and_not_less() {
        for least in [0.0, 1e-9, 3e-6, 0.001, 6.0 / 127.0, 0.5, 17.3] {
            let step = Target::TensorRt.step(least);
            assert_eq!(f16::from_f32(step).to_f32().to_bits(), step.to_bits(), "{least}");
            assert!(step > 0.0 && step >= least && step <= least * 1.001 + 6e-8, "{least}: {step}");
        }
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
