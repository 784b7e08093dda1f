//! Where and when something has happened to a track, and the event that tells it.

use std::sync::Arc;
use std::time::Duration;

use wordsight_tracking::Track;

use crate::job::{AtSpot, Event, EventKind, WordList};

/// A frame's place and time.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    pub frame: u64,
    /// By the tracker's time.
    pub at: Duration,
    pub timestamp_ns: u64,
    pub size: (usize, usize),
}

/// Where and when tracks are told of.
pub(super) struct Scene<'a> {
    pub words: &'a WordList,
    pub source: &'a Arc<str>,
    /// Which of several cameras it is.
    pub camera: &'a Option<Arc<str>>,
    pub moment: Moment,
}

impl Scene<'_> {
    /// Nanoseconds since 1970, by the clock as it is now.
    fn timestamp_of(&self, at: Duration) -> u64 {
        self.moment.timestamp_ns.saturating_sub(self.moment.at.saturating_sub(at).as_nanos() as u64)
    }

    /// What has happened to a track that counts by this word.
    pub(super) fn event(&self, kind: EventKind, track: &Track, word: usize, at: Option<AtSpot>) -> Event {
        Event {
            kind,
            track: track.id,
            at,
            words: self.words.clone(),
            word,
            score: track.score,
            best_score: track.best_score,
            box_in_frame: track.box_in_frame,
            frame_size: self.moment.size,
            first_seen_ns: self.timestamp_of(track.first_seen),
            last_seen_ns: self.timestamp_of(track.last_seen),
            timestamp_ns: self.moment.timestamp_ns,
            frame: self.moment.frame,
            source: Arc::clone(self.source),
            camera: self.camera.clone(),
        }
    }
}
