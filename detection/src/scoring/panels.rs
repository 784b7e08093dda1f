//! A vocabulary packed for the products: sixteen words side by side.
//!
//! Takes the embeddings of a vocabulary once, and returns panels of [`LANES`] words, number by number: one load
//! fetches the same number of sixteen words, and nothing is packed while frames come.
//!
//! The words are reordered. Words whose heads have the same weight are grouped, hidden words in groups of their own,
//! and each group is padded to whole panels. So the weight, and whether words may be reported, are properties of a
//! panel and not of a lane.

use std::ops::Range;

/// Words of a panel: the 32-bit floats of AVX-512's registers, two of AVX2's, four of NEON's.
pub const LANES: usize = 16;
/// One number for each word of a panel.
pub type Lanes = [f32; LANES];
/// A line of a processor's cache: a load of sixteen floats that lies across two of them is two loads.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct CacheLine<T>(pub T);
/// What a lane without a word has in place of a logit. Finite, so that no infinity is ever subtracted from another.
pub const NO_WORD: f32 = -1e30;
/// Bytes of one embedding that are multiplied together: what VNNI adds up at once.
pub const QUAD: usize = 4;
/// Shown words of either weight, then hidden ones.
pub const GROUPS: usize = 4;

/// Words and what their panels start from.
pub struct Panels {
    embedding_size: usize,
    /// `[panels, D]`.
    values: Vec<CacheLine<Lanes>>,
    /// `[panels]`: 0, or [`NO_WORD`].
    biases: Vec<Lanes>,
    /// `[panels · LANES]`: places in the vocabulary; any place where there is no word.
    words: Vec<u32>,
    word_count: usize,
    groups: [Group; GROUPS],
}

/// Words whose heads are weighed alike, all shown or all hidden.
#[derive(Debug, Clone)]
pub struct Group {
    /// The text head's weight against the image head's.
    pub text_weight: f32,
    /// Whether its words are hidden.
    pub is_hidden: bool,
    /// Where its panels stand.
    pub panels: Range<usize>,
    /// How many words it has.
    pub word_count: usize,
}

impl Panels {
    /// Of `embeddings` (`[W, D]`), `in_first` telling the words of the first weight, `is_hidden` the hidden ones.
    pub fn new(
        embeddings: &[f32],
        embedding_size: usize,
        in_first: impl Fn(usize) -> bool,
        is_hidden: impl Fn(usize) -> bool,
        text_weights: [f32; 2],
    ) -> Self {
        let word_count = embeddings.len() / embedding_size;
        // Within a group the words keep their order: equal scores are told in it.
        let kinds: [(bool, bool); GROUPS] = [(true, false), (false, false), (true, true), (false, true)];
        let members = kinds.map(|kind| {
            (0..word_count).filter(|&word| (in_first(word), is_hidden(word)) == kind).collect::<Vec<usize>>()
        });
        let mut panel_count = 0;
        let groups = std::array::from_fn(|group| {
            let first_panel = panel_count;
            panel_count += members[group].len().div_ceil(LANES);
            Group {
                text_weight: text_weights[usize::from(!kinds[group].0)],
                is_hidden: kinds[group].1,
                panels: first_panel..panel_count,
                word_count: members[group].len(),
            }
        });
        let mut panels = Self {
            embedding_size,
            values: vec![CacheLine([0.0; LANES]); panel_count * embedding_size],
            biases: vec![[NO_WORD; LANES]; panel_count],
            words: vec![0; panel_count * LANES],
            word_count,
            groups,
        };
        for (members, group) in members.iter().zip(&panels.groups) {
            for (at, &word) in members.iter().enumerate() {
                let (panel, lane) = (group.panels.start + at / LANES, at % LANES);
                panels.biases[panel][lane] = 0.0;
                panels.words[panel * LANES + lane] = word as u32;
                let embedding = &embeddings[word * embedding_size..][..embedding_size];
                let values = &mut panels.values[panel * embedding_size..][..embedding_size];
                values.iter_mut().zip(embedding).for_each(|(lanes, value)| lanes.0[lane] = *value);
            }
        }
        panels
    }

    /// How many panels there are.
    pub fn len(&self) -> usize {
        self.biases.len()
    }

    /// D.
    pub fn embedding_size(&self) -> usize {
        self.embedding_size
    }

    /// The groups, the panels of each behind those of the one before.
    pub fn groups(&self) -> &[Group; GROUPS] {
        &self.groups
    }

    /// Which group a panel is of.
    #[inline(always)]
    pub fn group_of(&self, panel: usize) -> usize {
        self.groups.iter().take(GROUPS - 1).map(|group| usize::from(panel >= group.panels.end)).sum()
    }

    /// A panel's numbers, `[D]`.
    #[inline(always)]
    pub fn values(&self, panel: usize) -> &[CacheLine<Lanes>] {
        &self.values[panel * self.embedding_size..][..self.embedding_size]
    }

    /// What a panel's logits start from.
    #[inline(always)]
    pub fn bias(&self, panel: usize) -> &Lanes {
        &self.biases[panel]
    }

    /// The vocabulary's place of a panel's lane.
    pub fn word(&self, panel: usize, lane: usize) -> u32 {
        self.words[panel * LANES + lane]
    }

    /// One number for each lane of each panel, by the word.
    pub fn by_lane(&self, of_word: impl Fn(usize) -> f32, of_no_word: f32, out: &mut Vec<Lanes>) {
        out.clear();
        out.extend(self.biases.iter().zip(self.words.as_chunks::<LANES>().0).map(|(biases, words)| {
            std::array::from_fn(
                |lane| {
                    if biases[lane] < 0.0 { of_no_word } else { of_word(words[lane] as usize) }
                },
            )
        }));
    }

    /// The embeddings in the words' own order, appended to `out`.
    pub fn append_embeddings(&self, out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + self.word_count * self.embedding_size, 0.0);
        for panel in 0..self.len() {
            for lane in (0..LANES).filter(|&lane| self.biases[panel][lane] == 0.0) {
                let at = start + self.word(panel, lane) as usize * self.embedding_size;
                let row = &mut out[at..at + self.embedding_size];
                row.iter_mut().zip(self.values(panel)).for_each(|(value, lanes)| *value = lanes.0[lane]);
            }
        }
    }
}

/// The same words in a byte a number, and how far off that is at most.
pub struct BytePanels {
    /// Quads of an embedding: D / 4, rounded up to four of them.
    pub quads: usize,
    /// `[panels, quads]`: four numbers of sixteen words, each 128 more than it is.
    values: Vec<CacheLine<[u8; QUAD * LANES]>>,
    /// `[panels]`: what a word's whole numbers are multiplied by.
    scales: Vec<Lanes>,
    /// The length of the longest difference between a word and its bytes.
    pub largest_error: f32,
    /// The length of the longest word of bytes.
    pub largest_length: f32,
}

impl BytePanels {
    /// Of the words of `panels`.
    pub fn new(panels: &Panels) -> Self {
        let quads = panels.embedding_size.next_multiple_of(LANES) / QUAD;
        let mut made = Self {
            quads,
            values: vec![CacheLine([128; QUAD * LANES]); panels.len() * quads],
            scales: vec![[0.0; LANES]; panels.len()],
            largest_error: 0.0,
            largest_length: 0.0,
        };
        for panel in 0..panels.len() {
            let values = panels.values(panel);
            let bytes = &mut made.values[panel * quads..][..quads];
            for lane in 0..LANES {
                let largest = values.iter().fold(0.0_f32, |largest, lanes| largest.max(lanes.0[lane].abs()));
                let scale = largest / 127.0;
                if scale == 0.0 {
                    continue;
                }
                let (mut error, mut length) = (0.0_f64, 0.0_f64);
                for (at, lanes) in values.iter().enumerate() {
                    let whole = (lanes.0[lane] / scale).round_ties_even();
                    bytes[at / QUAD].0[lane * QUAD + at % QUAD] = (whole as i32 + 128) as u8;
                    error += f64::from(lanes.0[lane] - scale * whole).powi(2);
                    length += f64::from(scale * whole).powi(2);
                }
                made.scales[panel][lane] = scale;
                made.largest_error = made.largest_error.max(error.sqrt() as f32);
                made.largest_length = made.largest_length.max(length.sqrt() as f32);
            }
        }
        made
    }

    /// A panel's numbers, `[quads]`.
    #[inline(always)]
    pub fn values(&self, panel: usize) -> &[CacheLine<[u8; QUAD * LANES]>] {
        &self.values[panel * self.quads..][..self.quads]
    }

    /// A panel's scales.
    #[inline(always)]
    pub fn scales(&self, panel: usize) -> &Lanes {
        &self.scales[panel]
    }
}
