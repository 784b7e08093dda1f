//! EfficientNet-Lite0 with its batch normalisations folded in, as a network that trains.

use anyhow::Result;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use wordsight_distill_kernels::Activation;
use wordsight_standin::efficientnet::{EfficientNetLite, STAGE_STRIDES, Weights};

use super::layer::Layer;

/// From where on the backbone trains; what lies before stays as it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum TrainFrom {
    /// All of it.
    Stem,
    /// From the first block of stride 8.
    #[default]
    Stride8,
    /// From the first block of stride 16.
    Stride16,
    /// From the first block of stride 32.
    Stride32,
    /// None of it.
    Heads,
}

impl TrainFrom {
    /// Input pixels a cell from which on blocks train.
    fn stride(self) -> usize {
        match self {
            Self::Stem => 1,
            Self::Stride8 => 8,
            Self::Stride16 => 16,
            Self::Stride32 => 32,
            Self::Heads => usize::MAX,
        }
    }
}

/// The backbone's blocks that a detail branch has again: of stride 8, and the first stage of stride 16.
const DETAIL_BLOCKS: std::ops::Range<usize> = 3..8;
/// Channels of the detail branch's map of stride 16.
pub const DETAIL_CHANNELS: usize = 80;

/// The backbone.
#[derive(Module, Debug)]
pub struct Backbone {
    /// 3x3, stride 2.
    pub stem: Layer,
    /// Inverted residuals.
    pub blocks: Vec<Block>,
    /// A detail branch (BiSeNet, Yu et al., 2018): the blocks of strides 8 and 16 once more, beside the others, to learn
    /// where things are while the others stay the classifier's; empty in a student without one.
    pub detail: Vec<Block>,
}

/// The neck's inputs.
#[derive(Clone, Debug)]
pub struct Features {
    /// The maps of strides 8, 16 and 32; with a detail branch the first is the branch's.
    pub maps: [Tensor<4>; 3],
    /// The detail branch's map of stride 16.
    pub detail: Option<Tensor<4>>,
}

/// An inverted residual (Sandler et al., 2018).
#[derive(Module, Debug)]
pub struct Block {
    /// To more channels; the first block has none.
    pub expand: Option<Layer>,
    /// A window of each.
    pub depthwise: Layer,
    /// Back to few.
    pub project: Layer,
}

impl Backbone {
    /// ImageNet's weights.
    ///
    /// # Errors
    /// When they belong to another network.
    pub fn pretrained(weights: &Weights, device: &Device) -> Result<Self> {
        let network = EfficientNetLite::LITE0;
        let stem = network.folded(weights, "_conv_stem", "_bn0")?;
        let mut blocks = Vec::new();
        for (&depth, &stage_stride) in network.depths.iter().zip(&STAGE_STRIDES) {
            for depth_in_stage in 0..depth {
                let name = |part: &str| format!("_blocks.{}.{part}", blocks.len());
                let folded = |part: &str, norm: &str| network.folded(weights, &name(part), &name(norm));
                let stride = if depth_in_stage == 0 { stage_stride } else { 1 };
                let expand = if weights.contains_key(&name("_expand_conv.weight")) {
                    let expand = folded("_expand_conv", "_bn0")?;
                    Some(Layer::pretrained(&expand, 1, Activation::Relu6, device))
                } else {
                    None
                };
                let depthwise = folded("_depthwise_conv", "_bn1")?;
                let project = folded("_project_conv", "_bn2")?;
                blocks.push(Block {
                    expand,
                    depthwise: Layer::pretrained(&depthwise, stride, Activation::Relu6, device),
                    project: Layer::pretrained(&project, 1, Activation::None, device),
                });
            }
        }
        let stem = Layer::pretrained(&stem, 2, Activation::Relu6, device);
        Ok(Self { stem, blocks, detail: Vec::new() })
    }

    /// The same backbone with a detail branch that starts as a copy of its blocks.
    #[must_use]
    pub fn with_detail_branch(mut self) -> Self {
        // Copies of a parameter have its identity, by which optimisers and averages know it.
        struct FreshIdentity;
        impl ModuleMapper for FreshIdentity {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                Param::from_tensor(param.val().detach())
            }
        }
        self.detail = self.blocks[DETAIL_BLOCKS].to_vec().map(&mut FreshIdentity);
        self
    }

    /// The neck's inputs for a normalised image `[N, height, width, 3]`.
    pub fn forward(&self, image: Tensor<4>) -> Features {
        self.features(self.strides(image))
    }

    /// The last maps of strides 4, 8, 16 and 32 of a normalised image.
    fn strides(&self, image: Tensor<4>) -> [Tensor<4>; 4] {
        let mut map = self.stem.forward(image);
        let mut strides = [map.clone(), map.clone(), map.clone(), map.clone()];
        for block in &self.blocks {
            if block.depthwise.convolution.stride == 2 {
                strides.rotate_left(1);
            }
            map = block.forward(map);
            strides[3] = map.clone();
        }
        strides
    }

    /// The neck's inputs from the last maps of strides 4, 8, 16 and 32.
    pub fn features(&self, [quarter, fine, middle, coarse]: [Tensor<4>; 4]) -> Features {
        if self.detail.is_empty() {
            return Features { maps: [fine, middle, coarse], detail: None };
        }
        let (fine, detail) = in_turn(&self.detail, quarter);
        Features { maps: [fine, middle, coarse], detail: Some(detail) }
    }

    /// The same backbone, of which only what lies behind `from` trains, and its detail branch.
    #[must_use]
    pub fn trained_from(mut self, from: TrainFrom) -> Self {
        let mut stride = 2;
        if from > TrainFrom::Stem {
            self.stem = self.stem.no_grad();
        }
        self.blocks = self
            .blocks
            .into_iter()
            .map(|block| {
                stride *= block.depthwise.convolution.stride;
                if stride < from.stride() { block.no_grad() } else { block }
            })
            .collect();
        self
    }
}

/// The map of the first stride behind blocks one after another, and the last.
fn in_turn(blocks: &[Block], map: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let (mut first, mut map) = (None, map);
    for (place, block) in blocks.iter().enumerate() {
        if place > 0 && block.depthwise.convolution.stride == 2 {
            first = Some(map.clone());
        }
        map = block.forward(map);
    }
    (first.unwrap_or_else(|| map.clone()), map)
}

impl Block {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let expanded = match &self.expand {
            Some(expand) => expand.forward(input.clone()),
            None => input.clone(),
        };
        let output = self.project.forward(self.depthwise.forward(expanded));
        if output.dims() == input.dims() { output + input } else { output }
    }
}
