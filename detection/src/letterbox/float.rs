//! The letterbox in float, from any pixel format: what the GPU's kernel computes, sum by sum.
//!
//! Takes a frame as a camera gives it and writes the planes of the student's input. Frames are resized before they are
//! converted from YUV, which is linear: a tenth of the pixels are converted, and no RGB frame is made. Colours that
//! two or four pixels share are read once, with the weights of all of them.
//!
//! Columns are summed first and rows after, because a whole row of a frame, whatever its pixel format, is one loop
//! over neighbouring bytes. The order of the sums is guaranteed: the GPU's kernel has the same order, and a test
//! compares the two to the last bit.

use super::{Letterbox, PADDING};
use crate::frame::{FrameView, PixelFormat, YuvFactors};

/// Which samples of a side make each pixel of the shorter or longer one, and with what weights: bilinear, the kernel
/// widened by the scale when it shrinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// For each pixel: the first sample that it is made of, and how many.
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
        let rows = (0..resized).map(|pixel| {
            let centre = (pixel as f64 + 0.5) * scale;
            let first = ((centre - reach).max(0.0).floor() as usize).min(last);
            let end = ((centre + reach).ceil() as usize).clamp(first + 1, last + 1);
            let weights = (first..end).map(|tap| (1.0 - (tap as f64 + 0.5 - centre).abs() / reach).max(0.0));
            let weights: Vec<f64> = weights.collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| (weight / sum) as f32).collect())
        });
        Self::of_rows(rows.collect())
    }

    /// The same pixels from samples that two neighbours share.
    fn of_pairs(&self) -> Self {
        let rows = (0..self.spans.len()).map(|pixel| {
            let (first, weights) = self.of(pixel);
            let mut pairs = vec![0.0; (first + weights.len()).div_ceil(2) - first / 2];
            (first..).zip(weights).for_each(|(tap, weight)| pairs[tap / 2 - first / 2] += weight);
            (first / 2, pairs)
        });
        Self::of_rows(rows.collect())
    }

    fn of_rows(rows: Vec<(usize, Vec<f32>)>) -> Self {
        let stride = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut weights = vec![0.0; stride * rows.len()];
        for (padded, (_, row)) in weights.chunks_exact_mut(stride).zip(&rows) {
            padded[..row.len()].copy_from_slice(row);
        }
        let spans = rows.iter().map(|(first, row)| [*first as i32, row.len() as i32]).collect();
        Self { spans, weights, stride }
    }

    fn of(&self, pixel: usize) -> (usize, &[f32]) {
        let [first, count] = self.spans[pixel];
        (first as usize, &self.weights[pixel * self.stride..][..count as usize])
    }
}

/// Where a frame has the samples of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// The first sample's byte.
    pub offset: usize,
    /// Bytes from one sample of a row to the next.
    pub sample_stride: usize,
    /// Bytes from one row of samples to the next.
    pub row_stride: usize,
    /// Whether two neighbours in a row share a sample.
    pub shares_columns: bool,
    /// Whether two neighbours in a column do.
    pub shares_rows: bool,
}

impl Channel {
    /// The byte that a pixel has of this channel.
    pub fn byte_of(&self, x: usize, y: usize) -> usize {
        let (x, y) = (x >> usize::from(self.shares_columns), y >> usize::from(self.shares_rows));
        self.offset + y * self.row_stride + x * self.sample_stride
    }
}

impl PixelFormat {
    /// Where frames of `width` by `height` pixels have red, green and blue, or Y, U and V.
    pub fn channels(self, width: usize, height: usize) -> [Channel; 3] {
        let channel = |offset, sample_stride, row_stride| Channel {
            offset,
            sample_stride,
            row_stride,
            shares_columns: false,
            shares_rows: false,
        };
        match self {
            Self::Rgb => [0, 1, 2].map(|offset| channel(offset, 3, 3 * width)),
            Self::Yuyv => {
                let chroma = |offset| Channel { shares_columns: true, ..channel(offset, 4, 2 * width) };
                [channel(0, 2, 2 * width), chroma(1), chroma(3)]
            }
            Self::Uyvy => {
                let chroma = |offset| Channel { shares_columns: true, ..channel(offset, 4, 2 * width) };
                [channel(1, 2, 2 * width), chroma(0), chroma(2)]
            }
            Self::Nv12 => {
                let chroma = |offset| Channel {
                    shares_columns: true,
                    shares_rows: true,
                    ..channel(width * height + offset, 2, width)
                };
                [channel(0, 1, width), chroma(0), chroma(1)]
            }
            Self::I420 => {
                let chroma = |offset| Channel {
                    shares_columns: true,
                    shares_rows: true,
                    ..channel(width * height + offset, 1, width / 2)
                };
                [channel(0, 1, width), chroma(0), chroma(width * height / 4)]
            }
            Self::Grey => [channel(0, 1, width); 3],
        }
    }
}

/// The weights for frames of one size: of pixels by themselves, and of pairs of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    columns: [Taps; 2],
    rows: [Taps; 2],
}

impl Tables {
    /// For frames placed so.
    pub fn new(letterbox: &Letterbox) -> Self {
        let (frame_size, resized_size) = (letterbox.frame_size(), letterbox.resized_size());
        let columns = Taps::new(frame_size.0, resized_size.0);
        let rows = Taps::new(frame_size.1, resized_size.1);
        let (column_pairs, row_pairs) = (columns.of_pairs(), rows.of_pairs());
        Self { columns: [columns, column_pairs], rows: [rows, row_pairs] }
    }

    /// Which samples of its rows make a channel's pixels.
    pub fn columns(&self, channel: &Channel) -> &Taps {
        &self.columns[usize::from(channel.shares_columns)]
    }

    /// Which of its rows do.
    pub fn rows(&self, channel: &Channel) -> &Taps {
        &self.rows[usize::from(channel.shares_rows)]
    }
}

/// Letterboxes frames of any format; keeps its tables while the frames keep their size.
pub struct Resampler {
    input_size: (usize, usize),
    letterbox: Letterbox,
    tables: Tables,
    /// The sums over rows of some rows to be, byte by byte.
    down: [Vec<f32>; LANES],
    /// The same, byte by byte what the rows have there: so the sums over columns are of neighbours too.
    woven: Vec<[f32; LANES]>,
    /// Those sums, a channel each.
    along: [Vec<[f32; LANES]>; 3],
    /// The same, row by row again.
    lines: [[Vec<f32>; LANES]; 3],
}

/// Rows that are made together.
const LANES: usize = 8;

impl Resampler {
    /// For a student whose input is `input_width` by `input_height` pixels.
    pub fn new(input_width: usize, input_height: usize) -> Self {
        let input_size = (input_width, input_height);
        let letterbox = Letterbox::new((1, 1), input_size);
        let tables = Tables::new(&letterbox);
        Self {
            input_size,
            letterbox,
            tables,
            down: Default::default(),
            woven: Vec::new(),
            along: Default::default(),
            lines: Default::default(),
        }
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
            self.tables = Tables::new(&letterbox);
            self.letterbox = letterbox;
        }
        if letterbox.resized_size() != self.input_size {
            out.fill(PADDING);
        }
        self.along.iter_mut().for_each(|along| along.resize(letterbox.resized_size().0, [0.0; LANES]));
        #[cfg(target_arch = "x86_64")]
        {
            /// The same for processors since 2013, whose instructions make eight sums at once instead of four.
            /// AVX-512's sixteen were no faster: what is summed comes from the second cache.
            #[target_feature(enable = "avx2")]
            fn on_avx2(resampler: &mut Resampler, frame: &FrameView<'_>, out: &mut [u8]) {
                resampler.resample(frame, out, |square| transposed_on_avx(square));
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                unsafe { on_avx2(self, frame, out) };
                return letterbox;
            }
        }
        self.resample(frame, out, transposed);
        letterbox
    }

    /// Writes the part of the input that is not padding. Like all that it calls it is inlined into the caller, for that
    /// one's instructions.
    #[inline(always)]
    fn resample(
        &mut self,
        frame: &FrameView<'_>,
        out: &mut [u8],
        transposed: impl Fn(Square) -> Square + Copy,
    ) {
        let (input_width, input_height) = self.input_size;
        let channels = frame.format.channels(frame.width, frame.height);
        let factors = frame.format.is_yuv().then(|| frame.encoding.factors());
        let (resized_width, resized_height) = self.letterbox.resized_size();
        let (pad_x, pad_y) = self.letterbox.pad();
        for first_row in (0..resized_height).step_by(LANES) {
            let count = LANES.min(resized_height - first_row);
            let mut summed = None;
            for (channel, along) in channels.iter().zip(&mut self.along) {
                // Channels that lie in the same rows have these sums in common.
                let start = channel.offset - channel.offset % channel.row_stride;
                if summed != Some(start) {
                    let (bytes, rows) = (&frame.bytes[start..], self.tables.rows(channel));
                    for (lane, down) in self.down.iter_mut().enumerate().take(count) {
                        sum_rows(bytes, channel.row_stride, rows.of(first_row + lane), down);
                    }
                    // The last rows may be fewer: what the other lanes have of before is not looked at.
                    self.down.iter_mut().for_each(|down| down.resize(channel.row_stride, 0.0));
                    interleave(&self.down, &mut self.woven, transposed);
                    summed = Some(start);
                }
                let samples = &self.woven[channel.offset - start..];
                sum_columns(samples, channel.sample_stride, self.tables.columns(channel), along);
            }
            for (along, lines) in self.along.iter().zip(&mut self.lines) {
                deinterleave(along, lines, transposed);
            }
            for lane in 0..count {
                let start = (first_row + lane + pad_y) * input_width + pad_x;
                let planes = out.chunks_exact_mut(input_width * input_height);
                let rows = planes.map(|plane| &mut plane[start..start + resized_width]);
                let lines = self.lines.each_ref().map(|lines| &*lines[lane]);
                write_row(lines, factors.as_ref(), rows);
            }
        }
    }
}

/// `out` = the weighted sum of rows, byte by byte.
#[inline(always)]
fn sum_rows(bytes: &[u8], row_stride: usize, (first, weights): (usize, &[f32]), out: &mut Vec<f32>) {
    out.resize(row_stride, 0.0);
    let rows = &bytes[first * row_stride..];
    let (chunks, rest) = out.as_chunks_mut::<CHUNK>();
    let rest_start = row_stride - rest.len();
    for (at, chunk) in chunks.iter_mut().enumerate() {
        // So few that they stay in registers while the rows go by.
        let mut sums = [0.0; CHUNK];
        for (row, &weight) in rows.chunks_exact(row_stride).zip(weights) {
            add_row(&row[at * CHUNK..][..CHUNK], weight, &mut sums);
        }
        *chunk = sums;
    }
    rest.fill(0.0);
    for (row, &weight) in rows.chunks_exact(row_stride).zip(weights) {
        add_row(&row[rest_start..], weight, rest);
    }
}

/// Bytes of a row that are summed together.
const CHUNK: usize = 64;

#[inline(always)]
fn add_row(row: &[u8], weight: f32, sums: &mut [f32]) {
    for (sum, &byte) in sums.iter_mut().zip(row) {
        *sum += weight * f32::from(byte);
    }
}

/// `out` = what the rows have in each place.
#[inline(always)]
fn interleave(rows: &[Vec<f32>; LANES], out: &mut Vec<[f32; LANES]>, transposed: impl Fn(Square) -> Square) {
    let len = rows[0].len();
    let rows: [&[f32]; LANES] = std::array::from_fn(|lane| &rows[lane][..len]);
    out.resize(len, [0.0; LANES]);
    // Square by square, which is a matter of shuffling registers.
    let (squares, rest) = out.as_chunks_mut::<LANES>();
    let rows_of_squares: [&[[f32; LANES]]; LANES] = rows.map(|row| &row.as_chunks().0[..squares.len()]);
    for (at, square) in squares.iter_mut().enumerate() {
        *square = transposed(std::array::from_fn(|lane| rows_of_squares[lane][at]));
    }
    let rest_start = len - rest.len();
    for (at, out) in rest.iter_mut().enumerate() {
        *out = std::array::from_fn(|lane| rows[lane][rest_start + at]);
    }
}

/// Eight rows of eight.
type Square = [[f32; LANES]; LANES];

/// A square's columns as rows.
fn transposed(rows: Square) -> Square {
    std::array::from_fn(|column| rows.map(|row| row[column]))
}

/// The same by shuffling registers: the compiler doesn't find it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn transposed_on_avx(rows: Square) -> Square {
    use std::arch::x86_64::*;
    // SAFETY: eight floats, 32 bytes, are read from and written to arrays of as many; the unaligned instructions ask for no
    // alignment.
    let [a, b, c, d, e, f, g, h] = rows.map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    // Neighbouring rows, then pairs of them, then halves.
    let [ab, cd, ef, gh] = [(a, b), (c, d), (e, f), (g, h)]
        .map(|(one, other)| [_mm256_unpacklo_ps(one, other), _mm256_unpackhi_ps(one, other)]);
    let fours = |one: [__m256; 2], other: [__m256; 2]| {
        [
            _mm256_shuffle_ps::<0x44>(one[0], other[0]),
            _mm256_shuffle_ps::<0xEE>(one[0], other[0]),
            _mm256_shuffle_ps::<0x44>(one[1], other[1]),
            _mm256_shuffle_ps::<0xEE>(one[1], other[1]),
        ]
    };
    let (upper, lower) = (fours(ab, cd), fours(ef, gh));
    let mut square = [[0.0; LANES]; LANES];
    for column in 0..4 {
        let (one, other) = (upper[column], lower[column]);
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(square[column].as_mut_ptr(), _mm256_permute2f128_ps::<0x20>(one, other));
            _mm256_storeu_ps(square[column + 4].as_mut_ptr(), _mm256_permute2f128_ps::<0x31>(one, other));
        }
    }
    square
}

/// `out` = for each pixel the weighted sum of its samples.
#[inline(always)]
fn sum_columns(samples: &[[f32; LANES]], sample_stride: usize, columns: &Taps, out: &mut [[f32; LANES]]) {
    for (pixel, out) in out.iter_mut().enumerate() {
        let (first, weights) = columns.of(pixel);
        let mut sums = [0.0; LANES];
        for (tap, weight) in weights.iter().enumerate() {
            let samples = &samples[(first + tap) * sample_stride];
            sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += weight * sample);
        }
        *out = sums;
    }
}

/// `rows` = what each lane has.
#[inline(always)]
fn deinterleave(woven: &[[f32; LANES]], rows: &mut [Vec<f32>; LANES], transposed: impl Fn(Square) -> Square) {
    rows.iter_mut().for_each(|row| row.resize(woven.len(), 0.0));
    let (squares, rest) = woven.as_chunks::<LANES>();
    for (at, square) in squares.iter().enumerate() {
        for (row, line) in rows.iter_mut().zip(transposed(*square)) {
            row[at * LANES..][..LANES].copy_from_slice(&line);
        }
    }
    let rest_start = woven.len() - rest.len();
    for (lane, row) in rows.iter_mut().enumerate() {
        for (out, sums) in row[rest_start..].iter_mut().zip(rest) {
            *out = sums[lane];
        }
    }
}

/// Writes one row of each plane, converted where there are factors.
#[inline(always)]
fn write_row<'a>(
    sums: [&[f32]; 3],
    factors: Option<&YuvFactors>,
    mut rows: impl Iterator<Item = &'a mut [u8]>,
) {
    let (Some(red), Some(green), Some(blue)) = (rows.next(), rows.next(), rows.next()) else { return };
    let (mut planes, len) = ([red, green, blue], sums[0].len());
    // By as many pixels as fill some registers: the compiler sees then that rows don't overlap.
    for start in (0..len).step_by(PIXELS) {
        let count = PIXELS.min(len - start);
        let mut pixels = [[0.0; PIXELS]; 3];
        for (pixels, sums) in pixels.iter_mut().zip(sums) {
            pixels[..count].copy_from_slice(&sums[start..start + count]);
        }
        if let Some(factors) = factors {
            let [a, b, c] = &mut pixels;
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                [*a, *b, *c] = factors.rgb([*a, *b, *c]);
            }
        }
        for (plane, pixels) in planes.iter_mut().zip(pixels) {
            let bytes = pixels.map(byte);
            plane[start..start + count].copy_from_slice(&bytes[..count]);
        }
    }
}

/// The byte that is nearest.
#[inline(always)]
fn byte(value: f32) -> u8 {
    #[expect(clippy::manual_clamp, reason = "`clamp` leaves NaN what it is, and `max` makes 0 of it")]
    let value = (value + 0.5).max(0.0).min(255.0);
    // SAFETY: it is from 0 to 255 and no NaN. `as u8`, which asks about that again, took a quarter of the letterbox's time.
    unsafe { value.to_int_unchecked::<i32>() as u8 }
}

/// Pixels that are converted together.
const PIXELS: usize = 32;

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
        use PixelFormat::{I420, Nv12, Uyvy, Yuyv};
        for encoding in
            [YuvEncoding::Bt601, YuvEncoding::Bt601Full, YuvEncoding::Bt709, YuvEncoding::Bt709Full]
        {
            for format in [Yuyv, Uyvy, Nv12, I420] {
                let shares_rows = matches!(format, Nv12 | I420);
                let colour = |x: usize, y: usize| {
                    if shares_rows { colour(x, y) } else { yuv[y * width + (x & !1)] }
                };
                let mut bytes = Vec::new();
                let mut rgb = Vec::new();
                for y in 0..height {
                    for x in 0..width {
                        let [_, u, v] = colour(x, y);
                        let luma = yuv[y * width + x][0];
                        let chroma = if x % 2 == 0 { u } else { v };
                        match format {
                            Yuyv => bytes.extend([luma, chroma]),
                            Uyvy => bytes.extend([chroma, luma]),
                            _ => bytes.push(luma),
                        }
                        let exact = encoding.factors().rgb([luma, u, v].map(f32::from));
                        rgb.extend(exact.map(|value| value.round() as u8));
                    }
                }
                if shares_rows {
                    let pairs: Vec<[u8; 2]> = (0..height)
                        .step_by(2)
                        .flat_map(|y| (0..width).step_by(2).map(move |x| (x, y)))
                        .map(|(x, y)| [colour(x, y)[1], colour(x, y)[2]])
                        .collect();
                    if format == Nv12 {
                        bytes.extend(pairs.as_flattened());
                    } else {
                        for at in [0, 1] {
                            bytes.extend(pairs.iter().map(|pair| pair[at]));
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
    fn grey_is_what_rgb_of_the_same_grey_is() {
        let grey: Vec<u8> = pixels(70, 31, 3).iter().map(|pixel| pixel[0]).collect();
        let rgb: Vec<u8> = grey.iter().flat_map(|level| [*level; 3]).collect();
        let (mut ours, mut wanted) = (vec![0; 3 * 48 * 48], vec![0; 3 * 48 * 48]);
        let mut resampler = Resampler::new(48, 48);
        resampler.run(&FrameView::rgb(&rgb, 70, 31), &mut wanted);
        resampler.run(&FrameView { format: PixelFormat::Grey, ..FrameView::rgb(&grey, 70, 31) }, &mut ours);
        assert_eq!(ours, wanted);
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
