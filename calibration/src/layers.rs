//! What of a graph is quantised.

use std::collections::BTreeSet;

use wordsight_onnx::proto::{ModelProto, NodeProto};

use crate::CalibrationError;
use crate::view::View;

/// One convolution or sum that can compute in integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// `Conv` or `Add`.
    pub op: String,
    /// What flows in; a sum has two.
    pub inputs: Vec<String>,
    /// What flows out, behind the activation that is fused with it.
    pub output: String,
}

/// The layers of a model that are to be quantised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// The convolutions of a model and the sums between them, without those that cost more accuracy
    /// than they gain time:
    ///
    /// - the stem: it sees the image itself, and is small;
    /// - convolutions whose output no activation follows and no convolution takes: the boxes and the
    ///   objectness of a detector. Quantised to 256 steps, the best hundred proposals share a few dozen
    ///   values, and their ranking degenerates.
    ///
    /// Matrix products are left alone: those of a student make its embeddings, and ONNX Runtime, which makes
    /// one node of a product and its bias first, would compute them in float and convert the weights every
    /// time: tried, and slower.
    ///
    /// # Errors
    /// When there is nothing to quantise, or the model is quantised already.
    pub fn of(model: &ModelProto) -> Result<Self, CalibrationError> {
        let view = View::of(model).ok_or(CalibrationError::NothingToQuantise)?;
        if view.graph.node.iter().any(|node| node.op_type == "QuantizeLinear") {
            return Err(CalibrationError::QuantisedAlready);
        }
        let convolutions: Vec<Layer> = view
            .graph
            .node
            .iter()
            .filter(|node| node.op_type == "Conv")
            .skip(1)
            .filter_map(|node| Some((node, Layer::of(node, 1, &view)?)))
            .filter(|(node, layer)| !is_head(node, layer, &view))
            .map(|(_, layer)| layer)
            .collect();
        if convolutions.is_empty() {
            return Err(CalibrationError::NothingToQuantise);
        }
        let made: BTreeSet<&str> = convolutions.iter().map(|layer| layer.output.as_str()).collect();
        let mut sums: Vec<Layer> = Vec::new();
        for node in view.graph.node.iter().filter(|node| node.op_type == "Add") {
            let Some(layer) = Layer::of(node, 2, &view) else { continue };
            let known = |tensor: &String| {
                made.contains(tensor.as_str()) || sums.iter().any(|sum: &Layer| sum.output == *tensor)
            };
            // Both sides in integers, or a conversion would cost more than the sum.
            if layer.inputs.iter().all(known) {
                sums.push(layer);
            }
        }
        Ok(Self(convolutions.into_iter().chain(sums).collect()))
    }

    /// The same without some layers, which stay in float.
    ///
    /// # Errors
    /// When one of them is no layer of the model.
    pub fn without(&self, pinned: &BTreeSet<String>) -> Result<Self, CalibrationError> {
        if let Some(unknown) = pinned.iter().find(|name| !self.0.iter().any(|layer| layer.name == **name)) {
            return Err(CalibrationError::NoSuchLayer(unknown.clone()));
        }
        Ok(Self(self.0.iter().filter(|layer| !pinned.contains(&layer.name)).cloned().collect()))
    }

    /// One layer alone.
    pub fn only(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|layer| layer.name == name).cloned().collect())
    }

    /// The layers, convolutions before sums, each in the graph's order.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }

    /// Every tensor that a layer takes or makes, once.
    pub fn tensors(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .flat_map(|layer| layer.inputs.iter().chain([&layer.output]))
            .map(String::as_str)
            .collect()
    }
}

impl Layer {
    fn of(node: &NodeProto, data_inputs: usize, view: &View<'_>) -> Option<Self> {
        let inputs = node.input.get(..data_inputs)?;
        if inputs.iter().any(|input| view.is_constant(input)) {
            return None;
        }
        let made = node.output.first()?;
        let output = match view.takers(made) {
            [activation] if is_activation(activation) => activation.output.first()?,
            _ => made,
        };
        Some(Self {
            name: node.name.clone(),
            op: node.op_type.clone(),
            inputs: inputs.to_vec(),
            output: output.clone(),
        })
    }
}

fn is_activation(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Relu" | "Clip")
}

/// Whether a convolution's output leaves the convolutional part.
fn is_head(node: &NodeProto, layer: &Layer, view: &View<'_>) -> bool {
    let is_bare = node.output.first() == Some(&layer.output);
    let goes_on = |taker: &&NodeProto| matches!(taker.op_type.as_str(), "Conv" | "Add" | "Resize");
    is_bare && !view.takers(&layer.output).iter().any(goes_on)
}
