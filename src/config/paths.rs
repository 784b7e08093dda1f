//! Where the files lie that a configuration names.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ConfigError;

/// Where a relative path is looked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Base {
    /// Where the program was started: a flag's.
    #[default]
    Here,
    /// In the folder of the user's file.
    Folder(PathBuf),
    /// In the `demo` folder: the built-in file's.
    Demo,
}

impl Base {
    /// Where a file lies; `flag` could name another.
    pub(super) fn find(&self, path: &Path, flag: &'static str) -> Result<PathBuf, ConfigError> {
        match self {
            Self::Here => Ok(path.to_owned()),
            Self::Folder(folder) => Ok(folder.join(path)),
            Self::Demo => {
                demo_file(path).ok_or_else(|| ConfigError::NoDemoFile { name: path.to_owned(), flag })
            }
        }
    }
}

/// A file that is needed: the user's, or one of the demo, which may not be there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "PathBuf")]
pub struct NamedFile {
    path: PathBuf,
    pub(super) base: Base,
}

/// As a flag names it.
impl From<PathBuf> for NamedFile {
    fn from(path: PathBuf) -> Self {
        Self { path, base: Base::Here }
    }
}

impl NamedFile {
    /// Where it lies; `flag` could name another.
    ///
    /// # Errors
    /// When only the built-in configuration names one and there is no checkout around.
    pub fn find(&self, flag: &'static str) -> Result<PathBuf, ConfigError> {
        self.base.find(&self.path, flag)
    }
}

/// A file of the `demo` folder of a checkout, or of an installation: `../share/wordsight` of the executable.
fn demo_file(name: &Path) -> Option<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let folders = [Path::new("")].into_iter().chain(executable.ancestors().skip(1));
    let installed = executable.ancestors().nth(2).map(|prefix| prefix.join("share/wordsight"));
    folders
        .map(|folder| folder.join("demo"))
        .chain(installed)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
}
