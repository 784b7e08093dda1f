//! Jobs: a frame with the results and buffers of all stages.
//!
//! A [`Job`] is one frame with every buffer that its way through the stages needs. All jobs of a stream are made at its
//! start; a stage holds one through a [`Lease`] of the [`Pool`], and dropping the lease, be it at the end of the line or
//! pushed out of a ring, returns the job to the pool with its buffers. The stages know what is here, and not one another.

mod detection;
mod event;
mod pool;
mod thumbnail;
mod zones;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wordsight_capture::Frame;
use wordsight_detection::Letterbox;
use wordsight_engines::{EngineTurn, FrameBuffer, FrameMemory, Regions, StudentFacts};

pub use detection::{Detection, Tracked, WordList};
pub use event::{AtSpot, Event, EventKind, Spot, run_id};
pub use pool::{FrameBuffers, Lease, Pool};
pub use thumbnail::Thumbnail;
pub use zones::{Count, LineOutline, ZoneCount, ZoneOutline, Zones, hour_text};

/// The line's stages, as far as they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Frames from the source.
    Capture,
    /// Frames to inputs.
    Preprocess,
    /// Inputs to regions.
    Engine,
    /// Regions to named things, and out.
    Publish,
}

impl Stage {
    /// All, in the order that data flows.
    pub const ALL: [Self; 4] = [Self::Capture, Self::Preprocess, Self::Engine, Self::Publish];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Preprocess => "preprocess",
            Self::Engine => "engine",
            Self::Publish => "publish",
        }
    }
}

/// One frame on its way, and what the stages make of it.
pub struct Job {
    /// The frame's place in the stream, unreadable ones counted; from 0.
    pub number: u64,
    /// By capture: the frame.
    pub frame: Frame,
    /// By capture: since the one before, as far as that is known; a live source's next frame is due after as long.
    pub interval: Option<Duration>,
    /// By preprocess: the right to be run by an engine that several streams share.
    pub turn: Option<EngineTurn>,
    /// By preprocess: the engine's input, three planes.
    pub image: Vec<u8>,
    /// By preprocess: how the frame lies in the input.
    pub letterbox: Letterbox,
    /// By preprocess: what the frame looks like, for whoever follows things through cuts.
    pub thumbnail: Thumbnail,
    /// By the engine: the version of the vocabulary that scores it.
    pub vocabulary_version: u64,
    /// By the engine: what it found.
    pub regions: Regions,
    /// By scoring: the named things, best first.
    pub detections: Vec<Detection>,
    /// By scoring: the words that `found` names.
    pub words: WordList,
    /// By tracking: the stream's zones and lines, where it has any.
    pub zones: Option<Arc<Zones>>,
    /// By each stage: how long it worked on this frame.
    pub times: StageTimes,
    /// By the engine's stage: when in a measurement it was inferred, if that takes this frame into account.
    pub measured_at: Option<Duration>,
}

/// How long the stages worked on a frame, without the waiting between them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageTimes {
    /// From the moment that the bytes were there: decoding.
    pub capture: Duration,
    /// The letterbox.
    pub preprocess: Duration,
    /// From the engine's input to its output; where the engine letterboxes and ranks words, these too.
    pub engine: Duration,
    /// From regions to named candidates.
    pub scoring: Duration,
    /// From candidates to things.
    pub nms: Duration,
}

impl StageTimes {
    /// What the frame took between capture and publishing, without waiting.
    pub fn latency(&self) -> Duration {
        self.preprocess + self.engine + self.scoring + self.nms
    }
}

impl Job {
    /// A job with room for all that behind capture is made of a frame; `ranks` says whether the engine ranks words, and
    /// `memory` is what it has for frames.
    pub fn with_room(
        student: &StudentFacts,
        most_detections: usize,
        ranks: bool,
        memory: Option<&Arc<dyn FrameMemory>>,
    ) -> Self {
        let (regions, values) = (student.proposals, student.proposals * student.embedding_size);
        let mut job = Self::default();
        job.detections.reserve(most_detections);
        if let Some(memory) = memory {
            job.frame.bytes = FrameBuffer::in_memory(Arc::clone(memory));
        }
        job.regions.boxes_in_input.reserve(regions);
        job.regions.objectness.reserve(regions);
        if ranks {
            job.regions.ranked = Some(Vec::with_capacity(regions));
        } else {
            job.image.reserve(student.resize.input_len());
            job.regions.text_embeddings.reserve(values);
            job.regions.image_embeddings.reserve(values);
        }
        job
    }
}

impl Default for Job {
    fn default() -> Self {
        Self {
            number: 0,
            frame: Frame::default(),
            interval: None,
            turn: None,
            image: Vec::new(),
            letterbox: Letterbox::new((1, 1), (1, 1)),
            thumbnail: Thumbnail::default(),
            vocabulary_version: 0,
            regions: Regions::default(),
            detections: Vec::new(),
            words: WordList::default(),
            zones: None,
            times: StageTimes::default(),
            measured_at: None,
        }
    }
}

/// How a frame ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// When it was published.
    pub at: Instant,
    /// How long publishing took.
    pub publish: Duration,
    /// Since the camera took it.
    pub age: Duration,
}
