//! A multi-object tracker: which detection is which object from frame to frame, and which word it gets.
//!
//! A [`Tracker`] takes one frame's detections as [`Observation`]s with the frame's timestamp, and keeps [`Track`]s: an
//! object's number, its box, its word. A detector treats every frame by itself: detections and their words flicker, and
//! nothing says that two of them are the same object. The tracker is ByteTrack (Zhang et al., ECCV 2022, arXiv 2110.06864)
//! for frames at any interval: a constant-velocity filter for each box (`motion`) predicts where it is now, an optimal
//! assignment ([`assignment`]) gives it the strong detection that lies there, or else a weak one, and detections vote on
//! its word (`votes`).
//!
//! We wrote it because existing crates count frames and not seconds, and know no words: `trackforge` 0.5 forgets after a
//! number of frames, assigns greedily and builds vectors of vectors in each of them; `similari` 0.26 brings threads,
//! nalgebra and Python's bindings. Here a dropped frame is only a longer step, and an update allocates nothing once it
//! has seen a frame with as many detections.
//!
//! A track's identity doesn't depend on its word. A detection with another word at the same place is the same object,
//! until that word wins the vote; so matching only prefers equal words.
//!
//! ```
//! use std::time::Duration;
//! use wordsight_tracking::{Observation, Tracker, TrackingSettings};
//!
//! let mut tracker = Tracker::new(TrackingSettings::default());
//! for frame in 0..3_u16 {
//!     let left = 10.0 * f32::from(frame);
//!     let seen = Observation { word: 7, score: 0.6, box_in_frame: [left, 0.0, left + 50.0, 40.0], is_weak: false };
//!     let update = tracker.update(Duration::from_millis(33) * u32::from(frame), &[seen]);
//!     assert_eq!(update.track_of, [Some(0)]);
//!     assert_eq!(update.appeared.len(), usize::from(frame == 2), "the third hit confirms it");
//! }
//! assert_eq!((tracker.tracks()[0].id, tracker.tracks()[0].word), (1, 7));
//! ```

pub mod assignment;
mod motion;
mod tracker;
mod votes;
pub mod zones;

use std::time::Duration;

pub use tracker::Tracker;

/// When a track is confirmed, and how long it lives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackingSettings {
    /// A track is confirmed once detections that are not weak have found it in so many frames: 1 confirms every detection at
    /// once, false alarms too.
    pub confirm_after: u32,
    /// A track that is not found for so long ends. A longer time survives longer occlusions, and more often takes another
    /// object at the same place for the same one.
    pub forget_after: Duration,
    /// After so long a vote on a track's word counts half. A longer time flickers less.
    pub vote_half_life: Duration,
}

impl Default for TrackingSettings {
    fn default() -> Self {
        Self {
            confirm_after: 3,
            forget_after: Duration::from_secs(1),
            vote_half_life: Duration::from_secs(1),
        }
    }
}

/// A detection as a tracker's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The word's place in the vocabulary.
    pub word: usize,
    /// Its score, 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the frame. One that is empty or not finite is ignored.
    pub box_in_frame: [f32; 4],
    /// Whether the score is below the word's threshold: it can continue a track for a while, but not begin or confirm one.
    pub is_weak: bool,
}

/// One object, tracked through frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// Its number, from 1; unique within a [`Tracker`].
    pub id: u64,
    /// The word with the most votes, by its place in the vocabulary.
    pub word: usize,
    /// Confidence in this word: the mean score of the observations with it, later ones weighing more, 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the frame: smoothed where it was found, predicted where it was not.
    pub box_in_frame: [f32; 4],
    /// Whether it was found often enough to be reported.
    pub is_confirmed: bool,
    /// Whether it was found in the last frame.
    pub is_seen: bool,
    /// Timestamp of the first frame that it was found in.
    pub first_seen: Duration,
    /// Timestamp of the last frame that it was found in.
    pub last_seen: Duration,
    /// In how many frames it was found.
    pub hits: u32,
    /// The best score that any observation of it had, whatever its word, 0 to 1.
    pub best_score: f32,
}

/// What a frame changed, borrowed from the [`Tracker`]. Places are indices of `tracks`, valid until the next update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update<'a> {
    /// For each observation the place of its track, confirmed or not; none for a weak one without a track and for one
    /// that is ignored.
    pub track_of: &'a [Option<usize>],
    /// All tracks, the oldest first, confirmed or not, seen or not.
    pub tracks: &'a [Track],
    /// Places of the tracks that this update confirmed.
    pub appeared: &'a [usize],
    /// Confirmed tracks that have ended, as they were last. Ones that were never confirmed end untold.
    pub ended: &'a [Track],
}
