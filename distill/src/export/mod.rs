//! Exports a trained student to the one file that a device needs.
//!
//! Takes a [`Student`], the backbone's weights and the facts of the scoring. Returns an ONNX graph from uint8 frames
//! to boxes and embeddings, with those facts in its metadata.
//!
//! The graph has no RoiAlign, no NonMaxSuppression and no plugin. Regions are pooled by matrix products whose weights
//! the graph computes from the boxes (`pooling`), and overlapping boxes are suppressed by matrix products too
//! (`suppression`): TensorRT compiles the file as it is.

mod pooling;
mod reading;
mod suppression;

use std::path::Path;

use anyhow::{Context, Result};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use serde::Serialize;
use wordsight_detection::TextWeights;
use wordsight_distill_kernels::{Activation, BINS};
use wordsight_engines::{CpuEngine, Engine, Regions};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Attribute, Graph, Storage, Value};
use wordsight_standin::efficientnet::{EfficientNetLite, FoldedConvolution, Stage, convolve};

use crate::input::InputMaker;
use crate::student::backbone::{Backbone, Block};
use crate::student::layer::{Layer, Separable};
use crate::student::roi::Pooling;
use crate::student::{Head, LOG_DISTANCE_BOUNDS, NORM_EPSILON, Student, StudentConfig};
pub use reading::{read_sizes, read_student};

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

/// How the two embeddings of a kind of head are weighed: ViLD-ensemble's as told (arXiv 2104.13921, section 3.4, has one
/// lambda for both kinds of words). A head with one embedding has it in both places: with the background's logit where it
/// learned one, without where it followed the teacher alone.
pub fn text_weights(head: Head, ensemble: TextWeights) -> TextWeights {
    match head {
        Head::VildEnsemble => ensemble,
        Head::VildImage => TextWeights { trained: 0.0, others: 0.0 },
        Head::Supervised | Head::VildText | Head::Vild => TextWeights { trained: 1.0, others: 1.0 },
    }
}

/// The student as an ONNX model, weights stored in FP16; round them first ([`Student::rounded_to_f16`])
/// for a file that equals the model.
pub fn student_model(student: &Student, config: &StudentConfig, facts: &ScoringFacts) -> Result<ModelProto> {
    let mut graph = Graph::new("wordsight_student", Storage::F16);
    let (side, count, size) =
        (config.input_size as i64, config.proposals as i64, config.embedding_size as i64);
    let image = graph.input("image", ElementType::Uint8, &[1, 3, side, side]);
    graph.scope("backbone");
    let [quarter, fine, middle, coarse] =
        add_backbone(&mut graph, &student.backbone, config.input_size, &image)?;
    let (fine, detail) = add_detail_branch(&mut graph, &student.backbone, &quarter, fine);
    let features = [fine, middle, coarse];
    graph.scope("neck");
    let (maps, fine) = add_neck(&mut graph, student, &features, detail.as_ref());
    graph.scope("proposals");
    let (objectness, boxes) = add_proposals(&mut graph, student, config, &maps);
    graph.scope("pooling");
    let shares = pooling::Shares::add(&mut graph, config, &boxes);
    let pooled = shares.pool(&mut graph, config, &fine);
    graph.scope("refiner");
    let boxes = add_refiner(&mut graph, student, config, &pooled, &boxes);
    graph.scope("regions");
    let regions = add_regions(&mut graph, student, config, &features[2].value, &pooled, &shares);
    graph.scope("order");
    let (objectness, [boxes, text, image]) = add_order(&mut graph, config, objectness, boxes, regions);

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
        ("wordsight.sizes", serde_json::to_string(config)?),
        ("wordsight.training", facts.training.to_string()),
    ]))
}

/// The backbone alone, in FP32: uint8 `[1,S,S,3]` to the last maps of strides 4, 8, 16 and 32, channels last.
///
/// # Errors
/// When it has too few strides.
pub fn backbone_model(backbone: &Backbone, side: usize) -> Result<ModelProto> {
    let mut graph = Graph::new("backbone", Storage::F32);
    let image = graph.input("image", ElementType::Uint8, &[1, side as i64, side as i64, 3]);
    let image = graph.transpose(&image, &[0, 3, 1, 2]);
    for stage in add_backbone(&mut graph, backbone, side, &image)? {
        let map = graph.transpose(&stage.value, &[0, 2, 3, 1]);
        let shape = [1, stage.height as i64, stage.width as i64, stage.channels as i64];
        graph.output(&map, &format!("stride{}", stage.stride), ElementType::Float, &shape);
    }
    Ok(graph.into_model(&[]))
}

/// The image's normalisation and the backbone; the last maps of strides 4, 8, 16 and 32. `image`: uint8 `[1,3,S,S]`.
fn add_backbone(graph: &mut Graph, backbone: &Backbone, side: usize, image: &Value) -> Result<[Stage; 4]> {
    let floats = graph.cast(image, ElementType::Float);
    let value = EfficientNetLite::add_normalisation(graph, &floats);
    let image = Stage { value, channels: 3, stride: 1, height: side, width: side };
    let mut map = add_layer(graph, &backbone.stem, &image);
    let mut last_of_stride = Vec::new();
    for block in &backbone.blocks {
        if block.depthwise.convolution.stride == 2 {
            last_of_stride.push(map.clone());
        }
        map = add_block(graph, block, &map);
    }
    match last_of_stride.as_slice() {
        [.., quarter, fine, middle] => Ok([quarter.clone(), fine.clone(), middle.clone(), map]),
        _ => anyhow::bail!("the backbone has too few strides"),
    }
}

/// The neck's input of stride 8, and the detail branch's of stride 16.
fn add_detail_branch(
    graph: &mut Graph,
    backbone: &Backbone,
    quarter: &Stage,
    fine: Stage,
) -> (Stage, Option<Stage>) {
    if backbone.detail.is_empty() {
        return (fine, None);
    }
    let (mut detail_fine, mut detail) = (fine, quarter.clone());
    for (place, block) in backbone.detail.iter().enumerate() {
        if place > 0 && block.depthwise.convolution.stride == 2 {
            detail_fine = detail.clone();
        }
        detail = add_block(graph, block, &detail);
    }
    (detail_fine, Some(detail))
}

fn add_block(graph: &mut Graph, block: &Block, input: &Stage) -> Stage {
    let expanded = match &block.expand {
        Some(expand) => add_layer(graph, expand, input),
        None => input.clone(),
    };
    let filtered = add_layer(graph, &block.depthwise, &expanded);
    let mut output = add_layer(graph, &block.project, &filtered);
    if (output.channels, output.stride) == (input.channels, input.stride) {
        output.value = graph.add(&output.value, &input.value);
    }
    output
}

/// The neck's maps, and the finest one for the region head.
fn add_neck(
    graph: &mut Graph,
    student: &Student,
    features: &[Stage; 3],
    detail: Option<&Stage>,
) -> ([Stage; 3], Value) {
    let neck = &student.neck;
    let [fine, mut middle, coarse]: [Stage; 3] =
        std::array::from_fn(|level| add_layer(graph, &neck.lateral[level], &features[level]));
    if let Some((layer, map)) = neck.detail.as_ref().zip(detail) {
        let detail = add_layer(graph, layer, map);
        middle.value = graph.add(&middle.value, &detail.value);
    }
    let add = |graph: &mut Graph, to: &Stage, value: &Value| Stage {
        value: graph.add(&to.value, value),
        ..to.clone()
    };
    let enlarged = enlarge(graph, &coarse.value);
    let middle = add(graph, &middle, &enlarged);
    let middle = add_in_turn(graph, &neck.top_down[1], &middle);
    let enlarged = enlarge(graph, &middle.value);
    let fine = add(graph, &fine, &enlarged);
    let fine = add_in_turn(graph, &neck.top_down[0], &fine);
    let shrunk = add_separable(graph, &neck.shrink[0], &fine);
    let middle = add(graph, &middle, &shrunk.value);
    let middle = add_in_turn(graph, &neck.bottom_up[0], &middle);
    let shrunk = add_separable(graph, &neck.shrink[1], &middle);
    let coarse = add(graph, &coarse, &shrunk.value);
    let coarse = add_in_turn(graph, &neck.bottom_up[1], &coarse);
    let regions = add_layer(graph, &neck.regions, &fine).value;
    ([fine, middle, coarse], regions)
}

fn add_layer(graph: &mut Graph, layer: &Layer, input: &Stage) -> Stage {
    let mut output = convolve(graph, input, &layer.folded(), layer.convolution.stride);
    output.value = match layer.convolution.activation {
        Activation::None => output.value,
        Activation::Relu => graph.node("Relu", &[&output.value], &[]),
        Activation::Relu6 => graph.clip(&output.value, 0.0, 6.0),
    };
    output
}

fn add_separable(graph: &mut Graph, layer: &Separable, input: &Stage) -> Stage {
    layer.layers().into_iter().fold(input.clone(), |map, layer| add_layer(graph, layer, &map))
}

fn add_in_turn(graph: &mut Graph, layers: &[Separable], input: &Stage) -> Stage {
    layers.iter().fold(input.clone(), |map, layer| add_separable(graph, layer, &map))
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

/// The best proposals: objectness `[K]` and boxes in input pixels `[K,4]`.
fn add_proposals(
    graph: &mut Graph,
    student: &Student,
    config: &StudentConfig,
    maps: &[Stage; 3],
) -> (Value, Value) {
    let head = &student.proposals;
    let (mut objectness, mut logarithms) = (Vec::new(), Vec::new());
    for (level, grid) in config.grids().into_iter().enumerate() {
        let cells = (grid * grid) as i64;
        let hidden = add_in_turn(graph, &head.towers[level], &maps[level]);
        let [to_objectness, to_distances] = split_outputs(&head.answers[level].folded(), 1);
        let logits = convolve(graph, &hidden, &to_objectness, 1).value;
        let level = graph.node("Sigmoid", &[&logits], &[]);
        objectness.push(graph.reshape(&level, &[1, cells]));
        let raw = convolve(graph, &hidden, &to_distances, 1).value;
        let raw = graph.reshape(&raw, &[4, cells]);
        logarithms.push(graph.transpose(&raw, &[1, 0]));
    }
    let objectness = graph.concat(&objectness.iter().collect::<Vec<_>>(), 1);
    let boxes = add_boxes(graph, config, &logarithms);
    suppression::add(graph, config, &objectness, &boxes)
}

/// A convolution as two: its first `count` outputs, and the others.
fn split_outputs(convolution: &FoldedConvolution, count: usize) -> [FoldedConvolution; 2] {
    let [outputs, inputs, rows, columns] = convolution.shape;
    let of_output = inputs * rows * columns;
    [0..count, count..outputs].map(|range| FoldedConvolution {
        shape: [range.len(), inputs, rows, columns],
        weight: convolution.weight[range.start * of_output..range.end * of_output].to_vec(),
        bias: convolution.bias[range].to_vec(),
    })
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

/// The boxes `[K,4]` with their sides moved.
fn add_refiner(
    graph: &mut Graph,
    student: &Student,
    config: &StudentConfig,
    pooled: &Value,
    boxes: &Value,
) -> Value {
    let hidden = linear_of_pooled(graph, &student.refiner.hidden, config, pooled);
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
) -> RegionValues {
    let head = &student.regions;
    let grid = config.grids()[2] as i64;
    let cells = graph.reshape(coarse, &[-1, grid * grid]);
    let cells = graph.transpose(&cells, &[1, 0]);
    let layer = head.cells.folded();
    let [outputs, inputs, ..] = layer.shape;
    let weight = graph.floats(&[inputs, outputs], &numbers(head.cells.weight.val()));
    let bias = graph.floats(&[outputs], &layer.bias);
    let cells = graph.linear(&cells, &weight, &bias);
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

    let from_map = linear_of_pooled(graph, &head.hidden, config, pooled);
    let from_cells = linear(graph, &head.from_cells, &features);
    let hidden = graph.add(&from_map, &from_cells);
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
    let quality = head.quality.as_ref().map(|layer| linear(graph, layer, &hidden));
    RegionValues { text, image, quality }
}

/// What the region head answers, in the proposals' order.
struct RegionValues {
    /// `[K,D]`.
    text: Value,
    /// `[K,D]`.
    image: Value,
    /// Logits, `[K,1]`.
    quality: Option<Value>,
}

/// The regions' objectness `[K]`, descending, and their boxes and embeddings in its order.
fn add_order(
    graph: &mut Graph,
    config: &StudentConfig,
    of_cells: Value,
    boxes: Value,
    regions: RegionValues,
) -> (Value, [Value; 3]) {
    let count = config.proposals as i64;
    let objectness = match &regions.quality {
        Some(logits) => {
            let quality = graph.node("Sigmoid", &[logits], &[]);
            let quality = graph.reshape(&quality, &[count]);
            let product = graph.mul(&of_cells, &quality);
            graph.node("Sqrt", &[&product], &[])
        }
        None => of_cells,
    };
    let count = graph.ints(&[count]);
    let [objectness, order] =
        graph.node_with_outputs("TopK", &[&objectness, &count], &[("axis", Attribute::Int(0))]);
    let values = [boxes, regions.text, regions.image];
    (objectness, values.map(|value| suppression::in_order(graph, &value, &order)))
}

/// A layer over pooled regions: in training they lie as bin row, bin column, channel, in the graph as bin row,
/// channel, bin column.
fn linear_of_pooled(graph: &mut Graph, layer: &Linear, config: &StudentConfig, input: &Value) -> Value {
    let [inputs, outputs] = layer.weight.val().dims();
    let rows = numbers(layer.weight.val());
    let order = pooled_order(config.region_channels);
    let weight: Vec<f32> =
        order.iter().flat_map(|&row| rows[row * outputs..(row + 1) * outputs].iter().copied()).collect();
    let weight = graph.floats(&[inputs, outputs], &weight);
    let bias = layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| numbers(bias.val()));
    let bias = graph.floats(&[outputs], &bias);
    graph.linear(input, &weight, &bias)
}

/// For each of the graph's numbers of a pooled region, its place among training's.
fn pooled_order(channels: usize) -> Vec<usize> {
    (0..BINS * channels * BINS)
        .map(|place| {
            let (j, channel, i) = (place % BINS, place / BINS % channels, place / (BINS * channels));
            (i * BINS + j) * channels + channel
        })
        .collect()
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
    /// same to the last digit, which of them stands, or is the last of the best K, is a matter of
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
        let proposals = exported.boxes_in_input.iter().zip(&exported.objectness).enumerate();
        for (region, (exported_box, objectness)) in proposals {
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
    exported: &Path,
    pictures: &[RgbImage],
) -> Result<Parity> {
    let device = Device::flex();
    let mut input = InputMaker::new(config.input_size);
    let mut engine = CpuEngine::open(exported, 1)?;
    let mut regions = Regions::default();
    let mut parity = Parity { pictures: pictures.len(), ..Parity::default() };
    for picture in pictures {
        engine.infer(input.planes(picture), &mut regions).context("the exported student does not run")?;
        let (region_maps, dense) = student.propose(config, input.tensor(picture, &device));
        let [proposals, refined] = student.refined(config, &region_maps, &dense);
        let embeddings = student.regions.forward(&region_maps, &Pooling::new(config, &proposals));
        let model = Regions {
            boxes_in_input: refined.concat(),
            objectness: numbers(embeddings.objectness(dense.best(config).0)),
            text_embeddings: numbers(embeddings.text),
            image_embeddings: numbers(embeddings.image),
            ..Regions::default()
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
