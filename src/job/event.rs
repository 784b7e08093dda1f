//! Events: a tracked thing has appeared or left, or something has happened to it at a zone or a line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::WordList;
use crate::threads::clock::since_1970;

/// What happened to a thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It was seen often enough to be there.
    #[default]
    Appeared,
    /// It has not been seen for a while, or what could be seen has changed (words, source).
    Left,
    /// It is in a zone.
    Entered,
    /// It is no longer in a zone, or has left while it was there.
    Exited,
    /// It has been in a zone for as long as the zone says.
    Dwelled,
    /// It has crossed a line.
    Crossed,
}

impl EventKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Left => "left",
            Self::Entered => "entered",
            Self::Exited => "exited",
            Self::Dwelled => "dwelled",
            Self::Crossed => "crossed",
        }
    }
}

/// Where something happened to a thing.
#[derive(Debug, Clone)]
pub enum Spot {
    /// At a zone.
    Zone {
        /// What it is called.
        name: Arc<str>,
        /// How long the thing has been in it, or was.
        stayed: Duration,
    },
    /// At a line.
    Line {
        /// What it is called.
        name: Arc<str>,
        /// What the way is called in which it was crossed.
        direction: Arc<str>,
    },
}

impl Spot {
    /// The name of the zone or line.
    pub fn name(&self) -> &str {
        match self {
            Self::Zone { name, .. } | Self::Line { name, .. } => name,
        }
    }
}

/// Where an event happened, and its number: a thing may enter a zone more than once.
#[derive(Debug, Clone)]
pub struct AtSpot {
    /// The zone or the line.
    pub spot: Spot,
    /// Another one for each event of the program.
    pub number: u64,
}

impl AtSpot {
    /// At this one, as the next event.
    pub fn next(spot: Spot) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self { spot, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Something that has happened to a thing that is tracked.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The track, from 1 since the program started.
    pub track: u64,
    /// Where, of what happens at a zone or line.
    pub at: Option<AtSpot>,
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
    /// Which of several cameras saw it.
    pub camera: Option<Arc<str>>,
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
    /// The same at a zone.
    pub fn at_zone(self, name: &str, stayed: Duration) -> Self {
        Self { at: Some(AtSpot::next(Spot::Zone { name: name.into(), stayed })), ..self }
    }

    /// The same at a line.
    pub fn at_line(self, name: &str, direction: &str) -> Self {
        let spot = Spot::Line { name: name.into(), direction: direction.into() };
        Self { at: Some(AtSpot::next(spot)), ..self }
    }

    /// Of a thing that is as sure as `score` in every frame.
    pub fn made_up(kind: EventKind, track: u64, words: WordList, word: usize, score: f32) -> Self {
        Self {
            kind,
            track,
            at: None,
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
            camera: None,
        }
    }
}

impl Event {
    /// A name that no other event has, also of other runs on this device: by it a reader knows one that comes twice.
    pub fn id(&self) -> String {
        let camera = self.camera.as_ref().map_or_else(String::new, |camera| format!("-{camera}"));
        let (run, track, kind) = (run_id(), self.track, self.kind.name());
        match &self.at {
            Some(AtSpot { number, .. }) => format!("{run}{camera}-{track}-{kind}-{number}"),
            None => format!("{run}{camera}-{track}-{kind}"),
        }
    }

    /// The name of the zone or line that it happened at, if it did at one.
    pub fn spot(&self) -> Option<&str> {
        self.at.as_ref().map(|at| at.spot.name())
    }

    /// The track's word.
    pub fn word(&self) -> &str {
        self.words.get(self.word)
    }
}
