//! The letterbox in float, from any pixel format: what the GPU's kernel computes, sum by sum.
//!
//! Takes a frame as a camera gives it and writes the planes of the student's input. Frames are resized before they are
//! converted from YUV, which is linear: a tenth of the pixels are converted, and no RGB frame is made. Colours that
//! two or four pixels share are read once, with the weights of all of them.
//!
//! Columns are summed first and rows after, because a whole row of a frame, whatever its pixel format, is one loop
//! over neighbouring bytes. The order of the sums is guaranteed: the GPU's kernel has the same order, and a test
//! compares the two to the last bit.

use std::ops::Range;

use super::{Letterbox, ResizeFilter, ResizeSettings, Side, Taps};
use crate::frame::{FrameView, PixelFormat, YuvFactors};

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
    pub fn new(letterbox: &Letterbox, filter: ResizeFilter) -> Self {
        let [columns, rows] = [0, 1].map(|axis| Taps::new(Side::of(letterbox, axis), filter));
        let (column_pairs, row_pairs) = (columns.of_pairs(), rows.of_pairs());
        Self { columns: [columns, column_pairs], rows: [rows, row_pairs] }
    }

    /// For each column and for each row of the resized frame, the share of it that is frame and not padding.
    pub fn cover(&self) -> [&[f32]; 2] {
        [&self.columns[0].cover, &self.rows[0].cover]
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
    settings: ResizeSettings,
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
    /// For a student that wants frames so.
    pub fn new(settings: ResizeSettings) -> Self {
        let letterbox = Letterbox::of((1, 1), &settings);
        Self {
            settings,
            letterbox,
            tables: Tables::new(&letterbox, settings.filter),
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
        assert!(frame.is_whole(), "a {:?} frame of {}x{}", frame.format, frame.width, frame.height);
        assert_eq!(out.len(), self.settings.input_len(), "the planes of a student's input");
        let letterbox = Letterbox::of((frame.width, frame.height), &self.settings);
        if letterbox != self.letterbox {
            self.tables = Tables::new(&letterbox, self.settings.filter);
            self.letterbox = letterbox;
        }
        if letterbox.resized_size() != self.settings.input_size {
            self.settings.fill(out);
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
        let (input_width, input_height) = self.settings.input_size;
        let padding = self.settings.padding.map(f32::from);
        let columns_cover = &self.tables.columns[0].cover;
        let is_whole = self.tables.columns[0].is_whole() && self.tables.rows[0].is_whole();
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
                let row_cover = self.tables.rows[0].cover[first_row + lane];
                let border = (!is_whole).then_some(Border { columns_cover, row_cover, padding });
                write_row(lines, factors.as_ref(), border.as_ref(), rows);
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

/// How much of a row's pixels is frame, and what the rest is.
struct Border<'a> {
    columns_cover: &'a [f32],
    row_cover: f32,
    padding: [f32; 3],
}

/// Writes one row of each plane, converted where there are factors, and blended with the padding where there is some.
#[inline(always)]
fn write_row<'a>(
    sums: [&[f32]; 3],
    factors: Option<&YuvFactors>,
    border: Option<&Border<'_>>,
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
        if let Some(border) = border {
            border.blend(&mut pixels, factors, start..start + count);
        } else if let Some(factors) = factors {
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

impl Border<'_> {
    /// Makes RGB of the sums of these columns, whose weights make less than 1, and adds the padding's share.
    fn blend(&self, pixels: &mut [[f32; PIXELS]; 3], factors: Option<&YuvFactors>, columns: Range<usize>) {
        for (at, column_cover) in self.columns_cover[columns].iter().enumerate() {
            let cover = column_cover * self.row_cover;
            let sums = [0, 1, 2].map(|channel| pixels[channel][at]);
            let rgb = factors.map_or(sums, |factors| factors.rgb_of_share(sums, cover));
            for ((pixels, colour), padding) in pixels.iter_mut().zip(rgb).zip(self.padding) {
                pixels[at] = colour + (1.0 - cover) * padding;
            }
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
            let placed = Resampler::new(ResizeSettings::letterbox(96, 64))
                .run(&FrameView::rgb(&rgb, width, height), &mut ours);
            assert_eq!(
                placed,
                Preprocessor::new(ResizeSettings::letterbox(96, 64)).run(&rgb, width, height, &mut theirs)
            );
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
                let mut resampler = Resampler::new(ResizeSettings::letterbox(48, 48));
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
        let mut resampler = Resampler::new(ResizeSettings::letterbox(48, 48));
        resampler.run(&FrameView::rgb(&rgb, 70, 31), &mut wanted);
        resampler.run(&FrameView { format: PixelFormat::Grey, ..FrameView::rgb(&grey, 70, 31) }, &mut ours);
        assert_eq!(ours, wanted);
    }
}
