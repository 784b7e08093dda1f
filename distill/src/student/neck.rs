//! The neck and the proposal head: what is where, at three strides.

use burn::module::{Initializer, Module, Param};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use super::layer::{Layer, Separable, pointwise};
use super::{BACKBONE_CHANNELS, LOG_DISTANCE_BOUNDS, STRIDES, StudentConfig};
use crate::kernels::{Activation, ops};

/// An objectness of 1% before training, or the many cells without an object drown the few with one.
const INITIAL_OBJECTNESS_LOGIT: f32 = -4.6;

/// Features of three strides that know of each other: from coarse to fine (Lin et al., 2017), then back (PANet, Liu
/// et al., 2018), each step by separable convolutions.
#[derive(Module, Debug)]
pub struct Neck {
    /// 1x1 convolutions from the backbone's channels to the neck's, level by level.
    pub lateral: Vec<Layer>,
    /// Behind the sums on the way to fine: stride 8, stride 16.
    pub top_down: Vec<Vec<Separable>>,
    /// To the next coarser level: from stride 8, from stride 16.
    pub shrink: Vec<Separable>,
    /// Behind the sums on the way back: stride 16, stride 32.
    pub bottom_up: Vec<Vec<Separable>>,
    /// The finest level as the region head sees it.
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

fn stack(config: &StudentConfig, device: &Device) -> Vec<Separable> {
    (0..config.neck_depth).map(|_| Separable::random(config.neck_channels, 1, device)).collect()
}

impl Neck {
    pub(super) fn random(config: &StudentConfig, device: &Device) -> Self {
        let channels = config.neck_channels;
        let lateral = |from| Layer::random(pointwise(Activation::None), from, channels, device);
        Self {
            lateral: BACKBONE_CHANNELS.map(lateral).to_vec(),
            top_down: vec![stack(config, device), stack(config, device)],
            shrink: (0..2).map(|_| Separable::random(channels, 2, device)).collect(),
            bottom_up: vec![stack(config, device), stack(config, device)],
            regions: Layer::random(pointwise(Activation::Relu), channels, config.region_channels, device),
        }
    }

    /// The maps of the three levels, and the finest as the region head sees it.
    pub fn forward(&self, features: &[Tensor<4>; 3]) -> ([Tensor<4>; 3], Tensor<4>) {
        let lateral: [Tensor<4>; 3] =
            std::array::from_fn(|level| self.lateral[level].forward(features[level].clone()));
        let [fine, middle, coarse] = lateral;
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

    /// Objectness and box of every cell.
    pub fn forward(&self, config: &StudentConfig, maps: &[Tensor<4>; 3]) -> DenseProposals {
        let answers: Vec<Tensor<3>> = maps
            .iter()
            .zip(self.towers.iter().zip(&self.answers))
            .map(|(map, (tower, answer))| {
                let answer = answer.forward(in_turn(tower, map.clone()));
                let [images, rows, columns, numbers] = answer.dims();
                answer.reshape([images, rows * columns, numbers])
            })
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
    /// The best `count` proposals of every image: objectness `[N, count]`, descending, and boxes
    /// clipped to the input, `[N, count, 4]`.
    ///
    /// Only cells that are the best of their 3x3 neighbourhood keep their objectness (CenterNet's
    /// stand-in for suppression, Zhou et al., 2019): without it the first hundred would all lie on
    /// one object. The others follow behind with an objectness of 0.
    pub fn best(&self, config: &StudentConfig) -> (Tensor<2>, Tensor<3>) {
        let objectness = burn::tensor::activation::sigmoid(self.logits.clone());
        let [images, _] = objectness.dims();
        let mut start = 0;
        let peaks = config.grids().map(|grid| {
            let level = objectness.clone().slice([0..images, start..start + grid * grid]);
            start += grid * grid;
            let map = level.clone().reshape([images, 1, grid, grid]);
            let options = MaxPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
            let highest = max_pool2d(map, options).reshape([images, grid * grid]);
            level.clone().mask_fill(level.lower(highest), 0.0)
        });
        let (objectness, order) = Tensor::cat(peaks.to_vec(), 1).topk_with_indices(config.proposals, 1);
        let order = order.reshape([images, config.proposals, 1]).repeat_dim(2, 4);
        let boxes = self.boxes_in_input.clone().gather(1, order).clamp(0.0, config.input_size as f32);
        (objectness, boxes)
    }

    /// The same without gradients.
    pub fn inner(&self) -> Self {
        Self { logits: self.logits.clone().inner(), boxes_in_input: self.boxes_in_input.clone().inner() }
    }
}
