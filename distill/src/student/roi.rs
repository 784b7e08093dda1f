//! RoI pooling as matrix products.
//!
//! Bilinear RoIAlign (He et al., 2017) is separable:
//! `out[k,c,i,j] = sum_y sum_x Wy[k,i,y] F[c,y,x] Wx[k,j,x]`, where row i of `Wy` is the mean, over a
//! bin's sampling points p, of the bilinear weights `relu(1 - |y - p|)`. So it equals ONNX's RoiAlign
//! (half-pixel coordinates, average, sampling ratio 2), is differentiable in any framework and exports
//! to plain MatMul.

use burn::tensor::{Device, Tensor, TensorData};

use super::{STRIDES, StudentConfig};

/// Bins a side of a pooled region.
pub const BINS: usize = 7;
/// Sampling points a bin and axis.
pub const SAMPLES: usize = 2;

/// Which cells each region covers and how much, for N images of `regions` regions each.
#[derive(Clone, Debug)]
pub struct Pooling {
    /// Rows of the fine map, `[N, regions * BINS, height]`.
    rows: Tensor<3>,
    /// Columns of the fine map, `[N, regions, width, BINS]`.
    columns: Tensor<4>,
    /// Share of each cell of the coarse map, `[N, regions, height * width]`; sums to 1.
    pub coarse: Tensor<3>,
}

impl Pooling {
    /// From boxes in input pixels: `boxes_in_input[n][k]`, as many for every image.
    pub fn new(config: &StudentConfig, boxes_in_input: &[Vec<[f32; 4]>], device: &Device) -> Self {
        let [fine, _, coarse] = config.grids();
        let images = boxes_in_input.len();
        let regions = boxes_in_input.first().map_or(0, Vec::len);
        let (mut rows, mut columns, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for &[x1, y1, x2, y2] in boxes_in_input.iter().flatten() {
            rows.extend(bin_weights(y1, y2, STRIDES[0], fine));
            let by_bin = bin_weights(x1, x2, STRIDES[0], fine);
            columns.extend(
                (0..fine)
                    .flat_map(|x| (0..BINS).map(move |bin| (bin, x)))
                    .map(|(bin, x)| by_bin[bin * fine + x]),
            );
            let across = mean_weights(x1, x2, STRIDES[2], coarse);
            let down = mean_weights(y1, y2, STRIDES[2], coarse);
            shares.extend(down.iter().flat_map(|y| across.iter().map(move |x| x * y)));
        }
        Self {
            rows: Tensor::from_data(TensorData::new(rows, [images, regions * BINS, fine]), device),
            columns: Tensor::from_data(TensorData::new(columns, [images, regions, fine, BINS]), device),
            coarse: Tensor::from_data(TensorData::new(shares, [images, regions, coarse * coarse]), device),
        }
    }

    /// Pools a fine map `[N,C,h,w]` into `[N, regions, BINS * C * BINS]`: bin row, channel, bin column.
    pub fn pool(&self, map: &Tensor<4>) -> Tensor<3> {
        let [images, channels, height, width] = map.dims();
        let regions = self.columns.dims()[1];
        let by_row = map.clone().swap_dims(1, 2).reshape([images, height, channels * width]);
        let rows = self.rows.clone().matmul(by_row).reshape([images, regions, BINS * channels, width]);
        rows.matmul(self.columns.clone()).reshape([images, regions, BINS * channels * BINS])
    }
}

/// Weights of one axis: `[BINS, cells]`, each row summing to 1 for a box inside the map.
fn bin_weights(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
    let points = sampling_points(from, to, stride, cells);
    points
        .chunks_exact(SAMPLES)
        .flat_map(|bin| {
            (0..cells).map(move |cell| {
                bin.iter().map(|point| (1.0 - (cell as f32 - point).abs()).max(0.0)).sum::<f32>()
                    / SAMPLES as f32
            })
        })
        .collect()
}

/// The mean of [`bin_weights`] over the bins: `[cells]`.
fn mean_weights(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
    let by_bin = bin_weights(from, to, stride, cells);
    (0..cells)
        .map(|cell| (0..BINS).map(|bin| by_bin[bin * cells + cell]).sum::<f32>() / BINS as f32)
        .collect()
}

/// Where a side is sampled, in cells, limited to the map as RoiAlign limits it. A side is at least
/// one cell long only in old versions of RoIAlign; here, as with half-pixel coordinates, it is not.
fn sampling_points(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
    let (from, to) = (from / stride as f32 - 0.5, to / stride as f32 - 0.5);
    let step = (to - from) / (BINS * SAMPLES) as f32;
    (0..BINS * SAMPLES)
        .map(|sample| (from + step * (sample as f32 + 0.5)).clamp(0.0, (cells - 1) as f32))
        .collect()
}

/// Centres of the sampling points along a side of length 1, for the graph that computes the weights.
pub fn sample_offsets() -> Vec<f32> {
    (0..BINS * SAMPLES).map(|sample| (sample as f32 + 0.5) / (BINS * SAMPLES) as f32).collect()
}
