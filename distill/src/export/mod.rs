//! Export: a trained student becomes the one file that a device needs.
//!
//! Flows in: a [`Student`], the backbone's weights and the facts of the scoring. Flows out: an ONNX
//! graph from uint8 frames to boxes and embeddings, with those facts in its metadata.
//!
//! The surprising thing: there is no RoiAlign, no NonMaxSuppression and no plugin in it. Regions are
//! pooled by matrix products whose weights the graph computes from the boxes (`pooling`), and
//! neighbours are suppressed by a 3x3 maximum, so TensorRT compiles the file as it is.

mod pooling;
mod reading;

use std::path::Path;

use anyhow::{Context, Result};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde::Serialize;
use wordsight_detection::TextWeights;
use wordsight_engines::{CpuEngine, Engine, Regions};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Attribute, Graph, Storage, Value};
use wordsight_teacher::efficientnet::Weights;

use crate::features::{FeatureExtractor, add_backbone};
use crate::student::roi::Pooling;
use crate::student::{Head, LOG_DISTANCE_BOUNDS, NORM_EPSILON, Student, StudentConfig};
pub use reading::read_student;

/// What scoring must know of a student besides its graph.
#[derive(Clone, Debug)]
pub struct ScoringFacts {
    /// The teacher whose embedding space the student answers in.
    pub teacher: String,
    /// Softmax temperature of the cosine scores.
    pub temperature: f32,
    /// Weights of the text head; see [`text_weights`].
    pub text_weights: TextWeights,
    /// Weight of the objectness in a detection's score.
    pub objectness_weight: f32,
    /// A summary of the training, for the model card.
    pub training: serde_json::Value,
}

/// How the two embeddings of a kind of head are weighed: ViLD-ensemble's by `lambda` (arXiv 2104.13921,
/// section 3.4). A head with one embedding has it in both places: with the background's logit where it
/// learned one, without where it followed the teacher alone.
pub fn text_weights(head: Head, lambda: f32) -> TextWeights {
    match head {
        Head::VildEnsemble => TextWeights { trained: 1.0 - lambda, others: lambda },
        Head::VildImage => TextWeights { trained: 0.0, others: 0.0 },
        Head::Supervised | Head::VildText | Head::Vild => TextWeights { trained: 1.0, others: 1.0 },
    }
}

/// The student as an ONNX model, weights stored in FP16; round them first ([`Student::rounded_to_f16`])
/// for a file that equals the model.
pub fn student_model(
    student: &Student,
    config: &StudentConfig,
    backbone: &Weights,
    facts: &ScoringFacts,
) -> Result<ModelProto> {
    // The backbone that training saw was stored in FP16 too, see `features`.
    let mut graph = Graph::new("wordsight_student", Storage::F16);
    let (side, count, size) =
        (config.input_size as i64, config.proposals as i64, config.embedding_size as i64);
    let image = graph.input("image", ElementType::Uint8, &[1, 3, side, side]);
    graph.scope("backbone");
    let features = add_backbone(&mut graph, backbone, config, &image)?.map(|stage| stage.value);
    graph.scope("pyramid");
    let maps = add_pyramid(&mut graph, student, &features);
    graph.scope("proposals");
    let (objectness, boxes) = add_proposals(&mut graph, student, config, &maps);
    graph.scope("pooling");
    let shares = pooling::Shares::add(&mut graph, config, &boxes);
    let pooled = shares.pool(&mut graph, config, &maps[0]);
    graph.scope("refiner");
    let boxes = add_refiner(&mut graph, student, config, &pooled, &boxes);
    graph.scope("regions");
    let (text, image) = add_regions(&mut graph, student, config, &features[2], &pooled, &shares);

    graph.output(&boxes, "boxes", ElementType::Float, &[count, 4]);
    graph.output(&objectness, "objectness", ElementType::Float, &[count]);
    graph.output(&text, "text_embeddings", ElementType::Float, &[count, size]);
    graph.output(&image, "image_embeddings", ElementType::Float, &[count, size]);
    let background: Vec<f32> = student.regions.background().into_data().iter().collect();
    Ok(graph.into_model(&[
        ("wordsight.format", "1".to_owned()),
        ("wordsight.teacher", facts.teacher.clone()),
        ("wordsight.temperature", facts.temperature.to_string()),
        ("wordsight.background", serde_json::to_string(&background)?),
        ("wordsight.ensemble_lambda", facts.text_weights.others.to_string()),
        ("wordsight.trained_text_weight", facts.text_weights.trained.to_string()),
        ("wordsight.objectness_weight", facts.objectness_weight.to_string()),
        ("wordsight.training", facts.training.to_string()),
    ]))
}

fn add_pyramid(graph: &mut Graph, student: &Student, features: &[Value; 3]) -> [Value; 3] {
    let pyramid = &student.pyramid;
    let lateral: Vec<Value> =
        pyramid.lateral.iter().zip(features).map(|(layer, map)| convolution(graph, layer, map)).collect();
    let coarse = lateral[2].clone();
    let enlarged = enlarge(graph, &coarse);
    let middle = graph.add(&lateral[1], &enlarged);
    let enlarged = enlarge(graph, &middle);
    let fine = graph.add(&lateral[0], &enlarged);
    let sums = [fine, middle, coarse];
    std::array::from_fn(|level| {
        let smooth = convolution(graph, &pyramid.smooth[level], &sums[level]);
        graph.node("Relu", &[&smooth], &[])
    })
}

/// Doubles a map by repeating its cells.
fn enlarge(graph: &mut Graph, map: &Value) -> Value {
    let (no_region, scales) =
        (graph.exact_floats(&[0], &[]), graph.exact_floats(&[4], &[1.0, 1.0, 2.0, 2.0]));
    let attributes = [
        ("mode", Attribute::Text("nearest")),
        ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
        ("nearest_mode", Attribute::Text("floor")),
    ];
    graph.node("Resize", &[map, &no_region, &scales], &attributes)
}

/// The best proposals: objectness `[K]`, descending, and boxes in input pixels `[K,4]`.
fn add_proposals(
    graph: &mut Graph,
    student: &Student,
    config: &StudentConfig,
    maps: &[Value; 3],
) -> (Value, Value) {
    let head = &student.proposals;
    let scales = numbers(head.scales.val());
    let (mut peaks, mut logarithms) = (Vec::new(), Vec::new());
    for ((map, grid), scale) in maps.iter().zip(config.grids()).zip(scales) {
        let cells = (grid * grid) as i64;
        let hidden = convolution(graph, &head.tower, map);
        let hidden = graph.node("Relu", &[&hidden], &[]);
        let logits = convolution(graph, &head.objectness, &hidden);
        let objectness = graph.node("Sigmoid", &[&logits], &[]);
        let peak = keep_peaks(graph, &objectness);
        peaks.push(graph.reshape(&peak, &[1, cells]));
        let raw = convolution(graph, &head.distances, &hidden);
        let scale = graph.scalar(scale);
        let raw = graph.mul(&raw, &scale);
        let raw = graph.reshape(&raw, &[4, cells]);
        logarithms.push(graph.transpose(&raw, &[1, 0]));
    }
    let peaks = graph.concat(&peaks.iter().collect::<Vec<_>>(), 1);
    let boxes = add_boxes(graph, config, &logarithms);

    let count = graph.ints(&[config.proposals as i64]);
    let [objectness, order] =
        graph.node_with_outputs("TopK", &[&peaks, &count], &[("axis", Attribute::Int(1))]);
    let order = graph.reshape(&order, &[-1]);
    let boxes = graph.node("Gather", &[&boxes, &order], &[("axis", Attribute::Int(0))]);
    let boxes = graph.clip(&boxes, 0.0, config.input_size as f32);
    (graph.reshape(&objectness, &[-1]), boxes)
}

/// Boxes of all cells in input pixels, `[cells,4]`, from the logarithms of their distances.
fn add_boxes(graph: &mut Graph, config: &StudentConfig, logarithms: &[Value]) -> Value {
    let logarithms = graph.concat(&logarithms.iter().collect::<Vec<_>>(), 0);
    let logarithms = graph.clip(&logarithms, LOG_DISTANCE_BOUNDS.0, LOG_DISTANCE_BOUNDS.1);
    let distances = graph.node("Exp", &[&logarithms], &[]);
    let centres = config.centres_in_input();
    let reach: Vec<f32> =
        config.strides_of_cells().into_iter().flat_map(|stride| [-stride, -stride, stride, stride]).collect();
    let reach = graph.exact_floats(&[centres.len(), 4], &reach);
    let corners: Vec<f32> = centres.iter().flat_map(|&[x, y]| [x, y, x, y]).collect();
    let corners = graph.exact_floats(&[centres.len(), 4], &corners);
    let offsets = graph.mul(&distances, &reach);
    graph.add(&offsets, &corners)
}

/// Zero wherever a neighbour in the 3x3 cells around is higher.
fn keep_peaks(graph: &mut Graph, objectness: &Value) -> Value {
    let highest = graph.node(
        "MaxPool",
        &[objectness],
        &[
            ("kernel_shape", Attribute::Ints(&[3, 3])),
            ("pads", Attribute::Ints(&[1, 1, 1, 1])),
            ("strides", Attribute::Ints(&[1, 1])),
        ],
    );
    let lower = graph.node("Less", &[objectness, &highest], &[]);
    let zero = graph.scalar(0.0);
    graph.node("Where", &[&lower, &zero, objectness], &[])
}

/// The boxes `[K,4]` with their sides moved.
fn add_refiner(
    graph: &mut Graph,
    student: &Student,
    config: &StudentConfig,
    pooled: &Value,
    boxes: &Value,
) -> Value {
    let hidden = linear(graph, &student.refiner.hidden, pooled);
    let hidden = graph.node("Relu", &[&hidden], &[]);
    let shifts = linear(graph, &student.refiner.shifts, &hidden);
    let halves = graph.ints(&[2, 2]);
    let [from, to] = graph.node_with_outputs("Split", &[boxes, &halves], &[("axis", Attribute::Int(1))]);
    let size = graph.sub(&to, &from);
    let sizes = graph.concat(&[&size, &size], 1);
    let moves = graph.mul(&shifts, &sizes);
    let moved = graph.add(boxes, &moves);
    graph.clip(&moved, 0.0, config.input_size as f32)
}

/// Text and image embeddings of the regions, each `[K,D]`.
fn add_regions(
    graph: &mut Graph,
    student: &Student,
    config: &StudentConfig,
    coarse: &Value,
    pooled: &Value,
    shares: &pooling::Shares,
) -> (Value, Value) {
    let head = &student.regions;
    let grid = config.grids()[2] as i64;
    let cells = graph.reshape(coarse, &[-1, grid * grid]);
    let cells = graph.transpose(&cells, &[1, 0]);
    let cells = linear(graph, &head.cells, &cells);
    let cells = graph.clip(&cells, 0.0, 6.0);
    let features = graph.matmul(&shares.coarse, &cells);
    let known = head.mixture.as_ref().map(|mixture| {
        let logits = linear(graph, &mixture.classifier, &features);
        let classes = graph.softmax(&logits, -1);
        let table = mixture.embeddings.val();
        let shape = table.dims();
        let table = graph.floats(&shape, &numbers(table));
        graph.matmul(&classes, &table)
    });

    let from_pyramid = linear(graph, &head.hidden, pooled);
    let from_cells = linear(graph, &head.from_cells, &features);
    let hidden = graph.add(&from_pyramid, &from_cells);
    let hidden = graph.node("Relu", &[&hidden], &[]);
    let hidden = linear(graph, &head.hidden2, &hidden);
    let hidden = graph.node("Relu", &[&hidden], &[]);
    let mut embed = |layer: &Linear| {
        let answer = linear(graph, layer, &hidden);
        let embedding = match &known {
            Some(known) => graph.add(known, &answer),
            None => answer,
        };
        graph.l2_normalise(&embedding, NORM_EPSILON)
    };
    let text = embed(&head.text);
    let image = head.image.as_ref().map_or_else(|| text.clone(), &mut embed);
    (text, image)
}

fn convolution(graph: &mut Graph, layer: &Conv2d, input: &Value) -> Value {
    let weight = layer.weight.val();
    let [outputs, inputs, rows, columns] = weight.dims();
    let weight = graph.floats(&[outputs, inputs, rows, columns], &numbers(weight));
    let bias = layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| numbers(bias.val()));
    let bias = graph.floats(&[outputs], &bias);
    let (down, across) = ((rows / 2) as i64, (columns / 2) as i64);
    graph.node(
        "Conv",
        &[input, &weight, &bias],
        &[
            ("kernel_shape", Attribute::Ints(&[rows as i64, columns as i64])),
            ("pads", Attribute::Ints(&[down, across, down, across])),
        ],
    )
}

fn linear(graph: &mut Graph, layer: &Linear, input: &Value) -> Value {
    let weight = layer.weight.val();
    let [inputs, outputs] = weight.dims();
    let weight = graph.floats(&[inputs, outputs], &numbers(weight));
    let bias = layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| numbers(bias.val()));
    let bias = graph.floats(&[outputs], &bias);
    graph.linear(input, &weight, &bias)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// How far an exported file's answers are from the trained model's: the largest differences over some
/// pictures.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Parity {
    /// Pictures compared.
    pub pictures: usize,
    /// Share of exported proposals that the model does not have: where two cells' objectness is the
    /// same to the last digit, which of them is the peak, or the last of the best K, is a matter of
    /// rounding.
    pub swapped: f32,
    /// Of a box's side, in shares of the input's side.
    pub boxes: f32,
    /// Of an objectness.
    pub objectness: f32,
    /// Of an element of a text embedding.
    pub text: f32,
    /// Of an element of an image embedding.
    pub image: f32,
}

impl Parity {
    /// Takes in the regions of one picture, as the file and as the model has them; `swapped` counts until
    /// the end.
    fn add(&mut self, config: &StudentConfig, exported: &Regions, model: &Regions) {
        let (side, size) = (config.input_size as f32, config.embedding_size);
        // Where there are fewer than K peaks, cells with an objectness of 0 follow, in no order.
        let proposals = exported.boxes_in_input.iter().zip(&exported.objectness).enumerate();
        for (region, (exported_box, objectness)) in
            proposals.filter(|(_, (_, objectness))| **objectness > 0.0)
        {
            let apart = |model_box: &[f32; 4]| largest_difference(model_box, exported_box) / side;
            // Of boxes at one place, as clipping makes them, the one that is as likely.
            let unlike = |place: usize| (objectness - model.objectness[place]).abs();
            let there =
                model.boxes_in_input.iter().map(apart).enumerate().filter(|(_, apart)| *apart <= SAME_BOX);
            let Some((place, apart)) = there.min_by(|a, b| unlike(a.0).total_cmp(&unlike(b.0))) else {
                self.swapped += 1.0;
                continue;
            };
            let embedding = |of: &[f32], place: usize| of[place * size..(place + 1) * size].to_vec();
            let between = |exported: &[f32], model: &[f32]| {
                largest_difference(&embedding(exported, region), &embedding(model, place))
            };
            self.boxes = self.boxes.max(apart);
            self.objectness = self.objectness.max(unlike(place));
            self.text = self.text.max(between(&exported.text_embeddings, &model.text_embeddings));
            self.image = self.image.max(between(&exported.image_embeddings, &model.image_embeddings));
        }
    }

    /// The largest of all differences.
    pub fn worst(&self) -> f32 {
        self.boxes.max(self.objectness).max(self.text).max(self.image)
    }
}

/// Differences up to this, in shares of the input's side, are rounding and not another box.
const SAME_BOX: f32 = 1e-3;

/// Compares an exported file with the trained model on pictures: each exported region with the model's
/// at the same place.
pub fn compare(
    student: &Student,
    config: &StudentConfig,
    backbone: &Weights,
    exported: &Path,
    pictures: &[RgbImage],
) -> Result<Parity> {
    let device = Device::flex();
    let mut extractor = FeatureExtractor::new(backbone, config)?;
    let mut engine = CpuEngine::open(exported, 1)?;
    let mut regions = Regions::default();
    let mut parity = Parity { pictures: pictures.len(), ..Parity::default() };
    for picture in pictures {
        let mut maps = extractor.extract(picture)?;
        engine.infer(extractor.input(), &mut regions).context("the exported student does not run")?;
        let features: [Tensor<4>; 3] = std::array::from_fn(|level| {
            let map = std::mem::take(&mut maps[level]);
            Tensor::from_data(TensorData::new(map, config.map_shape(level, 1)), &device)
        });
        let (pyramid, dense) = student.propose(config, &features);
        let [proposals, refined] = student.refined(config, &pyramid[0], &dense);
        let pooling = Pooling::new(config, &proposals, &device);
        let embeddings = student.regions.forward(&features[2], &pyramid[0], &pooling);
        let model = Regions {
            boxes_in_input: refined.concat(),
            objectness: numbers(dense.best(config).0),
            text_embeddings: numbers(embeddings.text),
            image_embeddings: numbers(embeddings.image),
            ranked: None,
        };
        parity.add(config, &regions, &model);
    }
    parity.swapped /= (pictures.len() * config.proposals).max(1) as f32;
    Ok(parity)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
