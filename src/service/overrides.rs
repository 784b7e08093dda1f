//! Overrides: vocabulary, threshold and zones as change requests set them, over the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wordsight_teacher::words::ListedWords;

use super::target::{Target, WordsTarget};
use crate::requests::{ChangeRequest, ShownExamples};
use crate::settings::SettingError;
use crate::tracking::{WrittenZones, ZoneSettings};

/// What the configuration says of all that may be overridden.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// The words.
    pub words: WordsTarget,
    /// The zones.
    pub zones: ZoneSettings,
    /// Whether things are followed, without which there are no zones.
    pub is_tracking: bool,
}

impl Configured {
    /// What a target says that nothing was put over yet.
    pub fn of(target: &Target) -> Self {
        let is_tracking = target.tracking.is_some();
        Self { words: target.words.clone(), zones: target.zones.clone(), is_tracking }
    }
}

/// What holds in the place of what the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    words: Option<OtherWords>,
    score_threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examples: Option<ShownExamples>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zones: Option<WrittenZones>,
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
            ChangeRequest::Zones(zones) => overrides.zones = Some(zones.clone()),
            ChangeRequest::Keep(is_kept) => overrides.is_kept = *is_kept,
            ChangeRequest::AsConfigured => overrides = overrides.without_words(),
            ChangeRequest::ZonesAsConfigured => overrides = overrides.without_zones(),
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
        !self.has_words() && self.zones.is_none()
    }

    /// Whether what is looked for is not as configured.
    pub fn has_words(&self) -> bool {
        self.words.is_some() || self.score_threshold.is_some() || self.examples.is_some()
    }

    /// Whether the zones are not as configured.
    pub fn has_zones(&self) -> bool {
        self.zones.is_some()
    }

    /// The same with words that are as configured.
    pub fn without_words(mut self) -> Self {
        (self.words, self.score_threshold, self.examples) = (None, None, None);
        self.or_none()
    }

    /// None, not even the wish to keep any, where nothing is left of them.
    fn or_none(self) -> Self {
        if self.is_empty() { Self::default() } else { self }
    }

    /// Those that hold under another configuration, which has the last word on what it says something else about.
    pub fn under(mut self, before: &Configured, now: &Configured) -> Self {
        if before.words != now.words {
            self = self.without_words();
        }
        if before.zones != now.zones || !now.is_tracking { self.without_zones() } else { self }
    }

    /// The same with zones that are as configured.
    pub fn without_zones(mut self) -> Self {
        self.zones = None;
        self.or_none()
    }

    /// Puts the overrides in their place.
    ///
    /// # Errors
    /// When there can't be such zones.
    pub fn apply(&self, target: &mut Target) -> Result<(), SettingError> {
        if let Some(zones) = &self.zones {
            target.zones = ZoneSettings::of(zones, target.tracking.is_some())?;
        }
        if self.has_words() {
            self.apply_words(&mut target.words);
        }
        Ok(())
    }

    fn apply_words(&self, words: &mut WordsTarget) {
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

    #[test]
    fn words_and_zones_are_taken_back_each_by_itself() {
        let zones = ChangeRequest::Zones(WrittenZones::default());
        let both = [ChangeRequest::ScoreThreshold(0.5), zones, ChangeRequest::Keep(true)];
        let both = with(&Overrides::default(), &both).unwrap();
        let of_zones = both.with(&ChangeRequest::AsConfigured).unwrap();
        assert!(of_zones.has_zones() && !of_zones.has_words() && of_zones.is_kept);
        let of_words = both.with(&ChangeRequest::ZonesAsConfigured).unwrap();
        assert!(!of_words.has_zones() && of_words.has_words() && of_words.is_kept);
        let none = of_words.with(&ChangeRequest::AsConfigured).unwrap();
        assert!(none.is_empty() && !none.is_kept);
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
