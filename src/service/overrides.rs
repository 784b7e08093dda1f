//! Overrides: vocabulary and threshold as change requests set them, over the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wordsight_teacher::words::ListedWords;

use super::target::WordsTarget;
use crate::requests::{ChangeRequest, ShownExamples};

/// What holds in the place of what the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    words: Option<OtherWords>,
    score_threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examples: Option<ShownExamples>,
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
    ///
    /// # Errors
    /// When it can't be: too many examples, or none to forget.
    pub fn with(&self, request: &ChangeRequest) -> Result<Self, String> {
        let mut overrides = self.clone();
        match request {
            ChangeRequest::Vocabulary(path) => overrides.words = Some(OtherWords::File(path.clone())),
            ChangeRequest::Words(words) => overrides.words = Some(OtherWords::Listed(words.clone())),
            ChangeRequest::AddExamples(more) => {
                overrides.examples = Some(overrides.examples.unwrap_or_default().with(more.clone())?);
            }
            ChangeRequest::ForgetExamples(word) => overrides.forget(word)?,
            ChangeRequest::ScoreThreshold(score) => overrides.score_threshold = Some(*score),
            ChangeRequest::Keep(is_kept) => overrides.is_kept = *is_kept,
            ChangeRequest::AsConfigured => overrides = Self::default(),
            // Its file is looked for first.
            ChangeRequest::VocabularyNamed(_) => {}
        }
        Ok(overrides)
    }

    fn forget(&mut self, word: &str) -> Result<(), String> {
        let words = self.examples.as_mut().map(|examples| &mut examples.words);
        let before = words.as_ref().map_or(0, |words| words.len());
        let left = words.map_or(0, |words| {
            words.retain(|shown| shown.word != word);
            words.len()
        });
        if left == before {
            return Err(format!("{word:?} has no examples that were shown here"));
        }
        if left == 0 {
            self.examples = None;
        }
        Ok(())
    }

    /// Whether everything is as configured.
    pub fn is_empty(&self) -> bool {
        self.words.is_none() && self.score_threshold.is_none() && self.examples.is_none()
    }

    /// Puts the overrides in their place.
    pub fn apply(&self, words: &mut WordsTarget) {
        match &self.words {
            Some(OtherWords::File(vocabulary)) => *words = words.of_file(vocabulary),
            Some(OtherWords::Listed(listed)) => *words = words.of_list(listed),
            None => {}
        }
        words.shown.clone_from(&self.examples);
        if let Some(score_threshold) = self.score_threshold {
            words.detection.score_threshold = score_threshold;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_detection::WordExamples;

    use super::*;

    fn with(overrides: &Overrides, requests: &[ChangeRequest]) -> Result<Overrides, String> {
        requests.iter().try_fold(overrides.clone(), |overrides, request| overrides.with(request))
    }

    #[test]
    fn later_requests_go_before_earlier_ones_and_all_can_be_taken_back() {
        let requests = [0.5, 0.7].map(ChangeRequest::ScoreThreshold);
        let overrides = with(&Overrides::default(), &requests).unwrap();
        let overrides = overrides.with(&ChangeRequest::Keep(true)).unwrap();
        assert_eq!((overrides.score_threshold, overrides.is_kept), (Some(0.7), true));
        let taken_back = overrides.with(&ChangeRequest::AsConfigured).unwrap();
        assert!(taken_back.is_empty() && !taken_back.is_kept);
    }

    fn shown(student: &str, word: &str, is_negative: bool) -> ChangeRequest {
        let words = vec![WordExamples { word: word.into(), regions: vec![vec![1.0, 0.0]], is_negative }];
        ChangeRequest::AddExamples(ShownExamples { student: student.into(), words })
    }

    #[test]
    fn examples_add_up_by_word_until_they_are_forgotten_or_the_student_is_another() {
        let requests = [
            shown("a", "mug", false),
            shown("a", "mug", false),
            shown("a", "mug", true),
            shown("a", "rack", false),
        ];
        let overrides = with(&Overrides::default(), &requests).unwrap();
        let counts = |overrides: &Overrides| {
            let examples = overrides.examples.clone().unwrap_or_default();
            let count = |word: &WordExamples| (word.word.clone(), word.is_negative, word.regions.len());
            examples.words.iter().map(count).collect::<Vec<_>>()
        };
        let (mug, rack) = (|count, is_not| ("mug".to_owned(), is_not, count), ("rack".to_owned(), false, 1));
        assert_eq!(counts(&overrides), [mug(2, false), mug(1, true), rack.clone()]);
        assert!(!overrides.is_empty());
        let forgotten = overrides.with(&ChangeRequest::ForgetExamples("mug".into())).unwrap();
        assert_eq!(counts(&forgotten), [rack]);
        let error = forgotten.with(&ChangeRequest::ForgetExamples("mug".into())).unwrap_err();
        assert!(error.contains("\"mug\" has no examples"), "{error}");
        assert!(forgotten.with(&ChangeRequest::ForgetExamples("rack".into())).unwrap().is_empty());
        assert_eq!(counts(&with(&overrides, &[shown("b", "mug", false)]).unwrap()), [mug(1, false)]);
        let many = vec![shown("a", "mug", false); 101];
        assert!(with(&Overrides::default(), &many).unwrap_err().contains("100 examples already"));
    }
}
