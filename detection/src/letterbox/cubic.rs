//! Bicubic resizing of RGB in integers, bit for bit the same as Pillow's `Image.resize` with `BICUBIC`.
//!
//! Models that were trained behind Pillow see its bytes here: weights of 22 fractional bits, rows first, rounded to bytes,
//! then columns (Pillow's Resample.c).

use super::Letterbox;
use super::taps::{Side, bicubic};

/// Bits behind the point of a weight.
const PRECISION: u32 = 32 - 8 - 2;

/// What each pixel of a side is made of: the first sample, and weights.
struct Weights(Vec<(usize, Vec<i32>)>);

impl Weights {
    fn new(samples: usize, pixels: usize) -> Self {
        let side = Side::whole(samples, pixels);
        let rounded = |weight: f64| (weight * f64::from(1 << PRECISION)).round() as i32;
        let of = |pixel| {
            let (first, weights) = bicubic(side, pixel);
            (first, weights.into_iter().map(rounded).collect())
        };
        Self((0..pixels).map(of).collect())
    }
}

/// Resizes frames into planes; keeps its tables while the sizes stay.
pub(super) struct CubicResizer {
    sizes: [(usize, usize); 2],
    columns: Weights,
    rows: Weights,
    /// The frame's rows at the resized width: three planes.
    narrowed: [Vec<u8>; 3],
    sums: Vec<i32>,
}

impl CubicResizer {
    pub fn new() -> Self {
        let none = || Weights(Vec::new());
        Self {
            sizes: [(0, 0); 2],
            columns: none(),
            rows: none(),
            narrowed: Default::default(),
            sums: Vec::new(),
        }
    }

    /// Writes the frame `rgb` where `letterbox` places it in `out`, planes that are `input_width` wide.
    pub fn run(&mut self, rgb: &[u8], letterbox: &Letterbox, input_width: usize, out: &mut [u8]) {
        self.keep_tables_for(letterbox);
        let [(width, height), (resized_width, resized_height)] = self.sizes;
        self.narrow(rgb, width);
        let (pad_x, pad_y) = letterbox.pad();
        let plane_len = out.len() / 3;
        for (plane, narrowed) in out.chunks_exact_mut(plane_len).zip(&self.narrowed) {
            for row in 0..resized_height {
                let start = (row + pad_y) * input_width + pad_x;
                let out = &mut plane[start..start + resized_width];
                if height == resized_height {
                    out.copy_from_slice(&narrowed[row * resized_width..][..resized_width]);
                    continue;
                }
                let (first, weights) = &self.rows.0[row];
                self.sums.fill(HALF);
                for (sample, weight) in
                    narrowed[first * resized_width..].chunks_exact(resized_width).zip(weights)
                {
                    for (sum, sample) in self.sums.iter_mut().zip(sample) {
                        *sum += i32::from(*sample) * weight;
                    }
                }
                out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = byte(*sum));
            }
        }
    }

    /// Every row of the frame at the resized width.
    fn narrow(&mut self, rgb: &[u8], width: usize) {
        let resized_width = self.sizes[1].0;
        let [red, green, blue] = &mut self.narrowed;
        for (row, pixels) in rgb.chunks_exact(3 * width).enumerate() {
            let pixels = pixels.as_chunks::<3>().0;
            let planes = [&mut *red, &mut *green, &mut *blue];
            let [red, green, blue] = planes.map(|plane| &mut plane[row * resized_width..][..resized_width]);
            if width == resized_width {
                for (at, [r, g, b]) in pixels.iter().enumerate() {
                    (red[at], green[at], blue[at]) = (*r, *g, *b);
                }
                continue;
            }
            for (at, (first, weights)) in self.columns.0.iter().enumerate() {
                let mut sums = [HALF; 3];
                for (pixel, weight) in pixels[*first..].iter().zip(weights) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += i32::from(*sample) * weight);
                }
                [red[at], green[at], blue[at]] = sums.map(byte);
            }
        }
    }

    fn keep_tables_for(&mut self, letterbox: &Letterbox) {
        let sizes = [letterbox.frame_size(), letterbox.resized_size()];
        if sizes == self.sizes {
            return;
        }
        let [(width, height), (resized_width, resized_height)] = sizes;
        self.sizes = sizes;
        self.columns = Weights::new(width, resized_width);
        self.rows = Weights::new(height, resized_height);
        self.narrowed.iter_mut().for_each(|plane| plane.resize(resized_width * height, 0));
        self.sums.resize(resized_width, 0);
    }
}

const HALF: i32 = 1 << (PRECISION - 1);

fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
