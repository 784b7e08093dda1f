//! Where RoIAlign (He et al., 2017) reads a map: bilinear, half-pixel coordinates, the average of two points a bin and
//! axis, as ONNX's RoiAlign with a sampling ratio of 2.

/// Bins a side of a pooled region.
pub const BINS: usize = 7;
/// Sampling points a bin and axis.
pub const SAMPLES: usize = 2;

/// Weights of one axis: `[BINS, cells]`, each row summing to 1 for a box inside the map.
pub fn bin_weights(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
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

/// Where a side is sampled, in cells, limited to the map as RoiAlign limits it. A side is at least
/// one cell long only in old versions of RoIAlign; here, as with half-pixel coordinates, it is not.
pub(crate) fn sampling_points(from: f32, to: f32, stride: usize, cells: usize) -> Vec<f32> {
    let (from, to) = (from / stride as f32 - 0.5, to / stride as f32 - 0.5);
    let step = (to - from) / (BINS * SAMPLES) as f32;
    (0..BINS * SAMPLES)
        .map(|sample| (from + step * (sample as f32 + 0.5)).clamp(0.0, (cells - 1) as f32))
        .collect()
}
