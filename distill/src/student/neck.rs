//! The neck and the proposal head: an objectness and a box for each cell, at three strides.

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use wordsight_distill_kernels::{Activation, ops};

use super::backbone::{DETAIL_CHANNELS, Features};
use super::layer::{Layer, Separable, pointwise};
use super::{BACKBONE_CHANNELS, LOG_DISTANCE_BOUNDS, STRIDES, StudentConfig, corner_boxes, suppression};

/// An objectness of 1% before training, or the many cells without an object drown the few with one.
const INITIAL_OBJECTNESS_LOGIT: f32 = -4.6;

/// Features of three strides that know of each other: from coarse to fine (Lin et al., 2017), then back (PANet, Liu
/// et al., 2018), each step by separable convolutions.
#[derive(Module, Debug)]
pub struct Neck {
    /// 1x1 convolutions from the backbone's channels to the neck's, level by level.
    pub lateral: Vec<Layer>,
    /// The same from the detail branch's map of stride 16, where there is one.
    pub detail: Option<Layer>,
    /// Behind the sums on the way to fine: stride 8, stride 16.
    pub top_down: Vec<Vec<Separable>>,
    /// To the next coarser level: from stride 8, from stride 16.
    pub shrink: Vec<Separable>,
    /// Behind the sums on the way back: stride 16, stride 32.
    pub bottom_up: Vec<Vec<Separable>>,
    /// The finest level for the region head.
    pub regions: Layer,
}

/// Objectness and box of every cell; a tower a level.
#[derive(Module, Debug)]
pub struct ProposalHead {
    /// Before both answers, level by level.
    pub towers: Vec<Vec<Separable>>,
    /// To an objectness logit and the logarithms of four distances in strides (left, top, right, bottom), level by
    /// level.
    pub answers: Vec<Layer>,
}

/// What the proposal head says of every cell.
#[derive(Clone, Debug)]
pub struct DenseProposals {
    /// Objectness logits, `[N, cells]`.
    pub logits: Tensor<2>,
    /// `x1, y1, x2, y2` in input pixels, not clipped, `[N, cells, 4]`.
    pub boxes_in_input: Tensor<3>,
}

/// Layers one after another.
pub fn in_turn(layers: &[Separable], map: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(map, |map, layer| layer.forward(map))
}

/// A map's cells, row by row: `[N, cells, channels]`.
pub fn cells_of(map: Tensor<4>) -> Tensor<3> {
    let [images, rows, columns, channels] = map.dims();
    map.reshape([images, rows * columns, channels])
}

fn stack(config: &StudentConfig, device: &Device) -> Vec<Separable> {
    (0..config.neck_depth).map(|_| Separable::random(config.neck_channels, 1, device)).collect()
}

impl Neck {
    pub(super) fn random(config: &StudentConfig, device: &Device) -> Self {
        let channels = config.neck_channels;
        let lateral = |from| Layer::random(pointwise(Activation::None), from, channels, device);
        Self {
            lateral: BACKBONE_CHANNELS.map(lateral).to_vec(),
            detail: config.detail_branch.then(|| lateral(DETAIL_CHANNELS)),
            top_down: vec![stack(config, device), stack(config, device)],
            shrink: (0..2).map(|_| Separable::random(channels, 2, device)).collect(),
            bottom_up: vec![stack(config, device), stack(config, device)],
            regions: Layer::random(pointwise(Activation::Relu), channels, config.region_channels, device),
        }
    }

    /// The same neck with a 1x1 convolution from a detail branch, which adds nothing before training.
    #[must_use]
    pub(super) fn with_detail_branch(mut self) -> Self {
        let [_, channels] = self.lateral[1].weight.val().dims();
        let device = self.lateral[1].weight.val().device();
        let mut layer = Layer::random(pointwise(Activation::None), DETAIL_CHANNELS, channels, &device);
        layer.weight = Initializer::Zeros.init([DETAIL_CHANNELS, channels], &device);
        self.detail = Some(layer);
        self
    }

    /// The maps of the three levels, and the finest one for the region head.
    pub fn forward(&self, features: &Features) -> ([Tensor<4>; 3], Tensor<4>) {
        let lateral: [Tensor<4>; 3] =
            std::array::from_fn(|level| self.lateral[level].forward(features.maps[level].clone()));
        let [fine, mut middle, coarse] = lateral;
        if let Some((layer, map)) = self.detail.as_ref().zip(features.detail.clone()) {
            middle = middle + layer.forward(map);
        }
        let middle = in_turn(&self.top_down[1], middle + ops::enlarged(coarse.clone()));
        let fine = in_turn(&self.top_down[0], fine + ops::enlarged(middle.clone()));
        let middle = in_turn(&self.bottom_up[0], middle + self.shrink[0].forward(fine.clone()));
        let coarse = in_turn(&self.bottom_up[1], coarse + self.shrink[1].forward(middle.clone()));
        let regions = self.regions.forward(fine.clone());
        ([fine, middle, coarse], regions)
    }
}

impl ProposalHead {
    pub(super) fn random(config: &StudentConfig, device: &Device) -> Self {
        let tower = |_| (0..config.tower_depth).map(|_| Separable::random(config.neck_channels, 1, device));
        // Small at first, so that every cell starts from its bias.
        let small = Initializer::Normal { mean: 0.0, std: 0.01 };
        let answer = |_| Layer {
            weight: small.init([config.neck_channels, 5], device),
            bias: Param::from_tensor(Tensor::from_data(
                [INITIAL_OBJECTNESS_LOGIT, 0.7, 0.7, 0.7, 0.7],
                device,
            )),
            convolution: pointwise(Activation::None),
        };
        Self {
            towers: STRIDES.map(|stride| tower(stride).collect()).to_vec(),
            answers: STRIDES.map(answer).to_vec(),
        }
    }

    /// What the towers make of the neck's maps.
    pub fn towers(&self, maps: &[Tensor<4>; 3]) -> [Tensor<4>; 3] {
        std::array::from_fn(|level| in_turn(&self.towers[level], maps[level].clone()))
    }

    /// Objectness and box of every cell; `maps`: the towers'.
    pub fn answers(&self, config: &StudentConfig, maps: &[Tensor<4>; 3]) -> DenseProposals {
        let answers: Vec<Tensor<3>> = maps
            .iter()
            .zip(&self.answers)
            .map(|(map, answer)| cells_of(answer.forward(map.clone())))
            .collect();
        let answers = Tensor::cat(answers, 1);
        let [images, cells, _] = answers.dims();
        let logits = answers.clone().slice([0..images, 0..cells, 0..1]).flatten::<2>(1, 2);
        let logarithms =
            answers.slice([0..images, 0..cells, 1..5]).clamp(LOG_DISTANCE_BOUNDS.0, LOG_DISTANCE_BOUNDS.1);
        let device = logarithms.device();
        let strides = config.strides_of_cells();
        let strides = Tensor::<1>::from_data(strides.as_slice(), &device).reshape([1, -1, 1]);
        // Distances point outwards: left and top are subtracted from the centre, right and bottom added.
        let signs = Tensor::<1>::from_data([-1.0, -1.0, 1.0, 1.0], &device).reshape([1, 1, 4]);
        let centres: Vec<f32> =
            config.centres_in_input().into_iter().flat_map(|[x, y]| [x, y, x, y]).collect();
        let centres = Tensor::<1>::from_data(centres.as_slice(), &device).reshape([1, -1, 4]);
        DenseProposals { logits, boxes_in_input: logarithms.exp() * strides * signs + centres }
    }
}

impl DenseProposals {
    /// The best proposals of every image, [`suppression`] says which: objectness `[N, proposals]` and boxes clipped to the
    /// input, `[N, proposals, 4]`. Without gradients.
    pub fn best(&self, config: &StudentConfig) -> (Tensor<2>, Tensor<3>) {
        let device = self.logits.device().inner();
        let objectness = sigmoid(self.logits.clone());
        let [images, cells] = objectness.dims();
        let objectness: Vec<f32> = objectness.into_data().iter().collect();
        let boxes = self.boxes_in_input.clone().clamp(0.0, config.input_size as f32);
        let boxes = corner_boxes(boxes.flatten(0, 1));
        let (mut best_objectness, mut best_boxes) = (Vec::new(), Vec::new());
        for (objectness, boxes) in objectness.chunks_exact(cells).zip(boxes.chunks_exact(cells)) {
            for cell in suppression::best(objectness, boxes, config.proposals) {
                best_objectness.push(objectness[cell]);
                best_boxes.extend(boxes[cell]);
            }
        }
        let objectness = TensorData::new(best_objectness, [images, config.proposals]);
        let boxes = TensorData::new(best_boxes, [images, config.proposals, 4]);
        (Tensor::from_data(objectness, &device), Tensor::from_data(boxes, &device))
    }
}
