//! Events: a tracked thing has appeared or left.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::WordList;
use crate::threads::clock::since_1970;

/// What happened to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It was seen often enough to be there.
    Appeared,
    /// It has not been seen for a while, or what could be seen has changed (words, source).
    Left,
}

impl EventKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Left => "left",
        }
    }
}

/// A thing that is tracked has appeared or left.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The track, from 1 since the program started.
    pub track: u64,
    /// The words that `word` counts.
    pub words: WordList,
    /// The track's word, by the votes of its frames.
    pub word: usize,
    /// How sure of the word, by the votes, 0 to 1.
    pub score: f32,
    /// The best score of one frame so far.
    pub best_score: f32,
    /// Left, top, right, bottom, where it was seen last, pixels of the frame.
    pub box_in_frame: [f32; 4],
    /// The frame's width and height, pixels.
    pub frame_size: (usize, usize),
    /// When it was seen first and last, nanoseconds since 1970.
    pub first_seen_ns: u64,
    /// When it was seen last.
    pub last_seen_ns: u64,
    /// When it was known: the capture of the frame that told, nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The frame that told.
    pub frame: u64,
    /// The file or URI, without a password.
    pub source: Arc<str>,
}

/// When this program started, in hexadecimal nanoseconds since 1970: what tells the tracks of two runs apart.
pub fn run_id() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let now = since_1970();
        format!("{:x}", now.as_nanos() as u64)
    })
}

#[cfg(test)]
impl Event {
    /// Of a thing that is as sure as `score` in every frame.
    pub fn made_up(kind: EventKind, track: u64, words: WordList, word: usize, score: f32) -> Self {
        Self {
            kind,
            track,
            words,
            word,
            score,
            best_score: score,
            box_in_frame: [0.0; 4],
            frame_size: (64, 64),
            first_seen_ns: 0,
            last_seen_ns: 0,
            timestamp_ns: 0,
            frame: 0,
            source: "a.mjpeg".into(),
        }
    }
}

impl Event {
    /// A name that no other event has, also of other runs on this device: by it a reader knows one that comes twice.
    pub fn id(&self) -> String {
        format!("{}-{}-{}", run_id(), self.track, self.kind.name())
    }

    /// The track's word.
    pub fn word(&self) -> &str {
        self.words.get(self.word)
    }
}
