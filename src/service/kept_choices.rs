//! What was chosen on the page or by a program, kept for the next start where that was asked for.
//!
//! In flow [`Overrides`], out they flow again when a stream of the same name starts on a configuration that says the same
//! about words. They lie in the state directory, in `chosen/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wordsight_teacher::words::ListedWords;

use super::overrides::Overrides;
use super::target::WordsTarget;
use crate::files::{Durability, replace, state_folder};

/// The file of one stream.
pub struct KeptChoices {
    path: PathBuf,
}

/// What is in it.
#[derive(Serialize, Deserialize)]
struct Chosen {
    /// What the configuration said when it was chosen.
    configured: Configured,
    chosen: Overrides,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Configured {
    vocabulary: PathBuf,
    words: Option<ListedWords>,
    score_threshold: f32,
}

impl Configured {
    fn of(words: &WordsTarget) -> Self {
        Self {
            vocabulary: words.vocabulary.clone(),
            words: words.listed.clone(),
            score_threshold: words.detection.score_threshold,
        }
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

    /// What was kept; nothing where the configuration says something else about the words since. What can't be read goes to
    /// the log.
    pub fn read(&self, configured: &WordsTarget) -> Overrides {
        let read = fs::read(&self.path)
            .and_then(|bytes| serde_json::from_slice::<Chosen>(&bytes).map_err(io::Error::other));
        match read {
            Ok(mut kept) if kept.configured == Configured::of(configured) => {
                kept.chosen.is_kept = true;
                kept.chosen
            }
            Ok(_) => {
                tracing::info!(
                    "what was chosen is not used: the configuration says something else about the words"
                );
                Overrides::default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overrides::default(),
            Err(error) => {
                tracing::warn!("what was chosen is not used: {}: {error}", self.path.display());
                Overrides::default()
            }
        }
    }

    /// Keeps these, or nothing any more where they are not to be kept.
    ///
    /// # Errors
    /// Why they can't be kept, or given up.
    pub fn write(&self, configured: &WordsTarget, overrides: &Overrides) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", self.path.display());
        if !overrides.is_kept {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(error)),
                _ => Ok(()),
            };
        }
        let chosen = Chosen { configured: Configured::of(configured), chosen: overrides.clone() };
        let bytes = serde_json::to_vec_pretty(&chosen).map_err(|error| told(error.into()))?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).and_then(|()| replace(&self.path, Durability::Kept, &bytes)).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_detection::{DetectionSettings, WordExamples};

    use super::*;
    use crate::requests::{ChangeRequest, ShownExamples};

    #[test]
    fn what_was_kept_comes_back_on_the_same_configuration_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptChoices::at(folder.path(), "Front door");
        let configured = WordsTarget {
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
        assert_eq!(kept.read(&configured), Overrides::default());
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
        let requests = [
            ChangeRequest::Words(words),
            ChangeRequest::ScoreThreshold(0.35),
            ChangeRequest::AddExamples(examples),
            ChangeRequest::Keep(true),
        ];
        let chosen =
            requests.iter().fold(Overrides::default(), |chosen, request| chosen.with(request).unwrap());
        kept.write(&configured, &chosen).unwrap();
        assert_eq!(kept.read(&configured), chosen);
        assert_eq!(KeptChoices::at(folder.path(), "Back door").read(&configured), Overrides::default());
        let other =
            WordsTarget { vocabulary: "/etc/wordsight/other.safetensors".into(), ..configured.clone() };
        assert_eq!(kept.read(&other), Overrides::default());
        kept.write(&configured, &chosen.with(&ChangeRequest::Keep(false)).unwrap()).unwrap();
        assert_eq!(kept.read(&configured), Overrides::default());
        kept.write(&configured, &Overrides::default()).unwrap();
        fs::write(&kept.path, "{").unwrap();
        assert_eq!(kept.read(&configured), Overrides::default());
    }
}
