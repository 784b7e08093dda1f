//! Each region's best words, exactly, in one pass over the vocabulary.
//!
//! Takes regions and panels of words, and returns for each region the sums that its softmaxes divide by and its best
//! words of each group. A tile of logits, a few regions by sixteen words, is reduced as soon as it is computed: no
//! logit is stored, and memory doesn't grow with the vocabulary.
//!
//! The best words are known before any probability. log p is w · (text - a) + (1 - w) · (image - b), and a region's a
//! and b are the same for all words: within a group of words with the same weight w, the order of the words is that of
//! w · text + (1 - w) · image.
//!
//! The products are computed here and not by a library, because the words are packed once and a tile's sums are still
//! in registers. Measured on one core of an AVX-512 Xeon, 100 regions, two heads, 1,203 words of 384 numbers: 1.3 ms
//! with both softmaxes and the ranking. The product alone took matrixmultiply 1.4 ms and the crate gemm 2.3 ms, each
//! packing the words again and writing the logits out.

use std::ops::Range;

use super::RegionsView;
use super::panels::{CacheLine, GROUPS, LANES, Lanes, Panels};
use super::softmax::{Sum, multiply_add, weighted};

/// Panels that all regions meet before the next ones come: 800 KB of 384 numbers a word, inside a cache of 2 MB.
const PANELS_AT_ONCE: usize = 32;
/// Rows of a tile where registers hold sixteen floats: two a region, one for each head. Twelve sums hide what a multiply-add
/// takes, and more rows are more idle ones where few regions are left.
const WIDE: usize = 12;
/// Rows of a tile elsewhere, and of a wide one's rest: twelve sums of AVX2's eight floats, of its sixteen registers.
const NARROW: usize = 6;

/// The input of a ranking.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The words.
    pub panels: &'a Panels,
    /// Cosines are multiplied by it.
    pub inverse_temperature: f32,
    /// `[D]`; `None` where there is one head and no softmax: a word's value is then its logit.
    pub background: Option<&'a [f32]>,
    /// The frame's regions.
    pub regions: RegionsView<'a>,
    /// From 1 to the number of shown words.
    pub words_per_region: usize,
    /// Whether hidden words are ranked with the others; if not, they are only in the sums.
    pub ranks_hidden: bool,
    /// `[chosen regions, panels]`: whether a region's result is the same without a panel. Empty: never.
    pub skips: &'a [bool],
}

impl Query<'_> {
    /// Embeddings a region.
    fn heads(&self) -> usize {
        if self.background.is_some() { 2 } else { 1 }
    }

    /// Whether one of these regions, by their places among the chosen, needs to meet a panel.
    #[inline(always)]
    fn needs(&self, mut regions: Range<usize>, panel: usize) -> bool {
        let skips = |region| self.skips.get(region * self.panels.len() + panel).is_some_and(|&skips| skips);
        !regions.all(skips)
    }
}

/// The pass and its buffers.
#[derive(Default)]
pub struct Exact {
    /// The regions' numbers: tile after tile, in a tile number after number, all of its rows side by side.
    rows: Vec<f32>,
    progress: Vec<Progress>,
    /// (value, word) of the best words: region after region, group after group.
    best: Vec<(f32, u32)>,
    /// How many of them each group has.
    room: [usize; GROUPS],
    /// (log p, word) of one region.
    told: Vec<(f32, u32)>,
}

/// A region's way through the vocabulary.
#[derive(Clone, Copy)]
struct Progress {
    text: Sum,
    image: Sum,
    best: [Best; GROUPS],
}

/// One group's best words of one region.
#[derive(Clone, Copy)]
struct Best {
    len: usize,
    /// What a word must be above to be among them.
    least: f32,
}

impl Best {
    /// Below all words, above lanes without one.
    const NONE: Self = Self { len: 0, least: -1e29 };
    /// Of a group that isn't ranked: no word is above it.
    const UNRANKED: Self = Self { len: 0, least: f32::INFINITY };
}

impl Exact {
    /// Ranks the words of the `chosen` regions: [`Self::best_of`] returns them.
    pub fn run(&mut self, query: &Query<'_>, chosen: &[u32]) {
        self.start(query, chosen);
        #[cfg(target_arch = "x86_64")]
        {
            /// For processors with registers of sixteen floats.
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            fn on_avx512(exact: &mut Exact, query: &Query<'_>, chosen: &[u32]) {
                match query.heads() {
                    1 => exact.pass::<WIDE, 1, true>(query, chosen),
                    _ => exact.pass::<WIDE, 2, true>(query, chosen),
                }
            }
            /// For processors since 2013.
            #[target_feature(enable = "avx2,fma")]
            fn on_avx2(exact: &mut Exact, query: &Query<'_>, chosen: &[u32]) {
                match query.heads() {
                    1 => exact.pass::<NARROW, 1, true>(query, chosen),
                    _ => exact.pass::<NARROW, 2, true>(query, chosen),
                }
            }
            let has_512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let has_fma = is_x86_feature_detected!("fma");
            if has_512 && has_fma {
                // SAFETY: the processor has all of these.
                return unsafe { on_avx512(self, query, chosen) };
            }
            if is_x86_feature_detected!("avx2") && has_fma {
                // SAFETY: the processor has AVX2 and FMA.
                return unsafe { on_avx2(self, query, chosen) };
            }
        }
        // Every 64-bit Arm multiplies and adds at once; an old x86 doesn't.
        match query.heads() {
            1 => self.pass::<NARROW, 1, { cfg!(target_arch = "aarch64") }>(query, chosen),
            _ => self.pass::<NARROW, 2, { cfg!(target_arch = "aarch64") }>(query, chosen),
        }
    }

    /// The best words of a region, by its place among the chosen: (log p, or logit with one head; word) in no order, as
    /// many as were asked for.
    pub fn best_of(&mut self, at: usize, query: &Query<'_>) -> &[(f32, u32)] {
        let Some(progress) = self.progress.get(at) else { return &[] };
        let (text_shift, image_shift) = match query.heads() {
            1 => (0.0, 0.0),
            _ => (progress.text.ln(), progress.image.ln()),
        };
        let mut start = at * self.room.iter().sum::<usize>();
        self.told.clear();
        for (group, (best, room)) in query.panels.groups().iter().zip(progress.best.iter().zip(self.room)) {
            let weight = group.text_weight;
            let shift = weight * text_shift + (1.0 - weight) * image_shift;
            self.told
                .extend(self.best[start..][..best.len].iter().map(|&(value, word)| (value - shift, word)));
            start += room;
        }
        keep_best(&mut self.told, query.words_per_region);
        &self.told[..query.words_per_region.min(self.told.len())]
    }

    fn start(&mut self, query: &Query<'_>, chosen: &[u32]) {
        let Query {
            panels, inverse_temperature, background, regions, words_per_region, ranks_hidden, ..
        } = query;
        let size = panels.embedding_size();
        // Twice as many as asked for, so that they are seldom sorted out; all of them where that is less.
        let is_ranked = panels.groups().each_ref().map(|group| *ranks_hidden || !group.is_hidden);
        self.room = std::array::from_fn(|group| {
            if is_ranked[group] { panels.groups()[group].word_count.min(2 * words_per_region) } else { 0 }
        });
        let best = is_ranked.map(|is_ranked| if is_ranked { Best::NONE } else { Best::UNRANKED });
        let room = self.room.iter().sum::<usize>();
        // For all regions of the frame, so that a later one with more to rank finds the room.
        let count = regions.objectness.len();
        self.best.resize(self.best.len().max(count * room), (0.0, 0));
        let rows = query.heads() * count.next_multiple_of(WIDE / query.heads());
        self.rows.resize(self.rows.len().max(size * rows), 0.0);
        self.told.reserve(room.saturating_sub(self.told.len()));
        self.progress.clear();
        self.progress.reserve(count);
        self.progress.extend(chosen.iter().map(|&region| Progress {
            text: background.map_or(Sum::EMPTY, |background| {
                Sum::of(inverse_temperature * dot(regions.text_of(region, size), background))
            }),
            image: Sum::EMPTY,
            best,
        }));
    }

    #[inline(always)]
    fn pass<const ROWS: usize, const HEADS: usize, const FUSED: bool>(
        &mut self,
        query: &Query<'_>,
        chosen: &[u32],
    ) {
        let room = self.room.iter().sum::<usize>();
        let size = query.panels.embedding_size();
        let tiles = || Tiles::<HEADS> { first: 0, count: chosen.len(), rows: ROWS };
        for (regions, rows) in tiles() {
            let out = &mut self.rows[HEADS * size * regions.start..][..rows * size];
            interleave(query, &chosen[regions.start..regions.end.min(chosen.len())], rows, out);
        }
        let panel_count = query.panels.len();
        for first in (0..panel_count).step_by(PANELS_AT_ONCE) {
            let at_once = first..(first + PANELS_AT_ONCE).min(panel_count);
            for (regions, rows) in tiles() {
                let values = &self.rows[HEADS * size * regions.start..][..rows * size];
                let regions = regions.start..regions.end.min(chosen.len());
                let panels = at_once.clone().filter(|&panel| query.needs(regions.clone(), panel));
                let best = &mut self.best[regions.start * room..regions.end * room];
                let progress = &mut self.progress[regions.clone()];
                let room = self.room;
                if rows == ROWS {
                    tile::<ROWS, HEADS, FUSED>(query, panels, values, progress, best, room);
                } else {
                    tile::<NARROW, HEADS, FUSED>(query, panels, values, progress, best, room);
                }
            }
        }
    }
}

/// Regions in tiles of `rows` rows, the last perhaps of [`NARROW`]: which, and in how many rows.
struct Tiles<const HEADS: usize> {
    first: usize,
    count: usize,
    rows: usize,
}

impl<const HEADS: usize> Iterator for Tiles<HEADS> {
    type Item = (Range<usize>, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.count.checked_sub(self.first).filter(|&left| left > 0)?;
        let rows = if left <= NARROW / HEADS { NARROW } else { self.rows };
        let regions = self.first..self.first + rows / HEADS;
        self.first = regions.end;
        Some((regions, rows))
    }
}

/// `out` = number after number what the regions' text embeddings have there, then their image embeddings; 0 where regions
/// lack.
fn interleave(query: &Query<'_>, regions: &[u32], rows: usize, out: &mut [f32]) {
    let size = query.panels.embedding_size();
    if regions.len() < rows / query.heads() {
        out.fill(0.0);
    }
    for (at, &region) in regions.iter().enumerate() {
        let text = query.regions.text_of(region, size);
        if query.heads() == 1 {
            out.chunks_exact_mut(rows).zip(text).for_each(|(out, text)| out[at] = *text);
            continue;
        }
        let image = query.regions.image_of(region, size);
        for (out, (text, image)) in out.chunks_exact_mut(rows).zip(text.iter().zip(image)) {
            out[at] = *text;
            out[rows / 2 + at] = *image;
        }
    }
}

/// Some regions meet some panels.
#[inline(always)]
fn tile<const ROWS: usize, const HEADS: usize, const FUSED: bool>(
    query: &Query<'_>,
    panels: impl Iterator<Item = usize>,
    rows: &[f32],
    progress: &mut [Progress],
    best: &mut [(f32, u32)],
    room: [usize; GROUPS],
) {
    let Query { panels: words, inverse_temperature, words_per_region, .. } = *query;
    let rows = rows.as_chunks::<ROWS>().0;
    for panel in panels {
        let sums = products::<ROWS, FUSED>(rows, words.values(panel));
        let bias = words.bias(panel);
        let group = words.group_of(panel);
        let weight = words.groups()[group].text_weight;
        let (region_room, before) = (room.iter().sum::<usize>(), room[..group].iter().sum::<usize>());
        for (at, progress) in progress.iter_mut().enumerate() {
            let text = logits::<FUSED>(&sums[at], inverse_temperature, bias);
            let values = if HEADS == 1 {
                text
            } else {
                let image = logits::<FUSED>(&sums[ROWS / 2 + at], inverse_temperature, bias);
                progress.text.add::<FUSED>(&text);
                progress.image.add::<FUSED>(&image);
                weighted::<FUSED>(weight, &text, &image)
            };
            let state = &mut progress.best[group];
            if values.iter().fold(false, |above, &value| above | (value > state.least)) {
                let start = at * region_room + before;
                insert(state, &mut best[start..start + room[group]], words_per_region, &values, |lane| {
                    words.word(panel, lane)
                });
            }
        }
    }
}

/// Logits of products.
#[inline(always)]
fn logits<const FUSED: bool>(sums: &Lanes, scale: f32, bias: &Lanes) -> Lanes {
    let mut logits = *bias;
    for (logit, sum) in logits.iter_mut().zip(sums) {
        *logit = multiply_add::<FUSED>(*sum, scale, *logit);
    }
    logits
}

/// Sixteen words' products with each row.
#[inline(always)]
fn products<const ROWS: usize, const FUSED: bool>(
    rows: &[[f32; ROWS]],
    panel: &[CacheLine<Lanes>],
) -> [Lanes; ROWS] {
    #[cfg(target_arch = "x86_64")]
    if ROWS == WIDE {
        // SAFETY: only where registers hold sixteen floats are tiles wide.
        return unsafe { products_512(rows, panel) };
    }
    let mut sums = [[0.0; LANES]; ROWS];
    for (row_values, word_values) in rows.iter().zip(panel) {
        for (sums, row_value) in sums.iter_mut().zip(row_values) {
            for (sum, word_value) in sums.iter_mut().zip(&word_values.0) {
                *sum = multiply_add::<FUSED>(*row_value, *word_value, *sum);
            }
        }
    }
    sums
}

/// The same, spelled out: the compiler leaves the loops above as loops when there are twelve rows, twenty times slower.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn products_512<const ROWS: usize>(rows: &[[f32; ROWS]], panel: &[CacheLine<Lanes>]) -> [Lanes; ROWS] {
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [_mm512_setzero_ps(); ROWS];
    for (row_values, word_values) in rows.iter().zip(panel) {
        // SAFETY: a panel has sixteen numbers.
        let word_values = unsafe { _mm512_loadu_ps(word_values.0.as_ptr()) };
        for (sum, row_value) in sums.iter_mut().zip(row_values) {
            *sum = _mm512_fmadd_ps(_mm512_set1_ps(*row_value), word_values, *sum);
        }
    }
    let mut lanes = [[0.0; LANES]; ROWS];
    for (lanes, sum) in lanes.iter_mut().zip(sums) {
        // SAFETY: so have these.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sum) };
    }
    lanes
}

/// Takes those of sixteen words in that are among the best so far.
#[cold]
#[inline(never)]
fn insert(
    state: &mut Best,
    best: &mut [(f32, u32)],
    words_per_region: usize,
    values: &Lanes,
    word: impl Fn(usize) -> u32,
) {
    for (lane, &value) in values.iter().enumerate() {
        if value > state.least {
            best[state.len] = (value, word(lane));
            state.len += 1;
            // Full only where there are more words than may be told.
            if state.len == best.len() && words_per_region < state.len {
                keep_best(best, words_per_region);
                state.len = words_per_region;
                state.least = best[words_per_region - 1].0;
            }
        }
    }
}

/// Moves the best words to the front, the least of them last; of equal ones those with the first places.
fn keep_best(words: &mut [(f32, u32)], count: usize) {
    if count < words.len() {
        words.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
}

/// The sum of the products of two rows.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.0.iter().zip(b.0) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f32>()
}
