//! The scoring stage: from regions to detections with words.
//!
//! Turns the engine's regions into [`Detection`]s with boxes in pixels of the frame. The stage holds the vocabulary;
//! the arithmetic is `wordsight-detection`'s.

mod settings;

use std::time::Instant;

use wordsight_detection::{
    DetectionSettings, RankingTable, RegionsView, Scorer, Vocabulary, VocabularyError,
};
use wordsight_engines::StudentFacts;

use crate::job::{Detection, Job, WordList};
pub use settings::DetectionKeys;

/// Scores a frame's regions by one vocabulary.
pub struct FrameScorer {
    scorer: Scorer,
    settings: DetectionSettings,
    words: WordList,
    in_input: Vec<wordsight_detection::Detection>,
}

impl FrameScorer {
    /// A stage for a vocabulary and the student that it is to be used with.
    ///
    /// # Errors
    /// When they come from different teachers, or examples from a different student.
    pub fn new(
        vocabulary: &Vocabulary,
        student: &StudentFacts,
        settings: DetectionSettings,
    ) -> Result<Self, VocabularyError> {
        vocabulary.check_against(&student.teacher, student.embedding_size)?;
        vocabulary.check_student(&student.id())?;
        let trained_words = student.trained_words();
        let scorer = Scorer::with_trained(vocabulary, &student.scores, student.objectness_weight, |word| {
            word.is_trained(&trained_words)
        })?;
        let words = vocabulary.shown().iter().map(|word| word.word.clone()).collect();
        let mut scorer = Self { scorer, settings, words, in_input: Vec::new() };
        scorer.warm_up(vocabulary, student);
        Ok(scorer)
    }

    /// Scores once, so that what the first frame would have to make room for is there.
    fn warm_up(&mut self, vocabulary: &Vocabulary, student: &StudentFacts) {
        let regions = student.proposals;
        let first = vocabulary.embeddings.get(..student.embedding_size).unwrap_or_default();
        let embeddings = first.repeat(regions);
        let (boxes, ones) = (vec![[0.0, 0.0, 1.0, 1.0]; regions], vec![1.0; regions]);
        let view = RegionsView {
            boxes_in_input: &boxes,
            objectness: &ones,
            text_embeddings: &embeddings,
            image_embeddings: &embeddings,
            logit_shift: &ones,
            logit_scale: &ones,
        };
        self.scorer.rank(view, &self.settings);
        self.scorer.select(&self.settings, &mut self.in_input);
    }

    /// Another one of the same words, which are in memory once. Allocates nothing before its first frame.
    pub fn of_same_words(&self) -> Self {
        let (scorer, words) = (self.scorer.of_same_words(), self.words.clone());
        Self { scorer, settings: self.settings, words, in_input: Vec::new() }
    }

    /// Whether nobody else holds the words.
    pub fn is_only_owner_of_words(&self) -> bool {
        self.words.have_one_owner()
    }

    /// The words that `Detection::word` counts.
    pub fn words(&self) -> WordList {
        self.words.clone()
    }

    /// The most things that may be found in a frame of so many regions.
    pub fn most_detections(&self, regions: usize) -> usize {
        let words_per_region = self.settings.words_per_region.min(self.words.len());
        self.settings.max_detections.min(regions.saturating_mul(words_per_region))
    }

    /// What an engine needs to rank the words itself.
    pub fn table(&self) -> RankingTable {
        self.scorer.table(&self.settings)
    }

    /// Fills the job's `found` from its `regions`, best first.
    pub fn run(&mut self, job: &mut Job) {
        let start = Instant::now();
        let regions = &job.regions;
        let (boxes, objectness) = (&regions.boxes_in_input, &regions.objectness);
        match &regions.ranked {
            Some(ranked) => self.scorer.take_ranked(boxes, objectness, ranked, &self.settings),
            None => self.scorer.rank(regions.view(), &self.settings),
        }
        let ranked = Instant::now();
        if !job.words.are(&self.words) {
            job.words = self.words.clone();
        }
        self.scorer.select(&self.settings, &mut self.in_input);
        job.detections.clear();
        let detections = self.in_input.iter().map(|detection| Detection {
            word: detection.word,
            score: detection.score,
            objectness: detection.objectness,
            box_in_frame: job.letterbox.box_in_frame_from_input(detection.box_in_input),
            is_weak: detection.is_weak,
            track: None,
        });
        // What lies in the padding alone is nothing of the frame.
        let has_area = |detection: &Detection| {
            let [left, top, right, bottom] = detection.box_in_frame;
            right > left && bottom > top
        };
        job.detections.extend(detections.filter(has_area));
        (job.times.scoring, job.times.nms) = (ranked - start, ranked.elapsed());
    }
}
