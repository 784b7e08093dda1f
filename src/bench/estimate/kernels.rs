//! Operator fusion: a graph as the kernels that a GPU runs for it.
//!
//! Turns a graph into [`Kernel`]s: what each multiplies and what it moves. A convolution or a product fuses with what
//! is done to its elements afterwards; so does the first of several operators on elements. Everything else is a kernel
//! of its own. What only depends on constants is done when the plan is built, and a reshape costs nothing.
//!
//! A value that several kernels read is written once and read by each. In a small network that traffic takes the time,
//! and not the products.

use std::collections::{HashMap, HashSet};

use wordsight_onnx::proto::{ElementType, GraphProto, NodeProto};

use super::shapes::{Shape, is_pointwise, shapes};

/// Operators that move nothing.
const FREE: [&str; 2] = ["Reshape", "Identity"];
/// Operators that take what is done to their elements afterwards along.
const PRODUCTS: [&str; 2] = ["Conv", "MatMul"];

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tensor cores: convolutions over channels, and products of matrices.
    Tensor,
    /// The processors' own arithmetic: convolutions of each channel by itself, which tensor cores have no use for.
    Vector,
}

/// What a GPU does in one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Multiplications, each with its addition.
    pub macs: u64,
    /// What multiplies.
    pub unit: Unit,
    /// Values read and written that are not constants.
    pub activations: u64,
    /// Of these, those that are bytes in every precision: the input's pixels.
    pub byte_activations: u64,
    /// Constants read.
    pub weights: u64,
}

/// A kernel while it is put together.
#[derive(Default)]
struct Parts {
    macs: u64,
    is_vector: bool,
    takes_pointwise: bool,
    reads: HashSet<String>,
    writes: Vec<String>,
}

/// The kernels of a graph, in the order of their launch.
///
/// # Errors
/// When the graph has an operator that isn't known here.
pub fn kernels(graph: &GraphProto) -> Result<Vec<Kernel>, String> {
    let shapes = shapes(graph)?;
    let mut fusion = Fusion {
        shapes: &shapes,
        constants: graph.initializer.iter().map(|tensor| tensor.name.clone()).collect(),
        alias: HashMap::new(),
        made_by: HashMap::new(),
        kernels: Vec::new(),
    };
    graph.node.iter().for_each(|node| fusion.take(node));
    let bytes = graph.input.iter().filter(|input| {
        let tensor = input.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
        tensor.is_some_and(|tensor| tensor.elem_type() == ElementType::Uint8)
    });
    let bytes: HashSet<&str> = bytes.map(|input| input.name.as_str()).collect();
    let outputs: HashSet<String> = graph.output.iter().map(|output| fusion.name(&output.name)).collect();
    Ok(fusion.finish(&outputs, &bytes))
}

struct Fusion<'a> {
    shapes: &'a HashMap<String, Shape>,
    constants: HashSet<String>,
    /// What a value is another name of.
    alias: HashMap<String, String>,
    /// Which kernel makes a value.
    made_by: HashMap<String, usize>,
    kernels: Vec<Parts>,
}

impl Fusion<'_> {
    fn name(&self, value: &str) -> String {
        self.alias.get(value).map_or_else(|| value.to_owned(), Clone::clone)
    }

    fn elements(&self, value: &str) -> u64 {
        self.shapes.get(value).map_or(0, |shape| shape.iter().product::<usize>() as u64)
    }

    fn take(&mut self, node: &NodeProto) {
        let inputs: Vec<String> =
            node.input.iter().filter(|name| !name.is_empty()).map(|name| self.name(name)).collect();
        if inputs.iter().all(|name| self.constants.contains(name)) {
            self.constants.extend(node.output.iter().cloned());
            return;
        }
        let op = node.op_type.as_str();
        if FREE.contains(&op) {
            self.alias.extend(node.output.iter().map(|output| (output.clone(), inputs[0].clone())));
            return;
        }
        let kernel = self.kernel_for(op, &inputs);
        let (macs, is_vector) = self.macs(node);
        let parts = &mut self.kernels[kernel];
        parts.macs += macs;
        parts.is_vector |= is_vector;
        parts.reads.extend(inputs);
        parts.writes.extend(node.output.iter().cloned());
        self.made_by.extend(node.output.iter().map(|output| (output.clone(), kernel)));
    }

    /// The kernel that an operator becomes a part of: the last of those that make its inputs, so that none waits for one
    /// that comes later; or else a new one.
    fn kernel_for(&mut self, op: &str, inputs: &[String]) -> usize {
        if is_pointwise(op)
            && let Some(last) = inputs.iter().filter_map(|name| self.made_by.get(name)).max()
            && self.kernels[*last].takes_pointwise
        {
            return *last;
        }
        let takes_pointwise = is_pointwise(op) || PRODUCTS.contains(&op);
        self.kernels.push(Parts { takes_pointwise, ..Parts::default() });
        self.kernels.len() - 1
    }

    /// What an operator multiplies, and whether tensor cores have no use for it.
    fn macs(&self, node: &NodeProto) -> (u64, bool) {
        let shape = |at: usize| node.input.get(at).and_then(|name| self.shapes.get(name)).map(Vec::as_slice);
        let given = node.output.first().map_or(0, |output| self.elements(output));
        match (node.op_type.as_str(), shape(0), shape(1)) {
            // A filter has as many weights as each of its outputs takes products.
            ("Conv", Some(input), Some([_, per_group, window @ ..])) => {
                let each = (per_group * window.iter().product::<usize>()) as u64;
                (given * each, *per_group == 1 && input.get(1).is_some_and(|channels| *channels > 1))
            }
            ("MatMul", Some([.., inner]), _) => (given * *inner as u64, false),
            _ => (0, false),
        }
    }

    fn finish(self, outputs: &HashSet<String>, bytes: &HashSet<&str>) -> Vec<Kernel> {
        // Who else reads a value has it from memory.
        let mut read_elsewhere = outputs.clone();
        for (at, kernel) in self.kernels.iter().enumerate() {
            let from_others = kernel.reads.iter().filter(|name| self.made_by.get(*name) != Some(&at));
            read_elsewhere.extend(from_others.cloned());
        }
        let kernel = |(at, parts): (usize, &Parts)| {
            let (mut activations, mut byte_activations, mut weights) = (0, 0, 0);
            for name in parts.reads.iter().filter(|name| self.made_by.get(*name) != Some(&at)) {
                let elements = self.elements(name);
                if self.constants.contains(name) {
                    weights += elements;
                } else if bytes.contains(name.as_str()) {
                    byte_activations += elements;
                } else {
                    activations += elements;
                }
            }
            let written = parts.writes.iter().filter(|name| read_elsewhere.contains(*name));
            activations += written.map(|name| self.elements(name)).sum::<u64>();
            let unit = if parts.is_vector { Unit::Vector } else { Unit::Tensor };
            Kernel { macs: parts.macs, unit, activations, byte_activations, weights }
        };
        self.kernels.iter().enumerate().map(kernel).collect()
    }
}
