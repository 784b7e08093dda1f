//! What finds objects in photographs: a detector of fixed words, or a student with a vocabulary.

use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_engines::{CpuEngine, Placement};

use super::yolox::{Answer, Suppression, Yolox};
use crate::eval::Detector;

/// Finds objects of its own words, on one thread.
pub trait Detect: Send {
    /// The words that [`Answer::word`] counts.
    fn names(&self) -> &[String];

    /// What it finds in a photograph.
    ///
    /// # Errors
    /// When ONNX Runtime fails.
    fn detect(&mut self, picture: &RgbImage, suppression: &Suppression) -> Result<Vec<Answer>>;
}

impl Detect for Yolox {
    fn names(&self) -> &[String] {
        Yolox::names(self)
    }

    fn detect(&mut self, picture: &RgbImage, suppression: &Suppression) -> Result<Vec<Answer>> {
        Yolox::detect(self, picture, suppression)
    }
}

/// A student that looks for a vocabulary's words.
pub struct StudentDetector {
    detector: Detector,
    names: Vec<String>,
}

impl StudentDetector {
    /// Opens a student.
    ///
    /// # Errors
    /// When the file is no student, or doesn't speak the vocabulary's language.
    pub fn open(student: &Path, vocabulary: &Vocabulary, placement: Placement) -> Result<Self> {
        let detector = Detector::of(CpuEngine::open(student, placement)?, vocabulary)?;
        let names = vocabulary.shown().iter().map(|word| word.word.clone()).collect();
        Ok(Self { detector, names })
    }
}

impl Detect for StudentDetector {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn detect(&mut self, picture: &RgbImage, suppression: &Suppression) -> Result<Vec<Answer>> {
        let Suppression { score_threshold, same_word_iou, any_word_iou } = *suppression;
        // Where boxes of different words suppress each other, an object has one word.
        let has_one_word = any_word_iou < 1.0;
        let settings = DetectionSettings {
            score_threshold,
            nms_iou: same_word_iou,
            voting_iou: 1.0,
            max_detections: usize::MAX,
            words_per_region: if has_one_word { 1 } else { usize::MAX },
            weak_fraction: 1.0,
        };
        let found = self.detector.find(picture, &settings)?;
        let answer = |(word, score, corners_in_frame)| Answer { word, score, corners_in_frame };
        Ok(found.into_iter().map(answer).collect())
    }
}
