//! Cutouts: objects alone, as RGBA, which are pasted into pictures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use image::RgbaImage;
use serde::Deserialize;

use super::file::{SetsFile, read_json};
use super::words::WordTable;
use crate::photographs::Collection;
use crate::scenes::compose;

/// One `[[cutouts]]` of a sets file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CutoutsEntry {
    /// The folder that the list's files are relative to.
    folder: String,
    /// `imagenet.json`, of which training may see a part, or a JSON list of `{"file", "word"}`; relative to the folder.
    list: String,
    /// Other names for some of the words.
    #[serde(default)]
    rename: BTreeMap<String, String>,
}

/// One object alone.
pub(super) struct Cutout {
    /// Its word's place.
    pub word: usize,
    path: PathBuf,
    picture: OnceLock<RgbaImage>,
}

impl Cutout {
    /// Its pixels without the empty margin; read when they are first asked for.
    pub fn picture(&self) -> Result<&RgbaImage> {
        if let Some(picture) = self.picture.get() {
            return Ok(picture);
        }
        let read = wordsight_pictures::open_with_alpha(&self.path)?;
        Ok(self.picture.get_or_init(|| compose::trim(&read)))
    }
}

/// Reads the list of a `[[cutouts]]`.
pub(super) fn read(file: &SetsFile, entry: &CutoutsEntry, words: &mut WordTable) -> Result<Vec<Cutout>> {
    #[derive(Deserialize)]
    struct Listed {
        file: String,
        word: String,
    }
    let folder = file.resolve(&entry.folder)?;
    let listed: Vec<Listed> = if entry.list == "imagenet.json" {
        let collection = Collection::load(&folder)?;
        let training = collection.training().into_iter();
        let alone = training.filter_map(|photograph| {
            Some(Listed { file: photograph.cutout.clone()?, word: photograph.name.clone() })
        });
        alone.collect()
    } else {
        read_json(&folder.join(&entry.list), "a JSON list of objects with \"file\" and \"word\"")?
    };
    ensure!(!listed.is_empty(), "the list of cutouts {} in {} is empty", entry.list, folder.display());
    let cutouts = listed.into_iter().map(|Listed { file, word }| {
        let path = folder.join(&file);
        ensure!(path.is_file(), "the cutout {} of the list {} is not there", path.display(), entry.list);
        let word = words.place(entry.rename.get(&word).unwrap_or(&word));
        Ok(Cutout { word, path, picture: OnceLock::new() })
    });
    cutouts.collect()
}
