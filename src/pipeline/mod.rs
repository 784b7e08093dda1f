//! The pipeline: capture, preprocess, engine, scoring and publishing, on threads of their own.
//!
//! Each stage has a file of its own here; this one wires them.
//!
//! Runs a source, an engine, a scorer of a vocabulary's words and a publisher, and ends with a [`Report`], which has
//! the parts that another stream can go on with. While it runs, a [`Control`] swaps its words or has it pause. Between
//! the threads are `ring-channel`s, which overwrite their oldest item instead of growing: the newest frame wins. One
//! [`Job`] carries a frame and all the buffers that it needs from stage to stage, and comes out of a [`Pool`] that is
//! filled once.
//!
//! The same rings that drop frames for a camera drop none for a file, and the pool makes the difference. For a camera
//! the rings hold one job each (before a shared engine as many as have a turn) and the pool holds more jobs than all
//! rings and stages together, so capture never waits and a slow stage finds the newest frame. For a file every ring is
//! as large as the whole pool: no ring can be full when something is sent, nothing is overwritten, and capture waits
//! for a job to return to the pool.

mod capture;
mod context;
mod control;
mod counters;
mod engine;
mod measurement;
mod preprocess;
mod publish;
mod rate_limit;
mod settings;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use anyhow::anyhow;
use wordsight_capture::{CaptureError, Pacing, Source};
use wordsight_detection::PixelFormat;
use wordsight_engines::{Engine, EngineQueue};

pub use context::Frames;
pub use control::{Control, PulseReading};
pub use counters::Counters;
pub use measurement::{Measurement, MeasurementSettings, OnFrame, Rates, Slices, run_alone};
pub use settings::{EngineKeys, EngineKind, Precision};

use self::capture::CaptureStage;
use self::context::Context;
use self::engine::EngineStage;
use self::preprocess::PreprocessStage;
use self::publish::PublishStage;
use crate::health::Health;
use crate::job::{FrameBuffers, Job, Pool};
use crate::preprocess::Preprocess;
use crate::publish::Publisher;
use crate::scoring::FrameScorer;
use crate::threads::{Stop, let_others_go_first, named, ring};
use crate::tracking::Tracking;

/// Jobs for a file: one in the hands of each of the five threads (the fifth saves pictures), a second in the engine's
/// where two frames may be under way, and one more, so that none waits for a neighbour who is merely a little slower
/// this time.
const LOSSLESS_JOBS: NonZeroUsize = NonZeroUsize::new(7).unwrap();
/// Jobs for a camera: as many in the threads' hands, one in each of the four rings, and one more for the moment in
/// which a pushed-out job is on its way back to the pool.
const CAMERA_JOBS: NonZeroUsize = NonZeroUsize::new(11).unwrap();
/// Frames of a camera before the letterbox: in the hands of capture and preprocess, in the ring between them, and one that
/// was just pushed out of it.
const CAMERA_BUFFERS: usize = 4;
/// One more of each for a camera where an engine is shared: a frame that has its turn is exchanged for a newer one.
const SHARED_MORE: usize = 1;
/// More jobs for it: the ring before the engine has room for all frames that have a turn, so that none is pushed out.
const MORE_TURNS: usize = EngineQueue::TURNS_OF_ONE.get() - 1;
/// How nice is [`give_way`], of 19.
const NICE: i32 = 10;

/// Everything that makes a stream.
pub struct Pipeline {
    /// Where frames come from.
    pub source: Box<dyn Source>,
    /// How they follow one another.
    pub pacing: Pacing,
    /// Whether to begin again at the end.
    pub repeat: bool,
    /// What finds regions.
    pub engine: Box<dyn Engine>,
    /// What names them.
    pub scorer: Box<FrameScorer>,
    /// What joins them to those of the frames before.
    pub tracking: Tracking,
    /// Where the results go.
    pub publisher: Publisher,
    /// Frames that came and frames that didn't in the streams before this one, which it goes on with.
    pub before: Frames,
    /// How many of the engine's inputs to keep for a measurement afterwards.
    pub inputs_to_keep: usize,
    /// Where it is told how the stream is.
    pub health: Health,
    /// What the stages counted before, and go on counting.
    pub counters: Arc<Counters>,
    /// What to measure, if anything.
    pub measurement: Option<Measurement>,
}

/// How a stream went.
pub struct Report {
    /// Frames that came, and frames that didn't.
    pub frames: Frames,
    /// Whether there were as many frames as were wanted.
    pub is_enough: bool,
    /// The source, of a stream that has only paused: it is open, and there is more to come.
    pub source: Option<Box<dyn Source>>,
    /// What named the last frame.
    pub scorer: Box<FrameScorer>,
    /// What followed the things.
    pub tracking: Tracking,
    /// What was published, and where.
    pub publisher: Publisher,
    /// What ended the source before its time.
    pub given_up: Option<CaptureError>,
    /// The engine, for whoever wants to go on with it.
    pub engine: Box<dyn Engine>,
    /// The first inputs that the engine got, as many as were asked for.
    pub kept_inputs: Vec<Vec<u8>>,
    /// The size of the last frame that the engine got, (width, height).
    pub frame_size: (usize, usize),
    /// And its format.
    pub frame_format: PixelFormat,
    /// What the stages counted.
    pub counters: Arc<Counters>,
    /// What was measured.
    pub rates: Option<Rates>,
    /// What the next stream has in common with this one.
    again: Again,
}

impl Pipeline {
    /// A stream of a source's frames, scored by `scorer` and told to `publisher`: from the beginning, and once.
    pub fn new(
        source: Box<dyn Source>,
        pacing: Pacing,
        engine: Box<dyn Engine>,
        scorer: FrameScorer,
        publisher: Publisher,
    ) -> Self {
        Self {
            source,
            pacing,
            repeat: false,
            engine,
            scorer: Box::new(scorer),
            tracking: Tracking::new(None),
            publisher,
            before: Frames::default(),
            inputs_to_keep: 0,
            health: Health::default(),
            counters: Arc::default(),
            measurement: None,
        }
    }

    /// Runs until the source ends, enough is published or measured, `stop` or a pause is requested or a stage fails.
    ///
    /// # Errors
    /// When the engine or an output fails. What cannot be captured is reported and counted.
    pub fn run(mut self, stop: &Stop, control: &Control) -> anyhow::Result<Report> {
        control.pulse().rest();
        let (version, newest) = control.begin();
        if let Some(newest) = newest {
            control.retire(std::mem::replace(&mut self.scorer, newest));
        }
        control.names_by(&self.scorer);
        if let Some(engine) = self.engine.whole_frames() {
            engine.set_words(&self.scorer.table())?;
        }
        let memory = Memory::of(&mut self);
        Line::new(self, &memory, version, stop, control).run(&memory.pool, stop)
    }

    /// How many jobs there are, and how many of them a ring between two stages holds.
    fn jobs(&self) -> (NonZeroUsize, NonZeroUsize) {
        match self.pacing {
            Pacing::Lossless => (LOSSLESS_JOBS, LOSSLESS_JOBS),
            Pacing::Camera { .. } | Pacing::Live => (CAMERA_JOBS, NonZeroUsize::MIN),
        }
    }
}

impl Report {
    /// The stream that goes on behind this one, if it has only paused.
    ///
    /// # Errors
    /// The report itself, of a stream whose source has ended.
    pub fn next(self) -> Result<Pipeline, Box<Self>> {
        let Some(source) = self.source else { return Err(Box::new(self)) };
        let Again { pacing, repeat, inputs_to_keep, health } = self.again;
        Ok(Pipeline {
            source,
            pacing,
            repeat,
            engine: self.engine,
            scorer: self.scorer,
            tracking: self.tracking,
            publisher: self.publisher,
            before: self.frames,
            inputs_to_keep,
            health,
            counters: self.counters,
            measurement: None,
        })
    }
}

/// What of a stream holds for the one behind it too.
struct Again {
    pacing: Pacing,
    repeat: bool,
    inputs_to_keep: usize,
    health: Health,
}

/// All memory that frames need between capture and publishing.
struct Memory {
    pool: Pool,
    /// Where frames' bytes go back to behind the letterbox, if nobody looks at them there.
    buffers: Option<FrameBuffers>,
    /// The most things in a frame.
    most_detections: usize,
}

impl Memory {
    fn of(pipeline: &mut Pipeline) -> Self {
        let (jobs, _) = pipeline.jobs();
        let ranks = pipeline.engine.whole_frames().is_some();
        let memory = pipeline.engine.whole_frames().and_then(|engine| engine.frame_memory());
        let student = pipeline.engine.facts();
        let most_detections = pipeline.scorer.most_detections(student.proposals);
        let is_exchanged = pipeline.engine.queue().is_some() && pipeline.pacing != Pacing::Lossless;
        let (more, more_jobs) = if is_exchanged { (SHARED_MORE, SHARED_MORE + MORE_TURNS) } else { (0, 0) };
        let pool = Pool::new(jobs.get() + more_jobs, || {
            Job::with_room(student, most_detections, ranks, memory.as_ref())
        });
        // An engine that takes whole frames and whoever draws on them look at them behind the letterbox.
        let before_letterbox =
            if pipeline.pacing == Pacing::Lossless { jobs.get() } else { CAMERA_BUFFERS + more };
        let buffers = (!ranks && !pipeline.publisher.draws()).then(|| FrameBuffers::new(before_letterbox));
        Self { pool, buffers, most_detections }
    }
}

/// The stages, ready to run.
struct Line<'a> {
    capture: CaptureStage<'a>,
    preprocess: PreprocessStage<'a>,
    engine: EngineStage<'a>,
    publish: PublishStage<'a>,
    /// What a ring between two stages holds.
    ring: NonZeroUsize,
    again: Again,
    context: Context<'a>,
}

impl<'a> Line<'a> {
    fn new(
        mut pipeline: Pipeline,
        memory: &'a Memory,
        version: u64,
        stop: &Stop,
        control: &'a Control,
    ) -> Self {
        let (_, ring) = pipeline.jobs();
        let takes_frames = pipeline.engine.whole_frames().is_some();
        let Pipeline { pacing, repeat, inputs_to_keep, before, mut publisher, health, .. } = pipeline;
        let buffers = memory.buffers.as_ref();
        let context = Context { pacing, version, buffers, counters: pipeline.counters, control };
        let student = pipeline.engine.facts();
        // The kept inputs are for the engine alone, which takes no frames.
        let letterboxed = if takes_frames { inputs_to_keep as u64 } else { u64::MAX };
        let preprocess = PreprocessStage {
            preprocess: Preprocess::new(student.resize, letterboxed),
            live: publisher.live().clone(),
            queue: pipeline.engine.queue(),
            stop: stop.clone(),
            context: context.clone(),
        };
        let (settings, on_frame) =
            pipeline.measurement.map(|wanted| (wanted.settings, wanted.on_frame)).unzip();
        publisher.begin(ring, pacing == Pacing::Lossless, memory.most_detections);
        let publish = PublishStage {
            publisher,
            scorer: pipeline.scorer,
            tracking: pipeline.tracking,
            version,
            on_frame,
            health: health.clone(),
            context: context.clone(),
        };
        Self {
            capture: CaptureStage::new(pipeline.source, repeat, before, context.clone()),
            preprocess,
            engine: EngineStage::new(pipeline.engine, inputs_to_keep, settings, stop, context.clone()),
            publish,
            ring,
            again: Again { pacing, repeat, inputs_to_keep, health },
            context,
        }
    }

    /// Runs each stage on a thread of its own, the last on the caller's, until all have ended.
    fn run(self, pool: &Pool, stop: &Stop) -> anyhow::Result<Report> {
        let Self { capture, preprocess, engine, publish, again, context, .. } = self;
        let (pacing, queue) = (context.pacing, preprocess.queue.clone());
        let before_engine =
            if queue.is_some() { self.ring.max(EngineQueue::TURNS_OF_ONE) } else { self.ring };
        let (captured, to_preprocess) = ring(self.ring);
        let (preprocessed, to_engine) = ring(before_engine);
        let (inferred, to_scoring) = ring(self.ring);
        thread::scope(|scope| {
            let capture = named("capture").spawn_scoped(scope, move || {
                give_way(pacing);
                capture.run(pool, captured, stop)
            })?;
            let preprocess = named("preprocess").spawn_scoped(scope, move || {
                let _closer = pool.closer();
                give_way(pacing);
                preprocess.run(&to_preprocess, &preprocessed);
            })?;
            let engine = named("engine").spawn_scoped(scope, move || {
                let _closer = pool.closer();
                let _running = queue.as_ref().map(EngineQueue::running);
                // Dropped before `_running`: a frame sent after the turns were taken back would keep its turn in the ring.
                let to_engine = to_engine;
                engine.run(&to_engine, &inferred)
            })?;
            let published = {
                let _closer = pool.closer();
                publish.run(to_scoring)
            };
            // The engine's error is told before the publisher's: it may be the reason for it.
            let engine = engine.join().map_err(|_| panicked("engine"))??;
            let capture = capture.join().map_err(|_| panicked("capture"))?;
            preprocess.join().map_err(|_| panicked("preprocess"))?;
            let (PublishStage { scorer, tracking, publisher, .. }, is_enough) = published?;
            Ok(Report {
                frames: capture.frames,
                is_enough,
                source: capture.source,
                scorer,
                tracking,
                publisher,
                given_up: capture.given_up,
                engine: engine.engine,
                kept_inputs: engine.kept_inputs,
                frame_size: engine.frame_size,
                frame_format: engine.frame_format,
                counters: context.counters,
                rates: engine.turns.map(|turns| turns.rates()),
                again,
            })
        })
    }
}

/// Lets others go first where nobody waits for this thread: frames of a file are ready long before the engine takes them.
///
/// On a machine whose cores the engine fills, its threads wait for one another, and one that is held up by a letterbox
/// holds up all (`pipeline_efficiency` of `wordsight bench` is what tells).
fn give_way(pacing: Pacing) {
    if pacing == Pacing::Lossless {
        let_others_go_first(NICE);
    }
}

fn panicked(stage: &str) -> anyhow::Error {
    anyhow!("the {stage} stage panicked; this is a bug in wordsight, please report it with the lines above")
}

#[cfg(test)]
mod tests;
