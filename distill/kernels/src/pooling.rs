//! RoIAlign (He et al., 2017) by its sampling points: half-pixel coordinates, average, two points a bin and axis. The
//! results equal those of `student::roi`'s matrix products, which an exported graph computes.

use rayon::prelude::*;

use super::bins::{BINS, SAMPLES, sampling_points};
use super::convolution::Size;
use super::unwritten;

/// Cells that one bin of one axis reads, and how much of each.
type Taps = [(usize, f32); 2 * SAMPLES];

/// Which cells a region's bins read, axis by axis.
struct Region {
    rows: [Taps; BINS],
    columns: [Taps; BINS],
}

impl Region {
    fn new([x1, y1, x2, y2]: [f32; 4], size: Size, stride: usize) -> Self {
        Self { rows: taps(y1, y2, stride, size.height), columns: taps(x1, x2, stride, size.width) }
    }

    /// Calls `each` with a bin's place among all, a cell's place in the image and its weight.
    #[inline(always)]
    fn for_each(&self, width: usize, mut each: impl FnMut(usize, usize, f32)) {
        for (i, rows) in self.rows.iter().enumerate() {
            for (j, columns) in self.columns.iter().enumerate() {
                for &(y, down) in rows {
                    for &(x, across) in columns {
                        if down * across != 0.0 {
                            each(i * BINS + j, y * width + x, down * across);
                        }
                    }
                }
            }
        }
    }
}

fn taps(from: f32, to: f32, stride: usize, cells: usize) -> [Taps; BINS] {
    let points = sampling_points(from, to, stride, cells);
    std::array::from_fn(|bin| {
        std::array::from_fn(|tap| {
            let point = points[bin * SAMPLES + tap / 2];
            let (cell, beyond) = (point.floor(), point - point.floor());
            let share = 1.0 / SAMPLES as f32;
            if tap % 2 == 0 {
                (cell as usize, (1.0 - beyond) * share)
            } else {
                ((cell as usize + 1).min(cells - 1), beyond * share)
            }
        })
    })
}

#[inline(always)]
fn add_weighted(to: &mut [f32], from: &[f32], weight: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}

vectorised! {
    /// Adds an image's cells to a region's bins.
    fn pool(region: &Region, size: Size, map: &[f32], out: &mut [f32]) {
        let channels = size.channels;
        region.for_each(size.width, |bin, cell, weight| {
            let from = &map[cell * channels..(cell + 1) * channels];
            add_weighted(&mut out[bin * channels..(bin + 1) * channels], from, weight);
        });
    }
}

vectorised! {
    /// Adds the gradients of a region's bins to an image's cells.
    fn spread(region: &Region, size: Size, gradient: &[f32], out: &mut [f32]) {
        let channels = size.channels;
        region.for_each(size.width, |bin, cell, weight| {
            let from = &gradient[bin * channels..(bin + 1) * channels];
            add_weighted(&mut out[cell * channels..(cell + 1) * channels], from, weight);
        });
    }
}

/// Pools regions, `[images * regions, BINS, BINS, channels]`; `boxes_in_input`: as many for every image, one after
/// another.
pub fn forward(map: &[f32], size: Size, boxes_in_input: &[[f32; 4]], stride: usize) -> Vec<f32> {
    let channels = size.channels;
    let regions = (boxes_in_input.len() / size.images.max(1)).max(1);
    let of_image = size.len() / size.images.max(1);
    let mut out = unwritten(boxes_in_input.len() * BINS * BINS * channels);
    out.par_chunks_mut(BINS * BINS * channels).zip(boxes_in_input).enumerate().for_each(
        |(place, (out, &box_in_input))| {
            let map = &map[place / regions * of_image..][..of_image];
            out.fill(0.0);
            let region = Region::new(box_in_input, size, stride);
            pool(&region, size, map, out);
        },
    );
    out
}

/// The gradient of the map, of these sizes, from the pooled regions'.
pub fn backward(gradient: &[f32], size: Size, boxes_in_input: &[[f32; 4]], stride: usize) -> Vec<f32> {
    let channels = size.channels;
    let regions = (boxes_in_input.len() / size.images.max(1)).max(1);
    let (of_image, pooled) = (size.len() / size.images.max(1), BINS * BINS * channels);
    let mut out = vec![0.0; size.len()];
    out.par_chunks_mut(of_image).enumerate().for_each(|(image, out)| {
        for region in image * regions..(image + 1) * regions {
            let gradient = &gradient[region * pooled..(region + 1) * pooled];
            let region = Region::new(boxes_in_input[region], size, stride);
            spread(&region, size, gradient, out);
        }
    });
    out
}
