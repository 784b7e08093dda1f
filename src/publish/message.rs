//! Messages to outputs: frames, events and pictures.
//!
//! A frame's results are written down once, in a [`Record`] that all outputs read, and that is used again when the last
//! of them has dropped it. So however many outputs there are, a frame in steady state allocates nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::job::{Detection, Event, Job, StageTimes, WordList, Zones};

/// One message to one output.
#[derive(Clone)]
pub enum Message {
    /// What was found in a frame.
    Frame(Arc<Record>),
    /// Something has happened to a thing.
    Event(Arc<Event>),
    /// An annotated picture that was asked for.
    Picture(Arc<Picture>),
}

/// What was found in one frame.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Which of several cameras took the frame.
    pub camera: Option<Arc<str>>,
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
    pub detections: Vec<Detection>,
    /// What `found` names.
    pub words: WordList,
    /// The stream's zones and lines, where it has any.
    pub zones: Option<Arc<Zones>>,
}

impl Record {
    /// What is to be told of a job that is no stream's.
    pub fn of(job: &Job, age: Duration) -> Self {
        let mut record = Self::default();
        record.fill(job, age);
        record
    }

    /// Takes over what is to be told of a job.
    pub(super) fn fill(&mut self, job: &Job, age: Duration) {
        if !Arc::ptr_eq(&self.source, &job.frame.source) {
            self.source = Arc::clone(&job.frame.source);
        }
        (self.frame, self.timestamp_ns, self.age) = (job.number, job.frame.timestamp_ns, age);
        (self.times, self.size) = (job.times, (job.frame.width, job.frame.height));
        self.detections.clone_from(&job.detections);
        if !self.words.are(&job.words) {
            self.words = job.words.clone();
        }
        self.zones.clone_from(&job.zones);
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
