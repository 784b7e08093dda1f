//! Finds the regions that cannot reach a threshold, for a quarter of the cost of their scores.
//!
//! Takes regions and words in a byte a number, and returns the regions that may be reported. The error of a product of
//! bytes is at most the length of the rounding error times the length of the other vector (Cauchy and Schwarz), so
//! every logit, and from the logits every score, has an upper bound. A region whose bounds are all below the
//! thresholds is dropped; the others are compared with the words again in float. So what is reported is what would be
//! reported without this, with scores equal to 1e-5 of themselves.
//!
//! It also returns the panels that a region can skip in float: those that add next to nothing to the sums that its
//! softmaxes divide by, and whose words reach no threshold. A region that is sure of its word skips nearly all others,
//! and the floats of a large vocabulary, more than a cache holds, are not read. A region that isn't sure skips none:
//! at a temperature of 0.02 and 1,203 words the others must lie 0.4 below the best as cosines, and in the demo's
//! frames they don't.
//!
//! This step takes most of the time of scoring. Of a demo frame's 100 regions 12 to 58 have an objectness that could
//! reach a threshold, and none to three are reported; nearly all others are dropped here.
//!
//! It runs only where the processor has AVX-512's VNNI, whose one instruction multiplies and adds 64 pairs of bytes.
//! Measured on one core of such a Xeon, 100 regions, two heads, 1,203 words of 384 numbers: 0.40 ms, where floats take
//! 1.3 ms. AVX2 and Arm have no such margin without it, and on a Jetson the GPU ranks. Sixteen-bit numbers would drop
//! a few more regions for twice the products; bfloat16 (VDPBF16PS) computes fewer products a second there than floats
//! do.

use super::panels::Panels;

#[cfg(target_arch = "x86_64")]
pub use vnni::Screen;

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{
        __m512i, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };
    use std::ops::Range;
    use std::sync::Arc;

    use super::super::exact::{Query, dot};
    use super::super::panels::{BytePanels, CacheLine, GROUPS, LANES, Lanes, NO_WORD, QUAD};
    use super::super::softmax::{ROUGHLY, ROUNDER, Sum};
    use super::Panels;

    /// Panels that all regions meet before the next ones come: 400 KB of 384 bytes a word.
    const PANELS_AT_ONCE: usize = 64;
    /// Rows of a tile, two a region.
    const ROWS: usize = 12;
    /// Regions of a tile.
    const REGIONS: usize = ROWS / 2;
    /// Fewer panels meet all regions in float in no time.
    const FEWEST_PANELS: usize = 4;
    /// Far more than all that floats round, as a difference of logarithms; rough exponentials included.
    const SLACK: f32 = 0.01 + 2.0 * ROUGHLY;
    /// What all words that a region skips may be of what its softmaxes divide by: its scores grow by no more of themselves.
    const NEGLIGIBLE: f32 = 1e-5;

    /// Words in bytes, and the buffers of a pass.
    pub struct Screen {
        words: Arc<BytePanels>,
        /// `[panels]`: what a word's threshold takes from its value; [`NO_WORD`] where there is no word.
        handicaps: Vec<Lanes>,
        /// The largest of them: the lowest threshold's.
        largest_handicap: f32,
        /// g / (1 - g) of the objectness's weight g.
        objectness_power: f32,
        /// Quad after quad of all rows of a tile, tile after tile; a quad is four signed bytes.
        rows: Vec<[i32; ROWS]>,
        /// A row, and its bytes.
        floats: Vec<Lanes>,
        bytes: Vec<[u8; LANES]>,
        progress: Vec<Progress>,
        /// `[regions, panels]`: what a panel adds to the sums of both heads, as shares of e^reference; never too little,
        /// for a reference only grows.
        shares: Vec<f32>,
        /// `[regions left, panels]`.
        skips: Vec<bool>,
    }

    /// A region's way through the vocabulary.
    #[derive(Clone, Copy)]
    struct Progress {
        heads: [Head; 2],
        best: [CacheLine<Lanes>; GROUPS],
    }

    /// One head's way.
    #[derive(Clone, Copy)]
    struct Head {
        /// What sums of products start from: words have 128 too much in each number.
        start: i32,
        /// What makes logits of them, but for the word's own scale.
        scale: f32,
        /// How far off a logit is at most.
        error: f32,
        sum: Sum,
    }

    impl Screen {
        /// Of these words, if that pays here.
        pub fn new(panels: &Panels) -> Option<Self> {
            let is_fast = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("fma");
            (is_fast && panels.len() >= FEWEST_PANELS).then(|| Self::of(Arc::new(BytePanels::new(panels))))
        }

        /// Another one of the same words, which are in memory once.
        pub fn of_same_words(&self) -> Self {
            Self::of(Arc::clone(&self.words))
        }

        fn of(words: Arc<BytePanels>) -> Self {
            Self {
                words,
                handicaps: Vec::new(),
                largest_handicap: NO_WORD,
                objectness_power: 0.0,
                rows: Vec::new(),
                floats: Vec::new(),
                bytes: Vec::new(),
                progress: Vec::new(),
                shares: Vec::new(),
                skips: Vec::new(),
            }
        }

        /// Takes other thresholds from now on: a word's least score, above 0; infinite if it is never reported.
        pub fn follow(
            &mut self,
            panels: &Panels,
            threshold_of: impl Fn(usize) -> f32,
            objectness_weight: f32,
        ) {
            // score = p^(1-g) · objectness^g, of which p is what is bounded.
            let power = (1.0 - objectness_weight).recip();
            let handicap = |word| (-power * threshold_of(word).ln()).max(NO_WORD);
            panels.by_lane(handicap, NO_WORD, &mut self.handicaps);
            self.largest_handicap = self.handicaps.as_flattened().iter().copied().fold(NO_WORD, f32::max);
            self.objectness_power = objectness_weight * power;
        }

        /// Leaves those of the `chosen` regions that may reach a word's threshold, and returns which panels each of them may
        /// skip: [`Query::skips`].
        pub fn run(&mut self, query: &Query<'_>, chosen: &mut Vec<u32>) -> &[bool] {
            // For all regions of the frame, so that a later one with more of them finds the room.
            let count = query.regions.objectness.len();
            let quads = self.words.quads;
            self.rows.resize(self.rows.len().max(count.div_ceil(REGIONS) * quads), [0; ROWS]);
            self.floats.resize(quads * QUAD / LANES, [0.0; LANES]);
            self.bytes.resize(quads * QUAD / LANES, [0; LANES]);
            self.progress.clear();
            self.progress.reserve(count);
            let panel_count = query.panels.len();
            self.shares.resize(self.shares.len().max(count * panel_count), 0.0);
            self.skips.clear();
            self.skips.reserve(count * panel_count);
            // SAFETY: there is a screen only where the processor has all of these.
            unsafe { self.pass(query, chosen) };
            let mut met = self.progress.iter().zip(self.shares.chunks_exact(panel_count));
            chosen.retain(|&region| {
                let Some((progress, shares)) = met.next() else { return true };
                let spare = self.objectness_power * query.regions.objectness[region as usize].ln();
                // A bound that is not a number keeps the region: what it is, floats will tell.
                let is_hopeless = progress.bound(query.panels) + spare + SLACK < 0.0;
                if !is_hopeless {
                    let negligible = progress.negligible(shares, -self.largest_handicap - spare);
                    self.skips.extend(shares.iter().map(|&share| share <= negligible));
                }
                !is_hopeless
            });
            &self.skips
        }

        /// The share of what regions and panels were left that was skipped, in the last run.
        #[cfg(test)]
        pub fn skipped(&self) -> f32 {
            self.skips.iter().filter(|skips| **skips).count() as f32 / self.skips.len() as f32
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
        fn pass(&mut self, query: &Query<'_>, chosen: &[u32]) {
            let quads = self.words.quads;
            for (tile, regions) in chosen.chunks(REGIONS).enumerate() {
                for (at, &region) in regions.iter().enumerate() {
                    self.start(query, tile * quads, at, region);
                }
            }
            let panel_count = query.panels.len();
            for first in (0..panel_count).step_by(PANELS_AT_ONCE) {
                let panels = first..(first + PANELS_AT_ONCE).min(panel_count);
                let Self { words, handicaps, rows, progress, shares, .. } = self;
                let shares = shares.chunks_mut(REGIONS * panel_count);
                for ((progress, rows), shares) in
                    progress.chunks_mut(REGIONS).zip(rows.chunks_exact(quads)).zip(shares)
                {
                    tile(query, words, handicaps, panels.clone(), rows, progress, shares);
                }
            }
        }

        /// A region in bytes.
        #[inline(always)]
        fn start(&mut self, query: &Query<'_>, first_quad: usize, at: usize, region: u32) {
            let size = query.panels.embedding_size();
            let embeddings = [query.regions.text_of(region, size), query.regions.image_of(region, size)];
            let mut heads = [Head { start: 0, scale: 0.0, error: 0.0, sum: Sum::EMPTY }; 2];
            for (number, (head, embedding)) in heads.iter_mut().zip(embeddings).enumerate() {
                self.floats.as_flattened_mut()[..size].copy_from_slice(embedding);
                let rounded = round(&self.floats, &mut self.bytes);
                let rows = &mut self.rows[first_quad..][..self.words.quads];
                for (row, quad) in rows.iter_mut().zip(self.bytes.as_flattened().as_chunks::<QUAD>().0) {
                    row[number * REGIONS + at] = i32::from_le_bytes(*quad);
                }
                let error =
                    self.words.largest_error * rounded.length + self.words.largest_length * rounded.error;
                head.start = -128 * rounded.sum;
                head.scale = rounded.scale * query.inverse_temperature;
                head.error = error * query.inverse_temperature;
            }
            // The background is known in float: what is said of the other terms' errors mustn't be said of it.
            let background =
                query.inverse_temperature * dot(embeddings[0], query.background.unwrap_or_default());
            heads[0].sum = Sum::of(background);
            self.progress.push(Progress { heads, best: [CacheLine([NO_WORD; LANES]); GROUPS] });
        }
    }

    /// What became of a row of floats.
    struct Rounded {
        scale: f32,
        /// Of the whole numbers.
        sum: i32,
        /// The row's length.
        length: f32,
        /// The length of what was lost.
        error: f32,
    }

    /// `bytes` = the row in whole numbers from -127 to 127.
    #[inline(always)]
    fn round(row: &[Lanes], bytes: &mut [[u8; LANES]]) -> Rounded {
        let (mut largest, mut squares) = ([0.0_f32; LANES], [0.0; LANES]);
        for values in row {
            for ((largest, square), value) in largest.iter_mut().zip(&mut squares).zip(values) {
                *largest = if value.abs() > *largest { value.abs() } else { *largest };
                *square += value * value;
            }
        }
        let largest = largest.into_iter().fold(0.0, f32::max);
        let (scale, inverse) = (largest / 127.0, if largest > 0.0 { 127.0 / largest } else { 0.0 });
        let (mut sums, mut errors) = ([0_i32; LANES], [0.0; LANES]);
        for (values, bytes) in row.iter().zip(bytes) {
            for (lane, value) in values.iter().enumerate() {
                let rounded = value * inverse + ROUNDER;
                let lost = value - scale * (rounded - ROUNDER);
                bytes[lane] = rounded.to_bits() as u8;
                sums[lane] += i32::from(rounded.to_bits() as i8);
                errors[lane] += lost * lost;
            }
        }
        let length = |squares: [f32; LANES]| squares.iter().sum::<f32>().sqrt();
        Rounded { scale, sum: sums.iter().sum(), length: length(squares), error: length(errors) }
    }

    impl Progress {
        /// By how much, as a logarithm and before the objectness, the likeliest word may lie above its threshold.
        fn bound(&self, panels: &Panels) -> f32 {
            let least = self.heads.each_ref().map(|head| head.sum.ln() - head.error);
            let bounds = panels.groups().iter().zip(&self.best).map(|(group, best)| {
                let weight = group.text_weight;
                let best = best.0.iter().copied().fold(NO_WORD, f32::max);
                let [text, image] = [0, 1].map(|head| self.heads[head].error - least[head]);
                best + weight * text + (1.0 - weight) * image
            });
            // Not `max`: it would lose what is not a number.
            bounds.fold(NO_WORD, |largest, bound| if bound <= largest { largest } else { bound })
        }

        /// The share up to which panels can be skipped: all of them together are [`NEGLIGIBLE`], and no word of theirs has
        /// the likelihood that reaches a threshold. A word is no likelier than the head says that thinks more of it.
        fn negligible(&self, shares: &[f32], least_log_p: f32) -> f32 {
            // A share may be too small and a sum too large, each by the error.
            let wholes =
                self.heads.each_ref().map(|head| head.sum.share() * (-2.0 * head.error - SLACK).exp());
            let whole = wholes[0].min(wholes[1]);
            let together = NEGLIGIBLE * whole;
            let mut each = together.min(whole * least_log_p.exp());
            while shares.iter().filter(|share| **share <= each).sum::<f32>() > together {
                each /= 8.0;
            }
            each
        }
    }

    /// A few regions meet some panels.
    #[inline(always)]
    fn tile(
        query: &Query<'_>,
        words: &BytePanels,
        handicaps: &[Lanes],
        panels: Range<usize>,
        rows: &[[i32; ROWS]],
        progress: &mut [Progress],
        shares: &mut [f32],
    ) {
        let panel_count = query.panels.len();
        let mut start = [0; ROWS];
        for (at, progress) in progress.iter().enumerate() {
            (start[at], start[REGIONS + at]) = (progress.heads[0].start, progress.heads[1].start);
        }
        for panel in panels {
            // SAFETY: there is a screen only where the processor has these instructions.
            let sums = unsafe { products(rows, words.values(panel), &start) };
            let (scales, bias, handicaps) =
                (words.scales(panel), query.panels.bias(panel), &handicaps[panel]);
            let group = query.panels.group_of(panel);
            let weight = query.panels.groups()[group].text_weight;
            for (at, progress) in progress.iter_mut().enumerate() {
                let [text_head, image_head] = &mut progress.heads;
                // SAFETY: as above.
                unsafe {
                    let text = logits(&sums[at], text_head.scale, scales, bias);
                    let image = logits(&sums[REGIONS + at], image_head.scale, scales, bias);
                    if panel == 0 {
                        // Both references are then the largest of the same words: one number can tell both heads' shares.
                        text_head.sum.move_reference(&text);
                    }
                    let text_terms = text_head.sum.add_roughly::<true>(&text);
                    let image_terms = image_head.sum.add_roughly::<true>(&image);
                    shares[at * panel_count + panel] = sum(&text_terms, &image_terms);
                    raise(&mut progress.best[group].0, weight, &text, &image, handicaps);
                }
            }
        }
    }

    // These are spelled out: of loops over lanes between others the compiler makes sixteen steps.

    /// Logits of products.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn logits(sums: &Lanes, scale: f32, word_scales: &Lanes, bias: &Lanes) -> Lanes {
        let mut logits = [0.0; LANES];
        // SAFETY: all of these are sixteen floats.
        unsafe {
            let scales = _mm512_mul_ps(_mm512_loadu_ps(word_scales.as_ptr()), _mm512_set1_ps(scale));
            let sums = _mm512_loadu_ps(sums.as_ptr());
            let found = _mm512_fmadd_ps(sums, scales, _mm512_loadu_ps(bias.as_ptr()));
            _mm512_storeu_ps(logits.as_mut_ptr(), found);
        }
        logits
    }

    /// Of all numbers of two rows.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn sum(a: &Lanes, b: &Lanes) -> f32 {
        // SAFETY: both are sixteen floats.
        unsafe {
            _mm512_reduce_add_ps(_mm512_add_ps(_mm512_loadu_ps(a.as_ptr()), _mm512_loadu_ps(b.as_ptr())))
        }
    }

    /// The largest values so far, each lane's.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn raise(best: &mut Lanes, weight: f32, text: &Lanes, image: &Lanes, handicaps: &Lanes) {
        // SAFETY: all of these are sixteen floats.
        unsafe {
            let image = _mm512_fmadd_ps(
                _mm512_set1_ps(1.0 - weight),
                _mm512_loadu_ps(image.as_ptr()),
                _mm512_loadu_ps(handicaps.as_ptr()),
            );
            let value = _mm512_fmadd_ps(_mm512_set1_ps(weight), _mm512_loadu_ps(text.as_ptr()), image);
            // The second where the first is no number.
            let largest = _mm512_max_ps(value, _mm512_loadu_ps(best.as_ptr()));
            _mm512_storeu_ps(best.as_mut_ptr(), largest);
        }
    }

    /// Sixteen words' products with each row, in whole numbers that a float may round.
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn products(
        rows: &[[i32; ROWS]],
        panel: &[CacheLine<[u8; QUAD * LANES]>],
        start: &[i32; ROWS],
    ) -> [Lanes; ROWS] {
        let mut sums: [__m512i; ROWS] = [_mm512_setzero_si512(); ROWS];
        for (sum, &start) in sums.iter_mut().zip(start) {
            *sum = _mm512_set1_epi32(start);
        }
        for (quads, words) in rows.iter().zip(panel) {
            // SAFETY: a panel has 64 bytes a quad.
            let words = unsafe { _mm512_loadu_si512(words.0.as_ptr().cast()) };
            for (sum, &quad) in sums.iter_mut().zip(quads) {
                *sum = _mm512_dpbusd_epi32(*sum, words, _mm512_set1_epi32(quad));
            }
        }
        let mut lanes = [[0.0; LANES]; ROWS];
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: there is room for sixteen.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_cvtepi32_ps(sum)) };
        }
        lanes
    }
}

/// Nothing is dropped.
#[cfg(not(target_arch = "x86_64"))]
pub struct Screen(std::convert::Infallible);

#[cfg(not(target_arch = "x86_64"))]
impl Screen {
    /// It doesn't pay here.
    pub fn new(_: &Panels) -> Option<Self> {
        None
    }

    /// Never called.
    pub fn of_same_words(&self) -> Self {
        match self.0 {}
    }

    /// Never called.
    pub fn follow(&mut self, _: &Panels, _: impl Fn(usize) -> f32, _: f32) {
        match self.0 {}
    }

    /// Never called.
    pub fn run(&mut self, _: &super::exact::Query<'_>, _: &mut Vec<u32>) -> &[bool] {
        match self.0 {}
    }

    /// Never called.
    #[cfg(test)]
    pub fn skipped(&self) -> f32 {
        match self.0 {}
    }
}
