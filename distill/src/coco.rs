//! COCO's annotation format as this program writes it: scenes, sets, lists of images. [`crate::annotations`] reads it.
//!
//! Boxes are `[x, y, width, height]` in pixels of the image file, as in the format.
//! <https://cocodataset.org/#format-data>

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use wordsight_files::Durability;

use crate::annotations::{self, Annotations};

/// One `instances.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Dataset {
    /// The photographs or scenes.
    pub images: Vec<Image>,
    /// The objects in them.
    pub annotations: Vec<Annotation>,
    /// The words for the objects.
    pub categories: Vec<Category>,
}

/// One image file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Image {
    /// Its number, which annotations refer to.
    pub id: u64,
    /// Its file, relative to the folder of images.
    pub file_name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether every object in it is annotated. Ours to the format: where it is not, what a detector
    /// finds beside the annotated objects may well be one.
    #[serde(default = "yes")]
    pub exhaustive: bool,
}

fn yes() -> bool {
    true
}

/// One object.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Annotation {
    /// Its number.
    pub id: u64,
    /// The image it is in.
    pub image_id: u64,
    /// Its category.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels.
    pub bbox: [f32; 4],
    /// Area in pixels; here that of the box.
    pub area: f32,
    /// 1 for a crowd; never 1 in what we make.
    #[serde(default)]
    pub iscrowd: u8,
}

/// One word.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Category {
    /// Its number.
    pub id: u64,
    /// The word.
    pub name: String,
}

impl From<&Annotations> for Dataset {
    fn from(annotations: &Annotations) -> Self {
        let image = |image: &annotations::Image| {
            let [width, height] = image.size.unwrap_or_default();
            let (id, file_name, exhaustive) = (image.id, image.file_name.clone(), image.exhaustive);
            Image { id, file_name, width, height, exhaustive }
        };
        let named = annotations.objects.iter().filter_map(|object| Some((object, object.category?)));
        let annotation = |(object, category_id): (&annotations::Object, u64)| {
            let [x1, y1, x2, y2] = object.corners;
            Annotation {
                id: object.id,
                image_id: annotations.images[object.image].id,
                category_id,
                bbox: [x1, y1, x2 - x1, y2 - y1],
                area: object.area as f32,
                iscrowd: u8::from(object.crowd),
            }
        };
        let category =
            |category: &annotations::Category| Category { id: category.id, name: category.name.clone() };
        Self {
            images: annotations.images.iter().map(image).collect(),
            annotations: named.map(annotation).collect(),
            categories: annotations.categories.iter().map(category).collect(),
        }
    }
}

impl Dataset {
    /// Reads an annotation file; what is left out is in the log.
    ///
    /// # Errors
    /// As [`Annotations::load`].
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self::from(&Annotations::load(path)?))
    }

    /// Writes the annotation file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        wordsight_files::replace(path, Durability::Whole, text.as_bytes())
            .with_context(|| format!("cannot write the annotations {}", path.display()))
    }
}
