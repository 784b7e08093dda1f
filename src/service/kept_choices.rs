//! What was chosen on the page or by a program, kept for the next start where that was asked for.
//!
//! Writes [`Overrides`] into the state directory, in `chosen/`, and reads them when a stream of the same name starts on
//! a configuration that says the same about words; zones are kept by themselves. The cameras that were asked for lie
//! there too.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wordsight_teacher::words::ListedWords;

use super::overrides::{Configured, Overrides};
use crate::config::ChosenCameras;
use crate::files::{Durability, replace, state_folder};
use crate::tracking::WrittenZones;

/// The file of one stream.
pub struct KeptChoices {
    path: PathBuf,
}

/// What is in it.
#[derive(Serialize, Deserialize)]
struct Chosen {
    /// What the configuration said when it was chosen.
    configured: ConfiguredThen,
    chosen: Overrides,
}

#[derive(Serialize, Deserialize)]
struct ConfiguredThen {
    #[serde(flatten)]
    words: WordsThen,
    #[serde(default)]
    zones: WrittenZones,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct WordsThen {
    vocabulary: PathBuf,
    words: Option<ListedWords>,
    score_threshold: f32,
}

impl ConfiguredThen {
    fn of(configured: &Configured) -> Self {
        let words = WordsThen {
            vocabulary: configured.words.vocabulary.clone(),
            words: configured.words.listed.clone(),
            score_threshold: configured.words.detection.score_threshold,
        };
        Self { words, zones: configured.zones.written().clone() }
    }
}

impl Chosen {
    /// What of it still holds: the configuration has the last word on what it says something else about.
    fn under(self, configured: &Configured) -> Overrides {
        let (then, now) = (self.configured, ConfiguredThen::of(configured));
        let mut chosen = self.chosen;
        chosen.is_kept = true;
        let before = chosen.clone();
        if then.words != now.words {
            chosen = chosen.without_words();
        }
        if then.zones != now.zones || !configured.is_tracking {
            chosen = chosen.without_zones();
        }
        if chosen != before {
            tracing::info!("what was chosen is not used where the configuration says something else since");
        }
        chosen
    }
}

impl KeptChoices {
    /// Those of the stream of this name.
    pub fn of(stream: &str) -> Self {
        Self::at(&state_folder(), stream)
    }

    fn at(state: &Path, stream: &str) -> Self {
        let name = hex::encode(&Sha256::digest(stream)[..8]);
        Self { path: state.join("chosen").join(format!("{name}.json")) }
    }

    /// What was kept, but where the configuration says something else about it since. What can't be read goes to the log.
    pub fn read(&self, configured: &Configured) -> Overrides {
        let read = fs::read(&self.path)
            .and_then(|bytes| serde_json::from_slice::<Chosen>(&bytes).map_err(io::Error::other));
        match read {
            Ok(kept) => kept.under(configured),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overrides::default(),
            Err(error) => {
                tracing::warn!("what was chosen is not used: {}: {error}", self.path.display());
                Overrides::default()
            }
        }
    }

    /// Keeps nothing any more: the stream is gone.
    pub fn forget(&self) {
        drop(fs::remove_file(&self.path));
    }

    /// Keeps these, or nothing any more where they are not to be kept.
    ///
    /// # Errors
    /// Why they can't be kept, or given up.
    pub fn write(&self, configured: &Configured, overrides: &Overrides) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", self.path.display());
        if !overrides.is_kept {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(error)),
                _ => Ok(()),
            };
        }
        let chosen = Chosen { configured: ConfiguredThen::of(configured), chosen: overrides.clone() };
        let bytes = serde_json::to_vec_pretty(&chosen).map_err(|error| told(error.into()))?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).and_then(|()| replace(&self.path, Durability::Kept, &bytes)).map_err(told)
    }
}

/// The file of what was asked of the list of cameras.
pub struct KeptCameras {
    path: PathBuf,
}

impl KeptCameras {
    /// Of this process' state directory.
    pub fn of_this_process() -> Self {
        Self::of_state(&state_folder())
    }

    /// Of a state directory.
    pub fn of_state(folder: &Path) -> Self {
        Self { path: folder.join("chosen").join("cameras.json") }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept. What can't be read goes to the log.
    pub fn read(&self) -> ChosenCameras {
        let read =
            fs::read(&self.path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(
                    "the cameras that were asked for are not used: {}: {error}",
                    self.path.display()
                );
            }
            ChosenCameras::default()
        })
    }

    /// Keeps these, for this start and others. An address may have a password in it: nobody else reads the file.
    ///
    /// # Errors
    /// Why they hold until the program ends, and not longer.
    pub fn write(&self, cameras: &ChosenCameras) -> Result<(), String> {
        let told = |error: io::Error| {
            format!("it is so until the program ends, and can't be kept: {}: {error}", self.path.display())
        };
        if cameras.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(error)),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec_pretty(cameras).map_err(|error| told(error.into()))?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let kept = fs::create_dir_all(folder).and_then(|()| replace(&self.path, Durability::Kept, &bytes));
        kept.and_then(|()| fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_detection::{DetectionSettings, WordExamples};

    use super::*;
    use crate::requests::{ChangeRequest, ShownExamples};
    use crate::service::target::WordsTarget;
    use crate::tracking::ZoneSettings;

    fn configured() -> Configured {
        let words = WordsTarget {
            student: "/etc/wordsight/student.onnx".into(),
            vocabulary: "/etc/wordsight/words.safetensors".into(),
            listed: None,
            shown: None,
            teacher: None,
            detection: DetectionSettings {
                score_threshold: 0.3,
                nms_iou: 0.5,
                voting_iou: 1.0,
                max_detections: 10,
                words_per_region: 1,
                weak_fraction: 1.0,
            },
        };
        Configured { words, zones: ZoneSettings::default(), is_tracking: true }
    }

    fn other_words() -> Configured {
        let mut other = configured();
        other.words.vocabulary = "/etc/wordsight/other.safetensors".into();
        other
    }

    fn zones() -> WrittenZones {
        let zone = r#"{"zone": [{"name": "yard", "points": [[0, 0], [1, 0], [1, 1]]}]}"#;
        serde_json::from_str(zone).unwrap()
    }

    fn chosen(requests: &[ChangeRequest]) -> Overrides {
        requests.iter().fold(Overrides::default(), |chosen, request| chosen.with(request).unwrap())
    }

    #[test]
    fn what_was_kept_comes_back_on_the_same_configuration_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptChoices::at(folder.path(), "Front door");
        assert_eq!(kept.read(&configured()), Overrides::default());
        let words: ListedWords =
            serde_json::from_str(r#"["cat", {"word": "cup", "synonyms": ["mug"], "threshold": 0.2}]"#)
                .unwrap();
        let examples = ShownExamples {
            student: "a student".into(),
            words: vec![WordExamples {
                word: "rack".into(),
                regions: vec![vec![0.1, 1.0 / 3.0]],
                is_negative: true,
            }],
        };
        let chosen = chosen(&[
            ChangeRequest::Words(words),
            ChangeRequest::ScoreThreshold(0.35),
            ChangeRequest::AddExamples(examples),
            ChangeRequest::Keep(true),
        ]);
        kept.write(&configured(), &chosen).unwrap();
        assert_eq!(kept.read(&configured()), chosen);
        assert_eq!(KeptChoices::at(folder.path(), "Back door").read(&configured()), Overrides::default());
        assert_eq!(kept.read(&other_words()), Overrides::default());
        kept.write(&configured(), &chosen.with(&ChangeRequest::Keep(false)).unwrap()).unwrap();
        assert_eq!(kept.read(&configured()), Overrides::default());
        kept.write(&configured(), &Overrides::default()).unwrap();
        fs::write(&kept.path, "{").unwrap();
        assert_eq!(kept.read(&configured()), Overrides::default());
    }

    #[test]
    fn words_and_zones_come_back_each_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptChoices::at(folder.path(), "Front door");
        let keep = ChangeRequest::Keep(true);
        let of_zones = [ChangeRequest::Zones(zones()), keep.clone()];
        let both = chosen(&[&[ChangeRequest::ScoreThreshold(0.35)], &of_zones[..]].concat());
        kept.write(&configured(), &both).unwrap();
        assert_eq!(kept.read(&configured()), both);
        assert_eq!(kept.read(&other_words()), chosen(&of_zones));
        let of_words = chosen(&[ChangeRequest::ScoreThreshold(0.35), keep]);
        let other_zones = Configured { zones: ZoneSettings::of(&zones(), true).unwrap(), ..configured() };
        assert_eq!(kept.read(&other_zones), of_words);
        assert_eq!(kept.read(&Configured { is_tracking: false, ..configured() }), of_words);
    }

    #[test]
    fn what_was_kept_before_there_were_zones_still_holds() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptChoices::at(folder.path(), "Front door");
        fs::create_dir_all(kept.path.parent().unwrap()).unwrap();
        let written = r#"{"configured": {"vocabulary": "/etc/wordsight/words.safetensors", "words": null,
            "score_threshold": 0.3}, "chosen": {"words": null, "score_threshold": 0.5}}"#;
        fs::write(&kept.path, written).unwrap();
        let expected = chosen(&[ChangeRequest::ScoreThreshold(0.5), ChangeRequest::Keep(true)]);
        assert_eq!(kept.read(&configured()), expected);
    }
}
