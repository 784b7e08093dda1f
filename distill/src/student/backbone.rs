//! EfficientNet-Lite0 with its batch normalisations folded in, as a network that trains.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use wordsight_teacher::efficientnet::{EfficientNetLite, STAGE_STRIDES, Weights};

use super::layer::Layer;
use crate::kernels::Activation;

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

/// The backbone.
#[derive(Module, Debug)]
pub struct Backbone {
    /// 3x3, stride 2.
    pub stem: Layer,
    /// Inverted residuals.
    pub blocks: Vec<Block>,
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
        Ok(Self { stem: Layer::pretrained(&stem, 2, Activation::Relu6, device), blocks })
    }

    /// The maps of strides 8, 16 and 32 of a normalised image `[N, height, width, 3]`.
    pub fn forward(&self, image: Tensor<4>) -> [Tensor<4>; 3] {
        let mut map = self.stem.forward(image);
        let mut last_of_stride: Vec<Tensor<4>> = Vec::new();
        for block in &self.blocks {
            if block.depthwise.convolution.stride == 2 {
                last_of_stride.push(map.clone());
            }
            map = block.forward(map);
        }
        // Before the strides 4, 8, 16 and 32 stand those of 2, 4, 8 and 16.
        let (middle, fine) = (last_of_stride.pop(), last_of_stride.pop());
        let or_last = |map: Option<Tensor<4>>, last: &Tensor<4>| map.unwrap_or_else(|| last.clone());
        [or_last(fine, &map), or_last(middle, &map), map]
    }

    /// The same backbone, of which only what lies behind `from` trains.
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
