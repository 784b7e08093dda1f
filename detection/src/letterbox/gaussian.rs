//! Resizing of RGB as OWLv2's processor in transformers does it, which is scikit-image's `resize` with `anti_aliasing`: a
//! Gaussian and then two neighbours a side, in the same steps and with the same roundings, so that models see the pixels
//! that they were trained with to the level of a byte.
//!
//! For programs on a processor; a GPU and frames of cameras have the same weights in one pass ([`super::Taps`]).

use super::taps::{Side, gaussian_kernel, mirrored};
use super::{Letterbox, ResizeSettings};

/// Half a level goes up although sums have lost its last digits.
const ROUNDING: f64 = 0.5 + 1.0 / 1024.0;

/// Resizes frames into planes; keeps its buffers.
#[derive(Default)]
pub(super) struct GaussianResizer {
    /// One channel of the frame with its padding, 0 to 1, and the same smoothed down the columns.
    plane: Vec<f32>,
    smoothed: Vec<f32>,
    sums: Vec<f64>,
}

impl GaussianResizer {
    /// Writes the frame `rgb` where `letterbox` places it in `out`, planes of the settings' size.
    pub fn run(&mut self, rgb: &[u8], letterbox: &Letterbox, settings: &ResizeSettings, out: &mut [u8]) {
        let [x, y] = [0, 1].map(|axis| Side::of(letterbox, axis));
        let (pad_x, pad_y) = letterbox.pad();
        let (input_width, plane_len) = (settings.input_size.0, out.len() / 3);
        for (channel, out) in out.chunks_exact_mut(plane_len).enumerate() {
            self.take_channel(rgb, channel, [x, y], half_for_middle(settings.padding[channel]));
            self.smooth_columns([x, y]);
            self.smooth_rows(x);
            for row in 0..y.pixels {
                let start = (row + pad_y) * input_width + pad_x;
                self.blend_row([x, y], row, &mut out[start..start + x.pixels]);
            }
        }
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
        let (radius, kernel) = gaussian_kernel(y.scale);
        self.smoothed.resize(self.plane.len(), 0.0);
        if kernel.len() == 1 {
            return self.smoothed.copy_from_slice(&self.plane);
        }
        for (row, out) in self.smoothed.chunks_exact_mut(x.padded).enumerate() {
            self.sums.clear();
            self.sums.resize(x.padded, 0.0);
            for (at, weight) in (row as i64 - radius..).zip(&kernel) {
                let samples = &self.plane[mirrored(at, y.padded) * x.padded..][..x.padded];
                self.sums.iter_mut().zip(samples).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
            out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }

    /// From `smoothed` to `plane`.
    fn smooth_rows(&mut self, x: Side) {
        let (radius, kernel) = gaussian_kernel(x.scale);
        if kernel.len() == 1 {
            return self.plane.copy_from_slice(&self.smoothed);
        }
        let rows = self.plane.chunks_exact_mut(x.padded).zip(self.smoothed.chunks_exact(x.padded));
        for (out, row) in rows {
            for (at, out) in out.iter_mut().enumerate() {
                let taps = (at as i64 - radius..).zip(&kernel);
                *out = taps.map(|(at, weight)| weight * f64::from(row[mirrored(at, x.padded)])).sum::<f64>()
                    as f32;
            }
        }
    }

    /// One row of the resized frame, of two neighbours a side.
    fn blend_row(&self, [x, y]: [Side; 2], row: usize, out: &mut [u8]) {
        let [upper, lower] = neighbours(y, row);
        for (pixel, out) in out.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (sample_row, row_weight) in [upper, lower] {
                for (sample, weight) in neighbours(x, pixel) {
                    sum += row_weight * weight * f64::from(self.plane[sample_row * x.padded + sample]);
                }
            }
            *out = (f64::from(sum as f32) * 255.0 + ROUNDING) as u8;
        }
    }
}

/// The two samples that a pixel lies between, and their shares.
fn neighbours(side: Side, pixel: usize) -> [(usize, f64); 2] {
    let centre = (pixel as f64 + 0.5) * side.scale - 0.5;
    let (left, share) = (centre.floor() as i64, centre - centre.floor());
    [(mirrored(left, side.padded), 1.0 - share), (mirrored(left + 1, side.padded), share)]
}

/// The padding as a share of white. 128 stands for the half of OWLv2's processor, which no byte holds.
fn half_for_middle(level: u8) -> f32 {
    if level == 128 { 0.5 } else { f32::from(level) / 255.0 }
}
