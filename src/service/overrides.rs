//! Overrides: vocabulary and threshold as change requests set them, over the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wordsight_teacher::words::ListedWords;

use super::target::WordsTarget;
use crate::requests::ChangeRequest;

/// What holds in the place of what the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    words: Option<OtherWords>,
    score_threshold: Option<f32>,
    /// Whether it also holds after a restart.
    #[serde(skip)]
    pub is_kept: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OtherWords {
    File(PathBuf),
    Listed(ListedWords),
}

impl Overrides {
    /// With one more request applied.
    pub fn with(&self, request: &ChangeRequest) -> Self {
        let mut overrides = self.clone();
        match request {
            ChangeRequest::Vocabulary(path) => overrides.words = Some(OtherWords::File(path.clone())),
            ChangeRequest::Words(words) => overrides.words = Some(OtherWords::Listed(words.clone())),
            ChangeRequest::ScoreThreshold(score) => overrides.score_threshold = Some(*score),
            ChangeRequest::Keep(is_kept) => overrides.is_kept = *is_kept,
            ChangeRequest::AsConfigured => overrides = Self::default(),
            // Its file is looked for first.
            ChangeRequest::VocabularyNamed(_) => {}
        }
        overrides
    }

    /// Whether everything is as configured.
    pub fn is_empty(&self) -> bool {
        self.words.is_none() && self.score_threshold.is_none()
    }

    /// Puts the overrides in their place.
    pub fn apply(&self, words: &mut WordsTarget) {
        match &self.words {
            Some(OtherWords::File(vocabulary)) => *words = words.of_file(vocabulary),
            Some(OtherWords::Listed(listed)) => *words = words.of_list(listed),
            None => {}
        }
        if let Some(score_threshold) = self.score_threshold {
            words.detection.score_threshold = score_threshold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_requests_go_before_earlier_ones_and_all_can_be_taken_back() {
        let overrides = Overrides::default()
            .with(&ChangeRequest::ScoreThreshold(0.5))
            .with(&ChangeRequest::ScoreThreshold(0.7))
            .with(&ChangeRequest::Keep(true));
        assert_eq!((overrides.score_threshold, overrides.is_kept), (Some(0.7), true));
        let taken_back = overrides.with(&ChangeRequest::AsConfigured);
        assert!(taken_back.is_empty() && !taken_back.is_kept);
    }
}
