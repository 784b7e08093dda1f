//! The vocabularies that the page may switch to: the `.safetensors` files of one folder.
//!
//! Turns names into paths of files in the folder, and of nothing else: a name is no path, and a link that leads out of
//! the folder is not followed. The path it gives is the one in the folder and not where a link in it leads, so that a
//! file or a link that is exchanged later is taken up as any configured vocabulary is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use axum::http::StatusCode;
use serde::Serialize;
use wordsight_detection::Vocabulary;

use super::answer::Refusal;
use crate::threads::locked;

/// What the files' names end with.
const ENDING: &str = ".safetensors";
/// As many are listed, by their names.
const MOST_LISTED: usize = 500;
/// As many characters as a name may have.
const LONGEST_NAME: usize = 200;

/// The folder, if one is configured.
pub struct VocabularyFolder {
    path: Option<PathBuf>,
    /// What was read of files, as long as they have not changed.
    seen: Mutex<BTreeMap<PathBuf, (Stamp, Counted)>>,
}

/// What is different after a file was written: its length, and when that was.
type Stamp = (u64, Option<SystemTime>);
/// How many words a file has, or why it can't be told.
type Counted = Result<usize, String>;

/// A vocabulary of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What it is asked for by: the file's name without `.safetensors`.
    pub name: String,
    /// How many words; nothing where it can't be read.
    pub words: Option<usize>,
    /// Why it can't be used, if that shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether it is the one in use.
    pub is_in_use: bool,
}

/// Why a name stands for no vocabulary.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No folder.
    #[error(
        "there is no folder of vocabularies: name one as `vocabularies` under [http] in the configuration"
    )]
    NoFolder,
    /// A path, or something else that isn't a plain name.
    #[error(
        "a vocabulary is asked for by the name of its file in the folder, without `.safetensors`, and not by a path"
    )]
    NotAName,
    /// Nothing there.
    #[error("there is no vocabulary of that name in the folder")]
    Unknown,
    /// A link to elsewhere.
    #[error(
        "that name is a folder, or a link that leads out of the folder of vocabularies and isn't followed"
    )]
    Outside,
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        let status = match error {
            NameError::NoFolder => StatusCode::CONFLICT,
            NameError::Unknown => StatusCode::NOT_FOUND,
            NameError::NotAName | NameError::Outside => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

impl VocabularyFolder {
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, seen: Mutex::default() }
    }

    /// Whether it is there yet.
    pub fn is_there(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.is_dir())
    }

    /// Whether a file is one of the folder's.
    pub fn holds(&self, file: &Path) -> bool {
        let in_folder =
            || Some(file.parent()?.canonicalize().ok()? == self.path.as_ref()?.canonicalize().ok()?);
        in_folder().unwrap_or(false)
    }

    /// The file of a name, which may be new.
    ///
    /// # Errors
    /// When it is no name, or something else than a file in the folder is called so.
    pub fn new_file(&self, name: &str) -> Result<PathBuf, NameError> {
        match self.file(name) {
            Err(NameError::Unknown) => {
                let file = self.path_of(name)?;
                // A link that leads nowhere, or a folder.
                if file.symlink_metadata().is_ok() { Err(NameError::Outside) } else { Ok(file) }
            }
            found => found,
        }
    }

    /// The file of a name.
    ///
    /// # Errors
    /// When the name stands for none in the folder.
    pub fn file(&self, name: &str) -> Result<PathBuf, NameError> {
        let file = self.path_of(name)?;
        let leads_to = file.canonicalize().map_err(|_| NameError::Unknown)?;
        let inside = self.path.as_ref().and_then(|folder| folder.canonicalize().ok());
        if !inside.is_some_and(|folder| leads_to.starts_with(folder)) {
            return Err(NameError::Outside);
        }
        if leads_to.is_file() { Ok(file) } else { Err(NameError::Unknown) }
    }

    /// Where a name's file is, if it is there.
    fn path_of(&self, name: &str) -> Result<PathBuf, NameError> {
        let folder = self.path.as_ref().ok_or(NameError::NoFolder)?;
        let is_plain = !name.is_empty()
            && name.chars().count() <= LONGEST_NAME
            && !name.starts_with('.')
            && !name.contains(|character: char| matches!(character, '/' | '\\') || character.is_control());
        if !is_plain {
            return Err(NameError::NotAName);
        }
        Ok(folder.join(format!("{name}{ENDING}")))
    }

    /// The folder's vocabularies by name, and whether there are more than are listed. Reads files.
    pub fn list(&self, in_use: &Path) -> (Vec<Listed>, bool) {
        let Some(folder) = &self.path else { return (Vec::new(), false) };
        let in_use = in_use.canonicalize().ok();
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(ENDING).map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| self.file(name).is_ok()).collect();
        names.sort_unstable();
        let has_more = names.len() > MOST_LISTED;
        names.truncate(MOST_LISTED);
        let listed = names.into_iter().filter_map(|name| {
            let file = self.file(&name).ok()?;
            let (words, trouble) = match self.words_in(&file) {
                Ok(words) => (Some(words), None),
                Err(reason) => (None, Some(reason)),
            };
            let is_in_use = in_use.is_some() && file.canonicalize().ok() == in_use;
            Some(Listed { name, words, trouble, is_in_use })
        });
        (listed.collect(), has_more)
    }

    /// How many words a file has, by its header; looked at again only when the file has changed.
    fn words_in(&self, file: &Path) -> Counted {
        let metadata = fs::metadata(file).map_err(|error| error.to_string())?;
        let stamp = (metadata.len(), metadata.modified().ok());
        let mut seen = locked(&self.seen);
        if let Some((before, words)) = seen.get(file)
            && *before == stamp
        {
            return words.clone();
        }
        let words = Vocabulary::count(file).map_err(|error| error.to_string());
        if seen.len() >= 2 * MOST_LISTED {
            seen.clear();
        }
        seen.insert(file.to_owned(), (stamp, words.clone()));
        words
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_no_path_and_a_link_out_of_the_folder_is_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("folder");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine.safetensors"), "").unwrap();
        fs::create_dir(path.join("directory.safetensors")).unwrap();
        fs::write(outside.path().join("secret.safetensors"), "").unwrap();
        let link = std::os::unix::fs::symlink::<PathBuf, PathBuf>;
        link(outside.path().join("secret.safetensors"), path.join("link.safetensors")).unwrap();
        link("mine.safetensors".into(), path.join("alias.safetensors")).unwrap();
        let folder = VocabularyFolder::new(Some(path.clone()));
        assert_eq!(folder.file("mine"), Ok(path.join("mine.safetensors")));
        assert_eq!(folder.file("alias"), Ok(path.join("alias.safetensors")), "as it is in the folder");
        assert_eq!(folder.file("link"), Err(NameError::Outside));
        for name in
            ["", ".", "..", "../secret", "/etc/passwd", "a/b", "..\\secret", "mine\0", ".hidden", "x\n"]
        {
            assert_eq!(folder.file(name), Err(NameError::NotAName), "{name:?}");
        }
        assert_eq!(folder.file(&"x".repeat(300)), Err(NameError::NotAName));
        assert_eq!(folder.file("other"), Err(NameError::Unknown));
        assert_eq!(folder.file("directory"), Err(NameError::Unknown));
        link("nowhere".into(), path.join("dangling.safetensors")).unwrap();
        for (name, file) in [
            ("new", Ok(path.join("new.safetensors"))),
            ("mine", Ok(path.join("mine.safetensors"))),
            ("link", Err(NameError::Outside)),
            ("dangling", Err(NameError::Outside)),
            ("directory", Err(NameError::Outside)),
            ("../new", Err(NameError::NotAName)),
        ] {
            assert_eq!(folder.new_file(name), file, "{name}");
        }
        assert_eq!(VocabularyFolder::new(None).file("mine"), Err(NameError::NoFolder));
        let (listed, has_more) = folder.list(&path.join("mine.safetensors"));
        let names: Vec<(&str, bool)> = listed.iter().map(|one| (one.name.as_str(), one.is_in_use)).collect();
        assert_eq!((names, has_more), (vec![("alias", true), ("mine", true)], false));
        assert!(listed[1].trouble.as_ref().unwrap().contains("not a usable vocabulary"));
        assert!(folder.holds(&path.join("mine.safetensors")) && !folder.holds(outside.path()));
    }
}
