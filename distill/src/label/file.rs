//! An annotation file in COCO's format that is written again without loss: fields that this program doesn't know
//! (polygons, splits, addresses) are written as they were read.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wordsight_files::Durability;

use super::normal_name;
use crate::annotations::Annotations;
use crate::images::Images;
use crate::photographs::Unreadable;

/// One `instances.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AnnotationFile {
    /// The photographs.
    pub images: Vec<ImageEntry>,
    /// The objects in them.
    pub annotations: Vec<AnnotationEntry>,
    /// The words for the objects.
    pub categories: Vec<CategoryEntry>,
    /// Whether the sizes are the pictures' own, and not known yet.
    #[serde(skip)]
    pub(super) lacks_sizes: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One photograph.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageEntry {
    /// Its number, which annotations refer to.
    pub id: u64,
    /// Its file, relative to the folder of images.
    pub file_name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One object, or what may be one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnnotationEntry {
    /// Its number.
    pub id: u64,
    /// The image it is in.
    pub image_id: u64,
    /// Its category.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels.
    pub bbox: [f64; 4],
    /// 1 where training should take it neither for an object nor for background.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ignore: u8,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One word.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryEntry {
    /// Its number.
    pub id: u64,
    /// The word.
    pub name: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// An entry with some of its fields set.
fn with(mut entry: Value, set: Value) -> Value {
    if let (Value::Object(entry), Value::Object(set)) = (&mut entry, set) {
        entry.extend(set);
    }
    entry
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// To a tenth of a pixel and a ten-thousandth of a score: more is noise that makes the file twice as long.
fn rounded(number: f32, steps: f64) -> f64 {
    (f64::from(number) * steps).round() / steps
}

impl ImageEntry {
    /// Width and height, where the file says them.
    pub(super) fn size(&self) -> Option<[u32; 2]> {
        (self.width > 0 && self.height > 0).then_some([self.width, self.height])
    }
}

impl AnnotationEntry {
    /// A detector's answer as an annotation.
    pub(super) fn of_detection(
        id: u64,
        image_id: u64,
        category_id: u64,
        [x1, y1, x2, y2]: [f32; 4],
        score: f32,
        is_object: bool,
        source: &str,
    ) -> Self {
        let bbox = [x1, y1, x2 - x1, y2 - y1].map(|side| rounded(side, 10.0));
        let rest = [
            ("area", Value::from(rounded((bbox[2] * bbox[3]) as f32, 10.0))),
            ("iscrowd", Value::from(0)),
            ("score", Value::from(rounded(score, 1e4))),
            ("source", Value::from(source)),
        ];
        let rest = rest.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { id, image_id, category_id, bbox, ignore: u8::from(!is_object), rest }
    }

    /// How sure whoever annotated it was, where that is said.
    pub(super) fn score(&self) -> Option<f64> {
        self.rest.get("score").and_then(Value::as_f64)
    }

    fn corners(&self) -> [f32; 4] {
        let [x, y, width, height] = self.bbox;
        [x, y, x + width, y + height].map(|side| side as f32)
    }
}

impl AnnotationFile {
    /// Reads an annotation file of images, and checks that its parts refer to each other.
    ///
    /// # Errors
    /// When it can't be read, is of another format, or has annotations of images or categories that it doesn't
    /// list.
    pub fn load(path: &Path, images: &Images) -> Result<Self> {
        let (normal, mut value) = Annotations::load_with_parts(path, images)?;
        let parts = |value: &mut Value, name: &str| match value[name].take() {
            Value::Array(parts) => parts,
            _ => Vec::new(),
        };
        let [mut images, mut annotations, mut categories] =
            ["images", "annotations", "categories"].map(|name| parts(&mut value, name));
        let images = normal.images.iter().map(|image| {
            let [width, height] = image.size.unwrap_or_default();
            let set = json!({"id": image.id, "file_name": image.file_name, "width": width, "height": height});
            with(images[image.place].take(), set)
        });
        let named = normal.objects.iter().filter(|object| object.category.is_some());
        let annotations = named.map(|object| {
            let set = json!({
                "id": object.id, "image_id": normal.images[object.image].id, "category_id": object.category,
                "bbox": object.annotated, "iscrowd": u8::from(object.crowd), "ignore": u8::from(object.ignored),
            });
            with(annotations[object.place].take(), set)
        });
        let categories = normal.categories.iter().map(|category| {
            let set = json!({"id": category.id, "name": category.name});
            with(categories[category.place].take(), set)
        });
        value["images"] = images.collect();
        value["annotations"] = annotations.collect();
        value["categories"] = categories.collect();
        serde_json::from_value(value)
            .with_context(|| format!("{} is not a COCO annotation file", path.display()))
    }

    /// A file without annotations for all photographs, in the order of [`Images::names`].
    ///
    /// # Errors
    /// When there are none, or one can't be read.
    pub fn of_images(images: &Images, unreadable: Unreadable) -> Result<Self> {
        let sized = |name: String| {
            let size = unreadable.take(images.size_of(&name))?;
            Ok(size.map(|(width, height)| (name, width, height)))
        };
        let found: Vec<Option<(String, u32, u32)>> =
            images.names(unreadable)?.into_par_iter().map(sized).collect::<Result<_>>()?;
        let images = found.into_iter().flatten().zip(1..).map(|((file_name, width, height), id)| {
            ImageEntry { id, file_name, width, height, rest: Map::new() }
        });
        Ok(Self { images: images.collect(), ..Self::default() })
    }

    /// The same before anything is known of the photographs but their names.
    ///
    /// # Errors
    /// When there are none.
    pub fn of_names(images: &Images) -> Result<Self> {
        let named = images.names(Unreadable::Refused)?.into_iter().zip(1..);
        let images =
            named.map(|(file_name, id)| ImageEntry { id, file_name, width: 0, height: 0, rest: Map::new() });
        Ok(Self { images: images.collect(), lacks_sizes: true, ..Self::default() })
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// When the disk is full or the folder can't be written to.
    pub fn save(&self, path: &Path) -> Result<()> {
        wordsight_files::replace_with(path, Durability::Whole, |out| Ok(serde_json::to_writer(out, self)?))
            .with_context(|| format!("cannot write the annotations {}; is the disk full?", path.display()))
    }

    /// The category and `[x1, y1, x2, y2]` of every annotation that isn't ignored, for each image in order.
    pub(super) fn boxes_by_image(&self) -> Vec<Vec<(u64, [f32; 4])>> {
        let places: HashMap<u64, usize> =
            self.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
        let mut boxes = vec![Vec::new(); self.images.len()];
        for annotation in self.annotations.iter().filter(|annotation| annotation.ignore == 0) {
            if let Some(&place) = places.get(&annotation.image_id) {
                boxes[place].push((annotation.category_id, annotation.corners()));
            }
        }
        boxes
    }

    /// The number of the category of a normal name; a new one named `name` where there is none.
    pub(super) fn category_id(&mut self, normal: &str, name: &str) -> u64 {
        if let Some(category) = self.categories.iter().find(|category| normal_name(&category.name) == normal)
        {
            return category.id;
        }
        let id = self.categories.iter().map(|category| category.id).max().unwrap_or(0) + 1;
        self.categories.push(CategoryEntry { id, name: name.to_owned(), rest: Map::new() });
        id
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_pictures_is_a_file_without_annotations() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width) in [("b.png", 3), ("a.PNG", 2)] {
            image::RgbImage::new(width, 4).save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("notes.txt"), "none").unwrap();
        let images = Images::open(folder.path()).unwrap();
        let file = AnnotationFile::of_images(&images, Unreadable::Refused).unwrap();
        let found: Vec<_> =
            file.images.iter().map(|image| (image.id, image.file_name.as_str(), image.width)).collect();
        assert_eq!(found, [(1, "a.PNG", 2), (2, "b.png", 3)]);
        fs::write(folder.path().join("c.jpg"), "none").unwrap();
        let error = AnnotationFile::of_images(&images, Unreadable::Refused).unwrap_err().to_string();
        assert!(error.contains("c.jpg"), "{error}");
        std::os::unix::fs::symlink("nowhere", folder.path().join("d.png")).unwrap();
        assert_eq!(AnnotationFile::of_images(&images, Unreadable::Skipped).unwrap().images.len(), 2);
    }

    #[test]
    fn annotations_of_images_or_categories_that_are_not_listed_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instances.json");
        let text = r#"{"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
            "annotations": [{"id": 9, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}], "categories": []}"#;
        fs::write(&path, text).unwrap();
        let error =
            AnnotationFile::load(&path, &Images::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("annotation 9 is of image 1 and category 2"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        fs::create_dir(&path).unwrap(); // a file can't replace a folder
        assert!(AnnotationFile::default().save(&path).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let path = folder.path().join("fresh.json");
        AnnotationFile::default().save(&path).unwrap();
        assert!(
            AnnotationFile::load(&path, &Images::open(folder.path()).unwrap()).unwrap().images.is_empty()
        );
    }
}
