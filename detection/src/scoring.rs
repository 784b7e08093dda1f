//! Where words meet regions: the last dot product.
//!
//! In flow an engine's regions, out flow named detections, best first. For each region and word
//! there are two opinions, ViLD's two heads (Gu et al., arXiv 2104.13921, sections 3.2 to 3.4):
//! - the text head's: p_text = softmax over [background, words] of cosine / temperature, with the
//!   background's share then dropped;
//! - the image head's: p_image = softmax over the words alone.
//!
//! They meet in a weighted geometric mean, p = p_text^a · p_image^(1-a), where a word that the
//! student was trained on trusts the text head more and any other word the image head
//! ([`TextWeights`]). The proposal's objectness joins the same way: score = p^(1-g) · objectness^g.
//!
//! The one surprising thing: the probabilities are relative to *this* vocabulary. One word alone
//! gets p_image = 1 everywhere, and only the background and the objectness speak against it.

use crate::suppression::suppress_and_vote;
use crate::{Vocabulary, VocabularyError};

/// What decides which detections are told.
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
}

/// One thing found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// The word's place in the vocabulary.
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
}

/// How much the text head counts against the image head, 0 to 1, by whether training saw the word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextWeights {
    /// For words that training saw.
    pub trained: f32,
    /// For all others.
    pub others: f32,
}

/// An engine's regions, borrowed, as [`Scorer::detect`] takes them.
#[derive(Clone, Copy)]
struct Regions<'a> {
    boxes_in_input: &'a [[f32; 4]],
    objectness: &'a [f32],
    text_embeddings: &'a [f32],
    image_embeddings: &'a [f32],
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

/// Everything that ranking words takes, for whoever does it elsewhere: [`Scorer::table`].
#[derive(Debug, Clone, PartialEq)]
pub struct WordTable {
    /// `[1 + W, D]`, row-major: the background's embedding, then the words'.
    pub background_and_words: Vec<f32>,
    /// D.
    pub embedding_size: usize,
    /// `[W]`: the text head's weight against the image head's.
    pub text_weights: Vec<f32>,
    /// `[W]`: the least score of a word.
    pub thresholds: Vec<f32>,
    /// Cosines are multiplied by it before a softmax.
    pub inverse_temperature: f32,
    /// Weight of the objectness in the score.
    pub objectness_weight: f32,
    /// How many words a region may carry, 1 to W.
    pub words_per_region: usize,
}

/// Scores regions against one vocabulary; keeps its buffers between frames.
pub struct Scorer {
    words: Vec<ScoredWord>,
    embedding_size: usize,
    /// [1 + W, D]: the background, then the words.
    background_and_words: Vec<f32>,
    inverse_temperature: f32,
    objectness_weight: f32,
    /// [regions, 1 + W] and [regions, W] of the frame at hand: logits, then log-probabilities.
    text: Vec<f32>,
    image: Vec<f32>,
    /// (log-score, word) of the region at hand.
    ranked: Vec<(f32, usize)>,
    candidates: Vec<Detection>,
    standing: Vec<Detection>,
}

/// What scoring needs to know of a word.
struct ScoredWord {
    threshold: Option<f32>,
    text_weight: f32,
}

impl Scorer {
    /// A scorer for a vocabulary and a student's constants: `temperature` above 0, `background` (`[D]`),
    /// `objectness_weight` from 0 to 1.
    ///
    /// # Errors
    /// When the vocabulary's embeddings have another size than the background.
    pub fn new(
        vocabulary: &Vocabulary,
        temperature: f32,
        background: &[f32],
        text_weights: TextWeights,
        objectness_weight: f32,
    ) -> Result<Self, VocabularyError> {
        vocabulary.check_against(&vocabulary.teacher, background.len())?;
        let words = vocabulary.words.iter().map(|word| ScoredWord {
            threshold: word.threshold,
            text_weight: if word.trained_on { text_weights.trained } else { text_weights.others },
        });
        Ok(Self {
            words: words.collect(),
            embedding_size: vocabulary.embedding_size,
            background_and_words: [background, &vocabulary.embeddings].concat(),
            inverse_temperature: temperature.recip(),
            objectness_weight,
            text: Vec::new(),
            image: Vec::new(),
            ranked: Vec::new(),
            candidates: Vec::new(),
            standing: Vec::new(),
        })
    }

    /// Names the regions of one frame: overwrites `out` with the detections, best first.
    ///
    /// `boxes_in_input`: K boxes (left, top, right, bottom) in pixels of the student's input;
    /// `objectness`: K numbers from 0 to 1, descending; the embeddings: row-major `[K, D]`, rows of
    /// length 1. Regions whose box is empty or not finite are passed over.
    ///
    /// # Panics
    /// When K or D differ between the arguments: a mistake in the calling code.
    pub fn detect(
        &mut self,
        boxes_in_input: &[[f32; 4]],
        objectness: &[f32],
        text_embeddings: &[f32],
        image_embeddings: &[f32],
        settings: &DetectionSettings,
        out: &mut Vec<Detection>,
    ) {
        let regions = Regions { boxes_in_input, objectness, text_embeddings, image_embeddings };
        self.check(&regions);
        let within_reach = self.regions_within_reach(regions.objectness, settings);
        self.compute_log_probabilities(&regions, within_reach);
        self.collect_candidates(&regions, within_reach, settings);
        self.settle(settings, out);
    }

    /// As [`Self::detect`], the words ranked already, by this scorer's [`Self::table`] for the same `settings`.
    ///
    /// # Panics
    /// When a region is ranked that there isn't: a mistake in the calling code.
    pub fn detect_ranked(
        &mut self,
        boxes_in_input: &[[f32; 4]],
        objectness: &[f32],
        ranked: &[Ranked],
        settings: &DetectionSettings,
        out: &mut Vec<Detection>,
    ) {
        self.candidates.clear();
        self.candidates.extend(
            ranked
                .iter()
                .map(|&Ranked { region, word, score }| Detection {
                    word,
                    score,
                    objectness: objectness[region],
                    box_in_input: boxes_in_input[region],
                    region,
                })
                .filter(|detection| is_a_box(detection.box_in_input)),
        );
        self.settle(settings, out);
    }

    /// What ranking words takes, for whoever does it elsewhere.
    pub fn table(&self, settings: &DetectionSettings) -> WordTable {
        let thresholds = self.words.iter().map(|word| word.threshold.unwrap_or(settings.score_threshold));
        WordTable {
            background_and_words: self.background_and_words.clone(),
            embedding_size: self.embedding_size,
            text_weights: self.words.iter().map(|word| word.text_weight).collect(),
            thresholds: thresholds.collect(),
            inverse_temperature: self.inverse_temperature,
            objectness_weight: self.objectness_weight,
            words_per_region: settings.words_per_region.clamp(1, self.words.len()),
        }
    }

    /// Of the candidates those that stand, best first.
    fn settle(&mut self, settings: &DetectionSettings, out: &mut Vec<Detection>) {
        out.clear();
        if settings.words_per_region <= 1 {
            self.candidates.sort_by(best_first);
            let Self { candidates, standing, .. } = self;
            suppress_and_vote(candidates, settings.nms_iou, settings.voting_iou, standing, out);
        } else {
            self.candidates.sort_by(|a, b| a.word.cmp(&b.word).then_with(|| best_first(a, b)));
            let Self { candidates, standing, .. } = self;
            for same_word in candidates.chunk_by(|a, b| a.word == b.word) {
                suppress_and_vote(same_word, settings.nms_iou, settings.voting_iou, standing, out);
            }
            out.sort_by(best_first);
        }
        out.truncate(settings.max_detections);
    }

    fn check(&self, regions: &Regions<'_>) {
        let count = regions.boxes_in_input.len();
        assert_eq!(regions.objectness.len(), count, "one objectness for each of {count} boxes");
        let values = count * self.embedding_size;
        assert_eq!(regions.text_embeddings.len(), values, "{count} text embeddings");
        assert_eq!(regions.image_embeddings.len(), values, "{count} image embeddings");
    }

    /// How many regions can reach a threshold at all. A score is at most objectness^g, and the
    /// objectness descends, so the rest need no dot products: usually most of them.
    fn regions_within_reach(&self, objectness: &[f32], settings: &DetectionSettings) -> usize {
        let lowest = self
            .words
            .iter()
            .map(|word| word.threshold.unwrap_or(settings.score_threshold))
            .fold(f32::INFINITY, f32::min);
        objectness
            .iter()
            .rposition(|objectness| objectness.powf(self.objectness_weight) >= lowest)
            .map_or(0, |last| last + 1)
    }

    /// Fills `text` and `image` with log-probabilities for the first `count` regions.
    fn compute_log_probabilities(&mut self, regions: &Regions<'_>, count: usize) {
        let (size, words) = (self.embedding_size, self.words.len());
        let values = count * size;
        self.text.resize(count * (words + 1), 0.0);
        self.image.resize(count * words, 0.0);
        product(
            &regions.text_embeddings[..values],
            &self.background_and_words,
            size,
            self.inverse_temperature,
            &mut self.text,
        );
        product(
            &regions.image_embeddings[..values],
            &self.background_and_words[size..],
            size,
            self.inverse_temperature,
            &mut self.image,
        );
        self.text.chunks_exact_mut(words + 1).for_each(log_softmax);
        self.image.chunks_exact_mut(words).for_each(log_softmax);
    }

    /// Fills `candidates`: for each region its best words, as many as may be and as reach their
    /// thresholds.
    fn collect_candidates(&mut self, regions: &Regions<'_>, count: usize, settings: &DetectionSettings) {
        let words = self.words.len();
        let words_per_region = settings.words_per_region.clamp(1, words);
        let p_weight = 1.0 - self.objectness_weight;
        self.candidates.clear();
        for region in 0..count {
            let box_in_input = regions.boxes_in_input[region];
            if !is_a_box(box_in_input) {
                continue;
            }
            let objectness = regions.objectness[region];
            let objectness_factor = objectness.powf(self.objectness_weight);
            // The text row's first column is the background.
            let text = &self.text[region * (words + 1) + 1..][..words];
            let image = &self.image[region * words..][..words];
            self.ranked.clear();
            self.ranked.extend(self.words.iter().zip(text.iter().zip(image)).enumerate().map(
                |(index, (word, (text, image)))| {
                    let log_p = word.text_weight * text + (1.0 - word.text_weight) * image;
                    (p_weight * log_p, index)
                },
            ));
            if words_per_region < words {
                self.ranked.select_nth_unstable_by(words_per_region - 1, |a, b| {
                    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
                });
            }
            for &(log_score, word) in &self.ranked[..words_per_region] {
                let score = log_score.exp() * objectness_factor;
                let threshold = self.words[word].threshold.unwrap_or(settings.score_threshold);
                if score >= threshold {
                    self.candidates.push(Detection { word, score, objectness, box_in_input, region });
                }
            }
        }
    }
}

/// The order in which detections are told: by score, and equal scores always the same way.
fn best_first(a: &Detection, b: &Detection) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then(a.region.cmp(&b.region)).then(a.word.cmp(&b.word))
}

/// Whether a box has an area and no infinity or NaN.
fn is_a_box(sides: [f32; 4]) -> bool {
    sides.iter().all(|side| side.is_finite()) && sides[2] > sides[0] && sides[3] > sides[1]
}

/// Turns logits into the logarithms of their softmax.
fn log_softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|logit| (logit - largest).exp()).sum();
    let shift = largest + sum.ln();
    row.iter_mut().for_each(|logit| *logit -= shift);
}

/// `out` [m, n] = `scale` · `left` [m, size] · `right` [n, size] transposed.
fn product(left: &[f32], right: &[f32], size: usize, scale: f32, out: &mut [f32]) {
    let (rows, columns) = (left.len() / size, right.len() / size);
    assert_eq!(out.len(), rows * columns, "the product of {rows} and {columns} rows");
    let stride = |step: usize| step as isize;
    // SAFETY: the strides describe row-major [rows, size], row-major [columns, size] read as its
    // transpose, and row-major [rows, columns]; each slice has at least so many elements by the
    // divisions and the assertion above, and `out` is borrowed exclusively.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            size,
            columns,
            scale,
            left.as_ptr(),
            stride(size),
            1,
            right.as_ptr(),
            1,
            stride(size),
            0.0,
            out.as_mut_ptr(),
            stride(columns),
            1,
        );
    }
}

#[cfg(test)]
mod tests;
