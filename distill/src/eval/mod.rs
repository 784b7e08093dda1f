//! How good a student is.
//!
//! - [`photographs`]: does it find and name the main object of photographs that training never saw.
//! - [`annotated`]: average precision and recall on annotated images, by COCO's or LVIS's rules, and those of the
//!   teacher on crops of the same proposals.
//! - [`ov_coco`]: the same for the novel and the base words of COCO that open-vocabulary detectors are compared on.
//! - [`small_vocabularies`]: is what a user of a few words sees right, with competitors and without, by the arithmetic
//!   of [`operating_point`].
//! - [`examples`]: do examples name objects, beside words or in their place.
//! - [`tracking`]: do objects keep their numbers and words through a clip.
//! - [`true_boxes`]: does it name objects whose boxes are given, and does its teacher.
//!
//! All of it runs through the device's own engine, letterbox and scoring, so what is measured is what a device shows.

pub mod annotated;
pub mod examples;
pub mod operating_point;
pub mod ov_coco;
pub mod photographs;
pub mod region_statistics;
pub mod small_vocabularies;
pub mod tables;
pub mod tracking;
pub mod true_boxes;

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use wordsight_detection::{
    Detection, DetectionSettings, Letterbox, Preprocessor, ScoreFunction, Scorer, TextWeights, Vocabulary,
    Word,
};
use wordsight_engines::{CpuEngine, Engine, Regions, StudentFacts};
use wordsight_teacher::{Teacher, words};

/// As ViLD's evaluation scores: several words a region, suppression by word, no threshold.
pub const EVALUATION: DetectionSettings = DetectionSettings {
    score_threshold: 0.0,
    nms_iou: 0.5,
    voting_iou: 0.4,
    max_detections: 300,
    words_per_region: 5,
    weak_fraction: 1.0,
};

/// A device's default settings (demo/wordsight.toml).
pub const AS_DEVICES: DetectionSettings = DetectionSettings {
    score_threshold: 0.3,
    nms_iou: 0.4,
    voting_iou: 0.4,
    max_detections: 20,
    words_per_region: 1,
    weak_fraction: 1.0,
};

/// A student and a vocabulary, on photographs of any size.
pub struct Detector {
    engine: CpuEngine,
    scorer: Scorer,
    preprocessor: Preprocessor,
    input: Vec<u8>,
    regions: Regions,
    /// How an evaluation scores.
    evaluation: DetectionSettings,
}

impl Detector {
    /// Opens the student and checks that it speaks the vocabulary's language.
    pub fn open(student: &Path, vocabulary: &Vocabulary) -> Result<Self> {
        Self::of(CpuEngine::open(student, 0)?, vocabulary)
    }

    /// The same for a student that is opened already.
    pub fn of(engine: CpuEngine, vocabulary: &Vocabulary) -> Result<Self> {
        let facts = engine.facts();
        vocabulary.check_against(&facts.teacher, facts.embedding_size)?;
        vocabulary.check_student(&facts.id())?;
        let scorer = scorer(vocabulary, facts)?;
        let preprocessor = Preprocessor::new(facts.resize);
        let input = vec![0; preprocessor.output_len()];
        let regions = Regions::default();
        Ok(Self { engine, scorer, preprocessor, input, regions, evaluation: EVALUATION })
    }

    /// Has evaluations score otherwise than [`EVALUATION`].
    pub fn set_evaluation(&mut self, settings: DetectionSettings) {
        self.evaluation = settings;
    }

    /// What the student says of itself.
    pub fn facts(&self) -> &StudentFacts {
        self.engine.facts()
    }

    /// What is found in a picture: words, scores, and boxes (left, top, right, bottom) in its pixels, those with an area.
    ///
    /// # Errors
    /// When ONNX Runtime fails.
    pub fn find(
        &mut self,
        picture: &RgbImage,
        settings: &DetectionSettings,
    ) -> Result<Vec<(usize, f32, [f32; 4])>> {
        let letterbox = self.infer(picture)?;
        let found = self
            .detect(settings)
            .into_iter()
            .map(|found| (found.word, found.score, letterbox.box_in_frame_from_input(found.box_in_input)));
        Ok(found.filter(|(_, _, [left, top, right, bottom])| right > left && bottom > top).collect())
    }

    /// Finds the regions of a picture; says how it lies in the input.
    fn infer(&mut self, picture: &RgbImage) -> Result<Letterbox> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let letterbox = self.preprocessor.run(picture.as_raw(), width, height, &mut self.input);
        self.engine.infer(&self.input, &mut self.regions)?;
        Ok(letterbox)
    }

    fn detect_for_evaluation(&mut self) -> Vec<Detection> {
        let settings = self.evaluation;
        self.detect(&settings)
    }

    /// Names the regions.
    fn detect(&mut self, settings: &DetectionSettings) -> Vec<Detection> {
        let mut detections = Vec::new();
        self.scorer.detect(self.regions.view(), settings, &mut detections);
        detections
    }
}

/// The student's own way to score.
fn scorer(vocabulary: &Vocabulary, facts: &StudentFacts) -> Result<Scorer> {
    let trained = facts.trained_words();
    let is_trained = |word: &Word| word.is_trained(&trained);
    Ok(Scorer::with_trained(vocabulary, &facts.scores, facts.objectness_weight, is_trained)?)
}

/// A way to score embeddings of the teacher, which knows no background.
fn teacher_scorer(vocabulary: &Vocabulary, facts: &StudentFacts) -> Result<Scorer> {
    let ScoreFunction::Softmax { temperature, background, .. } = &facts.scores else {
        anyhow::bail!(
            "a student whose scores are a sigmoid's says no temperature by which its teacher's crops could be scored"
        );
    };
    let function = ScoreFunction::Softmax {
        temperature: *temperature,
        background: background.clone(),
        text_weights: TextWeights { trained: 0.0, others: 0.0 },
    };
    Ok(Scorer::new(vocabulary, &function, facts.objectness_weight)?)
}

/// A vocabulary of words by the default prompts; those of `trained` are marked as trained on.
pub fn vocabulary_of(
    names: Vec<String>,
    trained: &HashSet<String>,
    teacher: &mut Teacher,
) -> Result<Vocabulary> {
    let words: Vec<Word> = names
        .into_iter()
        .map(|word| Word { trained_on: trained.contains(&word), ..Word::new(word) })
        .collect();
    Ok(words::embed(words, words::default_prompts(), teacher)?)
}
