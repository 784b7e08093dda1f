//! The refiner: moves the sides of boxes by what is pooled from them (Fast R-CNN's regression, Girshick, 2015;
//! class-agnostic as in ViLD).

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use wordsight_distill_kernels::BINS;

use super::{Box4, StudentConfig};

/// Width of its hidden layer.
const WIDTH: usize = 128;

/// Moves the sides of boxes by what lies in them.
#[derive(Module, Debug)]
pub struct Refiner {
    /// From the pooled map to a hidden layer.
    pub hidden: Linear,
    /// To the four sides' shifts in shares of the box's width and height; zero before training.
    pub shifts: Linear,
}

impl Refiner {
    pub(super) fn new(config: &StudentConfig, device: &Device) -> Self {
        let pooled = config.region_channels * BINS * BINS;
        Self {
            hidden: LinearConfig::new(pooled, WIDTH).init(device),
            shifts: LinearConfig::new(WIDTH, 4).with_initializer(Initializer::Zeros).init(device),
        }
    }

    /// `boxes_in_input[n][k]` refined and clipped to the input, `[N, K, 4]`; `pooled`: the map pooled
    /// under them.
    pub fn forward(
        &self,
        config: &StudentConfig,
        pooled: &Tensor<3>,
        boxes_in_input: &[Vec<Box4>],
    ) -> Tensor<3> {
        let [images, regions, _] = pooled.dims();
        let device = pooled.device();
        let rows = |of: &dyn Fn(&Box4) -> Box4| {
            let values: Vec<f32> = boxes_in_input.iter().flatten().flat_map(of).collect();
            Tensor::<3>::from_data(TensorData::new(values, [images, regions, 4]), &device)
        };
        let (boxes, sizes) =
            (rows(&|side| *side), rows(&|[x1, y1, x2, y2]| [x2 - x1, y2 - y1, x2 - x1, y2 - y1]));
        let shifts = self.shifts.forward(relu(self.hidden.forward(pooled.clone())));
        (boxes + shifts * sizes).clamp(0.0, config.input_size as f32)
    }
}
