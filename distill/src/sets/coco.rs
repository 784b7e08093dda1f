//! COCO's annotation format as anybody writes it: unknown fields, ids of any kind, crowds, scores.
//!
//! Flows in: one JSON file and a folder of images. Flows out: photographs with boxes and the file's words. What is no
//! box at all is left out and counted in the log; boxes that reach out of their image are cut to it.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::file::{SetEntry, SetsFile, read_json};
use super::{Annotated, AnnotatedObject, Annotations, Photograph, check_files, clipped};

/// The parts of the file that are read.
#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Id,
    file_name: String,
    width: Option<f64>,
    height: Option<f64>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    /// None: a thing that nobody named.
    category_id: Option<Id>,
    bbox: Option<[f32; 4]>,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: bool,
    #[serde(default, deserialize_with = "flag")]
    ignore: bool,
    score: Option<f32>,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
}

/// A number or a text; 1, 1.0 and "1" are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Number(i64),
    Text(String),
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Id;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an id: a number or a text")
            }
            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Id, E> {
                Ok(Id::Number(id))
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
                i64::try_from(id).map(Id::Number).or_else(|_| Ok(Id::Text(id.to_string())))
            }
            fn visit_f64<E: de::Error>(self, id: f64) -> Result<Id, E> {
                Ok(if id.fract() == 0.0 { Id::Number(id as i64) } else { Id::Text(id.to_string()) })
            }
            fn visit_str<E: de::Error>(self, id: &str) -> Result<Id, E> {
                Ok(id.parse().map_or_else(|_| Id::Text(id.to_owned()), Id::Number))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// 0 or 1, true or false, or nothing.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Reader;
    impl Visitor<'_> for Reader {
        type Value = bool;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("0, 1, true or false")
        }
        fn visit_bool<E: de::Error>(self, flag: bool) -> Result<bool, E> {
            Ok(flag)
        }
        fn visit_i64<E: de::Error>(self, flag: i64) -> Result<bool, E> {
            Ok(flag != 0)
        }
        fn visit_u64<E: de::Error>(self, flag: u64) -> Result<bool, E> {
            Ok(flag != 0)
        }
        fn visit_f64<E: de::Error>(self, flag: f64) -> Result<bool, E> {
            Ok(flag != 0.0)
        }
        fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
            Ok(false)
        }
    }
    deserializer.deserialize_any(Reader)
}

/// Reads a set.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let path = entry.annotations(file)?;
    let images = match &entry.images {
        Some(images) => file.resolve(images)?,
        None => path.with_file_name("images"),
    };
    let found: File = read_json(&path, "a COCO annotation file")?;
    let (annotations, left_out) =
        found.into_annotations(&images).with_context(|| format!("the annotations {}", path.display()))?;
    if left_out > 0 {
        tracing::warn!(
            "{}: left out {left_out} annotations that are no boxes in their images",
            path.display()
        );
    }
    check_files(&annotations.photographs)?;
    Ok(annotations)
}

impl File {
    /// The photographs with their objects, and how many annotations are no boxes.
    fn into_annotations(self, folder: &std::path::Path) -> Result<(Annotations, usize)> {
        let mut words: Vec<String> = Vec::new();
        let mut word_of_category = HashMap::new();
        for category in self.categories {
            let word = words.iter().position(|word| *word == category.name).unwrap_or_else(|| {
                words.push(category.name);
                words.len() - 1
            });
            ensure!(
                word_of_category.insert(category.id.clone(), word).is_none(),
                "the category {} is there twice; give one of them another id",
                category.id
            );
        }
        let mut places = HashMap::new();
        let mut photographs = Vec::with_capacity(self.images.len());
        for (image, place) in self.images.into_iter().zip(0..) {
            ensure!(
                places.insert(image.id.clone(), place).is_none(),
                "the image {} is there twice; give one of them another id",
                image.id
            );
            photographs.push(image.into_annotated(folder));
        }
        let mut left_out = 0;
        for annotation in self.annotations {
            let place = *places.get(&annotation.image_id).with_context(|| {
                format!("an annotation is in image {}, which is not in \"images\"", annotation.image_id)
            })?;
            let word = annotation.word(&word_of_category)?;
            left_out += usize::from(!annotation.add_to(&mut photographs[place].photograph, word));
        }
        Ok((Annotations { words, photographs }, left_out))
    }
}

impl Image {
    fn into_annotated(self, folder: &std::path::Path) -> Annotated {
        let size = self.width.zip(self.height).map(|(width, height)| [width as u32, height as u32]);
        let photograph = Photograph {
            path: folder.join(&self.file_name),
            size: size.filter(|[width, height]| *width > 0 && *height > 0),
            ..Photograph::default()
        };
        Annotated { id: self.id.to_string(), photograph }
    }
}

impl Annotation {
    fn word(&self, word_of_category: &HashMap<Id, usize>) -> Result<Option<usize>> {
        let Some(id) = &self.category_id else { return Ok(None) };
        let word = word_of_category.get(id).copied();
        let word = word.with_context(|| {
            format!("an annotation has category {id}, which is not in \"categories\"; add it there")
        })?;
        Ok(Some(word))
    }

    /// Adds it as an object or as ignored; false where it is no box in the photograph.
    fn add_to(&self, photograph: &mut Photograph, word: Option<usize>) -> bool {
        let Some([x, y, w, h]) = self.bbox else { return false };
        let Some(corners) = clipped([x, y, x + w, y + h], photograph.size) else { return false };
        if self.iscrowd || self.ignore {
            photograph.ignored.push(corners);
        } else {
            let weight = self.score.unwrap_or(1.0).clamp(0.0, 1.0);
            photograph.objects.push(AnnotatedObject { box_in_photograph: corners, word, weight });
        }
        true
    }
}
