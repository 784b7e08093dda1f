//! Photographs in folders or in tar shards: a set without labels.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wordsight_pictures::{ENDINGS, is_hidden};

use crate::images::Images;
use crate::photographs::Unreadable;

use super::file::{SetEntry, SetsFile};
use super::{Annotated, Annotations, Photograph, file_name};

/// Reads a set of which nothing is annotated.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let path = entry.images(file)?;
    let images = Images::open(&path)?;
    if images.are_in_shards() {
        return of_shards(images);
    }
    let photographs = pictures_in(&path)?
        .into_iter()
        .map(|path| {
            let photograph = Photograph { path, ..Photograph::default() };
            Annotated { id: file_name(&photograph.path), photograph }
        })
        .collect();
    Ok(Annotations { photographs, ..Annotations::default() })
}

fn of_shards(images: Images) -> Result<Annotations> {
    let photograph = |name: String| Annotated {
        id: file_name(Path::new(&name)),
        photograph: Photograph {
            path: images.path_of(&name),
            in_shards: Some(name),
            ..Photograph::default()
        },
    };
    let photographs = images.names(Unreadable::Refused)?.into_iter().map(photograph).collect();
    Ok(Annotations { photographs, shards: Some(images), ..Annotations::default() })
}

/// The pictures in a folder and in its folders, in the order of their names.
pub(super) fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let pictures = files_in(folder, &ENDINGS)?;
    ensure!(!pictures.is_empty(), "{} holds no pictures ({})", folder.display(), ENDINGS.join(", "));
    Ok(pictures)
}

/// The files with some endings in a folder and in its folders, in the order of their names, without hidden ones.
pub(super) fn files_in(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list the folder {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list the folder {}", folder.display()))?.path();
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            if is_hidden(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if ending.is_some_and(|ending| endings.contains(&ending.as_str())) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The picture with a file's name, whatever its ending, in a folder.
pub(super) fn picture_named(folder: &Path, stem: &str) -> Option<PathBuf> {
    let endings = ENDINGS.iter().flat_map(|ending| [(*ending).to_owned(), ending.to_uppercase()]);
    endings.map(|ending| folder.join(format!("{stem}.{ending}"))).find(|path| path.is_file())
}
