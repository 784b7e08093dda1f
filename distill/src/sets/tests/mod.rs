//! Small sets made by code, and what is asked of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pictures;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Set, Sets};

/// Colours that are told apart after any resize: each channel is dark or light.
const COLOURS: [Rgb<u8>; 4] = [Rgb([255, 0, 0]), Rgb([0, 255, 0]), Rgb([0, 0, 255]), Rgb([255, 255, 0])];
/// Width and height of the n-th photograph.
const SIZES: [(u32, u32); 4] = [(200, 150), (120, 180), (160, 160), (300, 100)];
/// The object `[x1, y1, x2, y2]` in the n-th photograph.
const OBJECTS: [[u32; 4]; 4] = [[60, 50, 140, 110], [10, 100, 90, 170], [0, 0, 60, 160], [120, 20, 250, 90]];

impl Sets {
    /// Sets without photographs, each of the words that it is complete for and whether it is exhaustive.
    pub(crate) fn without_photographs(words: &[&str], sets: &[(&[usize], bool)]) -> Self {
        let set = |(place, &(complete_for, exhaustive)): (usize, &(&[usize], bool))| Set {
            name: format!("set {place}"),
            complete_for: complete_for.to_vec(),
            exhaustive,
            weight: 1.0,
            photographs: 0..0,
            shards: None,
            embeddings: None,
        };
        Self {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            sets: sets.iter().enumerate().map(set).collect(),
            photographs: Vec::new(),
            cutouts: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

/// A folder of sets in the making.
struct Made {
    folder: TempDir,
}

impl Made {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: impl AsRef<str>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.as_ref()).unwrap();
        path
    }

    /// Black photographs of one coloured rectangle each, `images/0.png` to `3.png`.
    fn write_photographs(&self) {
        fs::create_dir_all(self.path().join("images")).unwrap();
        for (number, ((width, height), [x1, y1, x2, y2])) in SIZES.into_iter().zip(OBJECTS).enumerate() {
            let is_object = |x, y| (x1..x2).contains(&x) && (y1..y2).contains(&y);
            let pixel = |x, y| if is_object(x, y) { COLOURS[number] } else { Rgb([0; 3]) };
            let path = self.path().join(format!("images/{number}.png"));
            RgbImage::from_fn(width, height, pixel).save(path).unwrap();
        }
    }

    /// These photographs and their objects in COCO's format, a word each.
    fn write_coco(&self, change: impl FnOnce(&mut Value)) {
        self.write_photographs();
        let numbers = || OBJECTS.iter().zip(SIZES).enumerate();
        let categories: Vec<Value> = ["red", "green", "blue", "yellow"]
            .iter()
            .zip(1..)
            .map(|(name, id)| json!({"id": id, "name": name, "supercategory": "colour"}))
            .collect();
        let mut file = json!({
            "info": {"year": 2024}, "licenses": [],
            "images": numbers().map(|(id, (_, (width, height)))| json!({
                "id": id, "file_name": format!("{id}.png"), "width": width, "height": height, "coco_url": "",
            })).collect::<Vec<_>>(),
            "annotations": numbers().map(|(id, ([x1, y1, x2, y2], _))| json!({
                "id": id, "image_id": id, "category_id": id + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": [[1, 2, 3, 4, 5, 6]], "iscrowd": 0,
            })).collect::<Vec<_>>(),
            "categories": categories,
        });
        change(&mut file);
        self.write("instances.json", file.to_string());
    }

    /// Sets of these `[[set]]`s' lines.
    fn sets(&self, list: &str) -> anyhow::Result<Sets> {
        Sets::load(&self.write("sets.toml", list))
    }

    /// What is told when the sets are refused.
    fn refusal(&self, list: &str) -> String {
        match self.sets(list) {
            Ok(_) => panic!("these sets are taken: {list}"),
            Err(error) => format!("{error:#}"),
        }
    }
}

/// The one set of `instances.json`.
const COCO: &str = "[[set]]\nname = \"colours\"\nformat = \"coco\"\nannotations = \"instances.json\"\n";
