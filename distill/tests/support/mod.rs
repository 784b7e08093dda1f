//! What the tests stand on: packages that scripts/fetch-packages fetched and pictures that the
//! repository carries.
#![allow(dead_code, reason = "each test file uses its own part of the support")]

use std::path::PathBuf;

use image::RgbImage;

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
    eprintln!("SKIPPED: {} is not there; {made_by}", path.display());
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
