//! The configuration and the vocabulary that last worked, kept where a power cut finds them.
//!
//! In flow files that a stream runs on, out they flow again when a service starts and what it is to run on doesn't work
//! any more. They lie in systemd's state directory (`STATE_DIRECTORY`), in `last-good/`; a process without one keeps none.
//!
//! The one surprising thing: each takes two `fsync`s, of the bytes before the rename and of the folder after it. Whenever
//! the power goes, there is an old file or a new one, and it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const CONFIGURATION: &str = "wordsight.toml";
const WORDS: &str = "words.safetensors";

/// Where they are kept.
#[derive(Debug, Clone)]
pub struct LastGood(Option<PathBuf>);

impl LastGood {
    /// In the state directory that systemd gave this process, if it did.
    pub fn of_this_process() -> Self {
        let state = std::env::var_os("STATE_DIRECTORY").filter(|state| !state.is_empty());
        Self(state.map(|state| Path::new(&state).join("last-good")))
    }

    /// In no place, or in this one.
    #[cfg(test)]
    fn at(folder: &Path) -> Self {
        Self(Some(folder.to_owned()))
    }

    /// Keeps what works now. What can't be kept goes to the log: the stream is worth more.
    pub fn keep(&self, configuration: Option<&Path>, words: &Path) {
        let Some(folder) = &self.0 else { return };
        let kept = fs::create_dir_all(folder).and_then(|()| {
            configuration.map(|path| keep(path, &folder.join(CONFIGURATION))).transpose()?;
            keep(words, &folder.join(WORDS))
        });
        if let Err(error) = kept {
            let folder = folder.display();
            tracing::warn!(
                "cannot keep what works now in {folder}, for a start when something else doesn't: {error}"
            );
        }
    }

    /// The configuration that last worked.
    pub fn configuration(&self) -> Option<String> {
        fs::read_to_string(self.0.as_ref()?.join(CONFIGURATION)).ok()
    }

    /// The vocabulary that last worked.
    pub fn words(&self) -> Option<PathBuf> {
        let path = self.0.as_ref()?.join(WORDS);
        path.exists().then_some(path)
    }
}

/// Copies a file, unless the copy is there.
fn keep(path: &Path, copy: &Path) -> io::Result<()> {
    let bytes = fs::read(path)?;
    if fs::read(copy).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    let part = copy.with_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    let folder = copy.parent().unwrap_or(Path::new("."));
    written
        .and_then(|()| fs::rename(&part, copy))
        .and_then(|()| File::open(folder)?.sync_all())
        .inspect_err(|_| drop(fs::remove_file(&part)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_kept_last_comes_back_and_a_file_that_is_gone_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (configuration, words) = (folder.path().join("c.toml"), folder.path().join("w.safetensors"));
        let last_good = LastGood::at(&folder.path().join("state"));
        assert!(last_good.configuration().is_none() && last_good.words().is_none());
        for version in ["one", "two"] {
            fs::write(&configuration, version).unwrap();
            fs::write(&words, version).unwrap();
            last_good.keep(Some(&configuration), &words);
            assert_eq!(last_good.configuration().as_deref(), Some(version));
            assert_eq!(fs::read_to_string(last_good.words().unwrap()).unwrap(), version);
        }
        fs::remove_file(&words).unwrap();
        last_good.keep(Some(&configuration), &words);
        assert_eq!(fs::read_to_string(last_good.words().unwrap()).unwrap(), "two");
        let kept = fs::read_dir(folder.path().join("state")).unwrap().count();
        assert_eq!(kept, 2, "no part is left over");
    }
}
