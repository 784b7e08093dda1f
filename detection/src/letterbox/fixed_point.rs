//! Bilinear resizing of RGB in integers, bit for bit the same as the crate `fast_image_resize` 6.1.
//!
//! Takes a frame of interleaved pixels and writes the rows of three planes. Students were trained and are evaluated
//! with that crate's bytes, and two levels of grey change which detections pass their threshold. But the crate makes
//! its tables anew for each frame (174 to 680 allocations); here nothing is allocated while frames keep their size.
//!
//! The arithmetic, on every processor: weights in `f64`, rounded to 15 bits with as many of them fractional as the
//! largest weight allows; rows are summed first and rounded to bytes, then columns, rounded to bytes again.
//!
//! `f32` is not enough for it. The weights of a side that shrinks have up to 21 fractional bits, and from 17 on
//! (shrinking to less than a quarter) their sums with bytes don't fit in 24 bits.

use std::ops::Range;

use super::Letterbox;

/// Rows that are made together.
const LANES: usize = 8;

/// Which samples of a side make each pixel of the shorter or longer one, and with what weights. Samples go by pairs,
/// because processors multiply and add pairs in one instruction.
struct PairTaps {
    /// For each pixel: the first sample that it is made of, and how many pairs.
    spans: Vec<(usize, usize)>,
    /// The pairs' weights, `stride` a pixel; none is negative.
    weights: Vec<[i16; 2]>,
    /// Pairs a pixel.
    stride: usize,
    /// The weights' bits behind the point.
    precision: u32,
}

impl PairTaps {
    /// From a side of `source` samples to one of `resized`, neither of them 0. First samples are multiples of `align`.
    ///
    /// Each step of the arithmetic is the crate's, in its order: another one may round a weight the other way.
    fn new(source: usize, resized: usize, align: usize) -> Self {
        let scale = source as f64 / resized as f64;
        let reach = scale.max(1.0);
        let recip_reach = 1.0 / reach;
        let rows = (0..resized).map(|pixel| {
            let centre = (pixel as f64 + 0.5) * scale;
            let first = (centre - reach).floor().max(0.0) as usize;
            let end = (centre + reach).ceil().min(source as f64) as usize;
            let centre = centre - 0.5;
            let weights = (first..end).map(|sample| {
                let distance = ((sample as f64 - centre) * recip_reach).abs();
                if distance < 1.0 { 1.0 - distance } else { 0.0 }
            });
            let weights: Vec<f64> = weights.collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| weight / sum).collect())
        });
        let rows: Vec<(usize, Vec<f64>)> = rows.collect();
        let largest = rows.iter().flat_map(|(_, weights)| weights).fold(0.0, |a: f64, b| a.max(*b));
        let overflows = |precision: &u32| (largest * f64::from(1 << (precision + 1))).round() >= 32768.0;
        let precision = (0..MAX_PRECISION).find(overflows).unwrap_or(MAX_PRECISION);
        let one = f64::from(1 << precision);

        let rows = rows.iter().map(|(first, weights)| {
            // Without what has no weight at either end: pairs start at the first that counts.
            let zeros = weights.iter().take_while(|weight| **weight == 0.0).count();
            let (first, weights) = (first + zeros, &weights[zeros..]);
            let count = weights.len() - weights.iter().rev().take_while(|weight| **weight == 0.0).count();
            let start = first - first % align;
            let mut pairs = vec![[0; 2]; (first - start + count).div_ceil(2)];
            for (at, weight) in (first - start..).zip(&weights[..count]) {
                pairs[at / 2][at % 2] = (weight * one).round() as i16;
            }
            (start, pairs)
        });
        let rows: Vec<(usize, Vec<[i16; 2]>)> = rows.collect();
        let stride = rows.iter().map(|(_, pairs)| pairs.len()).max().unwrap_or(0);
        let mut weights = vec![[0; 2]; stride * rows.len()];
        for (padded, (_, pairs)) in weights.chunks_exact_mut(stride.max(1)).zip(&rows) {
            padded[..pairs.len()].copy_from_slice(pairs);
        }
        let spans = rows.iter().map(|(first, pairs)| (*first, pairs.len())).collect();
        Self { spans, weights, stride, precision }
    }

    fn of(&self, pixel: usize) -> (usize, &[[i16; 2]]) {
        let (first, count) = self.spans[pixel];
        (first, &self.weights[pixel * self.stride..][..count])
    }
}

/// With so many bits behind the point, sums of weighted bytes stay in an `i32`: the weights make 1 but for their
/// rounding, and 255 · 2²¹ is a quarter of its range.
const MAX_PRECISION: u32 = 21;

/// Neighbours in a row, of each row that is made together with others, in the order that the kernels like best: what one
/// weighing of a pair takes.
type Pairs = [[u16; LANES]; 2];

/// What eight rows have of eight pixels, row by row: red, green and blue.
type Square = [[[u8; LANES]; LANES]; 3];

/// Resizes frames into planes; keeps its tables while the sizes stay.
pub(crate) struct FixedPointResizer {
    kernels: Kernels,
    /// What the tables are for: the frame's size and the resized one.
    sizes: [(usize, usize); 2],
    rows: PairTaps,
    columns: PairTaps,
    /// Some rows of the resized height and the frame's width. Longer than the rows, for what is read by 16 bytes.
    blended: [Vec<u8>; LANES],
    /// The same, by pairs of pixels: red, green and blue.
    woven: Vec<[Pairs; 3]>,
}

impl FixedPointResizer {
    pub(crate) fn new() -> Self {
        Self::with(Kernels::of_this_processor())
    }

    fn with(kernels: Kernels) -> Self {
        let (rows, columns) = (PairTaps::new(1, 1, 1), PairTaps::new(1, 1, 2));
        Self { kernels, sizes: [(0, 0); 2], rows, columns, blended: Default::default(), woven: Vec::new() }
    }

    /// Writes the frame `rgb` where `letterbox` places it in `out`, planes that are `input_width` wide.
    pub(crate) fn run(&mut self, rgb: &[u8], letterbox: &Letterbox, input_width: usize, out: &mut [u8]) {
        self.keep_tables_for(letterbox);
        let [(width, height), (resized_width, resized_height)] = self.sizes;
        let (pad_x, pad_y) = letterbox.pad();
        let plane_len = out.len() / 3;
        for first_row in (0..resized_height).step_by(LANES) {
            let count = LANES.min(resized_height - first_row);
            for (lane, blended) in self.blended.iter_mut().enumerate().take(count) {
                let (row, blended) = (first_row + lane, &mut blended[..3 * width]);
                if height == resized_height {
                    blended.copy_from_slice(&rgb[row * 3 * width..][..3 * width]);
                } else {
                    let rows = Rows::new(rgb, 3 * width, &self.rows, row);
                    // SAFETY: the kernels are of this processor.
                    unsafe { (self.kernels.blend)(&rows, blended) };
                }
            }
            // The last rows may be fewer: what the other lanes have of before is not written.
            // SAFETY: as above.
            unsafe { (self.kernels.interleave)(&self.blended, &mut self.woven) };
            for first_pixel in (0..resized_width).step_by(LANES) {
                let pixels = LANES.min(resized_width - first_pixel);
                // SAFETY: as above.
                let square = unsafe {
                    (self.kernels.sum)(&self.woven, &self.columns, first_pixel..first_pixel + pixels)
                };
                let start = (first_row + pad_y) * input_width + pad_x + first_pixel;
                for (plane, lines) in out.chunks_exact_mut(plane_len).zip(&square) {
                    for (row, line) in plane[start..].chunks_mut(input_width).zip(&lines[..count]) {
                        // Almost always all of them, which is one instruction then and no call.
                        match row.first_chunk_mut() {
                            Some(whole) if pixels == LANES => *whole = *line,
                            _ => row[..pixels].copy_from_slice(&line[..pixels]),
                        }
                    }
                }
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
        self.rows = PairTaps::new(height, resized_height, 1);
        self.columns = PairTaps::new(width, resized_width, 2);
        let fours = width.div_ceil(4);
        self.blended.iter_mut().for_each(|row| row.resize(12 * fours + 4, 0));
        self.woven.resize(2 * fours, [[[0; LANES]; 2]; 3]);
    }
}

/// The rows of a frame that make one of the resized height.
struct Rows<'a> {
    /// They alone, at least one.
    bytes: &'a [u8],
    /// Bytes a row.
    len: usize,
    /// Of pairs of them. The last row may have no other: then the other's weight is 0.
    weights: &'a [[i16; 2]],
    precision: u32,
}

impl<'a> Rows<'a> {
    fn new(rgb: &'a [u8], len: usize, taps: &'a PairTaps, row: usize) -> Self {
        let (first, weights) = taps.of(row);
        let end = ((first + 2 * weights.len()) * len).min(rgb.len());
        Self { bytes: &rgb[first * len..end], len, weights, precision: taps.precision }
    }

    /// Where both rows of a pair start. Instead of one that isn't there it is the first of the pair again.
    #[inline(always)]
    fn pair(&self, pair: usize) -> [usize; 2] {
        let last = self.bytes.len() - self.len;
        let upper = 2 * pair * self.len;
        [upper, (upper + self.len).min(last)]
    }
}

/// The inner loops. All of a kind compute the same whole numbers.
///
/// On a Xeon with AVX2, 640x480 to 384x288 and 1920x1080 to 384x216 take 0.22 and 0.58 ms; with the plain ones 1.1 and
/// 3.0 ms; the crate, with AVX2 and the pass that makes planes of its pixels, took 0.42 and 0.72 ms.
#[derive(Clone, Copy)]
struct Kernels {
    /// A row as the weighted sum of rows.
    blend: unsafe fn(&Rows<'_>, &mut [u8]),
    /// From rows their pairs of pixels, which are of as many pixels as the rows have whole groups of four.
    interleave: unsafe fn(&[Vec<u8>; LANES], &mut [[Pairs; 3]]),
    /// At most eight pixels as the weighted sums of pairs.
    sum: unsafe fn(&[[Pairs; 3]], &PairTaps, Range<usize>) -> Square,
}

impl Kernels {
    /// For processors that have nothing of their own below.
    const PLAIN: Self = Self { blend: plain::blend, interleave: plain::interleave, sum: plain::sum };

    fn of_this_processor() -> Self {
        // x86-64's since 2013.
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self { blend: avx2::blend, interleave: avx2::interleave, sum: avx2::sum };
        }
        Self::PLAIN
    }
}

mod plain {
    use super::*;

    /// Sums that stay in registers while the rows go by.
    const CHUNK: usize = 16;

    /// A sum of weighted bytes as a byte.
    fn byte(sum: u32, precision: u32) -> u8 {
        ((sum + (1 << (precision - 1))) >> precision).min(255) as u8
    }

    /// Adds weighted samples to sums of as many. Unsigned, because bytes are, and processors without AVX2 multiply 16 bits
    /// by 16 only when both are the one or the other.
    #[inline(always)]
    fn add<T: Copy + Into<u32>>(sums: &mut [u32], samples: &[T], weight: i16) {
        let weight = u32::from(weight as u16);
        sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += (*sample).into() * weight);
    }

    pub(super) fn blend(rows: &Rows<'_>, out: &mut [u8]) {
        let (chunks, rest) = out.as_chunks_mut::<CHUNK>();
        let rest_start = CHUNK * chunks.len();
        for (chunk, out) in chunks.iter_mut().enumerate() {
            let mut sums = [0; CHUNK];
            for (pair, weights) in rows.weights.iter().enumerate() {
                for (row, weight) in rows.pair(pair).into_iter().zip(weights) {
                    add(&mut sums, &rows.bytes[row + CHUNK * chunk..][..CHUNK], *weight);
                }
            }
            *out = sums.map(|sum| byte(sum, rows.precision));
        }
        let mut sums = [0; CHUNK];
        for (pair, weights) in rows.weights.iter().enumerate() {
            for (row, weight) in rows.pair(pair).into_iter().zip(weights) {
                add(&mut sums, &rows.bytes[row + rest_start..][..rest.len()], *weight);
            }
        }
        rest.iter_mut().zip(sums).for_each(|(out, sum)| *out = byte(sum, rows.precision));
    }

    pub(super) fn interleave(rows: &[Vec<u8>; LANES], out: &mut [[Pairs; 3]]) {
        for (lane, row) in rows.iter().enumerate() {
            let (pixels, _) = row.as_chunks::<6>();
            for (out, pixels) in out.iter_mut().zip(pixels) {
                for (colour, [left, right]) in out.iter_mut().enumerate() {
                    [left[lane], right[lane]] = [pixels[colour], pixels[colour + 3]].map(u16::from);
                }
            }
        }
    }

    pub(super) fn sum(woven: &[[Pairs; 3]], columns: &PairTaps, pixels: Range<usize>) -> Square {
        let mut square = [[[0; LANES]; LANES]; 3];
        for (at, pixel) in pixels.enumerate() {
            let (first, weights) = columns.of(pixel);
            let mut sums = [[0; LANES]; 3];
            for (colours, weights) in woven[first / 2..].iter().zip(weights) {
                for (sums, pairs) in sums.iter_mut().zip(colours) {
                    add(sums, &pairs[0], weights[0]);
                    add(sums, &pairs[1], weights[1]);
                }
            }
            for (lines, sums) in square.iter_mut().zip(sums) {
                lines.iter_mut().zip(sums).for_each(|(line, sum)| line[at] = byte(sum, columns.precision));
            }
        }
        square
    }
}

/// The compiler finds neither the instruction that weighs a pair nor the shuffles between bytes and pairs. Registers don't
/// go through closures or arrays' `map`: those the compiler made functions without AVX2, which took two thirds more time.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::*;

    /// Bytes of a row that are summed together.
    const CHUNK: usize = 64;

    /// Two neighbouring weights beside each other, eight times.
    #[target_feature(enable = "avx2")]
    fn splat(weights: [i16; 2]) -> __m256i {
        _mm256_set1_epi32(i32::from(weights[0]) | i32::from(weights[1]) << 16)
    }

    #[target_feature(enable = "avx2")]
    fn rounded(sums: __m256i, precision: u32) -> __m256i {
        let half = _mm256_set1_epi32(1 << (precision - 1));
        _mm256_srlv_epi32(_mm256_add_epi32(sums, half), _mm256_set1_epi32(precision as i32))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn blend(rows: &Rows<'_>, out: &mut [u8]) {
        let Some(last) = out.len().checked_sub(CHUNK) else { return plain::blend(rows, out) };
        let zero = _mm256_setzero_si256();
        for at in (0..out.len()).step_by(CHUNK) {
            // The last chunk covers some of the one before again: the same bytes.
            let at = at.min(last);
            let mut sums = [[zero; 4]; 2];
            for pair in 0..rows.weights.len() {
                let weights = splat(rows.weights[pair]);
                let [upper, lower] = rows.pair(pair);
                for (half, sums) in sums.iter_mut().enumerate() {
                    let upper = &rows.bytes[upper + at + 32 * half..][..32];
                    let lower = &rows.bytes[lower + at + 32 * half..][..32];
                    // SAFETY: 32 bytes are read of as many, twice; unaligned.
                    let (upper, lower) = unsafe {
                        (_mm256_loadu_si256(upper.as_ptr().cast()), _mm256_loadu_si256(lower.as_ptr().cast()))
                    };
                    // A byte of the upper row beside its neighbour of the lower, widened, in the order that packing
                    // undoes.
                    let (left, right) =
                        (_mm256_unpacklo_epi8(upper, lower), _mm256_unpackhi_epi8(upper, lower));
                    let pairs = [
                        _mm256_unpacklo_epi8(left, zero),
                        _mm256_unpackhi_epi8(left, zero),
                        _mm256_unpacklo_epi8(right, zero),
                        _mm256_unpackhi_epi8(right, zero),
                    ];
                    for (sum, pairs) in sums.iter_mut().zip(pairs) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, weights));
                    }
                }
            }
            let (halves, _) = out[at..][..CHUNK].as_chunks_mut::<32>();
            for (half, sums) in halves.iter_mut().zip(sums) {
                let left =
                    _mm256_packs_epi32(rounded(sums[0], rows.precision), rounded(sums[1], rows.precision));
                let right =
                    _mm256_packs_epi32(rounded(sums[2], rows.precision), rounded(sums[3], rows.precision));
                // SAFETY: 32 bytes are written to as many, unaligned.
                unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), _mm256_packus_epi16(left, right)) };
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn interleave(rows: &[Vec<u8>; LANES], out: &mut [[Pairs; 3]]) {
        let (fours, _) = out.as_chunks_mut::<2>();
        for row in rows {
            assert!(row.len() >= 12 * fours.len() + 4);
        }
        // Of two pixels the reds, the greens and the blues beside each other, each widened to 16 bits.
        #[rustfmt::skip]
        let left_pixels = _mm256_setr_epi8(
            0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
            0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
        );
        #[rustfmt::skip]
        let right_pixels = _mm256_setr_epi8(
            6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
            6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
        );
        for (four, out) in fours.iter_mut().enumerate() {
            // A row and the fourth after it in the halves of a register: then no step has to cross the halves.
            let mut both = [_mm256_setzero_si256(); 4];
            for lane in 0..4 {
                // SAFETY: 16 bytes are read at 12 · four, which the rows have, as asserted; unaligned.
                both[lane] = unsafe {
                    _mm256_loadu2_m128i(
                        rows[lane + 4].as_ptr().add(12 * four).cast(),
                        rows[lane].as_ptr().add(12 * four).cast(),
                    )
                };
            }
            for (out, pixels) in out.iter_mut().zip([left_pixels, right_pixels]) {
                let a = _mm256_shuffle_epi8(both[0], pixels);
                let b = _mm256_shuffle_epi8(both[1], pixels);
                let c = _mm256_shuffle_epi8(both[2], pixels);
                let d = _mm256_shuffle_epi8(both[3], pixels);
                let (red_green_ab, blue_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (red_green_cd, blue_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                let colours = [
                    _mm256_unpacklo_epi64(red_green_ab, red_green_cd),
                    _mm256_unpackhi_epi64(red_green_ab, red_green_cd),
                    _mm256_unpacklo_epi64(blue_ab, blue_cd),
                ];
                for (out, pairs) in out.iter_mut().zip(colours) {
                    // SAFETY: 32 bytes are written to as many, unaligned.
                    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), pairs) };
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sum(woven: &[[Pairs; 3]], columns: &PairTaps, pixels: Range<usize>) -> Square {
        let mut sums = [[_mm256_setzero_si256(); LANES]; 3];
        for (at, pixel) in pixels.enumerate().take(LANES) {
            let (first, weights) = columns.of(pixel);
            let [mut red, mut green, mut blue] = [_mm256_setzero_si256(); 3];
            for (pairs, weights) in woven[first / 2..].iter().zip(weights) {
                let weights = splat(*weights);
                // SAFETY: 32 bytes are read of as many, three times, unaligned.
                let (reds, greens, blues) = unsafe {
                    (
                        _mm256_loadu_si256(pairs[0].as_ptr().cast()),
                        _mm256_loadu_si256(pairs[1].as_ptr().cast()),
                        _mm256_loadu_si256(pairs[2].as_ptr().cast()),
                    )
                };
                red = _mm256_add_epi32(red, _mm256_madd_epi16(reds, weights));
                green = _mm256_add_epi32(green, _mm256_madd_epi16(greens, weights));
                blue = _mm256_add_epi32(blue, _mm256_madd_epi16(blues, weights));
            }
            sums[0][at] = rounded(red, columns.precision);
            sums[1][at] = rounded(green, columns.precision);
            sums[2][at] = rounded(blue, columns.precision);
        }
        let mut square = [[[0; LANES]; LANES]; 3];
        for (lines, sums) in square.iter_mut().zip(&sums) {
            turn(sums, lines);
        }
        square
    }

    /// Pixels' numbers of eight rows as bytes, row by row.
    #[target_feature(enable = "avx2")]
    fn turn(pixels: &[__m256i; LANES], lines: &mut [[u8; LANES]; LANES]) {
        // Four rows of four pixels in each half, pixel by pixel, made row by row.
        #[rustfmt::skip]
        let places = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        );
        let [a, b, c, d, e, f, g, h] = *pixels;
        let left = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let right = _mm256_packus_epi16(_mm256_packs_epi32(e, f), _mm256_packs_epi32(g, h));
        let (left, right) = (_mm256_shuffle_epi8(left, places), _mm256_shuffle_epi8(right, places));
        // Rows 0, 1, 4 and 5, and rows 2, 3, 6 and 7.
        let (one, other) = (_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right));
        let halves =
            [_mm256_permute2x128_si256::<0x20>(one, other), _mm256_permute2x128_si256::<0x31>(one, other)];
        let (fours, _) = lines.as_chunks_mut::<4>();
        for (four, half) in fours.iter_mut().zip(halves) {
            // SAFETY: 32 bytes are written to as many, unaligned.
            unsafe { _mm256_storeu_si256(four.as_mut_ptr().cast(), half) };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn every_processor_makes_the_same_bytes() {
        let mut random = StdRng::seed_from_u64(1);
        let mut resizers = [Kernels::PLAIN, Kernels::of_this_processor()].map(FixedPointResizer::with);
        for at in 0..100 {
            let longest = if at % 2 == 0 { 40 } else { 400 };
            let [width, height] = [0; 2].map(|_| random.random_range(1..longest));
            let rgb: Vec<u8> = (0..3 * width * height).map(|_| random.random()).collect();
            let letterbox = Letterbox::new((width, height), (97, 64));
            let [plain, own] = resizers.each_mut().map(|resizer| {
                let mut out = vec![0; 3 * 97 * 64];
                resizer.run(&rgb, &letterbox, 97, &mut out);
                out
            });
            assert!(plain == own, "{width}x{height}");
        }
    }

    #[test]
    fn weights_of_every_pixel_make_one_but_for_their_rounding_and_stay_within_the_side() {
        for (source, resized) in [(1920, 416), (3, 416), (1, 1), (416, 416), (1079, 7), (20_000, 1)] {
            for align in [1, 2] {
                let taps = PairTaps::new(source, resized, align);
                for pixel in 0..resized {
                    let (first, weights) = taps.of(pixel);
                    let weights = weights.as_flattened();
                    let missing = (first + weights.len()).saturating_sub(source);
                    assert!(first % align == 0 && missing <= 1, "{source} to {resized}");
                    assert!(weights[weights.len() - missing..].iter().all(|weight| *weight == 0));
                    let sum: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
                    let off = (sum - (1 << taps.precision)).unsigned_abs() as usize;
                    assert!(off <= weights.len().div_ceil(2), "{source} to {resized}: {off}");
                }
            }
        }
    }
}
