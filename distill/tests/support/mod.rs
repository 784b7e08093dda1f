//! What the tests stand on: packages that scripts/fetch-packages fetched and pictures that the
//! repository carries.
#![allow(dead_code, reason = "each test file uses its own part of the support")]

#[path = "../../../tests/support/folders.rs"]
pub mod folders;
pub mod made_up;
#[path = "../../../tests/support/skipping.rs"]
pub mod skipping;

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage, Rgba, RgbaImage};
use wordsight_distill::photographs::Collection;

/// A path in the checkout.
pub fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A path that must have been made first, or nothing, said loudly.
pub fn needed(path: &str, made_by: &str) -> Option<PathBuf> {
    let path = checkout(path);
    if path.exists() {
        return Some(path);
    }
    if path.to_string_lossy().contains("../shared/") {
        skipping::skip_anywhere(&format!("SKIPPED: {} is not there; {made_by}", path.display()));
    } else {
        skipping::skip("a test of the host program", &format!("{} is not there", path.display()), made_by);
    }
    None
}

/// Every `step`-th frame of the demo's clip: real photographs.
pub fn clip_frames(step: usize) -> Vec<RgbImage> {
    let clip = std::fs::read(checkout("demo/clip.mjpeg")).unwrap();
    let starts: Vec<usize> = clip
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| bytes == &[0xFF, 0xD8, 0xFF])
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([clip.len()]);
    let frames = starts.iter().zip(ends).step_by(step);
    frames.map(|(&start, end)| image::load_from_memory(&clip[start..end]).unwrap().to_rgb8()).collect()
}

/// Twelve photographs, each of one rectangle; every third is novel.
pub fn write_collection(folder: &Path) -> Collection {
    fs::create_dir(folder.join("backgrounds")).unwrap();
    // The last one's name keeps it for validation.
    for (shade, name) in [(40, "40"), (90, "90"), (60, "lomiri-wallpapers-60")] {
        let background = RgbImage::from_fn(640, 480, |x, y| Rgb([shade, (x / 3) as u8, (y / 2) as u8]));
        background.save(folder.join(format!("backgrounds/{name}.png"))).unwrap();
    }
    let photos: Vec<serde_json::Value> = (0..12)
        .map(|number: u8| {
            let colour = [number * 20, 255 - number * 20, 128];
            let mut photograph = RgbImage::from_pixel(400, 300, Rgb([200; 3]));
            let mut cutout = RgbaImage::new(180, 120);
            for (x, y) in (20..160).flat_map(|x| (10..110).map(move |y| (x, y))) {
                photograph.put_pixel(x + 100, y + 80, Rgb(colour));
                cutout.put_pixel(x, y, Rgba([colour[0], colour[1], colour[2], 255]));
            }
            photograph.save(folder.join(format!("{number}.png"))).unwrap();
            cutout.save(folder.join(format!("{number}-cutout.png"))).unwrap();
            serde_json::json!({
                "file": format!("{number}.png"), "name": format!("word {number}"),
                "split": if number % 3 == 2 { "novel" } else { "base" },
                "bbox": [120, 90, 140, 100], "cutout": format!("{number}-cutout.png"), "box_trusted": true,
            })
        })
        .collect();
    fs::write(folder.join("imagenet.json"), serde_json::json!({ "photos": photos }).to_string()).unwrap();
    Collection::load(folder).unwrap()
}
