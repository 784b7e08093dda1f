//! Makes a Motion-JPEG file of photographs: one JPEG after the other with nothing between them, as USB cameras and
//! `ffmpeg -f mjpeg` write it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wordsight_pictures::resize::{Canvas, FilterType, Resizer};

use crate::boxes::{MarkedPhoto, MarkedPhotos};
use crate::camera::view_in_photo;
use crate::recipe::{Recipe, Shot};

/// Renders every frame of the recipe from the photographs in `folder`. Deterministic.
pub fn render(recipe: &Recipe, photos: &MarkedPhotos, folder: &Path) -> Result<Vec<u8>> {
    let progress = ProgressBar::new((recipe.shots.len() * recipe.frames_per_shot) as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} frames {msg}")?);
    let mut opened = BTreeMap::new();
    let mut resizer = Resizer::default();
    let mut clip = Vec::new();
    for shot in &recipe.shots {
        progress.set_message(shot.name.clone());
        if !opened.contains_key(&shot.photo) {
            opened.insert(&shot.photo, open_photo(folder, &shot.photo, photos.of(&shot.photo)?)?);
        }
        let photo = &opened[&shot.photo];
        check_path(shot, photo)?;
        for frame in 0..recipe.frames_per_shot {
            let view = view_in_photo(shot.start_in_photo, shot.end_in_photo, frame, recipe.frames_per_shot);
            let rgb = see(photo, view, recipe, &mut resizer)?;
            append_jpeg(&mut clip, &rgb, recipe)?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(clip)
}

fn open_photo(folder: &Path, name: &str, marked: &MarkedPhoto) -> Result<RgbImage> {
    let path = folder.join(name);
    let photo = image::open(&path)
        .with_context(|| {
            format!("cannot open the photograph {}: fetch it with scripts/fetch-demo-photos", path.display())
        })?
        .into_rgb8();
    ensure!(
        photo.dimensions() == (marked.width, marked.height),
        "{} is {}x{} pixels, and the boxes were marked on one of {}x{}: it is another photograph",
        path.display(),
        photo.width(),
        photo.height(),
        marked.width,
        marked.height
    );
    Ok(photo)
}

fn check_path(shot: &Shot, photo: &RgbImage) -> Result<()> {
    for [_, _, x2, y2] in [shot.start_in_photo, shot.end_in_photo] {
        ensure!(
            x2 <= f64::from(photo.width()) && y2 <= f64::from(photo.height()),
            "shot '{}' looks beyond its photograph of {}x{} pixels: its view ends at {x2}, {y2}",
            shot.name,
            photo.width(),
            photo.height()
        );
    }
    Ok(())
}

/// One frame, RGB, rows from the top: the view, resized to the frame.
fn see(photo: &RgbImage, view: [f64; 4], recipe: &Recipe, resizer: &mut Resizer) -> Result<Vec<u8>> {
    let [x1, y1, x2, y2] = view;
    let mut frame = RgbImage::new(recipe.width, recipe.height);
    let canvas = Canvas { pixels: &mut frame, size: [recipe.width, recipe.height] };
    let part = [x1, y1, x2 - x1, y2 - y1];
    resizer.draw(photo, part, FilterType::CatmullRom, canvas, [0, 0, recipe.width, recipe.height])?;
    Ok(frame.into_raw())
}

fn append_jpeg(clip: &mut Vec<u8>, rgb: &[u8], recipe: &Recipe) -> Result<()> {
    let mut encoder = Encoder::new(clip, recipe.jpeg_quality);
    // 4:2:0 in one interleaved scan, as cameras send it. Optimised Huffman tables would save 5%, but with them this
    // encoder writes a scan for each component, and of such a file zune-jpeg 0.5.15 decodes no colour when it is 4:2:0.
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    // Sizes fit: the recipe was checked to stay within 8192 pixels.
    encoder.encode(rgb, recipe.width as u16, recipe.height as u16, ColorType::Rgb)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const RECIPE: &str = "width = 64\nheight = 48\nframes_per_second = 15\nframes_per_shot = 4\njpeg_quality = 90\n
        [[shots]]\nname = 'square'\nphoto = 'square.png'\nstart_in_photo = [0, 0, 128, 96]\nend_in_photo = [64, 48, 128, 96]";
    const MARKS: &str = r#"{"square.png": {"width": 128, "height": 96, "objects": [
        {"vocabulary": "main", "word": "square", "box_in_photo": [80, 56, 112, 88]}]}}"#;

    /// A white square on black, where the marks say.
    fn photo_of_a_square(width: u32, height: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let photo = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([if (80..112).contains(&x) && (56..88).contains(&y) { 255 } else { 0 }; 3])
        });
        photo.save(folder.path().join("square.png")).unwrap();
        folder
    }

    fn render_square(folder: &Path) -> Result<Vec<u8>> {
        render(&Recipe::parse(RECIPE)?, &MarkedPhotos::parse(MARKS)?, folder)
    }

    /// Cut where one JPEG ends and the next begins.
    fn frames_of(clip: &[u8]) -> Vec<RgbImage> {
        let mut starts: Vec<_> =
            (0..clip.len()).filter(|&i| clip[i..].starts_with(&[0xFF, 0xD8, 0xFF])).collect();
        starts.push(clip.len());
        starts
            .windows(2)
            .map(|ends| image::load_from_memory(&clip[ends[0]..ends[1]]).unwrap().into_rgb8())
            .collect()
    }

    #[test]
    fn every_frame_decodes_and_shows_the_object_where_the_truth_says() {
        let clip = render_square(photo_of_a_square(128, 96).path()).unwrap();
        let truth =
            crate::truth::Truth::of(&Recipe::parse(RECIPE).unwrap(), &MarkedPhotos::parse(MARKS).unwrap())
                .unwrap();
        let frames = frames_of(&clip);
        assert_eq!(frames.len(), truth.frames.len());
        for (frame, expected) in frames.iter().zip(&truth.frames) {
            assert_eq!(frame.dimensions(), (64, 48));
            let white: Vec<_> =
                frame.enumerate_pixels().filter(|(_, _, p)| p.0[1] > 127).map(|(x, y, _)| (x, y)).collect();
            let seen = [
                white.iter().map(|p| p.0).min().unwrap(),
                white.iter().map(|p| p.1).min().unwrap(),
                white.iter().map(|p| p.0).max().unwrap() + 1,
                white.iter().map(|p| p.1).max().unwrap() + 1,
            ];
            for (side, truth) in seen.iter().zip(expected.objects[0].box_in_frame) {
                assert!(
                    (f64::from(*side) - truth).abs() <= 1.0,
                    "frame {}: {seen:?} {expected:?}",
                    expected.frame
                );
            }
        }
    }

    #[test]
    fn the_same_photographs_give_the_same_bytes() {
        let folder = photo_of_a_square(128, 96);
        assert_eq!(render_square(folder.path()).unwrap(), render_square(folder.path()).unwrap());
    }

    #[test]
    fn a_missing_photograph_and_one_of_another_size_are_named() {
        let missing = format!("{:#}", render_square(Path::new("no-such-folder")).unwrap_err());
        assert!(missing.contains("square.png") && missing.contains("fetch-demo-photos"), "{missing}");
        let other = format!("{:#}", render_square(photo_of_a_square(256, 192).path()).unwrap_err());
        assert!(other.contains("256x192") && other.contains("128x96"), "{other}");
    }

    #[test]
    fn the_clip_of_the_repository_is_what_its_recipe_and_boxes_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let recipe = Recipe::load(&folder.join("clip.toml")).unwrap();
        let marks = MarkedPhotos::load(&folder.join("boxes.json")).unwrap();
        let truth = crate::truth::Truth::of(&recipe, &marks).unwrap();
        assert_eq!(
            truth.to_json().unwrap(),
            std::fs::read_to_string(folder.join("clip.truth.json")).unwrap()
        );
        let clip = std::fs::read(folder.join("clip.mjpeg")).unwrap();
        assert!(clip.len() <= 4_000_000, "the clip is to stay small: {} bytes", clip.len());
        let frames = frames_of(&clip);
        assert_eq!(frames.len(), truth.frames.len());
        assert!(frames.iter().all(|frame| frame.dimensions() == (recipe.width, recipe.height)));
    }
}
