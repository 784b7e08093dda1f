//! Two things cross; each keeps its number. `cargo run -p wordsight-tracking --example follow`
#![allow(missing_docs)]

use std::time::Duration;

use wordsight_tracking::{Observation, Tracker, TrackingSettings};

fn main() {
    let (cat, dog) = (0, 1);
    let mut tracker = Tracker::new(TrackingSettings::default());
    for frame in 0..30_u16 {
        let way = 10.0 * f32::from(frame);
        let seen = [(cat, way), (dog, 300.0 - way)].map(|(word, left)| Observation {
            word,
            score: 0.8,
            box_in_frame: [
                left,
                f32::from(word as u16) * 60.0,
                left + 50.0,
                f32::from(word as u16) * 60.0 + 50.0,
            ],
            is_weak: false,
        });
        tracker.update(Duration::from_millis(33) * u32::from(frame), &seen);
    }
    for track in tracker.tracks() {
        println!("track {}: word {}", track.id, track.word);
    }
}
