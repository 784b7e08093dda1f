//! Scores regions against words: the last dot product.
//!
//! Takes an engine's regions and returns named detections, best first. How similarities become probabilities is the
//! student's [`ScoreFunction`]. With a softmax, each region and word has two probabilities, from ViLD's two heads (Gu et
//! al., arXiv 2104.13921, sections 3.2 to 3.4):
//!
//! - the text head's: p_text = softmax over [background, words] of cosine / temperature, of which the background's
//!   share is then dropped;
//! - the image head's: p_image = softmax over the words alone.
//!
//! They are combined by a weighted geometric mean, p = p_text^a · p_image^(1-a), in which the text head weighs more
//! for words that the student was trained on, and the image head for all others ([`TextWeights`]). The proposal's
//! objectness is combined the same way: score = p^(1-g) · objectness^g.
//!
//! The probabilities are relative to *this* vocabulary. With a single word p_image is 1 everywhere, and only the
//! background, the objectness and hidden words lower its score.
//!
//! With a sigmoid, as OWL-ViT has it (Minderer et al., arXiv 2205.06230), a region has one embedding and says itself how
//! its cosines are shifted and scaled: p = sigmoid(scale · (cosine + shift)), whatever other words there are.
//!
//! A vocabulary's hidden words take part in both softmaxes and are never reported. With one word a region they also
//! compete for it: a region whose best word is hidden shows nothing and takes no part in suppression. With several
//! words a region they take none of its places.
//!
//! All regions are compared with all words, and most results are never reported. [`screening`] finds with products of
//! bytes which regions can reach a threshold and which words are irrelevant to them; [`exact`] finds the best words of
//! the remaining regions in float. Neither stores a logit: the memory is the vocabulary's, some hundred bytes a
//! region, and five for each region and sixteen words.

mod exact;
// Bytes are for x86 alone: `screening` says why.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod panels;
mod screening;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod softmax;

use std::sync::Arc;

use exact::{Exact, Query};
use panels::Panels;
use screening::Screen;

use crate::suppression::suppress_and_vote;
use crate::{Vocabulary, VocabularyError, Word};

/// Which detections are reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionSettings {
    /// The least score of a detection, for words without a threshold of their own.
    pub score_threshold: f32,
    /// Two detections that overlap by more than this (IoU) are one thing.
    pub nms_iou: f32,
    /// Of the detections that go, those of the same word that overlap a kept one by at least this much
    /// (IoU) vote on its box; 1: none do.
    pub voting_iou: f32,
    /// The most detections a frame; the best are kept.
    pub max_detections: usize,
    /// How many words a region may carry. With 1, the default for people, each region has its best
    /// word and overlapping regions compete whatever their words: one label on one thing. With
    /// more, each region carries its best words and only equal words compete, as ViLD and COCO
    /// evaluate.
    pub words_per_region: usize,
    /// Below its threshold, and down to this share of it (0 to 1), a detection is reported too, as a weak one: for
    /// trackers. Weak ones come last and change nothing about the others. 1: none are reported.
    pub weak_fraction: f32,
}

impl DetectionSettings {
    /// The least score with which a word is reported, weakly or not.
    fn reporting_threshold(&self, word: &ScoredWord) -> f32 {
        if word.is_hidden { f32::INFINITY } else { self.weak_fraction * self.threshold_of(word) }
    }

    /// The score from which on a shown word is no weak one.
    fn threshold_of(&self, word: &ScoredWord) -> f32 {
        word.threshold.unwrap_or(self.score_threshold)
    }

    /// Whether hidden words compete with the others for a region.
    fn hidden_compete(&self) -> bool {
        self.words_per_region <= 1
    }
}

/// One thing found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// The word's place in the vocabulary; never a hidden one's.
    pub word: usize,
    /// How sure, 0 to 1: see the module.
    pub score: f32,
    /// How much the region looks like a thing at all, 0 to 1.
    pub objectness: f32,
    /// Left, top, right, bottom in pixels of the student's input: the region's, moved by the votes of
    /// its neighbours.
    pub box_in_input: [f32; 4],
    /// The region's place among the engine's regions.
    pub region: usize,
    /// Whether the score is below the word's threshold: see [`DetectionSettings::weak_fraction`].
    pub is_weak: bool,
}

/// How much the text head counts against the image head, 0 to 1, by whether training saw the word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextWeights {
    /// For words that training saw.
    pub trained: f32,
    /// For all others.
    pub others: f32,
}

/// How a student's similarities to words become probabilities.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreFunction {
    /// Of all words together, by two heads: ViLD's.
    Softmax {
        /// Cosines are divided by this; above 0.
        temperature: f32,
        /// The text head's embedding of "nothing nameable", `[D]`.
        background: Vec<f32>,
        /// How much the text head counts.
        text_weights: TextWeights,
    },
    /// Of each word by itself, by one head: OWL-ViT's.
    Sigmoid,
}

/// An engine's regions, borrowed, as [`Scorer::detect`] takes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionsView<'a> {
    /// K boxes (left, top, right, bottom) in pixels of the student's input.
    pub boxes_in_input: &'a [[f32; 4]],
    /// K numbers from 0 to 1.
    pub objectness: &'a [f32],
    /// `[K, D]`, row-major, rows of length 1: the text head's, or the only ones.
    pub text_embeddings: &'a [f32],
    /// The same of the image head; none with [`ScoreFunction::Sigmoid`].
    pub image_embeddings: &'a [f32],
    /// K numbers, with [`ScoreFunction::Sigmoid`] alone: what is added to cosines.
    pub logit_shift: &'a [f32],
    /// K numbers above 0: what that is multiplied by.
    pub logit_scale: &'a [f32],
}

impl<'a> RegionsView<'a> {
    /// Regions of a student with ViLD's two heads.
    pub fn of_two_heads(
        boxes_in_input: &'a [[f32; 4]],
        objectness: &'a [f32],
        text_embeddings: &'a [f32],
        image_embeddings: &'a [f32],
    ) -> Self {
        Self { boxes_in_input, objectness, text_embeddings, image_embeddings, ..Self::default() }
    }

    fn text_of(&self, region: u32, size: usize) -> &'a [f32] {
        &self.text_embeddings[region as usize * size..][..size]
    }

    fn image_of(&self, region: u32, size: usize) -> &'a [f32] {
        &self.image_embeddings[region as usize * size..][..size]
    }
}

/// One of a region's best words, as [`Scorer`] or a GPU finds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The region's place among the engine's.
    pub region: usize,
    /// The word's place in the vocabulary.
    pub word: usize,
    /// How sure, 0 to 1.
    pub score: f32,
}

/// Everything that is needed to rank words elsewhere, on a GPU: [`Scorer::table`].
#[derive(Debug, Clone, PartialEq)]
pub struct RankingTable {
    /// `[1 + W, D]`, row-major: the background's embedding, zeros with a sigmoid; then the words'.
    pub background_and_words: Vec<f32>,
    /// Whether a region's shift and scale and the logistic function make the scores, and there is one head.
    pub is_sigmoid: bool,
    /// D.
    pub embedding_size: usize,
    /// `[W]`: the text head's weight against the image head's. NaN for a word that is not to be ranked, only to take
    /// its share of the softmaxes: a hidden one, where a region may carry several words.
    pub text_weights: Vec<f32>,
    /// `[W]`: the least score with which a word is reported, weakly or not; infinite for hidden words.
    pub thresholds: Vec<f32>,
    /// Cosines are multiplied by it before a softmax.
    pub inverse_temperature: f32,
    /// Weight of the objectness in the score.
    pub objectness_weight: f32,
    /// How many words a region may carry, from 1 to the number of shown words.
    pub words_per_region: usize,
}

/// Scores regions against one vocabulary; keeps its buffers between frames, and allocates nothing once it has met a frame
/// with as many regions and the same settings.
pub struct Scorer {
    words: Arc<[ScoredWord]>,
    shown_count: usize,
    embedding_size: usize,
    /// Empty with a sigmoid, whose `inverse_temperature` is 1.
    background: Arc<[f32]>,
    is_sigmoid: bool,
    panels: Arc<Panels>,
    inverse_temperature: f32,
    objectness_weight: f32,
    /// The least score with which any word is reported, and the common threshold and the fraction that it follows from.
    lowest_threshold: f32,
    followed: Option<(f32, f32)>,
    /// The regions that words are ranked for.
    chosen: Vec<u32>,
    screen: Option<Screen>,
    exact: Exact,
    candidates: Vec<Detection>,
    standing: Vec<Detection>,
}

/// So many words a region find room that was made before they came.
const MOST_WORDS_WITH_ROOM: usize = 64;

/// What scoring needs to know of a word.
struct ScoredWord {
    threshold: Option<f32>,
    text_weight: f32,
    is_hidden: bool,
}

impl Scorer {
    /// A scorer for a vocabulary and a student's score function; `objectness_weight` from 0 to 1.
    ///
    /// # Errors
    /// When the vocabulary's embeddings have another size than the background.
    pub fn new(
        vocabulary: &Vocabulary,
        function: &ScoreFunction,
        objectness_weight: f32,
    ) -> Result<Self, VocabularyError> {
        Self::with_trained(vocabulary, function, objectness_weight, |word| word.trained_on)
    }

    /// The same, where `trained` says which words training saw: a student's file knows it better than a vocabulary.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_trained(
        vocabulary: &Vocabulary,
        function: &ScoreFunction,
        objectness_weight: f32,
        trained: impl Fn(&Word) -> bool,
    ) -> Result<Self, VocabularyError> {
        const ONE_HEAD: TextWeights = TextWeights { trained: 1.0, others: 1.0 };
        let (temperature, background, text_weights) = match function {
            ScoreFunction::Softmax { temperature, background, text_weights } => {
                vocabulary.check_against(&vocabulary.teacher, background.len())?;
                (*temperature, background.as_slice(), *text_weights)
            }
            ScoreFunction::Sigmoid => (1.0, &[][..], ONE_HEAD),
        };
        let is_sigmoid = matches!(function, ScoreFunction::Sigmoid);
        let trained: Vec<bool> = vocabulary.words.iter().map(trained).collect();
        let words = vocabulary
            .words
            .iter()
            .zip(&trained)
            .map(|(word, &trained)| ScoredWord {
                threshold: word.threshold,
                text_weight: if trained { text_weights.trained } else { text_weights.others },
                is_hidden: word.hidden,
            })
            .collect();
        let panels = Panels::new(
            &vocabulary.embeddings,
            vocabulary.embedding_size,
            |word| trained[word],
            |word| vocabulary.words[word].hidden,
            [text_weights.trained, text_weights.others],
        );
        Ok(Self {
            words,
            shown_count: vocabulary.shown().len(),
            embedding_size: vocabulary.embedding_size,
            background: background.into(),
            is_sigmoid,
            screen: if is_sigmoid { None } else { Screen::new(&panels) },
            panels: Arc::new(panels),
            inverse_temperature: temperature.recip(),
            objectness_weight,
            lowest_threshold: 0.0,
            followed: None,
            chosen: Vec::new(),
            exact: Exact::default(),
            candidates: Vec::new(),
            standing: Vec::new(),
        })
    }

    /// Another scorer of the same words, which are in memory once; its buffers are its own. Allocates nothing.
    pub fn of_same_words(&self) -> Self {
        Self {
            words: Arc::clone(&self.words),
            shown_count: self.shown_count,
            embedding_size: self.embedding_size,
            background: Arc::clone(&self.background),
            is_sigmoid: self.is_sigmoid,
            panels: Arc::clone(&self.panels),
            inverse_temperature: self.inverse_temperature,
            objectness_weight: self.objectness_weight,
            lowest_threshold: 0.0,
            followed: None,
            chosen: Vec::new(),
            screen: self.screen.as_ref().map(Screen::of_same_words),
            exact: Exact::default(),
            candidates: Vec::new(),
            standing: Vec::new(),
        }
    }

    /// Names the regions of one frame: overwrites `out` with the detections, best first. [`Self::rank`] and
    /// [`Self::select`], one after the other.
    ///
    /// # Panics
    /// As [`Self::rank`].
    pub fn detect(
        &mut self,
        regions: RegionsView<'_>,
        settings: &DetectionSettings,
        out: &mut Vec<Detection>,
    ) {
        self.rank(regions, settings);
        self.select(settings, out);
    }

    /// Finds the best words of each region of one frame, for [`Self::select`].
    ///
    /// Regions whose box is empty or not finite are passed over.
    ///
    /// # Panics
    /// When K or D differ between the arguments: a mistake in the calling code.
    pub fn rank(&mut self, regions: RegionsView<'_>, settings: &DetectionSettings) {
        self.check(&regions);
        self.follow(settings);
        self.choose_regions(&regions);
        let words_per_region = self.words_per_region(settings);
        self.candidates.clear();
        self.reserve_candidates(regions.objectness.len(), words_per_region);
        // Where everything is told, or the objectness alone is the score, there is nothing to drop.
        let may_screen = self.lowest_threshold > 0.0 && self.objectness_weight < 1.0;
        let mut query = Query {
            panels: &self.panels,
            inverse_temperature: self.inverse_temperature,
            background: (!self.is_sigmoid).then_some(&*self.background),
            regions,
            words_per_region,
            ranks_hidden: settings.hidden_compete(),
            skips: &[],
        };
        if let Some(screen) = self.screen.as_mut().filter(|_| may_screen) {
            query.skips = screen.run(&query, &mut self.chosen);
        }
        self.exact.run(&query, &self.chosen);
        let p_weight = 1.0 - self.objectness_weight;
        for (at, &region) in self.chosen.iter().enumerate() {
            let region = region as usize;
            let (objectness, box_in_input) = (regions.objectness[region], regions.boxes_in_input[region]);
            let objectness_factor = objectness.powf(self.objectness_weight);
            for &(value, word) in self.exact.best_of(at, &query) {
                let p = if self.is_sigmoid {
                    let logit = regions.logit_scale[region] * (value + regions.logit_shift[region]);
                    (1.0 + (-logit).exp()).recip().powf(p_weight)
                } else {
                    (p_weight * value).exp()
                };
                let (word, score) = (word as usize, p * objectness_factor);
                let scored = &self.words[word];
                if score >= settings.reporting_threshold(scored) {
                    let is_weak = score < settings.threshold_of(scored);
                    let found = Detection { word, score, objectness, box_in_input, region, is_weak };
                    self.candidates.push(found);
                }
            }
        }
    }

    /// As [`Self::rank`], the words ranked already, by this scorer's [`Self::table`] for the same `settings`: for
    /// [`Self::select`].
    ///
    /// # Panics
    /// When a region is ranked that there isn't: a mistake in the calling code.
    pub fn take_ranked(
        &mut self,
        boxes_in_input: &[[f32; 4]],
        objectness: &[f32],
        ranked: &[Ranked],
        settings: &DetectionSettings,
    ) {
        self.candidates.clear();
        self.reserve_candidates(objectness.len(), self.words_per_region(settings));
        self.candidates.extend(
            ranked
                .iter()
                .filter(|ranked| !self.words[ranked.word].is_hidden)
                .map(|&Ranked { region, word, score }| Detection {
                    word,
                    score,
                    objectness: objectness[region],
                    box_in_input: boxes_in_input[region],
                    region,
                    is_weak: score < settings.threshold_of(&self.words[word]),
                })
                .filter(|detection| is_a_box(detection.box_in_input)),
        );
    }

    /// What is needed to rank words elsewhere, on a GPU.
    pub fn table(&self, settings: &DetectionSettings) -> RankingTable {
        let thresholds = self.words.iter().map(|word| settings.reporting_threshold(word));
        let weight_of = |word: &ScoredWord| {
            if word.is_hidden && !settings.hidden_compete() { f32::NAN } else { word.text_weight }
        };
        let mut background_and_words = Vec::with_capacity((1 + self.words.len()) * self.embedding_size);
        background_and_words.extend_from_slice(&self.background);
        background_and_words.resize(self.embedding_size, 0.0);
        self.panels.append_embeddings(&mut background_and_words);
        RankingTable {
            background_and_words,
            is_sigmoid: self.is_sigmoid,
            embedding_size: self.embedding_size,
            text_weights: self.words.iter().map(weight_of).collect(),
            thresholds: thresholds.collect(),
            inverse_temperature: self.inverse_temperature,
            objectness_weight: self.objectness_weight,
            words_per_region: self.words_per_region(settings),
        }
    }

    /// Selects the detections of the words that were ranked last by suppression and the limit: overwrites `out`, best first.
    ///
    /// `settings`: those that they were ranked with.
    pub fn select(&mut self, settings: &DetectionSettings, out: &mut Vec<Detection>) {
        out.clear();
        // As much as a frame may ever need: what a later frame needs more of than this one is no allocation then.
        out.reserve(self.candidates.capacity());
        self.standing.clear();
        self.standing.reserve(self.candidates.capacity());
        let Self { candidates, standing, .. } = self;
        // Unstable sorts allocate nothing, and no two candidates are equal in these orders.
        if settings.words_per_region <= 1 {
            candidates.sort_unstable_by(best_first);
            suppress_and_vote(candidates, settings.nms_iou, settings.voting_iou, standing, out);
        } else {
            candidates.sort_unstable_by(|a, b| a.word.cmp(&b.word).then_with(|| best_first(a, b)));
            for same_word in candidates.chunk_by(|a, b| a.word == b.word) {
                suppress_and_vote(same_word, settings.nms_iou, settings.voting_iou, standing, out);
            }
            out.sort_unstable_by(best_first);
        }
        out.truncate(settings.max_detections);
    }

    /// How many words a region may carry, of those that there are.
    fn words_per_region(&self, settings: &DetectionSettings) -> usize {
        settings.words_per_region.clamp(1, self.shown_count.max(1))
    }

    fn check(&self, regions: &RegionsView<'_>) {
        let count = regions.boxes_in_input.len();
        assert_eq!(regions.objectness.len(), count, "one objectness for each of {count} boxes");
        let values = count * self.embedding_size;
        assert_eq!(regions.text_embeddings.len(), values, "{count} text embeddings");
        if self.is_sigmoid {
            let of_regions = (regions.logit_shift.len(), regions.logit_scale.len());
            assert_eq!(of_regions, (count, count), "a shift and a scale for each of {count} boxes");
        } else {
            assert_eq!(regions.image_embeddings.len(), values, "{count} image embeddings");
        }
    }

    /// Brings up to date what follows from the settings.
    fn follow(&mut self, settings: &DetectionSettings) {
        let followed = Some((settings.score_threshold, settings.weak_fraction));
        if self.followed == followed {
            return;
        }
        self.followed = followed;
        let reporting_threshold = self.words.iter().map(|word| settings.reporting_threshold(word));
        self.lowest_threshold = reporting_threshold.fold(f32::INFINITY, f32::min);
        if let Some(screen) = &mut self.screen {
            let reporting_threshold = |word: usize| settings.reporting_threshold(&self.words[word]);
            screen.follow(&self.panels, reporting_threshold, self.objectness_weight);
        }
    }

    /// Room for the candidates of a frame of so many regions, so that a frame with more of them than any before costs
    /// no allocation. Thousands of words a region are seldom all found: room for those is made when they come.
    fn reserve_candidates(&mut self, regions: usize, words_per_region: usize) {
        self.candidates.reserve(regions * words_per_region.min(MOST_WORDS_WITH_ROOM));
    }

    /// Fills `chosen` with the regions that can reach a threshold at all. A score is at most objectness^g, so the rest
    /// need no dot products: usually most of them.
    fn choose_regions(&mut self, regions: &RegionsView<'_>) {
        self.chosen.clear();
        self.chosen.reserve(regions.objectness.len());
        let boxes_and_objectness = regions.boxes_in_input.iter().zip(regions.objectness);
        self.chosen.extend(boxes_and_objectness.zip(0_u32..).filter_map(
            |((&box_in_input, objectness), region)| {
                let within_reach = objectness.powf(self.objectness_weight) >= self.lowest_threshold;
                (within_reach && is_a_box(box_in_input)).then_some(region)
            },
        ));
    }
}

/// The order in which detections are reported: by score, weak ones last, and equal scores always the same way.
fn best_first(a: &Detection, b: &Detection) -> std::cmp::Ordering {
    let by_score = a.is_weak.cmp(&b.is_weak).then(b.score.total_cmp(&a.score));
    by_score.then(a.region.cmp(&b.region)).then(a.word.cmp(&b.word))
}

/// Whether a box has an area and no infinity or NaN.
fn is_a_box(sides: [f32; 4]) -> bool {
    sides.iter().all(|side| side.is_finite()) && sides[2] > sides[0] && sides[3] > sides[1]
}

#[cfg(test)]
mod tests;
