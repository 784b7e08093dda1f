//! Photographs of one object each, from a folder with `imagenet.json`: the part that training may see.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::file::{SetEntry, SetsFile};
use super::{Annotated, AnnotatedObject, Annotations, Photograph, check_files};
use crate::photographs::Collection;

/// Reads the training part of a collection. As in scenes, photographs without a likely box stay out.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let folder = entry.annotations(file)?;
    let folder = if folder.is_file() { folder.parent().unwrap_or(Path::new("")).to_owned() } else { folder };
    let collection = Collection::load(&folder)?;
    let training = collection.training();
    let words = collection.words_of(&training);
    let places: HashMap<&str, usize> = words.iter().map(String::as_str).zip(0..).collect();
    let photographs: Vec<Annotated> = training
        .iter()
        .filter_map(|photograph| {
            let box_in_photograph = photograph.likely_box()?;
            let word = places.get(photograph.name.as_str()).copied();
            let objects = vec![AnnotatedObject { box_in_photograph, word, weight: 1.0 }];
            let path = folder.join(&photograph.file);
            let found = Photograph { path, objects, ..Photograph::default() };
            Some(Annotated { id: photograph.file.clone(), photograph: found })
        })
        .collect();
    check_files(&photographs, None)?;
    Ok(Annotations { words, photographs, shards: None })
}
