//! Ground truths and detections as COCO's and LVIS's files have them.
//!
//! Serialized names are those of the files, so `serde_json` reads `instances_val2017.json`, `lvis_v1_val.json` and
//! result files as they are. Boxes are `[x, y, width, height]` in pixels. Each of the two formats has a flag on its
//! ground truths that the other's rules ignore.

use serde::{Deserialize, Serialize};

/// One annotation file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// The images that are evaluated.
    pub images: Vec<Image>,
    /// The categories that are evaluated.
    pub categories: Vec<Category>,
    /// What is in the images.
    #[serde(rename = "annotations")]
    pub ground_truths: Vec<GroundTruth>,
}

/// One image, and what LVIS's annotators know of it beside its annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its number.
    pub id: u64,
    /// Categories known to be absent.
    #[serde(default, rename = "neg_category_ids")]
    pub negative_categories: Vec<u64>,
    /// Categories of which not all may be annotated.
    #[serde(default, rename = "not_exhaustive_category_ids")]
    pub not_exhaustive_categories: Vec<u64>,
}

/// One kind of object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its number.
    pub id: u64,
    /// How often LVIS's training set has it.
    #[serde(default)]
    pub frequency: Option<Frequency>,
}

/// In how many images of LVIS's training set a category is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frequency {
    /// In 1 to 10.
    #[serde(rename = "r")]
    Rare,
    /// In 11 to 100.
    #[serde(rename = "c")]
    Common,
    /// In more than 100.
    #[serde(rename = "f")]
    Frequent,
}

/// One object in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// The image's number.
    #[serde(rename = "image_id")]
    pub image: u64,
    /// The category's number.
    #[serde(rename = "category_id")]
    pub category: u64,
    /// `[x, y, width, height]` in pixels.
    #[serde(rename = "bbox")]
    pub box_in_image: [f64; 4],
    /// What decides on its size, in pixels: in the files, that of its mask.
    pub area: f64,
    /// A group of objects in one box, by COCO's rules neither asked for nor false however often it is
    /// found. LVIS's rules overlook it.
    #[serde(default, rename = "iscrowd", with = "flag")]
    pub crowd: bool,
    /// By LVIS's rules neither asked for nor false to find once. COCO's rules overlook it.
    #[serde(default, rename = "ignore", with = "flag")]
    pub ignored: bool,
}

/// One object that a detector found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The image's number.
    #[serde(rename = "image_id")]
    pub image: u64,
    /// The category's number.
    #[serde(rename = "category_id")]
    pub category: u64,
    /// The higher, the surer; only the order of scores matters.
    pub score: f64,
    /// `[x, y, width, height]` in pixels.
    #[serde(rename = "bbox")]
    pub box_in_image: [f64; 4],
}

impl Detection {
    /// What decides on its size.
    pub(crate) fn area(&self) -> f64 {
        self.box_in_image[2] * self.box_in_image[3]
    }
}

/// Truth values as the files have them: 0 and 1.
mod flag {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(u8::from(*flag))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(u8::deserialize(deserializer)? != 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn coco_and_lvis_files_are_read_as_they_are() {
        let text = r#"{
            "info": {"year": 2017},
            "images": [{"id": 9, "width": 640, "neg_category_ids": [4], "not_exhaustive_category_ids": [5]}, {"id": 8}],
            "annotations": [
                {"id": 1, "image_id": 9, "category_id": 5, "bbox": [1, 2, 3.5, 4], "area": 7, "segmentation": []},
                {"id": 2, "image_id": 8, "category_id": 4, "bbox": [0, 0, 1, 1], "area": 1.0, "iscrowd": 1}
            ],
            "categories": [{"id": 4, "name": "cup", "frequency": "r"}, {"id": 5, "name": "dog"}]
        }"#;
        let dataset: Dataset = serde_json::from_str(text).unwrap();
        assert_eq!(dataset.images[0].negative_categories, [4]);
        assert!(dataset.images[1].not_exhaustive_categories.is_empty());
        assert_eq!(dataset.categories[0].frequency, Some(Frequency::Rare));
        assert_eq!(dataset.ground_truths[0].box_in_image, [1.0, 2.0, 3.5, 4.0]);
        assert_eq!(dataset.ground_truths.iter().map(|truth| truth.crowd).collect::<Vec<_>>(), [false, true]);
    }
}
