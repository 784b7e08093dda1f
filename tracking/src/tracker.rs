//! One frame after the other: predict, match, vote, confirm, forget.

use std::time::Duration;

use crate::{Observation, Track, TrackingSettings, Update};

/// Follows things through frames.
#[derive(Debug, Clone)]
pub struct Tracker {
    settings: TrackingSettings,
    tracks: Vec<Track>,
    track_of: Vec<Option<usize>>,
    appeared: Vec<usize>,
    ended: Vec<Track>,
}

impl Tracker {
    /// A tracker that has seen nothing yet.
    pub fn new(settings: TrackingSettings) -> Self {
        Self { settings, tracks: Vec::new(), track_of: Vec::new(), appeared: Vec::new(), ended: Vec::new() }
    }

    /// Takes other settings, and goes on with the tracks there are.
    pub fn set(&mut self, settings: TrackingSettings) {
        self.settings = settings;
    }

    /// All tracks, the oldest first, confirmed or not, seen or not.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Takes in the next frame's observations.
    pub fn update(&mut self, _at: Duration, observations: &[Observation]) -> Update<'_> {
        self.track_of.clear();
        self.track_of.resize(observations.len(), None);
        self.appeared.clear();
        self.ended.clear();
        Update {
            track_of: &self.track_of,
            tracks: &self.tracks,
            appeared: &self.appeared,
            ended: &self.ended,
        }
    }

    /// Ends all tracks, when the words change or the source does; returns the confirmed ones, as they were last.
    pub fn end_all(&mut self) -> &[Track] {
        self.ended.clear();
        self.ended.extend(self.tracks.drain(..).filter(|track| track.is_confirmed));
        &self.ended
    }
}
