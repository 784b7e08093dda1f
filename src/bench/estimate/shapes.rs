//! Shape inference: the shapes of a graph's values, from those of its inputs.
//!
//! A student's graph doesn't store them; this module gives them by the values' names. Only the operators that students
//! are made of are known, and any other is an error that names it.

use std::collections::HashMap;

use wordsight_onnx::proto::{AttributeProto, Dimension, ElementType, GraphProto, NodeProto, TensorProto};

/// A shape.
pub type Shape = Vec<usize>;

/// Operators whose output is as their first input.
const SAME: [&str; 20] = [
    "Abs",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Erf",
    "Exp",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Neg",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Tanh",
    "LayerNormalization",
];
/// Operators on elements of several inputs, whose shapes are broadcast.
const BROADCAST: [&str; 13] =
    ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Less", "Greater", "Equal", "And", "Or", "Where"];

/// Whether an operator computes each element by itself.
pub fn is_pointwise(op: &str) -> bool {
    BROADCAST.contains(&op)
        || (SAME.contains(&op) && !["Identity", "LayerNormalization", "Softmax"].contains(&op))
}

/// The shapes of all values of a graph.
///
/// # Errors
/// When an operator is unknown or its inputs don't fit.
pub fn shapes(graph: &GraphProto) -> Result<HashMap<String, Shape>, String> {
    let mut known = HashMap::new();
    for input in &graph.input {
        known.insert(
            input.name.clone(),
            declared(input.r#type.as_ref())
                .ok_or_else(|| format!("the input `{}` has no fixed shape", input.name))?,
        );
    }
    let mut constants = HashMap::new();
    for tensor in &graph.initializer {
        known.insert(tensor.name.clone(), tensor.dims.iter().map(|&size| size as usize).collect());
        constants.insert(tensor.name.as_str(), tensor);
    }
    for node in &graph.node {
        let of = Operator { node, known: &known, constants: &constants };
        let shapes = of.outputs().ok_or_else(|| {
            let name = if node.name.is_empty() { &node.op_type } else { &node.name };
            format!("the shape of what `{name}` ({}) gives can't be told", node.op_type)
        })?;
        known.extend(node.output.iter().cloned().zip(shapes));
    }
    Ok(known)
}

fn declared(of: Option<&wordsight_onnx::proto::TypeProto>) -> Option<Shape> {
    let dimensions = &of?.tensor_type.as_ref()?.shape.as_ref()?.dim;
    let size = |value: &Option<Dimension>| match value {
        Some(Dimension::Fixed(size)) => usize::try_from(*size).ok(),
        _ => None,
    };
    dimensions.iter().map(|dimension| size(&dimension.value)).collect()
}

/// One node, with what is known of its inputs.
struct Operator<'a> {
    node: &'a NodeProto,
    known: &'a HashMap<String, Shape>,
    constants: &'a HashMap<&'a str, &'a TensorProto>,
}

impl Operator<'_> {
    fn outputs(&self) -> Option<Vec<Shape>> {
        let op = self.node.op_type.as_str();
        if op == "Split" {
            return self.split();
        }
        let one = match op {
            _ if SAME.contains(&op) => self.input(0)?.clone(),
            _ if BROADCAST.contains(&op) => self.broadcast()?,
            "Conv" => self.window(*self.input(1)?.first()?)?,
            "MaxPool" | "AveragePool" => self.window(*self.input(0)?.get(1)?)?,
            "GlobalAveragePool" => {
                let input = self.input(0)?;
                input.iter().enumerate().map(|(axis, size)| if axis < 2 { *size } else { 1 }).collect()
            }
            "MatMul" => self.product()?,
            "Reshape" => self.reshape()?,
            "Transpose" => {
                let input = self.input(0)?;
                self.ints("perm")?
                    .iter()
                    .map(|&axis| input.get(axis as usize).copied())
                    .collect::<Option<_>>()?
            }
            "Concat" => self.concat()?,
            "Resize" => self.resize()?,
            "ReduceMean" | "ReduceSum" | "ReduceMax" => self.reduce()?,
            "TopK" => {
                let count = usize::try_from(*self.constant(1)?.first()?).ok()?;
                let mut shape = self.input(0)?.clone();
                *shape.get_mut(self.axis(-1, self.input(0)?.len())?)? = count;
                shape
            }
            "Gather" => {
                let (input, indices) = (self.input(0)?, self.input(1)?);
                let axis = self.axis(0, input.len())?;
                [&input[..axis], indices, &input[axis + 1..]].concat()
            }
            _ => return None,
        };
        Some(vec![one; self.node.output.len()])
    }

    fn input(&self, at: usize) -> Option<&Shape> {
        self.known.get(self.node.input.get(at)?)
    }

    /// The integers of an input that is a constant.
    fn constant(&self, at: usize) -> Option<Vec<i64>> {
        let tensor = self.constants.get(self.node.input.get(at)?.as_str())?;
        if tensor.data_type() != ElementType::Int64 {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        Some(tensor.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        Some(&self.attribute(name)?.ints)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// The attribute `axis`, counted from the front.
    fn axis(&self, or_else: i64, rank: usize) -> Option<usize> {
        from_front(self.int("axis").unwrap_or(or_else), rank)
    }

    fn broadcast(&self) -> Option<Shape> {
        let shapes = (0..self.node.input.len()).map(|at| self.input(at)).collect::<Option<Vec<_>>>()?;
        let rank = shapes.iter().map(|shape| shape.len()).max()?;
        (0..rank)
            .map(|axis| {
                let size = |shape: &&Shape| (axis + shape.len()).checked_sub(rank).map(|at| shape[at]);
                let sizes: Vec<usize> = shapes.iter().filter_map(size).filter(|size| *size != 1).collect();
                let first = sizes.first().copied().unwrap_or(1);
                sizes.iter().all(|size| *size == first).then_some(first)
            })
            .collect()
    }

    /// What a window gives that is moved over a picture.
    fn window(&self, channels: usize) -> Option<Shape> {
        let input = self.input(0)?;
        let kernel: Vec<i64> = match self.ints("kernel_shape") {
            Some(kernel) => kernel.to_vec(),
            None => self.input(1)?.get(2..)?.iter().map(|&size| size as i64).collect(),
        };
        let sides = kernel.len();
        let of = |name: &str, value: i64, count: usize| {
            self.ints(name).map_or(vec![value; count], <[i64]>::to_vec)
        };
        let (strides, pads) = (of("strides", 1, sides), of("pads", 0, 2 * sides));
        let dilations = of("dilations", 1, sides);
        let mut shape = vec![*input.first()?, channels];
        for (side, kernel) in kernel.into_iter().enumerate() {
            let size = *input.get(2 + side)? as i64 + pads.get(side)? + pads.get(side + sides)?;
            let reach = dilations.get(side)? * (kernel - 1) + 1;
            shape.push(usize::try_from((size - reach).checked_div(*strides.get(side)?)? + 1).ok()?);
        }
        Some(shape)
    }

    fn product(&self) -> Option<Shape> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        let ([batch_a @ .., rows, inner], [batch_b @ .., inner_b, columns]) = (&a[..], &b[..]) else {
            return None;
        };
        let batch = if batch_a.len() >= batch_b.len() { batch_a } else { batch_b };
        (inner == inner_b).then(|| [batch, &[*rows, *columns]].concat())
    }

    fn reshape(&self) -> Option<Shape> {
        let (input, wanted) = (self.input(0)?, self.constant(1)?);
        let elements: usize = input.iter().product();
        let mut shape = Vec::new();
        for (axis, size) in wanted.iter().enumerate() {
            shape.push(match size {
                0 => *input.get(axis)?,
                -1 => 1,
                size => usize::try_from(*size).ok()?,
            });
        }
        let others: usize = shape.iter().product();
        if let Some(open) = wanted.iter().position(|size| *size == -1) {
            shape[open] = elements.checked_div(others)?;
        }
        (shape.iter().product::<usize>() == elements).then_some(shape)
    }

    fn concat(&self) -> Option<Shape> {
        let shapes = (0..self.node.input.len()).map(|at| self.input(at)).collect::<Option<Vec<_>>>()?;
        let mut shape = (*shapes.first()?).clone();
        let axis = self.axis(0, shape.len())?;
        *shape.get_mut(axis)? = shapes.iter().filter_map(|shape| shape.get(axis)).sum();
        Some(shape)
    }

    fn split(&self) -> Option<Vec<Shape>> {
        let input = self.input(0)?;
        let axis = self.axis(0, input.len())?;
        let count = self.node.output.len();
        let sizes = self.constant(1).unwrap_or_else(|| vec![(input[axis] / count) as i64; count]);
        let part = |size: &i64| {
            let mut shape = input.clone();
            shape[axis] = usize::try_from(*size).ok()?;
            Some(shape)
        };
        sizes.iter().map(part).collect()
    }

    fn resize(&self) -> Option<Shape> {
        if let Some(sizes) = self.constant(3) {
            return sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        }
        let scales = self.constants.get(self.node.input.get(2)?.as_str())?;
        let scales: Vec<f32> = if scales.raw_data.is_empty() {
            scales.float_data.clone()
        } else {
            scales.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let input = self.input(0)?;
        (scales.len() == input.len())
            .then(|| input.iter().zip(scales).map(|(size, scale)| (*size as f32 * scale) as usize).collect())
    }

    fn reduce(&self) -> Option<Shape> {
        let input = self.input(0)?;
        let axes = self.ints("axes").map(<[i64]>::to_vec).or_else(|| self.constant(1))?;
        let axes = axes.iter().map(|&axis| from_front(axis, input.len())).collect::<Option<Vec<_>>>()?;
        let keeps = self.int("keepdims").unwrap_or(1) != 0;
        let size = |(axis, size): (usize, &usize)| match axes.contains(&axis) {
            false => Some(*size),
            true => keeps.then_some(1),
        };
        Some(input.iter().enumerate().filter_map(size).collect())
    }
}

fn from_front(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}
