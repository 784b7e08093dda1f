//! COCO's annotation format: what scenes are written in and training reads.
//!
//! Boxes are `[x, y, width, height]` in pixels of the image file, as the format has them.
//! <https://cocodataset.org/#format-data>

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

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

impl Annotation {
    /// The box as `[x1, y1, x2, y2]` in the image's pixels.
    pub fn corners_in_frame(&self) -> [f32; 4] {
        let [x, y, w, h] = self.bbox;
        [x, y, x + w, y + h]
    }
}

/// One word.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Category {
    /// Its number.
    pub id: u64,
    /// The word.
    pub name: String,
}

impl Dataset {
    /// Reads an annotation file and checks that its parts refer to each other.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the annotations {}", path.display()))?;
        let dataset: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a COCO annotation file", path.display()))?;
        let images: HashSet<u64> = dataset.images.iter().map(|image| image.id).collect();
        for annotation in &dataset.annotations {
            ensure!(
                images.contains(&annotation.image_id),
                "{}: annotation {} refers to image {}, which is not there",
                path.display(),
                annotation.id,
                annotation.image_id
            );
        }
        Ok(dataset)
    }

    /// The annotated objects of each image, in the images' order, `[x1, y1, x2, y2]` in its pixels; crowds
    /// left out.
    pub fn boxes_by_image(&self) -> Vec<Vec<[f32; 4]>> {
        let places: HashMap<u64, usize> =
            self.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
        let mut boxes = vec![Vec::new(); self.images.len()];
        for annotation in self.annotations.iter().filter(|annotation| annotation.iscrowd == 0) {
            if let Some(&place) = places.get(&annotation.image_id) {
                boxes[place].push(annotation.corners_in_frame());
            }
        }
        boxes
    }

    /// Writes the annotation file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        fs::write(path, text).with_context(|| format!("cannot write the annotations {}", path.display()))
    }
}
