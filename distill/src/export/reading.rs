//! An exported student becomes a model again, to be trained on.
//!
//! Flows in: a file that [`super::student_model`] wrote and a student of the same sizes. Flows out: that
//! student with the file's weights. Checkpoints are large and stay where they were made; the shipped file
//! is what everybody has.
//!
//! The surprising thing: weights have no names in the file. They are found as what the convolutions and
//! matrix products of each part multiply by, in the order in which the export wrote them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, TensorData};
use half::f16;
use wordsight_onnx::proto::{ElementType, GraphProto, NodeProto, TensorProto};

use crate::student::Student;

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
        let levels = student.pyramid.lateral.len();
        let pyramid = self.convolutions("pyramid")?;
        ensure!(pyramid.len() == 2 * levels, "its pyramid has {} convolutions", pyramid.len());
        let (lateral, smooth) = pyramid.split_at(levels);
        let layers = student.pyramid.lateral.iter_mut().chain(&mut student.pyramid.smooth);
        for (layer, read) in layers.zip(lateral.iter().chain(smooth)) {
            set_convolution(layer, read)?;
        }

        // Every level repeats the head's convolutions.
        let head = self.convolutions("proposals")?;
        let [tower, objectness, distances, ..] = head.as_slice() else {
            bail!("its proposal head is incomplete");
        };
        set_convolution(&mut student.proposals.tower, tower)?;
        set_convolution(&mut student.proposals.objectness, objectness)?;
        set_convolution(&mut student.proposals.distances, distances)?;
        let scales: Vec<f32> =
            self.of_scope("proposals", "Mul").filter_map(|node| self.scalar(node)).take(levels).collect();
        ensure!(scales.len() == levels, "its proposal head has {} scales", scales.len());
        let device = student.proposals.scales.val().device();
        student.proposals.scales = Param::from_tensor(Tensor::from_data(scales.as_slice(), &device));

        // The first students had no refiner: theirs moves nothing.
        if let [hidden, shifts] = self.products("refiner")?.as_slice() {
            set_linear(&mut student.refiner.hidden, hidden)?;
            set_linear(&mut student.refiner.shifts, shifts)?;
        }

        let regions = &mut student.regions;
        let products = self.products("regions")?;
        let of_shape = |layer: &Linear, place: usize| {
            let shape = layer.weight.val().dims();
            products.iter().filter(|product| product.shape == shape).nth(place)
        };
        if let Some(mixture) = &regions.mixture {
            of_shape(&mixture.classifier, 0).context("its region head starts from no classifier")?;
        }
        let own = [(&mut regions.hidden, 0), (&mut regions.hidden2, 0), (&mut regions.text, 0)];
        for (layer, place) in own.into_iter().chain(regions.image.as_mut().map(|image| (image, 1))) {
            let read = of_shape(layer, place).context("its region head has other layers")?;
            set_linear(layer, read)?;
        }
        // The first students had no such layer: as if it were zero.
        let [inputs, outputs] = regions.from_cells.weight.val().dims();
        let none = || Layer {
            shape: vec![inputs, outputs],
            weight: vec![0.0; inputs * outputs],
            bias: vec![0.0; outputs],
        };
        match of_shape(&regions.from_cells, 0) {
            Some(read) => set_linear(&mut regions.from_cells, read)?,
            None => set_linear(&mut regions.from_cells, &none())?,
        }
        ensure!(
            background.len() == regions.background.val().dims()[0],
            "its embeddings have {} numbers",
            background.len()
        );
        regions.background = Param::from_tensor(Tensor::from_data(background, &device));
        Ok(student)
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

    fn scalar(&self, node: &NodeProto) -> Option<f32> {
        let (shape, values) = self.constant(node, 1)?;
        if shape.is_empty() { values.first().copied() } else { None }
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

fn set_convolution(layer: &mut Conv2d, read: &Layer) -> Result<()> {
    let shape = layer.weight.val().dims();
    ensure!(read.shape == shape, "a convolution has the shape {:?}, not {shape:?}", read.shape);
    let device = layer.weight.val().device();
    layer.weight =
        Param::from_tensor(Tensor::from_data(TensorData::new(read.weight.clone(), shape), &device));
    layer.bias = Some(Param::from_tensor(Tensor::from_data(read.bias.as_slice(), &device)));
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
