//! Which layers of a graph are quantised.

use std::collections::BTreeSet;

use wordsight_onnx::proto::{ModelProto, NodeProto};

use crate::CalibrationError;
use crate::view::View;

/// Columns that an integer product needs to pay: ONNX Runtime's kernels compute sixteen at once.
const FEWEST_COLUMNS: i64 = 16;

/// One node that can compute in integers, with the bias and the activation that are fused with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// What it computes.
    pub kind: Kind,
    /// What flows in as integers; sums and products have two.
    pub inputs: Vec<String>,
    /// What flows out as integers. A matrix product without an activation behind it answers in float.
    pub output: Option<String>,
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A convolution.
    Convolution,
    /// A sum of two maps.
    Sum,
    /// A product with a matrix of weights.
    Linear {
        /// The sum that adds its bias.
        bias: Option<Bias>,
    },
    /// A product of two matrices that the graph computes: shares of cells, and cells.
    Product,
}

/// The bias of a matrix product, a node of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bias {
    /// The sum's name.
    pub node: String,
    /// What it adds, a constant.
    pub constant: String,
    /// What it makes.
    pub output: String,
}

/// The layers of a model that are to be quantised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// The convolutions of a model and the sums between them, without those that cost more accuracy
    /// than they gain time:
    ///
    /// - the stem: its input is the image itself, and it is small;
    /// - convolutions whose output no activation follows and no convolution takes: the boxes and the
    ///   objectness of a detector. Quantised to 256 steps, the best hundred proposals share a few dozen
    ///   values, and their ranking degenerates.
    ///
    /// # Errors
    /// When there is nothing to quantise, or the model is quantised already.
    pub fn of(model: &ModelProto) -> Result<Self, CalibrationError> {
        let view = View::of(model).ok_or(CalibrationError::NothingToQuantise)?;
        Self::from_convolution(|_| true, &view)
    }

    /// What is to be in integers on a processor, where the matrix products are a third of a student's time: they too,
    /// but not
    ///
    /// - the convolutions behind the stem until one widens the map: of few channels, they take as long in integers as
    ///   in float, and cost the student regions that it would keep without;
    /// - products with a softmax: most probabilities are less than a step, and their sum counts;
    /// - products with what comparisons gave, which suppression is made of: 0 and 1 need no steps between;
    /// - products with few columns, and those of many small matrices: slower in integers.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn for_processor(model: &ModelProto) -> Result<Self, CalibrationError> {
        let view = View::of(model).ok_or(CalibrationError::NothingToQuantise)?;
        let Self(mut layers) = Self::from_convolution(|node| widens(node, &view), &view)?;
        let products = view.graph.node.iter().filter(|node| node.op_type == "MatMul");
        layers.extend(products.filter_map(|node| Layer::of_product(node, &view)));
        Ok(Self(layers))
    }

    /// Convolutions from the first behind the stem that is as asked, and sums.
    fn from_convolution(
        first: impl Fn(&NodeProto) -> bool,
        view: &View<'_>,
    ) -> Result<Self, CalibrationError> {
        if view.graph.node.iter().any(|node| node.op_type == "QuantizeLinear") {
            return Err(CalibrationError::QuantisedAlready);
        }
        let mut layers: Vec<Layer> = view
            .graph
            .node
            .iter()
            .filter(|node| node.op_type == "Conv")
            .skip(1)
            .skip_while(|node| !first(node))
            .filter(|node| !is_head(node, view))
            .filter_map(|node| Layer::of(node, Kind::Convolution, view))
            .collect();
        if layers.is_empty() {
            return Err(CalibrationError::NothingToQuantise);
        }
        let mut made: BTreeSet<String> = layers.iter().filter_map(|layer| layer.output.clone()).collect();
        for node in view.graph.node.iter().filter(|node| node.op_type == "Add") {
            let Some(layer) = Layer::of(node, Kind::Sum, view) else { continue };
            // Both sides in integers, or a conversion would cost more than the sum.
            if layer.inputs.iter().all(|input| made.contains(input)) {
                made.extend(layer.output.clone());
                layers.push(layer);
            }
        }
        Ok(Self(layers))
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

    /// The layers: convolutions, sums, matrix products, each in the graph's order.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }

    /// Every tensor that a layer takes or makes as integers, once.
    pub fn tensors(&self) -> BTreeSet<&str> {
        self.0.iter().flat_map(|layer| layer.inputs.iter().chain(&layer.output)).map(String::as_str).collect()
    }

    /// The left sides of products: shares of cells, whose sum is 1. To cut off the largest would make a region of
    /// few cells darker than one of many.
    pub fn shares(&self) -> BTreeSet<&str> {
        let products = self.0.iter().filter(|layer| layer.kind == Kind::Product);
        products.filter_map(|layer| layer.inputs.first()).map(String::as_str).collect()
    }
}

impl Layer {
    fn of(node: &NodeProto, kind: Kind, view: &View<'_>) -> Option<Self> {
        let inputs = node.input.get(..if kind == Kind::Convolution { 1 } else { 2 })?;
        if inputs.iter().any(|input| view.is_constant(input)) {
            return None;
        }
        let made = node.output.first()?;
        let output = activated(made, view).unwrap_or(made).to_owned();
        Some(Self { name: node.name.clone(), kind, inputs: inputs.to_vec(), output: Some(output) })
    }

    /// The sum that adds a product's bias, which the product takes along.
    pub(crate) fn bias_node(&self) -> Option<&str> {
        match &self.kind {
            Kind::Linear { bias } => bias.as_ref().map(|bias| bias.node.as_str()),
            Kind::Convolution | Kind::Sum | Kind::Product => None,
        }
    }

    /// Of a sum the side that a convolution makes for it alone, the last one where both are: TensorRT computes it and the
    /// sum as one, unless it is rounded between.
    pub fn fused_side(&self, view: &View<'_>) -> Option<&str> {
        let sides = self.inputs.iter().filter(|_| self.kind == Kind::Sum);
        let made_for_it = sides.filter_map(|side| {
            let producer = view.producer(side).filter(|producer| producer.op_type == "Conv")?;
            view.only_consumer(side)?;
            let place = view.graph.node.iter().position(|node| node.name == producer.name)?;
            Some((place, side.as_str()))
        });
        made_for_it.max().map(|(_, side)| side)
    }

    /// A matrix product that is worth it.
    fn of_product(node: &NodeProto, view: &View<'_>) -> Option<Self> {
        let [left, right] = node.input.as_slice() else { return None };
        if view.is_constant(left) || view.producer(left).is_some_and(|producer| producer.op_type == "Softmax")
        {
            return None;
        }
        let name = node.name.clone();
        let Some((dims, _)) = view.floats(right) else {
            let are_matrices =
                [left, right].into_iter().all(|side| !is_stack(side, view) && !is_compared(side, view));
            let inputs = vec![left.clone(), right.clone()];
            return are_matrices.then_some(Self { name, kind: Kind::Product, inputs, output: None });
        };
        let is_wide = matches!(dims, [_, columns] if *columns >= FEWEST_COLUMNS);
        let bias = view.only_consumer(node.output.first()?).and_then(|sum| Bias::of(sum, dims, view));
        let made = bias.as_ref().map_or(node.output.first()?, |bias| &bias.output);
        // ONNX Runtime would join the product with its activation first, and compute both in float.
        let output = activated(made, view).map(str::to_owned);
        is_wide.then_some(Self { name, kind: Kind::Linear { bias }, inputs: vec![left.clone()], output })
    }
}

impl Bias {
    fn of(sum: &NodeProto, weights: &[i64], view: &View<'_>) -> Option<Self> {
        let constant = sum.input.get(1).filter(|_| sum.op_type == "Add")?;
        let (dims, _) = view.floats(constant)?;
        let fits = dims.len() == 1 && dims.last() == weights.last();
        let output = sum.output.first()?.clone();
        fits.then(|| Self { node: sum.name.clone(), constant: constant.clone(), output })
    }
}

/// What an activation makes of a tensor, where it is all that takes it.
fn activated<'a>(made: &str, view: &View<'a>) -> Option<&'a str> {
    let activation = view.only_consumer(made).filter(|node| is_activation(node))?;
    activation.output.first().map(String::as_str)
}

/// Whether a tensor's numbers are 0 and 1, cast from a comparison.
fn is_compared(tensor: &str, view: &View<'_>) -> bool {
    let cast =
        view.producer(tensor).filter(|node| node.op_type == "Cast").and_then(|cast| cast.input.first());
    let comparison = cast.and_then(|input| view.producer(input));
    comparison.is_some_and(|node| {
        matches!(node.op_type.as_str(), "Less" | "Greater" | "Equal" | "And" | "Or" | "Not")
    })
}

fn is_activation(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Relu" | "Clip")
}

/// Whether a convolution's output leaves the convolutional part.
fn is_head(node: &NodeProto, view: &View<'_>) -> bool {
    let Some(made) = node.output.first() else { return true };
    let goes_on = |consumer: &&NodeProto| matches!(consumer.op_type.as_str(), "Conv" | "Add" | "Resize");
    activated(made, view).is_none() && !view.consumers(made).iter().any(goes_on)
}

/// Whether a convolution makes more channels than it takes.
fn widens(node: &NodeProto, view: &View<'_>) -> bool {
    let weights = node.input.get(1).and_then(|weights| view.floats(weights));
    let Some((&[channels, taken, ..], _)) = weights else { return false };
    let groups = node.attribute.iter().find(|attribute| attribute.name == "group");
    channels > taken * groups.and_then(|groups| groups.i).unwrap_or(1)
}

/// Whether a tensor is made as more than one matrix.
fn is_stack(tensor: &str, view: &View<'_>) -> bool {
    let reshape = view.producer(tensor).filter(|producer| producer.op_type == "Reshape");
    let shape = reshape.and_then(|reshape| view.constant(reshape.input.get(1)?));
    shape.is_some_and(|shape| shape.dims != [2])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_onnx::proto::ElementType;
    use wordsight_onnx::{Graph, Storage, Value};

    use super::*;

    /// A stem, a convolution that keeps the channels, one that widens them, and a head: two shared products, a
    /// hidden layer, a classifier, what it mixes, and boxes.
    fn detector() -> ModelProto {
        let mut graph = Graph::new("detector", Storage::F32);
        let image = graph.input("image", ElementType::Float, &[1, 2, 4, 4]);
        let shares = graph.input("shares", ElementType::Float, &[5, 16]);
        let convolve = |graph: &mut Graph, x: &Value, from: usize, to: usize| {
            let weights = graph.exact_floats(&[to, from, 1, 1], &vec![0.5; from * to]);
            let bias = graph.exact_floats(&[to], &vec![0.5; to]);
            let made = graph.node("Conv", &[x, &weights, &bias], &[]);
            graph.node("Relu", &[&made], &[])
        };
        let stem = convolve(&mut graph, &image, 2, 2);
        let narrow = convolve(&mut graph, &stem, 2, 2);
        let wide = convolve(&mut graph, &narrow, 2, 32);
        let linear = |graph: &mut Graph, x: &Value, from: usize, to: usize| {
            let weights = graph.exact_floats(&[from, to], &vec![0.5; from * to]);
            let bias = graph.exact_floats(&[to], &vec![0.5; to]);
            graph.linear(x, &weights, &bias)
        };
        let cells = graph.reshape(&wide, &[16, 32]);
        let pooled = graph.matmul(&shares, &cells);
        let stack = graph.reshape(&cells, &[2, 8, 32]);
        let shares_of_stack = graph.reshape(&shares, &[2, 5, 8]);
        graph.matmul(&shares_of_stack, &stack);
        let hidden = linear(&mut graph, &pooled, 32, 24);
        let hidden = graph.node("Relu", &[&hidden], &[]);
        let classes = linear(&mut graph, &hidden, 24, 20);
        let classes = graph.softmax(&classes, -1);
        linear(&mut graph, &classes, 20, 16);
        let boxes = linear(&mut graph, &hidden, 24, 4);
        graph.output(&boxes, "boxes", ElementType::Float, &[5, 4]);
        graph.into_model(&[])
    }

    #[test]
    fn a_processor_takes_products_that_pay_and_no_narrow_convolutions() {
        let model = detector();
        let kinds = |layers: &Layers| -> Vec<String> {
            layers.iter().map(|layer| layer.name.split(['/', '_']).nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(&Layers::of(&model).unwrap()), ["Conv", "Conv"]);
        let layers = Layers::for_processor(&model).unwrap();
        assert_eq!(kinds(&layers), ["Conv", "MatMul", "MatMul", "MatMul"]);
        let [_, shared, hidden, classes] = layers.0.as_slice() else { unreachable!() };
        assert_eq!((&shared.kind, shared.inputs[0].as_str()), (&Kind::Product, "shares"));
        assert_eq!(layers.shares(), BTreeSet::from(["shares"]));
        assert!(
            hidden.output.as_ref().unwrap().contains("Relu"),
            "integers behind the activation: {hidden:?}"
        );
        assert_eq!(classes.output, None, "what a softmax takes is in float");
        assert!(matches!(&classes.kind, Kind::Linear { bias: Some(_) }));
    }
}
