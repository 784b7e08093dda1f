//! The boxes marked by hand: `boxes.json`, by photograph, in the photograph's own pixels.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which of the demo's two word files a word stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// `words.toml`: the main object of each shot
    Main,
    /// `other-words.toml`: other things in the same shots
    Other,
}

/// One object that a person marked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkedObject {
    /// The word file that names it.
    pub vocabulary: Vocabulary,
    /// Its word there.
    pub word: String,
    /// x1, y1, x2, y2 in the photograph's pixels, tight around what is visible.
    pub box_in_photo: [f64; 4],
}

/// A photograph's size and the objects in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkedPhoto {
    /// Pixels; a photograph of another size is not the one that was marked.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// In no particular order; the same word may stand several times (two dogs).
    pub objects: Vec<MarkedObject>,
}

/// All marked photographs, by file name.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct MarkedPhotos(BTreeMap<String, MarkedPhoto>);

impl MarkedPhotos {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the boxes {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a file of boxes", path.display()))
    }

    /// The same from text.
    pub fn parse(text: &str) -> Result<Self> {
        let photos: Self = serde_json::from_str(text)?;
        for (name, photo) in &photos.0 {
            for object in &photo.objects {
                let [x1, y1, x2, y2] = object.box_in_photo;
                ensure!(
                    0.0 <= x1
                        && x1 < x2
                        && x2 <= f64::from(photo.width)
                        && 0.0 <= y1
                        && y1 < y2
                        && y2 <= f64::from(photo.height),
                    "{name}: the box of '{}' is not x1, y1, x2, y2 within {}x{} pixels: {:?}",
                    object.word,
                    photo.width,
                    photo.height,
                    object.box_in_photo
                );
            }
        }
        Ok(photos)
    }

    /// The marks of one photograph.
    pub fn of(&self, photo: &str) -> Result<&MarkedPhoto> {
        self.0
            .get(photo)
            .with_context(|| format!("no boxes are marked for {photo}: add it to the file of boxes"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_box_that_leaves_its_photograph_is_refused_by_name() {
        let text = r#"{"a.png": {"width": 10, "height": 10, "objects": [
            {"vocabulary": "main", "word": "cat", "box_in_photo": [2, 2, 11, 5]}]}}"#;
        let message = MarkedPhotos::parse(text).unwrap_err().to_string();
        assert!(message.contains("a.png") && message.contains("cat"), "{message}");
    }
}
