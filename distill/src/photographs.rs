//! The labelled photographs that students are trained and tested on: one object, one class each.
//!
//! Reads a folder with `imagenet.json`, photographs and cutouts, and decides which of them may be used for what. Only
//! this module knows the split: photographs of novel classes are for testing only, and a fixed part of the base
//! photographs is held out of training, *with its words* (one photograph a class: to hold out a photograph is to hold
//! out its class).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use wordsight_pictures::PictureError;

/// Reads a picture: by its content, upright, over white, and whole.
pub fn open_picture(path: &Path) -> Result<image::RgbImage> {
    Ok(wordsight_pictures::open(path)?)
}

/// Why pictures that lie in one file can't all be had.
#[derive(Debug, thiserror::Error)]
#[error("{} {reason}", path.display())]
pub struct ShardError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, behind its name.
    pub reason: String,
}

/// What becomes of pictures that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// They end the work.
    #[default]
    Refused,
    /// They are named in the log and left out.
    Skipped,
}

impl Unreadable {
    /// Left out where a flag says so.
    pub fn of_flag(skips: bool) -> Self {
        if skips { Self::Skipped } else { Self::Refused }
    }

    /// What was read, if it could be or needn't be.
    pub fn take<T>(self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error)
                if self == Self::Skipped && (error.is::<PictureError>() || error.is::<ShardError>()) =>
            {
                tracing::warn!("left out: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Holds a picture's size against what its annotations say: boxes in another size's pixels lie elsewhere.
pub fn check_size(path: &Path, (width, height): (u32, u32), annotated: Option<[u32; 2]>) -> Result<()> {
    let Some([annotated_width, annotated_height]) = annotated else { return Ok(()) };
    ensure!(
        (width, height) == (annotated_width, annotated_height),
        "{} has {width}x{height} pixels, its annotations say {annotated_width}x{annotated_height}: they belong to another \
         size of it{}; take the pictures that were annotated, or annotate these",
        path.display(),
        if (height, width) == (annotated_width, annotated_height) {
            ", or to it as it lies before EXIF turns it"
        } else {
            ""
        }
    );
    Ok(())
}

/// Every n-th trusted base photograph is held out.
const HELD_OUT_EVERY: usize = 4;
/// From here on, a mask in several pieces is still mostly its largest.
const LIKELY_DOMINANCE: f32 = 0.8;
/// Among how many words a classifier must see the right one in a box.
const LIKELY_RANK: i32 = 5;

/// Whether a class may be trained on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training may see it.
    Base,
    /// Only tests may see it.
    Novel,
}

/// One photograph.
#[derive(Clone, Debug, Deserialize)]
pub struct Photograph {
    /// Its file, relative to the collection's folder.
    pub file: String,
    /// The class's name: the word for the main object.
    pub name: String,
    /// Base or novel.
    pub split: Split,
    /// The main object's `[x, y, width, height]` in pixels, if it was marked.
    pub bbox: Option<[f32; 4]>,
    /// The main object alone, as RGBA, relative to the collection's folder.
    pub cutout: Option<String>,
    /// The box is clean and the object alone.
    pub box_trusted: Option<bool>,
    /// Share of the object's mask that is in one piece, 0 to 1.
    #[serde(default)]
    pub dominance: f32,
    /// Rank of the word for the box's crop by an ImageNet classifier, from 1; -1: unknown.
    #[serde(default)]
    pub teacher_rank: Option<i32>,
}

impl Photograph {
    /// The main object's `[x1, y1, x2, y2]` in pixels, where it can be trusted: fit to be tested on.
    pub fn trusted_box(&self) -> Option<[f32; 4]> {
        self.corners().filter(|_| self.box_trusted == Some(true))
    }

    /// The main object's `[x1, y1, x2, y2]` in pixels, where it is likely right: fit to be learnt from.
    pub fn likely_box(&self) -> Option<[f32; 4]> {
        let in_one_piece = self.dominance >= LIKELY_DOMINANCE;
        let recognised = self.teacher_rank.is_some_and(|rank| (1..=LIKELY_RANK).contains(&rank));
        self.trusted_box().or_else(|| self.corners().filter(|_| in_one_piece && recognised))
    }

    fn corners(&self) -> Option<[f32; 4]> {
        let [x, y, w, h] = self.bbox?;
        Some([x, y, x + w, y + h])
    }
}

/// A collection of photographs.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Its folder.
    pub folder: PathBuf,
    photographs: Vec<Photograph>,
}

impl Collection {
    /// Reads `imagenet.json` in `folder`.
    pub fn load(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            photos: Vec<Photograph>,
        }
        let path = folder.join("imagenet.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the list of photographs {}", path.display()))?;
        let file: File = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a list of photographs", path.display()))?;
        Ok(Self { folder: folder.into(), photographs: file.photos })
    }

    /// All words, base and novel, in the file's order, each once.
    pub fn words(&self) -> Vec<String> {
        self.words_of(&self.photographs.iter().collect::<Vec<_>>())
    }

    /// The words of some photographs, in their order, each once: two classes may share a name.
    pub fn words_of(&self, photographs: &[&Photograph]) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let names = photographs.iter().map(|photograph| photograph.name.clone());
        names.filter(|name| seen.insert(name.clone())).collect()
    }

    /// All photographs of a split, with and without a box.
    pub fn of_split(&self, split: Split) -> Vec<&Photograph> {
        self.photographs.iter().filter(|photograph| photograph.split == split).collect()
    }

    /// Those whose main object is cut out, base and novel.
    pub fn with_cutouts(&self) -> Vec<&Photograph> {
        self.photographs.iter().filter(|photograph| photograph.cutout.is_some()).collect()
    }

    /// What training may see: base photographs that are not held out.
    pub fn training(&self) -> Vec<&Photograph> {
        let held_out: Vec<&str> = self.held_out().iter().map(|p| p.file.as_str()).collect();
        self.photographs
            .iter()
            .filter(|p| p.split == Split::Base && !held_out.contains(&p.file.as_str()))
            .collect()
    }

    /// Base photographs with a trusted box that training never sees.
    pub fn held_out(&self) -> Vec<&Photograph> {
        self.trusted(Split::Base).step_by(HELD_OUT_EVERY).collect()
    }

    /// Novel photographs with a trusted box.
    pub fn novel(&self) -> Vec<&Photograph> {
        self.trusted(Split::Novel).collect()
    }

    fn trusted(&self, split: Split) -> impl Iterator<Item = &Photograph> {
        self.photographs.iter().filter(move |p| p.split == split && p.trusted_box().is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn collection(splits: &[Split]) -> Collection {
        let photographs = splits
            .iter()
            .enumerate()
            .map(|(i, &split)| Photograph {
                file: format!("{i}.jpg"),
                name: format!("word {i}"),
                split,
                bbox: Some([1.0, 2.0, 3.0, 4.0]),
                cutout: None,
                box_trusted: Some(i % 5 != 1),
                dominance: 1.0,
                teacher_rank: Some(if i % 2 == 0 { 1 } else { 9 }),
            })
            .collect();
        Collection { folder: PathBuf::new(), photographs }
    }

    #[test]
    fn a_box_is_likely_when_trusted_or_when_its_object_is_recognised() {
        let collection = collection(&[Split::Base; 20]);
        for (i, photograph) in collection.photographs.iter().enumerate() {
            assert_eq!(photograph.likely_box().is_some(), i % 5 != 1 || i % 2 == 0, "photograph {i}");
        }
    }

    #[test]
    fn training_never_sees_novel_or_held_out_photographs() {
        let splits: Vec<Split> =
            (0..60).map(|i| if i % 3 == 0 { Split::Novel } else { Split::Base }).collect();
        let collection = collection(&splits);
        let training: Vec<&str> = collection.training().iter().map(|p| p.name.as_str()).collect();
        for tested in collection.held_out().iter().chain(&collection.novel()) {
            assert!(!training.contains(&tested.name.as_str()), "{} is trained on and tested on", tested.name);
        }
        assert!(collection.training().iter().all(|p| p.split == Split::Base));
        assert_eq!(collection.held_out().len(), 8, "every fourth of the 32 trusted base photographs");
        assert_eq!(training.len(), 40 - 8);
    }
}
