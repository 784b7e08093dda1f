//! The letterbox in float, from any pixel format: what the GPU's kernel computes, sum by sum.
//!
//! In flows a frame as a camera gives it, out flow the planes of the student's input. Resizing comes before the
//! conversion from YUV, which is linear: a tenth of the pixels are converted, and no RGB frame is ever made.
//!
//! The one surprising thing: [`crate::Preprocessor`] does the same for RGB in whole numbers and faster, and is within
//! two grey levels of this. This one is the kernel's twin: the order of its sums is part of what it promises.

use crate::frame::{FrameView, PixelFormat};
use crate::{Letterbox, PADDING};

/// Which pixels of a side make each pixel of the shorter or longer one, and with what weights: bilinear, the kernel
/// widened by the scale when it shrinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// For each pixel: the first that it is made of, and how many.
    pub spans: Vec<[i32; 2]>,
    /// Their weights, `stride` a pixel; 0 behind the last.
    pub weights: Vec<f32>,
    /// Weights a pixel.
    pub stride: usize,
}

impl Taps {
    /// From a side of `source` pixels to one of `resized`, neither of them 0.
    pub fn new(source: usize, resized: usize) -> Self {
        let scale = source as f64 / resized as f64;
        let reach = scale.max(1.0);
        let last = source.saturating_sub(1);
        let spans: Vec<[usize; 2]> = (0..resized)
            .map(|pixel| {
                let centre = (pixel as f64 + 0.5) * scale;
                let first = ((centre - reach).max(0.0).floor() as usize).min(last);
                let end = ((centre + reach).ceil() as usize).clamp(first + 1, last + 1);
                [first, end - first]
            })
            .collect();
        let stride = spans.iter().map(|span| span[1]).max().unwrap_or(1);
        let mut weights = vec![0.0; stride * resized];
        for (pixel, ([first, count], row)) in spans.iter().zip(weights.chunks_exact_mut(stride)).enumerate() {
            let centre = (pixel as f64 + 0.5) * scale;
            let weight = |tap: usize| (1.0 - ((first + tap) as f64 + 0.5 - centre).abs() / reach).max(0.0);
            let sum: f64 = (0..*count).map(weight).sum();
            row[..*count].iter_mut().enumerate().for_each(|(tap, out)| *out = (weight(tap) / sum) as f32);
        }
        let spans = spans.into_iter().map(|span| span.map(|number| number as i32)).collect();
        Self { spans, weights, stride }
    }

    fn of(&self, pixel: usize) -> (usize, &[f32]) {
        let [first, count] = self.spans[pixel];
        (first as usize, &self.weights[pixel * self.stride..][..count as usize])
    }
}

/// Letterboxes frames of any format; keeps its tables while the frames keep their size.
pub struct Resampler {
    input_size: (usize, usize),
    letterbox: Letterbox,
    columns: Taps,
    rows: Taps,
    /// One channel each of one row of the frame, as wide as it will be.
    along: Vec<[f32; 3]>,
    sums: Vec<[f32; 3]>,
}

impl Resampler {
    /// For a student whose input is `input_width` by `input_height` pixels.
    pub fn new(input_width: usize, input_height: usize) -> Self {
        let input_size = (input_width, input_height);
        let letterbox = Letterbox::new((1, 1), input_size);
        let (columns, rows) = taps(&letterbox);
        Self { input_size, letterbox, columns, rows, along: Vec::new(), sums: Vec::new() }
    }

    /// Letterboxes one frame into `out`, three planes of the input's size, every byte of which is written.
    ///
    /// # Panics
    /// When the frame or `out` has another length than its size says: a mistake in the calling code.
    pub fn run(&mut self, frame: &FrameView<'_>, out: &mut [u8]) -> Letterbox {
        let (input_width, input_height) = self.input_size;
        assert!(frame.is_whole(), "a {:?} frame of {}x{}", frame.format, frame.width, frame.height);
        assert_eq!(out.len(), 3 * input_width * input_height, "the planes of a student's input");
        let letterbox = Letterbox::new((frame.width, frame.height), self.input_size);
        if letterbox != self.letterbox {
            (self.columns, self.rows) = taps(&letterbox);
            self.letterbox = letterbox;
        }
        let (resized_width, resized_height) = letterbox.resized_size();
        let (pad_x, pad_y) = letterbox.pad();
        let factors = (frame.format != PixelFormat::Rgb).then(|| frame.encoding.factors());
        self.along.resize(resized_width, [0.0; 3]);
        out.fill(PADDING);
        for row in 0..resized_height {
            self.sums.clear();
            self.sums.resize(resized_width, [0.0; 3]);
            let (first, weights) = self.rows.of(row);
            for (source_y, weight) in (first..).zip(weights) {
                shrink_row(frame, source_y, &self.columns, &mut self.along);
                for (sum, along) in self.sums.iter_mut().zip(&self.along) {
                    sum.iter_mut().zip(along).for_each(|(sum, along)| *sum += weight * along);
                }
            }
            let start = (row + pad_y) * input_width + pad_x;
            for (x, sum) in self.sums.iter().enumerate() {
                let rgb = factors.map_or(*sum, |factors| factors.rgb(*sum));
                for (channel, value) in rgb.into_iter().enumerate() {
                    // `as` clamps and takes what is behind the point away.
                    out[channel * input_width * input_height + start + x] = (value + 0.5) as u8;
                }
            }
        }
        letterbox
    }
}

fn taps(letterbox: &Letterbox) -> (Taps, Taps) {
    let ((width, height), (resized_width, resized_height)) =
        (letterbox.frame_size(), letterbox.resized_size());
    (Taps::new(width, resized_width), Taps::new(height, resized_height))
}

/// One row of the frame at the width that it will have, its channels as the format has them.
fn shrink_row(frame: &FrameView<'_>, y: usize, columns: &Taps, out: &mut [[f32; 3]]) {
    let FrameView { bytes, width, height, .. } = *frame;
    let pixel = |x: usize| -> [u8; 3] {
        match frame.format {
            PixelFormat::Rgb => {
                let at = 3 * (y * width + x);
                [bytes[at], bytes[at + 1], bytes[at + 2]]
            }
            PixelFormat::Yuyv => {
                let pair = 2 * (y * width + (x & !1));
                [bytes[pair + 2 * (x & 1)], bytes[pair + 1], bytes[pair + 3]]
            }
            PixelFormat::Nv12 => {
                let chroma = width * height + (y / 2) * width + (x & !1);
                [bytes[y * width + x], bytes[chroma], bytes[chroma + 1]]
            }
        }
    };
    for (at, out) in out.iter_mut().enumerate() {
        let (first, weights) = columns.of(at);
        let mut sum = [0.0; 3];
        for (x, weight) in (first..).zip(weights) {
            let pixel = pixel(x);
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * f32::from(value));
        }
        *out = sum;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::{Preprocessor, YuvEncoding};

    /// A frame of soft shapes and some noise.
    fn pixels(width: usize, height: usize, seed: u64) -> Vec<[u8; 3]> {
        let mut random = StdRng::seed_from_u64(seed);
        let wave = |at: usize, length: f32| (at as f32 / length).sin() * 60.0 + 128.0;
        (0..width * height)
            .map(|at| {
                let (x, y) = (at % width, at / width);
                [wave(x, 9.0), wave(y, 5.0), wave(x + y, 13.0)]
                    .map(|value| (value + random.random_range(-20.0..20.0)) as u8)
            })
            .collect()
    }

    fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
        a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    }

    #[test]
    fn rgb_is_within_two_levels_of_the_preprocessor_whichever_way_the_size_goes() {
        for (width, height) in [(64, 48), (31, 57), (300, 11), (5, 4), (1, 1), (416, 416)] {
            let rgb: Vec<u8> = pixels(width, height, 1).concat();
            let (mut ours, mut theirs) = (vec![0; 3 * 96 * 64], vec![0; 3 * 96 * 64]);
            let placed = Resampler::new(96, 64).run(&FrameView::rgb(&rgb, width, height), &mut ours);
            assert_eq!(placed, Preprocessor::new(96, 64).run(&rgb, width, height, &mut theirs));
            assert!(largest_difference(&ours, &theirs) <= 2, "{width}x{height}");
        }
    }

    #[test]
    fn yuv_is_what_its_rgb_would_be() {
        // Colours that RGB has room for, so that no conversion clamps before the mean is taken.
        let (width, height) = (72, 40);
        let yuv: Vec<[u8; 3]> = pixels(width, height, 2)
            .iter()
            .map(|p| [p[0] / 2 + 60, p[1] / 8 + 112, p[2] / 8 + 112])
            .collect();
        let colour = |x: usize, y: usize| yuv[(y & !1) * width + (x & !1)];
        for encoding in [YuvEncoding::Bt601, YuvEncoding::Bt601Full, YuvEncoding::Bt709] {
            for format in [PixelFormat::Yuyv, PixelFormat::Nv12] {
                let shares = |y: usize| if format == PixelFormat::Nv12 { y & !1 } else { y };
                let colour = |x: usize, y: usize| {
                    if format == PixelFormat::Nv12 { colour(x, y) } else { yuv[shares(y) * width + (x & !1)] }
                };
                let mut bytes = Vec::new();
                let mut rgb = Vec::new();
                for y in 0..height {
                    for x in 0..width {
                        let [_, u, v] = colour(x, y);
                        let luma = yuv[y * width + x][0];
                        match format {
                            PixelFormat::Yuyv => bytes.extend([luma, if x % 2 == 0 { u } else { v }]),
                            _ => bytes.push(luma),
                        }
                        let exact = encoding.factors().rgb([luma, u, v].map(f32::from));
                        rgb.extend(exact.map(|value| value.round() as u8));
                    }
                }
                if format == PixelFormat::Nv12 {
                    for y in (0..height).step_by(2) {
                        for x in (0..width).step_by(2) {
                            bytes.extend(&colour(x, y)[1..]);
                        }
                    }
                }
                let (mut found, mut wanted) = (vec![0; 3 * 48 * 48], vec![0; 3 * 48 * 48]);
                let mut resampler = Resampler::new(48, 48);
                resampler.run(&FrameView::rgb(&rgb, width, height), &mut wanted);
                resampler.run(&FrameView { bytes: &bytes, width, height, format, encoding }, &mut found);
                assert!(largest_difference(&found, &wanted) <= 1, "{format:?} {encoding:?}");
            }
        }
    }

    #[test]
    fn weights_of_every_pixel_make_one_and_stay_within_the_side() {
        for (source, resized) in [(1920, 416), (3, 416), (1, 1), (416, 416), (1079, 7)] {
            let taps = Taps::new(source, resized);
            for pixel in 0..resized {
                let (first, weights) = taps.of(pixel);
                assert!(first + weights.len() <= source && !weights.is_empty(), "{source} to {resized}");
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}
