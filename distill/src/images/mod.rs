//! Where photographs lie: in a folder, in tar shards in WebDataset's layout, or in a list.
//!
//! Takes what `--images` names, and gives pictures by the names that annotations have for them. A million photographs in
//! a thousand shards are a thousand files to a file system, and are read in the shards' order.

mod pattern;
mod shards;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use wordsight_pictures::{is_hidden, is_picture, pictures_in};

use crate::mistake::Mistake;
use crate::photographs::{Unreadable, check_size};
use shards::Shards;

/// Photographs by name. A copy is cheap, and reads the same files.
#[derive(Clone, Debug)]
pub struct Images {
    /// What was named.
    path: Arc<Path>,
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    /// Files of a folder.
    Folder,
    /// Files that a list names, relative to the list's folder.
    List { folder: PathBuf, names: Vec<String> },
    /// Members of tar files.
    Shards(Shards),
}

impl Images {
    /// Opens a folder of photographs, a `.tar` file, a pattern of several (`photographs-{000..099}.tar`), a folder of them, or
    /// a `.txt` with a photograph or a `.tar` a line. Of shards the headers are read, once.
    ///
    /// # Errors
    /// When there is nothing of that kind, or no shard can be read.
    pub fn open(path: &Path) -> Result<Self> {
        let shards = |paths: Vec<PathBuf>| anyhow::Ok(Source::Shards(Shards::open(paths)?));
        let source = if path.is_dir() {
            match tars_of_folder(path)? {
                tars if tars.is_empty() => Source::Folder,
                tars => shards(tars)?,
            }
        } else if has_ending(path, "tar") {
            shards(files_of(path)?)?
        } else if has_ending(path, "txt") {
            match List::read(path)? {
                List::Shards(tars) => shards(tars)?,
                List::Photographs(folder, names) => Source::List { folder, names },
            }
        } else {
            ensure!(
                !path.is_file(),
                Mistake::new(format!(
                    "{} is neither a folder of photographs, nor a .tar file, nor a .txt that lists photographs",
                    path.display()
                ))
            );
            // A folder that isn't there: each photograph in it says so, as it can be left out.
            Source::Folder
        };
        Ok(Self { path: path.into(), source: Arc::new(source) })
    }

    /// The names of all photographs: a folder's in their order, a list's and the shards' in theirs.
    ///
    /// # Errors
    /// When the folder can't be listed, or a shard is damaged and may not be left out.
    pub fn names(&self, unreadable: Unreadable) -> Result<Vec<String>> {
        let names = match &*self.source {
            Source::Folder => {
                let pictures = pictures_in(&self.path);
                let pictures =
                    pictures.with_context(|| format!("cannot list the folder {}", self.path.display()))?;
                let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
                pictures.iter().filter_map(name).collect()
            }
            Source::List { names, .. } => names.clone(),
            Source::Shards(shards) => shards.names(unreadable)?,
        };
        ensure!(!names.is_empty(), "{} has no pictures (.jpg, .png or .webp)", self.path.display());
        Ok(names)
    }

    /// Whether the photographs are members of shards, and no files of their own.
    pub fn are_in_shards(&self) -> bool {
        matches!(*self.source, Source::Shards(_))
    }

    /// Whether a photograph of this name is there.
    pub fn has(&self, name: &str) -> bool {
        match &*self.source {
            Source::Folder | Source::List { .. } => self.path_of(name).is_file(),
            Source::Shards(shards) => shards.has(name),
        }
    }

    /// A photograph's file; of a member of a shard, the shard with the member behind it, as if it were a folder.
    pub fn path_of(&self, name: &str) -> PathBuf {
        match &*self.source {
            Source::Folder => self.path.join(name),
            Source::List { folder, .. } => folder.join(name),
            Source::Shards(shards) => shards.path_of(name).unwrap_or_else(|| self.path.join(name)),
        }
    }

    /// Reads a photograph whose annotations may say its width and height.
    ///
    /// # Errors
    /// When it can't be read, or is of another size than its annotations.
    pub fn picture(&self, name: &str, annotated: Option<[u32; 2]>) -> Result<RgbImage> {
        let path = self.path_of(name);
        let picture = match &*self.source {
            Source::Folder | Source::List { .. } => wordsight_pictures::open(&path)?,
            Source::Shards(shards) => wordsight_pictures::open_bytes(&path, shards.bytes(name))?,
        };
        check_size(&path, picture.dimensions(), annotated)?;
        Ok(picture)
    }

    /// A photograph's width and height, from its header alone.
    ///
    /// # Errors
    /// When it can't be read, or is no picture.
    pub fn size_of(&self, name: &str) -> Result<(u32, u32)> {
        let path = self.path_of(name);
        Ok(match &*self.source {
            Source::Folder | Source::List { .. } => wordsight_pictures::size_of(&path)?,
            Source::Shards(shards) => wordsight_pictures::size_of_bytes(&path, shards.bytes(name))?,
        })
    }
}

/// The files that a path or a pattern of paths names: several where it has braces and isn't itself there.
///
/// # Errors
/// When the braces don't match, or name more than is sensible.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    match path.to_str() {
        Some(text) if text.contains('{') && !path.exists() => {
            let paths = pattern::expanded(text).map_err(|reason| {
                Mistake::new(format!(
                    "{text}: {reason}; a pattern is written as in photographs-{{000..099}}.tar"
                ))
            })?;
            Ok(paths.into_iter().map(PathBuf::from).collect())
        }
        _ => Ok(vec![path.to_owned()]),
    }
}

/// The tar files of a folder that holds nothing else that could be meant: no pictures, and no folders of them.
fn tars_of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list the folder {}", folder.display());
    let mut tars = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if is_hidden(&path) {
            continue;
        }
        if is_picture(&path) || path.is_dir() {
            return Ok(Vec::new());
        }
        tars.extend(Some(path).filter(|path| has_ending(path, "tar")));
    }
    tars.sort();
    Ok(tars)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// What a text lists, a line each.
enum List {
    Shards(Vec<PathBuf>),
    Photographs(PathBuf, Vec<String>),
}

impl List {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the list of photographs {}", path.display()))?;
        let names: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let folder = wordsight_files::folder_of(path).to_owned();
        let tars = names.iter().filter(|name| has_ending(Path::new(name), "tar")).count();
        if tars > 0 {
            ensure!(
                tars == names.len(),
                "{} lists shards and photographs: make a list of each",
                path.display()
            );
            let shards = names.iter().map(|name| files_of(&folder.join(name)));
            return Ok(Self::Shards(shards.collect::<Result<Vec<_>>>()?.concat()));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            anyhow::bail!("{} lists {twice} twice: remove one of the lines", path.display());
        }
        Ok(Self::Photographs(folder, names))
    }
}

#[cfg(test)]
mod tests;
