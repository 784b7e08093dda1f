//! Which samples of a side make each pixel of the resized side, and with what weights, for each [`ResizeFilter`].

use super::{Letterbox, ResizeFilter};

/// Which samples of a side make each pixel of the shorter or longer one, and with what weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// For each pixel: the first sample that it is made of, and how many.
    pub spans: Vec<[i32; 2]>,
    /// Their weights, `stride` a pixel; 0 behind the last.
    pub weights: Vec<f32>,
    /// Weights a pixel.
    pub stride: usize,
    /// For each pixel the share of it that is frame and not padding; 1 but with [`super::ResizeMode::Pad`].
    pub cover: Vec<f32>,
}

/// A side of a frame and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Samples of the frame.
    pub samples: usize,
    /// Samples with the padding behind them.
    pub padded: usize,
    /// Pixels that they become.
    pub pixels: usize,
    /// Samples a pixel.
    pub scale: f64,
}

impl Side {
    /// One without padding, neither of its numbers 0.
    pub fn whole(samples: usize, pixels: usize) -> Self {
        Self { samples, padded: samples, pixels, scale: samples as f64 / pixels as f64 }
    }

    /// A frame's, along x (0) or y (1).
    pub fn of(letterbox: &Letterbox, axis: usize) -> Self {
        let (samples, pixels) = (letterbox.frame_size[axis], letterbox.resized_size[axis]);
        let scale = letterbox.pixels_per_sample[axis].recip();
        let padded = ((pixels as f64 * scale).round() as usize).max(samples);
        Self { samples, padded, pixels, scale }
    }
}

/// The first sample of a pixel, and the weights from there on: they make 1.
pub(super) type Weights = (usize, Vec<f64>);

impl Taps {
    /// For a side of a frame.
    pub fn new(side: Side, filter: ResizeFilter) -> Self {
        let weights = |pixel| match filter {
            ResizeFilter::Bilinear => bilinear(side, pixel),
            ResizeFilter::Bicubic => bicubic(side, pixel),
            ResizeFilter::Gaussian => gaussian(side, pixel),
        };
        let mut cover = vec![1.0; side.pixels];
        let rows = (0..side.pixels).zip(&mut cover).map(|(pixel, cover)| {
            let (first, mut weights) = weights(pixel);
            let kept = side.samples.saturating_sub(first).min(weights.len());
            if kept < weights.len() {
                weights.truncate(kept);
                *cover = weights.iter().sum::<f64>() as f32;
            }
            // All padding: a span within the frame, of nothing.
            let first = if kept == 0 { 0 } else { first };
            (first, weights.into_iter().map(|weight| weight as f32).collect())
        });
        let rows = rows.collect();
        Self::of_rows(rows, cover)
    }

    /// The same pixels from samples that two neighbours share.
    pub(super) fn of_pairs(&self) -> Self {
        let rows = (0..self.spans.len()).map(|pixel| {
            let (first, weights) = self.of(pixel);
            let mut pairs = vec![0.0; (first + weights.len()).div_ceil(2) - first / 2];
            (first..).zip(weights).for_each(|(tap, weight)| pairs[tap / 2 - first / 2] += weight);
            (first / 2, pairs)
        });
        Self::of_rows(rows.collect(), self.cover.clone())
    }

    fn of_rows(rows: Vec<(usize, Vec<f32>)>, cover: Vec<f32>) -> Self {
        let stride = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1).max(1);
        let mut weights = vec![0.0; stride * rows.len()];
        for (padded, (_, row)) in weights.chunks_exact_mut(stride).zip(&rows) {
            padded[..row.len()].copy_from_slice(row);
        }
        let spans = rows.iter().map(|(first, row)| [*first as i32, row.len() as i32]).collect();
        Self { spans, weights, stride, cover }
    }

    pub(super) fn of(&self, pixel: usize) -> (usize, &[f32]) {
        let [first, count] = self.spans[pixel];
        (first as usize, &self.weights[pixel * self.stride..][..count as usize])
    }

    /// Whether no pixel has padding in it.
    pub(super) fn is_whole(&self) -> bool {
        self.cover.iter().all(|cover| *cover == 1.0)
    }
}

fn normalised(first: usize, weights: Vec<f64>) -> Weights {
    let sum: f64 = weights.iter().sum();
    (first, weights.into_iter().map(|weight| weight / sum).collect())
}

fn bilinear(side: Side, pixel: usize) -> Weights {
    let reach = side.scale.max(1.0);
    let last = side.padded.saturating_sub(1);
    let centre = (pixel as f64 + 0.5) * side.scale;
    let first = ((centre - reach).max(0.0).floor() as usize).min(last);
    let end = ((centre + reach).ceil() as usize).clamp(first + 1, last + 1);
    let weights = (first..end).map(|tap| (1.0 - (tap as f64 + 0.5 - centre).abs() / reach).max(0.0));
    normalised(first, weights.collect())
}

/// As PIL's `precompute_coeffs`.
pub(super) fn bicubic(side: Side, pixel: usize) -> Weights {
    const A: f64 = -0.5;
    let stretch = side.scale.max(1.0);
    let last = side.padded.saturating_sub(1);
    let centre = (pixel as f64 + 0.5) * side.scale;
    let first = ((centre - 2.0 * stretch + 0.5).max(0.0).floor() as usize).min(last);
    let end = ((centre + 2.0 * stretch + 0.5).floor() as usize).clamp(first + 1, last + 1);
    let weights = (first..end).map(|tap| {
        let x = ((tap as f64 + 0.5 - centre) / stretch).abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    });
    normalised(first, weights.collect())
}

/// As `scipy.ndimage`'s `gaussian_filter` (truncated at four sigmas) and `zoom` (order 1, `grid_mode`), both with the
/// border mirrored at the middle of its sample.
fn gaussian(side: Side, pixel: usize) -> Weights {
    let (radius, kernel) = gaussian_kernel(side.scale);
    let centre = (pixel as f64 + 0.5) * side.scale - 0.5;
    let (left, share) = (centre.floor() as i64, centre - centre.floor());
    let mut taps: Vec<(usize, f64)> = Vec::with_capacity(2 * kernel.len());
    for (neighbour, weight) in [(left, 1.0 - share), (left + 1, share)] {
        let neighbour = mirrored(neighbour, side.padded) as i64;
        taps.extend(
            (-radius..).zip(&kernel).map(|(at, k)| (mirrored(neighbour + at, side.padded), weight * k)),
        );
    }
    let first = taps.iter().map(|(tap, _)| *tap).min().unwrap_or(0);
    let end =
        taps.iter().filter(|(_, weight)| *weight > 0.0).map(|(tap, _)| tap + 1).max().unwrap_or(first + 1);
    let mut weights = vec![0.0; end.max(first + 1) - first];
    taps.iter().filter(|(tap, _)| *tap < end).for_each(|(tap, weight)| weights[tap - first] += weight);
    normalised(first, weights)
}

/// The weights of a Gaussian for so many samples a pixel, and how far it reaches to either side.
pub(super) fn gaussian_kernel(scale: f64) -> (i64, Vec<f64>) {
    let sigma = ((scale - 1.0) / 2.0).max(0.0);
    let radius = (4.0 * sigma + 0.5) as i64;
    let weights = (-radius..=radius)
        .map(|at| if sigma > 0.0 { (-0.5 * (at as f64 / sigma).powi(2)).exp() } else { 1.0 });
    (radius, normalised(0, weights.collect()).1)
}

/// A place beyond a side of `len` samples, mirrored at the middle of its first and last one.
pub(super) fn mirrored(at: i64, len: usize) -> usize {
    let period = 2 * (len as i64 - 1);
    if period <= 0 {
        return 0;
    }
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_pixel_make_one_and_stay_within_the_side() {
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic, ResizeFilter::Gaussian] {
            for (source, resized) in [(1920, 416), (3, 416), (1, 1), (416, 416), (1079, 7), (2, 5)] {
                let taps = Taps::new(Side::whole(source, resized), filter);
                for pixel in 0..resized {
                    let (first, weights) = taps.of(pixel);
                    assert!(
                        first + weights.len() <= source && !weights.is_empty(),
                        "{filter:?} {source} to {resized}"
                    );
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
                assert!(taps.is_whole());
            }
        }
    }

    #[test]
    fn pixels_beyond_the_frame_are_padding_and_those_at_its_border_partly() {
        let side = Side { samples: 10, padded: 20, pixels: 8, scale: 2.5 };
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic, ResizeFilter::Gaussian] {
            let taps = Taps::new(side, filter);
            assert_eq!(taps.cover[0], 1.0, "{filter:?}");
            assert!(
                (0.05..0.95).contains(&taps.cover[3]) || (0.05..0.95).contains(&taps.cover[4]),
                "{filter:?}"
            );
            assert_eq!((taps.cover[7], taps.of(7).1.len()), (0.0, 0), "{filter:?}");
            for pixel in 0..8 {
                let (first, weights) = taps.of(pixel);
                assert!(first + weights.len() <= 10);
                assert!((weights.iter().sum::<f32>() - taps.cover[pixel]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_cubic_is_pil_s() {
        // PIL.Image.resize of a row 0, 0, 255, 0, 0 to 10 pixels, bicubic.
        let taps = Taps::new(Side::whole(5, 10), ResizeFilter::Bicubic);
        let row = [0.0, 0.0, 255.0, 0.0, 0.0];
        let found: Vec<f32> = (0..10)
            .map(|pixel| {
                let (first, weights) = taps.of(pixel);
                let sum: f32 = weights.iter().zip(&row[first..]).map(|(weight, value)| weight * value).sum();
                sum.round().clamp(0.0, 255.0)
            })
            .collect();
        assert_eq!(found, [0.0, 0.0, 0.0, 58.0, 221.0, 221.0, 58.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_beyond_a_border_is_mirrored_at_the_middle_of_its_sample() {
        let found: Vec<usize> = (-3..8).map(|at| mirrored(at, 4)).collect();
        assert_eq!(found, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(mirrored(-5, 1), 0);
    }
}
