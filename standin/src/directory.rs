//! A teacher's directory that is made beside its place, and put there whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use wordsight_files::folder_of;
use wordsight_teacher::read_json;

use crate::error::StandinError;

/// A directory that isn't in its place yet.
pub struct NewDirectory<'a> {
    output: &'a Path,
    beside: TempDir,
}

impl<'a> NewDirectory<'a> {
    /// Makes one with the folder of its models, on the file system of `output`, so that the last step is a rename.
    pub fn beside(output: &'a Path) -> Result<Self, StandinError> {
        let parent = folder_of(output);
        let made = fs::create_dir_all(parent)
            .and_then(|()| tempfile::Builder::new().prefix(".teacher.").tempdir_in(parent));
        let beside = made.map_err(|reason| unwritable(output, reason))?;
        let new = Self { output, beside };
        fs::create_dir_all(new.path().join("onnx")).map_err(|reason| new.unwritable(reason))?;
        Ok(new)
    }

    /// Where it is made.
    pub fn path(&self) -> PathBuf {
        self.beside.path().join("teacher")
    }

    /// What could not be written, as the directory that it was for.
    pub fn unwritable(&self, reason: io::Error) -> StandinError {
        unwritable(self.output, reason)
    }

    /// Puts it in its place; what was there is gone.
    pub fn put_in_place(&self) -> Result<(), StandinError> {
        let replaced = if self.output.exists() {
            fs::rename(self.output, self.beside.path().join("replaced"))
        } else {
            Ok(())
        };
        replaced.and_then(|()| fs::rename(self.path(), self.output)).map_err(|reason| self.unwritable(reason))
    }
}

fn unwritable(output: &Path, reason: io::Error) -> StandinError {
    StandinError::Unwritable { path: output.into(), reason }
}

/// Refuses a place where something else stands, which isn't ours to remove: `kept` says what may be replaced, and `is_kept`
/// tells it by its `config.json`.
pub fn refuse_to_replace_others(
    output: &Path,
    kept: &'static str,
    is_kept: impl Fn(&Value) -> bool,
) -> Result<(), StandinError> {
    if !output.exists() || fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    match read_json::<Value>(&output.join("config.json")) {
        Ok(config) if is_kept(&config) => Ok(()),
        _ => Err(StandinError::Occupied { path: output.into(), kept }),
    }
}
