//! RoI pooling as matrix products.
//!
//! Bilinear RoIAlign (He et al., 2017) is separable:
//! `out[k,c,i,j] = sum_y sum_x Wy[k,i,y] F[c,y,x] Wx[k,j,x]`, where row i of `Wy` is the mean, over a
//! bin's sampling points p, of the bilinear weights `relu(1 - |y - p|)`. So it equals ONNX's RoiAlign
//! (half-pixel coordinates, average, sampling ratio 2), is differentiable in any framework and exports
//! to plain MatMul.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use wordsight_distill_kernels::ops::{self, Boxes};
use wordsight_distill_kernels::{BINS, SAMPLES, bin_weights};

use super::{Box4, STRIDES, StudentConfig};

/// The regions of N images, as many in each.
#[derive(Clone, Debug)]
pub struct Pooling {
    boxes_in_input: Boxes,
    images: usize,
    /// Cells a side of the coarse map.
    coarse: usize,
}

impl Pooling {
    /// From boxes in input pixels: `boxes_in_input[n][k]`, as many for every image.
    pub fn new(config: &StudentConfig, boxes_in_input: &[Vec<Box4>]) -> Self {
        let boxes: Vec<Box4> = boxes_in_input.concat();
        Self { boxes_in_input: Arc::new(boxes), images: boxes_in_input.len(), coarse: config.grids()[2] }
    }

    /// Pools a map of stride 8, `[N, h, w, C]`, into `[N, regions, BINS * BINS * C]`: bin row, bin column, channel.
    pub fn pool(&self, map: &Tensor<4>) -> Tensor<3> {
        let channels = map.dims()[3];
        let regions = self.boxes_in_input.len() / self.images.max(1);
        ops::pooled(map.clone(), Arc::clone(&self.boxes_in_input), STRIDES[0]).reshape([
            self.images,
            regions,
            BINS * BINS * channels,
        ])
    }

    /// How much of each cell of a map of stride 32 each region is, `[N, regions, h * w]`; a region's sum to 1.
    pub fn shares_of_coarse(&self, map: &Tensor<4>) -> Tensor<3> {
        let cells = self.coarse;
        let mut shares = Vec::with_capacity(self.boxes_in_input.len() * cells * cells);
        for &[x1, y1, x2, y2] in self.boxes_in_input.iter() {
            let across = mean_weights(x1, x2, STRIDES[2], cells);
            let down = mean_weights(y1, y2, STRIDES[2], cells);
            shares.extend(down.iter().flat_map(|y| across.iter().map(move |x| x * y)));
        }
        let regions = self.boxes_in_input.len() / self.images.max(1);
        Tensor::from_data(TensorData::new(shares, [self.images, regions, cells * cells]), &map.device())
    }
}

/// The mean of [`bin_weights`] over the bins: `[cells]`.
fn mean_weights(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
    let by_bin = bin_weights(from, to, stride, cells);
    (0..cells)
        .map(|cell| (0..BINS).map(|bin| by_bin[bin * cells + cell]).sum::<f32>() / BINS as f32)
        .collect()
}

/// Centres of the sampling points along a side of length 1, for the graph that computes the weights.
pub fn sample_offsets() -> Vec<f32> {
    (0..BINS * SAMPLES).map(|sample| (sample as f32 + 0.5) / (BINS * SAMPLES) as f32).collect()
}
