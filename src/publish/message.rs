//! What outputs are told: frames, events and pictures.
//!
//! The one surprising thing: a frame's results are written down once, in a [`Record`] that all outputs read, and that is
//! used again when the last of them has dropped it. So however many outputs there are, a frame in steady state allocates
//! nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use crate::pipeline::{Job, StageTimes};
use crate::scoring::{Found, Words};
use crate::threads::clock::since_1970;

/// One message to one output.
#[derive(Clone)]
pub enum Message {
    /// What was found in a frame.
    Frame(Arc<Record>),
    /// A thing has appeared or left.
    Event(Arc<Event>),
    /// An annotated picture that was asked for.
    Picture(Arc<Picture>),
}

/// What was found in one frame.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The file or URI, without a password.
    pub source: Arc<str>,
    /// The frame's place in the stream, from 0, unreadable ones counted.
    pub frame: u64,
    /// When the frame was captured, nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// From then until it was published.
    pub age: Duration,
    /// How long the stages worked on it.
    pub times: StageTimes,
    /// The frame's width and height, pixels.
    pub size: (usize, usize),
    /// The named things, best first.
    pub found: Vec<Found>,
    /// What `found` names.
    pub words: Words,
}

impl Record {
    /// Takes over what is to be told of a job.
    pub(super) fn fill(&mut self, job: &Job, age: Duration) {
        if !Arc::ptr_eq(&self.source, &job.frame.source) {
            self.source = Arc::clone(&job.frame.source);
        }
        (self.frame, self.timestamp_ns, self.age) = (job.number, job.frame.timestamp_ns, age);
        (self.times, self.size) = (job.times, (job.frame.width, job.frame.height));
        self.found.clone_from(&job.found);
        if !self.words.are(&job.words) {
            self.words = job.words.clone();
        }
    }
}

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
    pub words: Words,
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

impl Event {
    /// A name that no other event has, also of other runs on this device: by it a reader knows one that comes twice.
    pub fn id(&self) -> String {
        format!("{}-{}-{}", run_id(), self.track, self.kind.name())
    }

    /// The track's word.
    pub fn word(&self) -> &str {
        self.words.get(self.word)
    }

    /// The event as readers get it, in JSON lines, MQTT, webhooks and over HTTP.
    pub fn json(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Json<'a> {
            id: String,
            event: EventKind,
            track: u64,
            word: &'a str,
            score: f64,
            best_score: f64,
            box_in_frame: [f64; 4],
            frame_size: [usize; 2],
            first_seen_ns: u64,
            last_seen_ns: u64,
            timestamp_ns: u64,
            frame: u64,
            source: &'a str,
        }
        Json {
            id: self.id(),
            event: self.kind,
            track: self.track,
            word: self.word(),
            score: super::json::rounded(self.score.into(), 4),
            best_score: super::json::rounded(self.best_score.into(), 4),
            box_in_frame: self.box_in_frame.map(|side| super::json::rounded(side.into(), 2)),
            frame_size: [self.frame_size.0, self.frame_size.1],
            first_seen_ns: self.first_seen_ns,
            last_seen_ns: self.last_seen_ns,
            timestamp_ns: self.timestamp_ns,
            frame: self.frame,
            source: &self.source,
        }
    }
}

/// An annotated picture of a frame.
#[derive(Debug)]
pub struct Picture {
    /// The picture, as JPEG; empty where only its pixels were asked for.
    pub jpeg: Vec<u8>,
    /// Its pixels, rows of RGB, where they were asked for ([`Sink::wants_pixels`](super::Sink::wants_pixels)).
    #[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "only video asks for them"))]
    pub pixels: Option<Arc<Vec<u8>>>,
    /// What was found in it.
    pub record: Arc<Record>,
    /// What happened in it.
    pub events: Vec<Arc<Event>>,
}
