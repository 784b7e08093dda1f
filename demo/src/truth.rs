//! The truth of a clip: where every marked object is in every frame (`clip.truth.json`).

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::boxes::{MarkedPhoto, MarkedPhotos, Vocabulary};
use crate::camera::{box_in_frame_from_photo, view_in_photo};
use crate::recipe::{Recipe, Shot};

/// An object in a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectTruth {
    /// The word file that names it.
    pub vocabulary: Vocabulary,
    /// Its word there.
    pub word: String,
    /// x1, y1, x2, y2 in the frame's pixels, clipped to the frame, to a tenth of a pixel.
    pub box_in_frame: [f64; 4],
}

/// A frame: the shot that it belongs to and the objects of which at least half is in view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameTruth {
    /// Counted from 0 through the whole clip.
    pub frame: usize,
    /// The shot's name in the recipe.
    pub shot: String,
    /// All of them, of both vocabularies.
    pub objects: Vec<ObjectTruth>,
}

/// All frames of a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Of a frame, in pixels.
    pub width: u32,
    /// Of a frame, in pixels.
    pub height: u32,
    /// The rate at which the clip is meant to be seen.
    pub frames_per_second: u32,
    /// In order: `frames[i].frame` is i.
    pub frames: Vec<FrameTruth>,
}

impl Truth {
    /// Carries the marked boxes through the camera paths. Fails where a frame would lose its shot's
    /// main object: such a path has to be redrawn.
    pub fn of(recipe: &Recipe, photos: &MarkedPhotos) -> Result<Self> {
        let mut frames = Vec::new();
        for shot in &recipe.shots {
            let photo = photos.of(&shot.photo)?;
            for frame in 0..recipe.frames_per_shot {
                let objects = objects_in_frame(recipe, shot, photo, frame);
                ensure!(
                    objects.iter().any(|object| object.vocabulary == Vocabulary::Main),
                    "shot '{}' has no main object in view in its frame {frame}: widen its path or mark the object",
                    shot.name
                );
                frames.push(FrameTruth { frame: frames.len(), shot: shot.name.clone(), objects });
            }
        }
        Ok(Self {
            width: recipe.width,
            height: recipe.height,
            frames_per_second: recipe.frames_per_second,
            frames,
        })
    }

    /// Reads the file that [`Truth::to_json`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the truth {}", path.display()))?;
        let truth: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} is not a clip's truth: make it again with 'wordsight-demo clip'", path.display())
        })?;
        ensure!(
            truth.frames.iter().enumerate().all(|(index, frame)| frame.frame == index),
            "{}: its frames are not numbered 0, 1, 2, ...: make it again with 'wordsight-demo clip'",
            path.display()
        );
        Ok(truth)
    }

    /// JSON with one frame a line, so that a change of the recipe reads well in a diff.
    pub fn to_json(&self) -> Result<String> {
        let Self { width, height, frames_per_second, frames } = self;
        let mut text = format!(
            "{{\"width\": {width}, \"height\": {height}, \"frames_per_second\": {frames_per_second}, \"frames\": ["
        );
        for (index, frame) in frames.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(text, "{comma}\n{}", serde_json::to_string(frame)?)?;
        }
        text.push_str("\n]}\n");
        Ok(text)
    }
}

fn objects_in_frame(recipe: &Recipe, shot: &Shot, photo: &MarkedPhoto, frame: usize) -> Vec<ObjectTruth> {
    let view = view_in_photo(shot.start_in_photo, shot.end_in_photo, frame, recipe.frames_per_shot);
    let in_view = photo.objects.iter().filter_map(|object| {
        let box_in_frame = box_in_frame_from_photo(object.box_in_photo, view, recipe.width, recipe.height)?;
        Some(ObjectTruth {
            vocabulary: object.vocabulary,
            word: object.word.clone(),
            box_in_frame: box_in_frame.map(|value| (value * 10.0).round() / 10.0),
        })
    });
    in_view.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn recipe() -> Recipe {
        Recipe::parse(
            "width = 64\nheight = 48\nframes_per_second = 15\nframes_per_shot = 3\njpeg_quality = 80\n
             [[shots]]\nname = 'cat'\nphoto = 'a.png'\nstart_in_photo = [0, 0, 128, 96]\nend_in_photo = [64, 48, 128, 96]",
        )
        .unwrap()
    }

    fn marked(main_box: &str) -> MarkedPhotos {
        MarkedPhotos::parse(&format!(
            r#"{{"a.png": {{"width": 128, "height": 96, "objects": [
                {{"vocabulary": "main", "word": "cat", "box_in_photo": {main_box}}},
                {{"vocabulary": "other", "word": "mat", "box_in_photo": [0, 0, 40, 40]}}]}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn boxes_follow_the_camera_and_what_leaves_the_view_leaves_the_truth() {
        let truth = Truth::of(&recipe(), &marked("[80, 60, 112, 84]")).unwrap();
        let boxes: Vec<_> = truth.frames.iter().map(|f| f.objects[0].box_in_frame).collect();
        assert_eq!(boxes[0], [40.0, 30.0, 56.0, 42.0]);
        // Half way the view is [32, 24, 128, 96]: two thirds of a frame pixel for one of the photograph's.
        assert_eq!(boxes[1], [32.0, 24.0, 53.3, 40.0]);
        assert_eq!(boxes[2], [16.0, 12.0, 48.0, 36.0]);
        let words_seen: Vec<_> = truth.frames.iter().map(|f| f.objects.len()).collect();
        assert_eq!(words_seen, [2, 1, 1]);
    }

    #[test]
    fn a_path_that_loses_the_main_object_is_refused_with_shot_and_frame() {
        let message = Truth::of(&recipe(), &marked("[0, 0, 40, 40]")).unwrap_err().to_string();
        assert!(message.contains("'cat'") && message.contains("frame 1"), "{message}");
    }

    #[test]
    fn the_written_truth_reads_back_the_same() {
        let truth = Truth::of(&recipe(), &marked("[80, 60, 112, 84]")).unwrap();
        assert_eq!(serde_json::from_str::<Truth>(&truth.to_json().unwrap()).unwrap(), truth);
    }
}
