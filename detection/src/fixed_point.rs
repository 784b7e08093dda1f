//! Bilinear resizing of RGB in whole numbers: bit for bit what the crate `fast_image_resize` 6.1 makes.
//!
//! In flows a frame of interleaved pixels, out flow the rows of three planes. Students were trained and are evaluated
//! with that crate's bytes, and two levels of grey change which detections pass their threshold; but the crate makes
//! its tables anew for each frame (174 to 680 allocations), and here nothing is allocated while frames keep their size.
//!
//! What it computes, on every processor: weights in `f64`, rounded to 15 bits with as many of them behind the point as
//! the largest allows; rows summed first, rounded to bytes; then columns, rounded to bytes again.
//!
//! The one surprising thing: it can't be done in `f32`. Weights of a side that shrinks have up to 21 bits behind the
//! point, and from 17 on (shrinking to less than half) their sums with bytes don't fit in 24 bits.

use crate::Letterbox;

/// Rows that are made together.
const LANES: usize = 8;

/// Bytes of a row that are summed together.
const CHUNK: usize = 64;

/// Which samples of a side make each pixel of the shorter or longer one, and with what weights. Samples go by pairs,
/// because processors multiply and add pairs in one instruction.
struct Taps {
    /// For each pixel: the first sample that it is made of, and how many pairs.
    spans: Vec<(usize, usize)>,
    /// The pairs' weights, `stride` a pixel; none is negative.
    weights: Vec<[i16; 2]>,
    /// Pairs a pixel.
    stride: usize,
    /// The weights' bits behind the point.
    precision: u32,
}

impl Taps {
    /// From a side of `source` samples to one of `resized`, neither of them 0. First samples are multiples of `align`.
    ///
    /// Each step of the arithmetic is the crate's, in its order: another one rounds some weights the other way.
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

/// Neighbours in a row, of each row that is made together with others: what one weighing of a pair takes.
type Pairs = [[i16; 2]; LANES];

/// Sums of each of those rows.
type Sums = [i32; LANES];

/// Resizes frames into planes; keeps its tables while the sizes stay.
pub(crate) struct FixedPointResizer {
    /// What the tables are for: the frame's size and the resized one.
    sizes: [(usize, usize); 2],
    rows: Taps,
    columns: Taps,
    /// Some rows of the resized height and the frame's width. Longer than the rows, for what is read by 16 bytes.
    blended: [Vec<u8>; LANES],
    /// The same, by pairs of pixels: red, green and blue.
    woven: Vec<[Pairs; 3]>,
}

impl FixedPointResizer {
    pub(crate) fn new() -> Self {
        let (rows, columns) = (Taps::new(1, 1, 1), Taps::new(1, 1, 2));
        Self { sizes: [(0, 0); 2], rows, columns, blended: Default::default(), woven: Vec::new() }
    }

    /// Writes the frame `rgb` where `letterbox` places it in `out`, planes that are `input_width` wide.
    pub(crate) fn run(&mut self, rgb: &[u8], letterbox: &Letterbox, input_width: usize, out: &mut [u8]) {
        self.keep_tables_for(letterbox);
        #[cfg(target_arch = "x86_64")]
        {
            /// The same for processors since 2013: a third of the time.
            #[target_feature(enable = "avx2")]
            fn on_avx2(
                resizer: &mut FixedPointResizer,
                rgb: &[u8],
                letterbox: &Letterbox,
                input_width: usize,
                out: &mut [u8],
            ) {
                let kernels = Kernels {
                    blend: |rows: &Rows<'_>, at: usize, out: &mut [u8; CHUNK]| avx2::blend(rows, at, out),
                    weave: |rows: [&[u8; 16]; LANES]| avx2::weave(rows),
                    sum: |woven: &[[Pairs; 3]], weights: &[[i16; 2]]| avx2::sum(woven, weights),
                    narrow: |sums: [Sums; LANES], precision: u32| avx2::narrow(sums, precision),
                };
                resizer.resize(rgb, letterbox, input_width, out, kernels);
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                unsafe { on_avx2(self, rgb, letterbox, input_width, out) };
                return;
            }
        }
        self.resize(rgb, letterbox, input_width, out, PLAIN);
    }

    fn keep_tables_for(&mut self, letterbox: &Letterbox) {
        let sizes = [letterbox.frame_size(), letterbox.resized_size()];
        if sizes == self.sizes {
            return;
        }
        let [(width, height), (resized_width, resized_height)] = sizes;
        self.sizes = sizes;
        self.rows = Taps::new(height, resized_height, 1);
        self.columns = Taps::new(width, resized_width, 2);
        let fours = width.div_ceil(4);
        self.blended.iter_mut().for_each(|row| row.resize(12 * fours + 4, 0));
        self.woven.resize(2 * fours, [[[0; 2]; LANES]; 3]);
    }

    /// Like all that it calls it is compiled into whoever calls it, for that one's instructions.
    #[inline(always)]
    fn resize<B, W, S, N>(
        &mut self,
        rgb: &[u8],
        letterbox: &Letterbox,
        input_width: usize,
        out: &mut [u8],
        kernels: Kernels<B, W, S, N>,
    ) where
        B: Fn(&Rows<'_>, usize, &mut [u8; CHUNK]),
        W: Fn([&[u8; 16]; LANES]) -> [[Pairs; 3]; 2],
        S: Fn(&[[Pairs; 3]], &[[i16; 2]]) -> [Sums; 3],
        N: Fn([Sums; LANES], u32) -> [[u8; LANES]; LANES],
    {
        let [(width, _), (resized_width, resized_height)] = self.sizes;
        let (pad_x, pad_y) = letterbox.pad();
        let plane_len = out.len() / 3;
        for first_row in (0..resized_height).step_by(LANES) {
            let count = LANES.min(resized_height - first_row);
            for (lane, blended) in self.blended.iter_mut().enumerate().take(count) {
                let (first, weights) = self.rows.of(first_row + lane);
                let rows = Rows { rgb, len: 3 * width, first, weights, precision: self.rows.precision };
                blend_row(&rows, &mut blended[..3 * width], &kernels.blend);
            }
            // The last rows may be fewer: what the other lanes have of before is not written.
            weave_rows(&self.blended, &mut self.woven, &kernels.weave);
            for first_pixel in (0..resized_width).step_by(LANES) {
                let pixels = LANES.min(resized_width - first_pixel);
                let mut sums = [[[0; LANES]; LANES]; 3];
                for lane in 0..pixels {
                    let (first, weights) = self.columns.of(first_pixel + lane);
                    let colours = (kernels.sum)(&self.woven[first / 2..][..weights.len()], weights);
                    sums.iter_mut().zip(colours).for_each(|(sums, colour)| sums[lane] = colour);
                }
                let start = (first_row + pad_y) * input_width + pad_x + first_pixel;
                for (plane, sums) in out.chunks_exact_mut(plane_len).zip(sums) {
                    let lines = (kernels.narrow)(sums, self.columns.precision);
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
}

/// The rows of a frame that make one of the resized height.
struct Rows<'a> {
    rgb: &'a [u8],
    /// Bytes a row.
    len: usize,
    first: usize,
    weights: &'a [[i16; 2]],
    precision: u32,
}

impl Rows<'_> {
    /// Both rows of each pair from a byte on, and their weights. Below the frame's last row is that row again, of which
    /// the weight is 0.
    #[inline(always)]
    fn pairs(&self, at: usize) -> impl Iterator<Item = (&[u8], &[u8], [i16; 2])> {
        let last = self.rgb.len() - self.len;
        self.weights.iter().enumerate().map(move |(pair, weights)| {
            let row = (self.first + 2 * pair) * self.len;
            (&self.rgb[row + at..], &self.rgb[(row + self.len).min(last) + at..], *weights)
        })
    }
}

/// The inner loops: in plain Rust, and in a processor's own instructions where the compiler doesn't find them. All
/// compute the same whole numbers.
struct Kernels<B, W, S, N> {
    /// A chunk of a row, from a byte on, as the weighted sum of rows.
    blend: B,
    /// From each row four pixels and 4 bytes more, by pairs.
    weave: W,
    /// The weighted sums of pairs.
    sum: S,
    /// Pixels' sums as bytes of rows.
    narrow: N,
}

#[inline(always)]
fn blend_row(rows: &Rows<'_>, out: &mut [u8], blend: impl Fn(&Rows<'_>, usize, &mut [u8; CHUNK])) {
    let Some(last) = out.len().checked_sub(CHUNK) else { return plain::blend(rows, 0, out) };
    for at in (0..out.len()).step_by(CHUNK) {
        // The last chunk covers some of the one before again: the same bytes.
        let at = at.min(last);
        if let Some(out) = out[at..].first_chunk_mut() {
            blend(rows, at, out);
        }
    }
}

#[inline(always)]
fn weave_rows(
    rows: &[Vec<u8>; LANES],
    out: &mut [[Pairs; 3]],
    weave: impl Fn([&[u8; 16]; LANES]) -> [[Pairs; 3]; 2],
) {
    let (fours, _) = out.as_chunks_mut::<2>();
    let rows: [&[u8]; LANES] = rows.each_ref().map(|row| &row[..12 * fours.len() + 4]);
    for (four, out) in fours.iter_mut().enumerate() {
        *out = weave(rows.map(|row| row[12 * four..].first_chunk().unwrap_or(&[0; 16])));
    }
}

/// A sum of weighted bytes as a byte.
#[inline(always)]
fn byte(sum: i32, precision: u32) -> u8 {
    ((sum + (1 << (precision - 1))) >> precision).min(255) as u8
}

/// For processors that have nothing of their own below.
const PLAIN: Kernels<
    fn(&Rows<'_>, usize, &mut [u8; CHUNK]),
    fn([&[u8; 16]; LANES]) -> [[Pairs; 3]; 2],
    fn(&[[Pairs; 3]], &[[i16; 2]]) -> [Sums; 3],
    fn([Sums; LANES], u32) -> [[u8; LANES]; LANES],
> = Kernels {
    blend: |rows, at, out| plain::blend(rows, at, out),
    weave: plain::weave,
    sum: plain::sum,
    narrow: plain::narrow,
};

mod plain {
    use super::*;

    /// At most a chunk.
    #[inline(always)]
    pub(super) fn blend(rows: &Rows<'_>, at: usize, out: &mut [u8]) {
        let mut sums = [0; CHUNK];
        for (upper, lower, weights) in rows.pairs(at) {
            let [upper_weight, lower_weight] = weights.map(i32::from);
            let (upper, lower) = (&upper[..out.len()], &lower[..out.len()]);
            for ((sum, upper), lower) in sums.iter_mut().zip(upper).zip(lower) {
                *sum += i32::from(*upper) * upper_weight + i32::from(*lower) * lower_weight;
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = byte(sum, rows.precision));
    }

    #[inline(always)]
    pub(super) fn weave(rows: [&[u8; 16]; LANES]) -> [[Pairs; 3]; 2] {
        [0, 6].map(|left| {
            [0, 1, 2]
                .map(|colour| rows.map(|row| [row[left + colour], row[left + 3 + colour]].map(i16::from)))
        })
    }

    #[inline(always)]
    pub(super) fn sum(woven: &[[Pairs; 3]], weights: &[[i16; 2]]) -> [Sums; 3] {
        let mut sums = [[0; LANES]; 3];
        for (pairs, weights) in woven.iter().zip(weights) {
            for (sums, pairs) in sums.iter_mut().zip(pairs) {
                for (sum, pair) in sums.iter_mut().zip(pairs) {
                    *sum += i32::from(pair[0]) * i32::from(weights[0])
                        + i32::from(pair[1]) * i32::from(weights[1]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    pub(super) fn narrow(sums: [Sums; LANES], precision: u32) -> [[u8; LANES]; LANES] {
        std::array::from_fn(|row| sums.map(|pixel| byte(pixel[row], precision)))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::*;

    /// Two neighbouring weights beside each other, eight times.
    #[target_feature(enable = "avx2")]
    fn splat([one, other]: [i16; 2]) -> __m256i {
        _mm256_set1_epi32(i32::from(one) | i32::from(other) << 16)
    }

    #[target_feature(enable = "avx2")]
    fn rounded(sums: __m256i, precision: u32) -> __m256i {
        let half = _mm256_set1_epi32(1 << (precision - 1));
        _mm256_srlv_epi32(_mm256_add_epi32(sums, half), _mm256_set1_epi32(precision as i32))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn blend(rows: &Rows<'_>, at: usize, out: &mut [u8; CHUNK]) {
        let zero = _mm256_setzero_si256();
        let mut sums = [[zero; 4]; 2];
        for (upper, lower, weights) in rows.pairs(at) {
            let (upper, lower) = (&upper[..CHUNK], &lower[..CHUNK]);
            let weights = splat(weights);
            for (half, sums) in sums.iter_mut().enumerate() {
                let [upper, lower] = [upper, lower].map(|row| {
                    let half = &row[half * 32..][..32];
                    // SAFETY: 32 bytes are read of as many; the instruction asks for no alignment.
                    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
                });
                // A byte of the upper row beside its neighbour of the lower, widened, in the order that packing undoes.
                let (left, right) = (_mm256_unpacklo_epi8(upper, lower), _mm256_unpackhi_epi8(upper, lower));
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
        let (halves, _) = out.as_chunks_mut::<32>();
        for (half, sums) in halves.iter_mut().zip(sums) {
            let [a, b, c, d] = sums.map(|sum| rounded(sum, rows.precision));
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            // SAFETY: 32 bytes are written to as many, unaligned.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), bytes) };
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn weave(rows: [&[u8; 16]; LANES]) -> [[Pairs; 3]; 2] {
        // A row and the fourth after it in the halves of a register: then no step has to cross the halves.
        let rows: [__m256i; 4] = std::array::from_fn(|lane| {
            // SAFETY: 16 bytes are read of as many, unaligned.
            let [upper, lower] =
                [rows[lane], rows[lane + 4]].map(|row| unsafe { _mm_loadu_si128(row.as_ptr().cast()) });
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(upper), lower)
        });
        [0, 6].map(|left| {
            // Of two pixels the reds, greens and blues beside each other, each widened to 16 bits.
            let place = |at: i8, colour: i8| if colour < 3 { left + 3 * at + colour } else { -1 };
            let places: [i8; 32] = std::array::from_fn(|byte| match byte % 4 {
                0 => place(0, (byte % 16 / 4) as i8),
                2 => place(1, (byte % 16 / 4) as i8),
                _ => -1,
            });
            // SAFETY: 32 bytes are read of as many, unaligned.
            let places = unsafe { _mm256_loadu_si256(places.as_ptr().cast()) };
            let [a, b, c, d] = rows.map(|row| _mm256_shuffle_epi8(row, places));
            let (red_green_ab, blue_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (red_green_cd, blue_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(red_green_ab, red_green_cd),
                _mm256_unpackhi_epi64(red_green_ab, red_green_cd),
                _mm256_unpacklo_epi64(blue_ab, blue_cd),
            ]
            .map(|pairs| {
                let mut out = [[0; 2]; LANES];
                // SAFETY: 32 bytes are written to as many, unaligned.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), pairs) };
                out
            })
        })
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sum(woven: &[[Pairs; 3]], weights: &[[i16; 2]]) -> [Sums; 3] {
        let mut sums = [_mm256_setzero_si256(); 3];
        for (pairs, weights) in woven.iter().zip(weights) {
            let weights = splat(*weights);
            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                // SAFETY: 32 bytes are read of as many, unaligned.
                let pairs = unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, weights));
            }
        }
        sums.map(|sums| {
            let mut out = [0; LANES];
            // SAFETY: 32 bytes are written to as many, unaligned.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
            out
        })
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn narrow(sums: [Sums; LANES], precision: u32) -> [[u8; LANES]; LANES] {
        let [a, b, c, d, e, f, g, h] = sums.map(|pixel| {
            // SAFETY: 32 bytes are read of as many, unaligned.
            rounded(unsafe { _mm256_loadu_si256(pixel.as_ptr().cast()) }, precision)
        });
        // Four rows of four pixels in each half, pixel by pixel, made row by row.
        #[rustfmt::skip]
        let turn = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        );
        let [left, right] = [[a, b, c, d], [e, f, g, h]].map(|[a, b, c, d]| {
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            _mm256_shuffle_epi8(bytes, turn)
        });
        // Rows 0, 1, 4 and 5, and 2, 3, 6 and 7.
        let lines = [_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right)].map(|lines| {
            let mut out = [[0; LANES]; 4];
            // SAFETY: 32 bytes are written to as many, unaligned.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), lines) };
            out
        });
        let [[zero, one, four, five], [two, three, six, seven]] = lines;
        [zero, one, two, three, four, five, six, seven]
    }
}
