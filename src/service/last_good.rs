//! The last configuration and vocabulary that worked, kept on disk for the next start.
//!
//! Keeps the files that a stream runs on, for a service that starts when its own don't work any more. They lie in
//! systemd's state directory (`STATE_DIRECTORY`), in `last-good/`; a process without one keeps none.
//!
//! Each takes two `fsync`s, of the bytes before the rename and of the folder after it. Whenever the power goes, there
//! is an old file or a new one, and it is whole.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wordsight_detection::Vocabulary;

use super::file_watch::Watched;
use crate::files::{Durability, replace, systemd_state_folder};

const CONFIGURATION: &str = "wordsight.toml";
const WORDS: &str = "words.safetensors";

/// The words to keep.
#[derive(Debug, Clone, Copy)]
pub enum KeptWords<'a> {
    /// A vocabulary's file as it was when it was read.
    File(&'a Watched),
    /// A vocabulary that stands in no file.
    Made(&'a Vocabulary),
    /// Those that are kept already.
    Same,
}

/// Where those of single cameras are, below.
const CAMERAS: &str = "cameras";

/// Where they are kept.
#[derive(Debug, Clone)]
pub struct LastGood(
    Option<PathBuf>,
    /// Of one of several cameras: where the configuration of all of them is kept.
    Option<PathBuf>,
);

/// The configuration that last worked in this process' service, if it is one.
pub fn kept_configuration() -> Option<String> {
    LastGood::of_this_process().configuration()
}

impl LastGood {
    /// In the state directory that systemd gave this process, if it did.
    pub fn of_this_process() -> Self {
        Self(systemd_state_folder().map(|state| state.join("last-good")), None)
    }

    /// Those of one of several cameras.
    pub fn of_camera(&self, name: &str) -> Self {
        let own = self.0.as_ref().map(|kept| kept.join(CAMERAS).join(folder_of(name)));
        Self(own, self.0.clone())
    }

    /// Removes what was kept for cameras that there are no more.
    pub fn keep_only_cameras(&self, names: &[&str]) {
        let Some(cameras) = self.0.as_ref().map(|kept| kept.join(CAMERAS)) else { return };
        let known: Vec<String> = names.iter().map(|name| folder_of(name)).collect();
        let Ok(entries) = fs::read_dir(&cameras) else { return };
        for entry in entries.flatten().filter(|entry| !known.iter().any(|name| **name == *entry.file_name()))
        {
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!("cannot remove {}: {error}", entry.path().display());
            }
        }
    }

    /// In this place.
    #[cfg(test)]
    fn at(folder: &Path) -> Self {
        Self(Some(folder.to_owned()), None)
    }

    /// Keeps what works: a configuration's text, and words as they were when they were read. What can't be kept goes to the
    /// log: the stream is worth more.
    pub fn keep(&self, configuration: Option<&str>, words: KeptWords<'_>) {
        let Some(folder) = &self.0 else { return };
        let kept = fs::create_dir_all(folder).and_then(|()| {
            let text = configuration.map(|text| keep(text.as_bytes(), &folder.join(CONFIGURATION)));
            text.transpose()?;
            let bytes = match words {
                KeptWords::Same => return Ok(()),
                KeptWords::Made(words) => words.to_bytes().map_err(io::Error::other)?,
                KeptWords::File(words) => {
                    let bytes = fs::read(words.path())?;
                    // What is there now may be what the next reload refuses.
                    if words.is_other() {
                        return Ok(());
                    }
                    bytes
                }
            };
            keep(&bytes, &folder.join(WORDS))
        });
        if let Err(error) = kept {
            let folder = folder.display();
            tracing::warn!(
                "cannot copy the configuration and vocabulary that work into {folder}, for a start when newer ones don't: {error}"
            );
        }
    }

    /// The configuration that last worked.
    pub fn configuration(&self) -> Option<String> {
        let read = |folder: &PathBuf| fs::read_to_string(folder.join(CONFIGURATION)).ok();
        self.1.as_ref().and_then(read).or_else(|| read(self.0.as_ref()?))
    }

    /// The vocabulary that last worked.
    pub fn words(&self) -> Option<PathBuf> {
        let path = self.0.as_ref()?.join(WORDS);
        path.exists().then_some(path)
    }
}

/// A camera's folder: its name may have any characters.
fn folder_of(name: &str) -> String {
    hex::encode(&Sha256::digest(name)[..8])
}

/// Writes a file, unless it is there.
fn keep(bytes: &[u8], copy: &Path) -> io::Result<()> {
    if fs::read(copy).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    replace(copy, Durability::Kept, bytes)?;
    // An address in a configuration may have a password in it.
    fs::set_permissions(copy, fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_kept_for_a_camera_goes_with_it_and_that_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let last_good = LastGood::at(folder.path());
        last_good.keep_only_cameras(&["yard"]);
        let words = folder.path().join("w.safetensors");
        fs::write(&words, "words").unwrap();
        for name in ["yard", "door"] {
            last_good.of_camera(name).keep(None, KeptWords::File(&Watched::new(&words)));
        }
        last_good.keep(Some("all"), KeptWords::Same);
        last_good.keep_only_cameras(&["yard", "new"]);
        let has_words = |name: &str| last_good.of_camera(name).words().is_some();
        assert_eq!((has_words("yard"), has_words("door")), (true, false));
        assert_eq!(last_good.of_camera("door").configuration().as_deref(), Some("all"));
    }

    #[test]
    fn what_was_kept_last_comes_back_and_what_has_changed_since_it_was_read_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let words = folder.path().join("w.safetensors");
        let last_good = LastGood::at(&folder.path().join("state"));
        assert!(last_good.configuration().is_none() && last_good.words().is_none());
        for version in ["one", "two"] {
            fs::write(&words, version).unwrap();
            last_good.keep(Some(version), KeptWords::File(&Watched::new(&words)));
            assert_eq!(last_good.configuration().as_deref(), Some(version));
            assert_eq!(fs::read_to_string(last_good.words().unwrap()).unwrap(), version);
        }
        let read = Watched::new(&words);
        fs::write(&words, "something bad").unwrap();
        last_good.keep(Some("two"), KeptWords::File(&read));
        fs::remove_file(&words).unwrap();
        last_good.keep(Some("two"), KeptWords::File(&read));
        assert_eq!(fs::read_to_string(last_good.words().unwrap()).unwrap(), "two");
        last_good.keep(Some("two"), KeptWords::Same);
        let kept = fs::read_dir(folder.path().join("state")).unwrap().count();
        assert_eq!(kept, 2, "no part is left over");
    }
}
