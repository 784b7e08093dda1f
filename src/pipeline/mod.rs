//! The line: capture, preprocess, engine, scoring and publishing, on threads of their own.
//!
//! In flow a source, an engine, a vocabulary's scoring and the outputs; out flows a [`Report`].
//! Between the threads are `ring-channel`s, which overwrite their oldest item instead of growing:
//! the newest frame wins. One [`Job`] carries a frame and all the buffers that it needs from stage
//! to stage, and comes out of a [`Pool`] that is filled once.
//!
//! The one surprising thing: the same rings that drop frames for a camera drop none for a file, and
//! the pool makes the difference. For a camera the rings hold one job each and the pool holds more
//! jobs than all rings and stages together, so capture never waits and a slow stage finds the
//! newest frame. For a file every ring is as large as the whole pool: no ring can be full when
//! something is sent, nothing is overwritten, and capture waits for a job to come home.

mod pool;
mod stop;

use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ring_channel::{RingReceiver, RingSender, ring_channel};
use wordsight_detection::FrameView;
use wordsight_engines::{Engine, WholeFrames};

pub use pool::{Job, Lease, Pool};
pub use stop::Stop;

use crate::capture::{Captured, Frame, Metronome, Pacing, Source};
use crate::preprocess::Preprocess;
use crate::publish::{Outputs, Publisher, Summary, Verdict};
use crate::scoring::Scoring;

/// Jobs for a file: one in the hands of each of the five threads (the fifth saves pictures), a second in the engine's
/// where two frames may be under way, and one more, so that none waits for a neighbour who is merely a little slower
/// this time.
const LOSSLESS_JOBS: NonZeroUsize = NonZeroUsize::new(7).unwrap();
/// Jobs for a camera: as many in the threads' hands, one in each of the four rings, and one more for the moment in
/// which a pushed-out job is on its way home.
const CAMERA_JOBS: NonZeroUsize = NonZeroUsize::new(11).unwrap();
/// How long a wait for the next frame may go without a look at whether to stop.
const LONGEST_NAP: Duration = Duration::from_millis(50);

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
    pub scoring: Scoring,
    /// Where the results go.
    pub outputs: Outputs,
    /// How many of the engine's inputs to keep for a measurement afterwards.
    pub inputs_to_keep: usize,
}

/// How a stream went.
pub struct Report {
    /// What was published.
    pub summary: Summary,
    /// Frames that were captured whole.
    pub captured: u64,
    /// Frames that could not be had; each was reported when it happened.
    pub unreadable: u64,
    /// The engine, for whoever wants to go on with it.
    pub engine: Box<dyn Engine>,
    /// The first inputs that the engine got, as many as were asked for.
    pub kept_inputs: Vec<Vec<u8>>,
    /// The size of the last frame that the engine got, (width, height).
    pub frame_size: (usize, usize),
}

impl Pipeline {
    /// Runs until the source ends, enough is published, `stop` is requested or a stage fails.
    ///
    /// # Errors
    /// When the engine or an output fails. What cannot be captured is reported and counted.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<Report> {
        let (jobs, ring) = match self.pacing {
            Pacing::Lossless => (LOSSLESS_JOBS, LOSSLESS_JOBS),
            Pacing::Camera { .. } => (CAMERA_JOBS, NonZeroUsize::MIN),
        };
        let pool = Pool::new(jobs.get());
        let (captured, to_preprocess) = ring_channel(ring);
        let (preprocessed, to_engine) = ring_channel(ring);
        let (inferred, to_scoring) = ring_channel(ring);

        let letterboxed = match self.engine.whole_frames() {
            Some(engine) => {
                engine.set_words(&self.scoring.table())?;
                // The kept inputs are for the engine alone, which takes no frames.
                self.inputs_to_keep as u64
            }
            None => u64::MAX,
        };
        let facts = self.engine.facts();
        let preprocess = Preprocess::new(facts.input_width, facts.input_height, letterboxed);
        let publisher = Publisher::start(self.outputs, self.scoring.words(), ring)?;
        let capture = CaptureStage {
            source: self.source,
            metronome: Metronome::new(self.pacing),
            repeat: self.repeat,
            captured: 0,
            unreadable: 0,
        };
        let engine = EngineStage {
            engine: self.engine,
            inputs_to_keep: self.inputs_to_keep,
            kept_inputs: Vec::new(),
            frame_size: (1, 1),
        };

        thread::scope(|scope| {
            let pool = &pool;
            let capture = named("capture").spawn_scoped(scope, move || capture.run(pool, &captured, stop))?;
            let preprocess = named("preprocess").spawn_scoped(scope, move || {
                let _closer = pool.closer();
                run_preprocess(preprocess, &to_preprocess, &preprocessed);
            })?;
            let engine = named("engine").spawn_scoped(scope, move || {
                let _closer = pool.closer();
                engine.run(&to_engine, &inferred)
            })?;
            let summary = {
                let _closer = pool.closer();
                run_publish(self.scoring, publisher, to_scoring)
            };
            // The engine's error is told before the publisher's: it may be the reason for it.
            let engine = engine.join().map_err(|_| panicked("engine"))??;
            let capture = capture.join().map_err(|_| panicked("capture"))?;
            preprocess.join().map_err(|_| panicked("preprocess"))?;
            Ok(Report {
                summary: summary?,
                captured: capture.captured,
                unreadable: capture.unreadable,
                engine: engine.engine,
                kept_inputs: engine.kept_inputs,
                frame_size: engine.frame_size,
            })
        })
    }
}

/// A thread with a name, for `top -H` and a debugger.
fn named(stage: &str) -> thread::Builder {
    thread::Builder::new().name(stage.to_owned())
}

fn panicked(stage: &str) -> anyhow::Error {
    anyhow!("the {stage} stage panicked; this is a bug in wordsight, please report it with the lines above")
}

/// The first thread: frames from the source.
struct CaptureStage {
    source: Box<dyn Source>,
    metronome: Metronome,
    repeat: bool,
    captured: u64,
    unreadable: u64,
}

impl CaptureStage {
    fn run(mut self, pool: &Pool, captured: &RingSender<Lease>, stop: &Stop) -> Self {
        let mut captured_before_pass = 0;
        while let Some(mut job) = self.next_job(pool, stop) {
            match self.source.capture(&mut job.frame) {
                Ok(Captured::Frame) => {
                    job.number = self.captured + self.unreadable;
                    job.latency = Duration::ZERO;
                    self.captured += 1;
                    if captured.send(job).is_err() {
                        break;
                    }
                }
                // A pass without a frame would be followed by others like it.
                Ok(Captured::End) if self.repeat && self.captured > captured_before_pass => {
                    captured_before_pass = self.captured;
                    if let Err(error) = self.source.rewind() {
                        self.report(&error);
                        break;
                    }
                }
                Ok(Captured::End) => break,
                Err(error) => self.report(&error),
            }
        }
        self
    }

    /// Waits until the next frame is due; `None` when the stream is to end.
    fn next_job(&mut self, pool: &Pool, stop: &Stop) -> Option<Lease> {
        let due = Instant::now() + self.metronome.wait_from(Instant::now());
        loop {
            if stop.is_requested() || pool.is_closed() {
                return None;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return pool.take();
            }
            thread::sleep(left.min(LONGEST_NAP));
        }
    }

    fn report(&mut self, error: &crate::capture::CaptureError) {
        self.unreadable += 1;
        eprintln!("wordsight: {error}");
    }
}

/// The second thread: frames to the engine's inputs.
fn run_preprocess(
    mut preprocess: Preprocess,
    captured: &RingReceiver<Lease>,
    preprocessed: &RingSender<Lease>,
) {
    while let Ok(mut job) = captured.recv() {
        let start = Instant::now();
        preprocess.run(&mut job);
        job.latency += start.elapsed();
        if preprocessed.send(job).is_err() {
            break;
        }
    }
}

/// The third thread: inputs to regions.
struct EngineStage {
    engine: Box<dyn Engine>,
    inputs_to_keep: usize,
    kept_inputs: Vec<Vec<u8>>,
    frame_size: (usize, usize),
}

impl EngineStage {
    fn run(
        mut self,
        preprocessed: &RingReceiver<Lease>,
        inferred: &RingSender<Lease>,
    ) -> anyhow::Result<Self> {
        if self.engine.whole_frames().is_some() {
            return self.run_whole_frames(preprocessed, inferred);
        }
        while let Ok(mut lease) = preprocessed.recv() {
            let job = &mut *lease;
            self.keep_input(job);
            let start = Instant::now();
            self.engine.infer(&job.image, &mut job.regions).with_context(|| place_of(job))?;
            done(job, start);
            if inferred.send(lease).is_err() {
                break;
            }
        }
        Ok(self)
    }

    /// As [`Self::run`], for an engine that takes whole frames: while it computes one, the next is started.
    fn run_whole_frames(
        mut self,
        preprocessed: &RingReceiver<Lease>,
        inferred: &RingSender<Lease>,
    ) -> anyhow::Result<Self> {
        let mut under_way: Option<(Lease, Instant)> = None;
        loop {
            // With a frame under way the next is taken only if it is there: a result never waits for a camera.
            let next = match &under_way {
                Some(_) => preprocessed.try_recv().ok(),
                None => preprocessed.recv().ok(),
            };
            let start = Instant::now();
            if let Some(job) = next.as_deref() {
                self.keep_input(job);
                let Frame { rgb, width, height, .. } = &job.frame;
                let frame = FrameView::rgb(rgb, *width, *height);
                self.whole_frames()?.start(&frame).with_context(|| place_of(job))?;
            }
            if let Some((mut lease, start)) = under_way.take() {
                let job = &mut *lease;
                self.whole_frames()?.finish(&mut job.regions).with_context(|| place_of(job))?;
                done(job, start);
                if inferred.send(lease).is_err() {
                    return Ok(self);
                }
            } else if next.is_none() {
                return Ok(self);
            }
            under_way = next.map(|lease| (lease, start));
        }
    }

    fn whole_frames(&mut self) -> anyhow::Result<&mut dyn WholeFrames> {
        self.engine
            .whole_frames()
            .context("an engine that took whole frames takes none; this is a bug in wordsight")
    }

    fn keep_input(&mut self, job: &Job) {
        self.frame_size = (job.frame.width, job.frame.height);
        if self.kept_inputs.len() < self.inputs_to_keep && !job.image.is_empty() {
            self.kept_inputs.push(job.image.clone());
        }
    }
}

/// Where an engine's error happened.
fn place_of(job: &Job) -> String {
    format!("frame {} of {}", job.number, job.frame.source)
}

/// Notes that the engine is done with a frame that it began at `start`.
fn done(job: &mut Job, start: Instant) {
    let elapsed = start.elapsed();
    job.latency += elapsed;
    tracing::trace!(frame = job.number, ?elapsed, "inferred");
}

/// The fourth thread, which is the caller's: regions to named things, and out.
fn run_publish(
    mut scoring: Scoring,
    mut publisher: Publisher,
    inferred: RingReceiver<Lease>,
) -> anyhow::Result<Summary> {
    while let Ok(mut job) = inferred.recv() {
        let start = Instant::now();
        scoring.run(&mut job);
        job.latency += start.elapsed();
        if publisher.publish(job)? == Verdict::Enough {
            break;
        }
    }
    // Before the pictures are waited for: the stages behind need not go on meanwhile.
    drop(inferred);
    publisher.finish()
}

#[cfg(test)]
mod tests;
