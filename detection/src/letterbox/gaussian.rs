//! Resizing of RGB as OWLv2's processor in transformers does it, which is scikit-image's `resize` with `anti_aliasing`: a
//! Gaussian and then two neighbours a side, in the same steps and with the same roundings, so that models see the pixels
//! that they were trained with to the level of a byte.
//!
//! For programs on a processor; a GPU and frames of cameras have the same weights in one pass ([`super::Taps`]).

use super::taps::{Side, gaussian_kernel, mirrored};
use super::{Letterbox, ResizeSettings};

/// Half a level goes up although sums have lost its last digits.
const ROUNDING: f64 = 0.5 + 1.0 / 1024.0;

/// The two samples that each pixel of a side lies between, and their shares.
type Neighbours = Vec<[(usize, f64); 2]>;

/// Resizes frames into planes; keeps its tables while the sizes stay, and its buffers.
#[derive(Default)]
pub(super) struct GaussianResizer {
    /// What the tables are for.
    sides: Option<[Side; 2]>,
    columns: Neighbours,
    rows: Neighbours,
    /// How far a smoothed sample reaches to either side, and with what weights; along x, then y.
    kernels: [(usize, Vec<f64>); 2],
    /// One channel of the frame with its padding, 0 to 1, and the same smoothed down the columns.
    plane: Vec<f32>,
    smoothed: Vec<f32>,
    /// A row with what is mirrored at its ends.
    mirrored_row: Vec<f64>,
    sums: Vec<f64>,
}

impl GaussianResizer {
    /// Writes the frame `rgb` where `letterbox` places it in `out`, planes of the settings' size.
    pub fn run(&mut self, rgb: &[u8], letterbox: &Letterbox, settings: &ResizeSettings, out: &mut [u8]) {
        let sides = [0, 1].map(|axis| Side::of(letterbox, axis));
        self.keep_tables_for(sides);
        let [x, y] = sides;
        let (pad_x, pad_y) = letterbox.pad();
        let (input_width, plane_len) = (settings.input_size.0, out.len() / 3);
        for (channel, out) in out.chunks_exact_mut(plane_len).enumerate() {
            self.take_channel(rgb, channel, sides, half_for_middle(settings.padding[channel]));
            self.smooth_columns(sides);
            self.smooth_rows(x);
            for row in 0..y.pixels {
                let start = (row + pad_y) * input_width + pad_x;
                self.blend_row(x, row, &mut out[start..start + x.pixels]);
            }
        }
    }

    fn keep_tables_for(&mut self, sides: [Side; 2]) {
        if self.sides == Some(sides) {
            return;
        }
        self.sides = Some(sides);
        [self.columns, self.rows] = sides.map(neighbours);
        self.kernels = sides.map(|side| {
            let (radius, kernel) = gaussian_kernel(side.scale);
            (radius as usize, kernel)
        });
    }

    fn take_channel(&mut self, rgb: &[u8], channel: usize, [x, y]: [Side; 2], padding: f32) {
        self.plane.clear();
        self.plane.resize(x.padded * y.padded, padding);
        let rows = self.plane.chunks_exact_mut(x.padded).zip(rgb.chunks_exact(3 * x.samples));
        for (row, pixels) in rows {
            for (value, pixel) in row.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *value = (f64::from(pixel[channel]) * (1.0 / 255.0)) as f32;
            }
        }
    }

    /// From `plane` to `smoothed`.
    fn smooth_columns(&mut self, [x, y]: [Side; 2]) {
        let (radius, kernel) = &self.kernels[1];
        self.smoothed.resize(self.plane.len(), 0.0);
        if *radius == 0 {
            return self.smoothed.copy_from_slice(&self.plane);
        }
        for (row, out) in self.smoothed.chunks_exact_mut(x.padded).enumerate() {
            self.sums.clear();
            self.sums.resize(x.padded, 0.0);
            for (at, weight) in (row as i64 - *radius as i64..).zip(kernel) {
                let samples = &self.plane[mirrored(at, y.padded) * x.padded..][..x.padded];
                self.sums.iter_mut().zip(samples).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
            out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }

    /// From `smoothed` to `plane`.
    fn smooth_rows(&mut self, x: Side) {
        let (radius, kernel) = &self.kernels[0];
        if *radius == 0 {
            return self.plane.copy_from_slice(&self.smoothed);
        }
        let rows = self.plane.chunks_exact_mut(x.padded).zip(self.smoothed.chunks_exact(x.padded));
        for (out, row) in rows {
            let places = -(*radius as i64)..(x.padded + radius) as i64;
            self.mirrored_row.clear();
            self.mirrored_row.extend(places.map(|at| f64::from(row[mirrored(at, x.padded)])));
            self.sums.clear();
            self.sums.resize(x.padded, 0.0);
            for (tap, weight) in kernel.iter().enumerate() {
                let samples = &self.mirrored_row[tap..][..x.padded];
                self.sums.iter_mut().zip(samples).for_each(|(sum, value)| *sum += weight * value);
            }
            out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }

    /// One row of the resized frame, of two neighbours a side.
    fn blend_row(&mut self, x: Side, row: usize, out: &mut [u8]) {
        let [upper, lower] =
            self.rows[row].map(|(place, weight)| (&self.plane[place * x.padded..][..x.padded], weight));
        self.sums.clear();
        let between = upper
            .0
            .iter()
            .zip(lower.0)
            .map(|(above, below)| upper.1 * f64::from(*above) + lower.1 * f64::from(*below));
        self.sums.extend(between);
        for ([(left, left_weight), (right, right_weight)], out) in self.columns.iter().zip(out) {
            let sum = left_weight * self.sums[*left] + right_weight * self.sums[*right];
            *out = (f64::from(sum as f32) * 255.0 + ROUNDING) as u8;
        }
    }
}

fn neighbours(side: Side) -> Neighbours {
    let of = |pixel: usize| {
        let centre = (pixel as f64 + 0.5) * side.scale - 0.5;
        let (left, share) = (centre.floor() as i64, centre - centre.floor());
        [(mirrored(left, side.padded), 1.0 - share), (mirrored(left + 1, side.padded), share)]
    };
    (0..side.pixels).map(of).collect()
}

/// The padding as a share of white. 128 stands for the half of OWLv2's processor, which no byte holds.
fn half_for_middle(level: u8) -> f32 {
    if level == 128 { 0.5 } else { f32::from(level) / 255.0 }
}
