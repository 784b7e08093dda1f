//! Finds tensors and nodes of a graph, and removes those that nothing uses.

use std::collections::{BTreeSet, HashMap};

use half::f16;
use wordsight_onnx::proto::{ElementType, GraphProto, ModelProto, NodeProto, TensorProto};

/// The producer and the consumers of each tensor.
pub struct View<'a> {
    pub graph: &'a GraphProto,
    producers: HashMap<&'a str, &'a NodeProto>,
    consumers: HashMap<&'a str, Vec<&'a NodeProto>>,
    constants: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> View<'a> {
    /// `None` for a model without a graph.
    pub fn of(model: &'a ModelProto) -> Option<Self> {
        let graph = model.graph.as_ref()?;
        let mut consumers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                consumers.entry(input).or_default().push(node);
            }
        }
        let outputs = |node: &'a NodeProto| node.output.iter().map(move |output| (output.as_str(), node));
        Some(Self {
            graph,
            producers: graph.node.iter().flat_map(outputs).collect(),
            consumers,
            constants: graph.initializer.iter().map(|constant| (constant.name.as_str(), constant)).collect(),
        })
    }

    pub fn producer(&self, tensor: &str) -> Option<&'a NodeProto> {
        self.producers.get(tensor).copied()
    }

    pub fn consumers(&self, tensor: &str) -> &[&'a NodeProto] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The one node that takes a tensor, where there is one.
    pub fn only_consumer(&self, tensor: &str) -> Option<&'a NodeProto> {
        match self.consumers(tensor) {
            [consumer] => Some(consumer),
            _ => None,
        }
    }

    /// Whether a tensor is a constant, stored as it is or in FP16 with a cast.
    pub fn is_constant(&self, tensor: &str) -> bool {
        self.constant(tensor).is_some()
    }

    /// Shape and values of a constant of floats.
    pub fn floats(&self, tensor: &str) -> Option<(&'a [i64], Vec<f32>)> {
        let constant = self.constant(tensor)?;
        let raw = &constant.raw_data;
        let values = if constant.data_type == ElementType::Float as i32 {
            let own = !constant.float_data.is_empty();
            if own {
                constant.float_data.clone()
            } else {
                raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
            }
        } else if constant.data_type == ElementType::Float16 as i32 {
            raw.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()
        } else {
            return None;
        };
        Some((&constant.dims, values))
    }

    /// A constant of the file.
    pub fn constant(&self, tensor: &str) -> Option<&'a TensorProto> {
        if let Some(constant) = self.constants.get(tensor) {
            return Some(constant);
        }
        let cast = self.producer(tensor).filter(|node| node.op_type == "Cast")?;
        self.constants.get(cast.input.first()?.as_str()).copied()
    }
}

/// Removes constants and casts of constants that are no longer used.
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
