//! Shrinks the demo's photographs from the files of their packages to JPEGs of at most 640 pixels a side.
//!
//! The whole photograph is kept. One that is small enough already is compressed again and not scaled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wordsight_pictures::resize::{FilterType, Resizer};

/// The longer side of a photograph, in pixels, at most.
pub const LONGEST_SIDE: u32 = 640;
/// Of the JPEGs, 1 to 100.
const QUALITY: u8 = 80;

/// The photographs directly in a folder, by name.
pub fn photographs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || {
        format!("cannot read the folder {}: fetch it with scripts/fetch-demo-photographs", folder.display())
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        if ending.is_some_and(|ending| ["jpg", "jpeg", "png", "webp"].iter().any(|known| ending == *known)) {
            paths.push(path);
        }
    }
    ensure!(
        !paths.is_empty(),
        "{} has no photograph (.jpg, .png, .webp): fetch them with scripts/fetch-demo-photographs",
        folder.display()
    );
    paths.sort();
    Ok(paths)
}

/// A photograph as a JPEG of at most [`LONGEST_SIDE`] pixels a side. Deterministic.
pub fn shrink(path: &Path) -> Result<Vec<u8>> {
    let photo = image::open(path)
        .with_context(|| format!("cannot open the photograph {}", path.display()))?
        .into_rgb8();
    let photo = scaled(photo).with_context(|| format!("cannot scale {}", path.display()))?;
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    // Sizes fit: no side is longer than LONGEST_SIDE.
    encoder.encode(photo.as_raw(), photo.width() as u16, photo.height() as u16, ColorType::Rgb)?;
    Ok(jpeg)
}

fn scaled(photo: RgbImage) -> Result<RgbImage> {
    let longest = photo.width().max(photo.height());
    if longest <= LONGEST_SIDE {
        return Ok(photo);
    }
    let side = |pixels: u32| (f64::from(pixels * LONGEST_SIDE) / f64::from(longest)).round().max(1.0) as u32;
    let size = [side(photo.width()), side(photo.height())];
    Ok(Resizer::default().resize(&photo, size, FilterType::Lanczos3)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn shrunk(width: u32, height: u32) -> (u32, u32) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.png");
        RgbImage::new(width, height).save(&path).unwrap();
        image::load_from_memory(&shrink(&path).unwrap()).unwrap().into_rgb8().dimensions()
    }

    #[test]
    fn a_large_photograph_keeps_its_shape_and_a_small_one_its_size() {
        assert_eq!(shrunk(1024, 578), (640, 361));
        assert_eq!(shrunk(600, 800), (480, 640));
        assert_eq!(shrunk(480, 360), (480, 360));
    }

    #[test]
    fn a_folder_without_photographs_and_one_that_is_not_there_say_what_to_run() {
        let empty = tempfile::tempdir().unwrap();
        for folder in [empty.path(), Path::new("no-such-folder")] {
            let message = format!("{:#}", photographs_in(folder).unwrap_err());
            assert!(message.contains("fetch-demo-photographs"), "{message}");
        }
    }
}
