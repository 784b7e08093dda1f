//! A set annotated in COCO's or LVIS's format.
//!
//! Takes one JSON file, which [`crate::annotations`] reads, and a folder or tar shards of images. Returns photographs with boxes and
//! the file's words.

use std::collections::HashMap;

use anyhow::Result;

use super::file::{SetEntry, SetsFile};
use super::{Annotated, AnnotatedObject, Annotations, Photograph, check_files};
use crate::annotations;
use crate::images::Images;

/// Reads a set.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let path = entry.annotations(file)?;
    let images = match &entry.images {
        Some(images) => file.resolve(images)?,
        None => path.with_file_name("images"),
    };
    let images = Images::open(&images)?;
    let annotations = annotations_of(&annotations::Annotations::load_with_images(&path, &images)?, images);
    check_files(&annotations.photographs, annotations.shards.as_ref())?;
    Ok(annotations)
}

fn annotations_of(found: &annotations::Annotations, images: Images) -> Annotations {
    let words = found.categories.iter().map(|category| category.name.clone()).collect();
    let word_of_category: HashMap<u64, usize> =
        found.categories.iter().zip(0..).map(|(category, word)| (category.id, word)).collect();
    let photograph = |image: &annotations::Image| Annotated {
        id: image.id.to_string(),
        photograph: Photograph {
            path: images.path_of(&image.file_name),
            in_shards: images.are_in_shards().then(|| image.file_name.clone()),
            size: image.size,
            ..Photograph::default()
        },
    };
    let mut photographs: Vec<Annotated> = found.images.iter().map(photograph).collect();
    for object in &found.objects {
        let photograph = &mut photographs[object.image].photograph;
        if object.crowd || object.ignored {
            photograph.ignored.push(object.corners);
        } else {
            let word = object.category.map(|category| word_of_category[&category]);
            let weight = object.score.unwrap_or(1.0).clamp(0.0, 1.0);
            photograph.objects.push(AnnotatedObject { box_in_photograph: object.corners, word, weight });
        }
    }
    Annotations { words, photographs, shards: Some(images).filter(Images::are_in_shards) }
}
