//! Reads an exported student back into a model, to train it further.
//!
//! Takes a file that [`super::student_model`] wrote and a student of the same sizes, and returns that student with the
//! file's weights. Checkpoints are large and stay where they were made; everybody has the shipped file.
//!
//! Weights have no names in the file. They are found as the inputs of each part's convolutions and matrix products, in
//! the order in which the export wrote them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};
use half::f16;
use wordsight_onnx::proto::{ElementType, GraphProto, NodeProto, TensorProto};
use wordsight_standin::efficientnet::FoldedConvolution;

use super::pooled_order;
use crate::student::layer::Layer as Convolution;
use crate::student::{Neck, ProposalHead, RegionHead, Student, StudentConfig};

/// The sizes of an exported student.
///
/// # Errors
/// When the file is no student, or one that was made before students said their sizes.
pub fn read_sizes(path: &Path) -> Result<StudentConfig> {
    let model = wordsight_onnx::read(path)?;
    let sizes = wordsight_onnx::metadata(&model, "wordsight.sizes").with_context(|| {
        format!(
            "{} says no sizes in its metadata: it is no student, or an older one; train without it",
            path.display()
        )
    })?;
    serde_json::from_str(sizes).with_context(|| format!("the sizes in {} can't be read", path.display()))
}

/// Replaces everything that training changes by what an exported file holds.
///
/// # Errors
/// When the file is no student, or one of other sizes.
pub fn read_student(path: &Path, student: Student) -> Result<Student> {
    let model = wordsight_onnx::read(path)?;
    let graph = model.graph.as_ref().context("the file has no graph")?;
    let background = wordsight_onnx::metadata(&model, "wordsight.background")
        .with_context(|| format!("{} is not a student: its metadata name no background", path.display()))?;
    let background: Vec<f32> = serde_json::from_str(background)?;
    Weights::of(graph)
        .put_into(student, &background)
        .with_context(|| format!("{} does not hold a student of this size and kind", path.display()))
}

/// The constants of a graph by the names under which nodes use them.
struct Weights<'a> {
    nodes: &'a [NodeProto],
    constants: HashMap<&'a str, &'a TensorProto>,
}

/// A layer's weight and bias as the file has them.
struct Layer {
    shape: Vec<usize>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl<'a> Weights<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        // Stored as FP16, a constant is used under the name of its cast.
        for node in graph.node.iter().filter(|node| node.op_type == "Cast") {
            if let (Some(from), Some(to)) = (node.input.first(), node.output.first())
                && let Some(tensor) = constants.get(from.as_str()).copied()
            {
                constants.insert(to, tensor);
            }
        }
        Self { nodes: &graph.node, constants }
    }

    fn put_into(&self, mut student: Student, background: &[f32]) -> Result<Student> {
        let device = student.device();
        let backbone = &mut student.backbone;
        let blocks = backbone
            .blocks
            .iter_mut()
            .chain(&mut backbone.detail)
            .flat_map(|block| block.expand.iter_mut().chain([&mut block.depthwise, &mut block.project]));
        self.put_convolutions("backbone", [&mut backbone.stem].into_iter().chain(blocks))?;
        self.put_convolutions("neck", in_graph_order(&mut student.neck))?;
        self.put_proposals(&mut student.proposals)?;

        let channels = student.neck.regions.bias.val().dims()[0];
        let [hidden, shifts] = <[Layer; 2]>::try_from(self.products("refiner")?)
            .map_err(|layers| anyhow!("its refiner has {} layers", layers.len()))?;
        set_linear(&mut student.refiner.hidden, &hidden.in_training_order(channels)?)?;
        set_linear(&mut student.refiner.shifts, &shifts)?;

        self.put_regions(&mut student.regions, channels)?;
        ensure!(
            background.len() == student.regions.background.val().dims()[0],
            "its embeddings have {} numbers",
            background.len()
        );
        student.regions.background = Param::from_tensor(Tensor::from_data(background, &device));
        Ok(student)
    }

    /// A region head's layers by their order, for several have one shape. The classifier and what it is applied to never
    /// train: they stay the student's own.
    fn put_regions(&self, regions: &mut RegionHead, channels: usize) -> Result<()> {
        let products = self.products("regions")?;
        let frozen = if regions.mixture.is_some() { 3 } else { 1 };
        let expected =
            frozen + 4 + usize::from(regions.image.is_some()) + usize::from(regions.quality.is_some());
        ensure!(
            products.len() == expected,
            "its region head has {} matrix products, not {expected}: it is of another kind",
            products.len()
        );
        set_linear(&mut regions.hidden, &products[frozen].in_training_order(channels)?)?;
        let others = [&mut regions.from_cells, &mut regions.hidden2, &mut regions.text];
        let others = others.into_iter().chain(&mut regions.image).chain(&mut regions.quality);
        others.zip(&products[frozen + 1..]).try_for_each(|(layer, read)| set_linear(layer, read))
    }

    fn put_convolutions<'l>(
        &self,
        scope: &str,
        layers: impl Iterator<Item = &'l mut Convolution>,
    ) -> Result<()> {
        let read = self.convolutions(scope)?;
        let layers: Vec<&mut Convolution> = layers.collect();
        ensure!(
            read.len() == layers.len(),
            "its {scope} has {} convolutions, not {}",
            read.len(),
            layers.len()
        );
        layers.into_iter().zip(&read).try_for_each(|(layer, read)| set_convolution(layer, read))
    }

    /// A level's tower, and its answers, which the file has as two convolutions.
    fn put_proposals(&self, head: &mut ProposalHead) -> Result<()> {
        let mut read = self.convolutions("proposals")?.into_iter();
        for (tower, answer) in head.towers.iter_mut().zip(&mut head.answers) {
            let layers = tower.iter_mut().flat_map(|layer| [&mut layer.depthwise, &mut layer.pointwise]);
            for layer in layers {
                set_convolution(layer, &read.next().context("its proposal head is incomplete")?)?;
            }
            let (objectness, distances) =
                read.next().zip(read.next()).context("its proposal head is incomplete")?;
            let shape = vec![objectness.shape[0] + distances.shape[0], objectness.shape[1], 1, 1];
            let joined = |a: Vec<f32>, b: Vec<f32>| [a, b].concat();
            let layer = Layer {
                shape,
                weight: joined(objectness.weight, distances.weight),
                bias: joined(objectness.bias, distances.bias),
            };
            set_convolution(answer, &layer)?;
        }
        ensure!(read.next().is_none(), "its proposal head has more convolutions");
        Ok(())
    }

    fn of_scope(&self, scope: &str, operator: &str) -> impl Iterator<Item = &'a NodeProto> {
        let prefix = format!("{scope}/");
        self.nodes.iter().filter(move |node| node.name.starts_with(&prefix) && node.op_type == operator)
    }

    fn convolutions(&self, scope: &str) -> Result<Vec<Layer>> {
        let layers = self.of_scope(scope, "Conv").map(|node| {
            let constant = |place: usize| self.constant(node, place).context("a convolution has no weights");
            let (shape, weight) = constant(1)?;
            Ok(Layer { shape, weight, bias: constant(2)?.1 })
        });
        layers.collect()
    }

    /// Matrix products with a constant and the constants added to them, in their order.
    fn products(&self, scope: &str) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for node in self.of_scope(scope, "MatMul") {
            let Some((shape, weight)) = self.constant(node, 1) else { continue };
            let product = node.output.first().context("a product has no name")?;
            let sum = self.of_scope(scope, "Add").find(|sum| sum.input.first() == Some(product));
            let bias = sum.and_then(|sum| self.constant(sum, 1)).map(|(_, bias)| bias);
            layers.push(Layer { shape, weight, bias: bias.unwrap_or_default() });
        }
        Ok(layers)
    }

    /// Shape and numbers of a node's input, if it is a constant of floats.
    fn constant(&self, node: &NodeProto, place: usize) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.constants.get(node.input.get(place)?.as_str())?;
        let shape = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
        let raw = tensor.raw_data.as_slice();
        let values = match tensor.data_type {
            kind if kind == ElementType::Float as i32 => {
                raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            kind if kind == ElementType::Float16 as i32 => {
                raw.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            _ => return None,
        };
        Some((shape, values))
    }
}

impl Layer {
    /// A layer over pooled regions with its rows in training's order.
    fn in_training_order(&self, channels: usize) -> Result<Self> {
        let outputs = self.shape.last().copied().unwrap_or(0);
        let order = pooled_order(channels);
        ensure!(self.weight.len() == order.len() * outputs, "a layer has the shape {:?}", self.shape);
        let mut weight = vec![0.0; self.weight.len()];
        for (row, &place) in self.weight.chunks_exact(outputs.max(1)).zip(&order) {
            weight[place * outputs..(place + 1) * outputs].copy_from_slice(row);
        }
        Ok(Self { shape: self.shape.clone(), weight, bias: self.bias.clone() })
    }
}

/// A neck's convolutions as the export adds them.
fn in_graph_order(neck: &mut Neck) -> impl Iterator<Item = &mut Convolution> {
    let Neck { lateral, detail, top_down, shrink, bottom_up, regions } = neck;
    let (to_fine, to_middle) = top_down.split_at_mut(1);
    let mut separable = Vec::new();
    for layers in to_middle.iter_mut().chain(to_fine) {
        separable.extend(layers.iter_mut());
    }
    for (shrink, layers) in shrink.iter_mut().zip(bottom_up) {
        separable.push(shrink);
        separable.extend(layers.iter_mut());
    }
    let separable = separable.into_iter().flat_map(|layer| [&mut layer.depthwise, &mut layer.pointwise]);
    lateral.iter_mut().chain(detail).chain(separable).chain([regions])
}

fn set_convolution(layer: &mut Convolution, read: &Layer) -> Result<()> {
    let shape = layer.folded().shape;
    ensure!(read.shape == shape, "a convolution has the shape {:?}, not {shape:?}", read.shape);
    let folded = FoldedConvolution { shape, weight: read.weight.clone(), bias: read.bias.clone() };
    let convolution = layer.convolution;
    let device = layer.weight.val().device();
    *layer = Convolution::pretrained(&folded, convolution.stride, convolution.activation, &device);
    Ok(())
}

fn set_linear(layer: &mut Linear, read: &Layer) -> Result<()> {
    let shape = layer.weight.val().dims();
    ensure!(read.shape == shape && read.bias.len() == shape[1], "a layer has the shape {:?}", read.shape);
    let device = layer.weight.val().device();
    layer.weight =
        Param::from_tensor(Tensor::from_data(TensorData::new(read.weight.clone(), shape), &device));
    layer.bias = Some(Param::from_tensor(Tensor::from_data(read.bias.as_slice(), &device)));
    Ok(())
}
