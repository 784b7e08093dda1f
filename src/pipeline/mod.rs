//! The line: capture, preprocess, engine, scoring and publishing, on threads of their own.
//!
//! In flow a source, an engine, a vocabulary's scoring and a publisher; out flows a [`Report`], with the parts that another
//! stream can go on with. While it runs, a [`Control`] swaps its words or has it pause.
//! Between the threads are `ring-channel`s, which overwrite their oldest item instead of growing:
//! the newest frame wins. One [`Job`] carries a frame and all the buffers that it needs from stage
//! to stage, and comes out of a [`Pool`] that is filled once.
//!
//! The one surprising thing: the same rings that drop frames for a camera drop none for a file, and
//! the pool makes the difference. For a camera the rings hold one job each and the pool holds more
//! jobs than all rings and stages together, so capture never waits and a slow stage finds the
//! newest frame. For a file every ring is as large as the whole pool: no ring can be full when
//! something is sent, nothing is overwritten, and capture waits for a job to come home.

mod control;
mod measurement;
mod rate_limit;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use wordsight_detection::PixelFormat;
use wordsight_engines::{Engine, WholeFrames};

pub use control::{Control, PulseReading};
pub use measurement::{Counters, Measurement, MeasurementSettings, OnFrame, Rates, Slices, run_alone};
pub use rate_limit::RateLimit;

use crate::allocations;
use crate::capture::{CaptureError, Captured, LONGEST_NAP, Metronome, Pacing, Source};
use crate::health::Health;
use crate::job::{FrameBuffers, Job, Lease, Pool, Stage, StageTimes};
use crate::preprocess::Preprocess;
use crate::publish::{Live, Publisher, Verdict};
use crate::scoring::Scoring;
use crate::threads::{Disconnected, Receiver, Sender, Stop, let_others_go_first, named, ring};
use crate::tracking::Tracking;
use measurement::Turns;
use rate_limit::Gate;

/// Jobs for a file: one in the hands of each of the five threads (the fifth saves pictures), a second in the engine's
/// where two frames may be under way, and one more, so that none waits for a neighbour who is merely a little slower
/// this time.
const LOSSLESS_JOBS: NonZeroUsize = NonZeroUsize::new(7).unwrap();
/// Jobs for a camera: as many in the threads' hands, one in each of the four rings, and one more for the moment in
/// which a pushed-out job is on its way home.
const CAMERA_JOBS: NonZeroUsize = NonZeroUsize::new(11).unwrap();
/// Frames of a camera before the letterbox: in the hands of capture and preprocess, in the ring between them, and one that
/// was just pushed out of it.
const CAMERA_BUFFERS: usize = 4;
/// How nice is [`give_way`], of 19.
const NICE: i32 = 10;
/// How long frames that are on their way when a stop is requested are still worked on: an engine that takes a second for
/// one would keep the stream for as many as wait.
const LAST_FRAMES: Duration = Duration::from_secs(1);
/// What is said at once of frames that a live source can't give, and after how long the next one is.
const ERRORS_AT_ONCE: u32 = 5;
const ERROR_PAUSE: Duration = Duration::from_secs(10);

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
    pub scoring: Box<Scoring>,
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

/// Frames that a source gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frames {
    /// Frames that were captured whole.
    pub captured: u64,
    /// Frames that could not be had; each was reported when it happened.
    pub unreadable: u64,
    /// Captured since the source was opened or began again.
    pub in_pass: u64,
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
    pub scoring: Box<Scoring>,
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
}

impl Pipeline {
    /// Runs until the source ends, enough is published or measured, `stop` or a pause is requested or a stage fails.
    ///
    /// # Errors
    /// When the engine or an output fails. What cannot be captured is reported and counted.
    pub fn run(mut self, stop: &Stop, control: &Control) -> anyhow::Result<Report> {
        let (jobs, size) = match self.pacing {
            Pacing::Lossless => (LOSSLESS_JOBS, LOSSLESS_JOBS),
            Pacing::Camera { .. } | Pacing::Live => (CAMERA_JOBS, NonZeroUsize::MIN),
        };
        let (captured, to_preprocess) = ring(size);
        let (preprocessed, to_engine) = ring(size);
        let (inferred, to_scoring) = ring(size);

        control.pulse().rest();
        let (edition, newest) = control.begin();
        if let Some(newest) = newest {
            control.bury(std::mem::replace(&mut self.scoring, newest));
        }
        let letterboxed = match self.engine.whole_frames() {
            Some(engine) => {
                engine.set_words(&self.scoring.table())?;
                // The kept inputs are for the engine alone, which takes no frames.
                self.inputs_to_keep as u64
            }
            None => u64::MAX,
        };
        let ranks = self.engine.whole_frames().is_some();
        let facts = self.engine.facts();
        let most_found = self.scoring.most_found(facts.proposals);
        let pool = Pool::new(jobs.get(), || Job::with_room(facts, most_found, ranks));
        let counters = self.counters;
        // An engine that takes whole frames and whoever draws on them look at them behind the letterbox.
        let before_letterbox = if self.pacing == Pacing::Lossless { jobs.get() } else { CAMERA_BUFFERS };
        let buffers = (!ranks && !self.publisher.draws()).then(|| FrameBuffers::new(before_letterbox));
        let buffers = buffers.as_ref();
        let preprocess = PreprocessStage {
            preprocess: Preprocess::new(facts.input_width, facts.input_height, letterboxed),
            buffers,
            live: self.publisher.live().clone(),
            counters: Arc::clone(&counters),
            control,
        };
        let (settings, on_frame) = self.measurement.map(|wanted| (wanted.settings, wanted.on_frame)).unzip();
        self.publisher.begin(size, self.pacing == Pacing::Lossless, most_found);
        let publish = PublishStage {
            publisher: self.publisher,
            scoring: self.scoring,
            tracking: self.tracking,
            edition,
            on_frame,
            health: self.health,
            counters: Arc::clone(&counters),
            control,
        };
        let capture = CaptureStage {
            source: self.source,
            metronome: Metronome::new(self.pacing),
            repeat: self.repeat,
            frames: self.before,
            received_at: None,
            gate: Gate::default(),
            waits_for_us: self.pacing == Pacing::Lossless,
            throttle: matches!(self.pacing, Pacing::Live).then(Throttle::default),
            given_up: None,
            buffers,
            counters: Arc::clone(&counters),
            control,
        };
        let engine = EngineStage {
            engine: self.engine,
            inputs_to_keep: self.inputs_to_keep,
            kept_inputs: Vec::new(),
            frame_size: (1, 1),
            frame_format: PixelFormat::Rgb,
            turns: settings.map(|settings| Turns::new(settings, Arc::clone(&counters))),
            stop: stop.clone(),
            stopping_since: None,
            last_inference: (self.pacing != Pacing::Lossless).then_some(Duration::ZERO),
            edition,
            counters: Arc::clone(&counters),
            control,
        };

        thread::scope(|scope| {
            let pool = &pool;
            let pacing = self.pacing;
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
            let (PublishStage { scoring, tracking, publisher, .. }, is_enough) = published?;
            Ok(Report {
                frames: capture.frames,
                is_enough,
                source: capture.source,
                scoring,
                tracking,
                publisher,
                given_up: capture.given_up,
                engine: engine.engine,
                kept_inputs: engine.kept_inputs,
                frame_size: engine.frame_size,
                frame_format: engine.frame_format,
                counters,
                rates: engine.turns.map(|turns| turns.rates()),
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

/// The first thread: frames from the source.
struct CaptureStage<'a> {
    source: Box<dyn Source>,
    metronome: Metronome,
    repeat: bool,
    frames: Frames,
    /// When the last frame was there.
    received_at: Option<Instant>,
    /// What lets frames in.
    gate: Gate,
    /// Whether the source loses nothing when it is asked later.
    waits_for_us: bool,
    /// For a source whose errors may be without end.
    throttle: Option<Throttle>,
    given_up: Option<CaptureError>,
    buffers: Option<&'a FrameBuffers>,
    counters: Arc<Counters>,
    control: &'a Control,
}

impl CaptureStage<'_> {
    /// Ends with the source closed, unless the stream only pauses: a camera is free again before the last results are out.
    fn run(mut self, pool: &Pool, captured: Sender<Lease>, stop: &Stop) -> CaptureEnd {
        let mut has_ended = true;
        loop {
            let Some(mut job) = self.next_job(pool, stop) else {
                has_ended = pool.is_closed() || stop.is_requested();
                break;
            };
            let allocations = allocations::on_this_thread();
            self.buffers.inspect(|buffers| buffers.give_to(&mut job));
            self.control.pulse().begin(Stage::Capture);
            let outcome = self.source.capture(&mut job.frame);
            self.control.pulse().done(Stage::Capture);
            match outcome {
                Ok(Captured::Frame) => {
                    job.number = self.frames.captured + self.frames.unreadable;
                    job.times =
                        StageTimes { capture: job.frame.received_at.elapsed(), ..StageTimes::default() };
                    let received_at = job.frame.received_at;
                    self.frames.captured += 1;
                    self.frames.in_pass += 1;
                    self.counters.missed(job.frame.missed);
                    let limit = self.control.rate_limit().period().filter(|_| !self.waits_for_us);
                    if !self.gate.lets_in(received_at, limit) {
                        self.counters.held_back();
                        self.buffers.inspect(|buffers| buffers.take_from(&mut job));
                        continue;
                    }
                    job.interval = self.received_at.map(|before| received_at - before);
                    self.received_at = Some(received_at);
                    match captured.send(job) {
                        Ok(mut pushed_out) => {
                            self.counters.dropped_before(Stage::Preprocess, &pushed_out);
                            if let (Some(buffers), Some(job)) = (self.buffers, &mut pushed_out) {
                                buffers.take_from(job);
                            }
                        }
                        Err(Disconnected) => break,
                    }
                    self.counters.allocated(Stage::Capture, allocations::on_this_thread() - allocations);
                }
                Ok(Captured::NotYet) => {
                    self.buffers.inspect(|buffers| buffers.take_from(&mut job));
                }
                // A pass without a frame would be followed by others like it.
                Ok(Captured::End) if self.repeat && self.frames.in_pass > 0 => {
                    self.frames.in_pass = 0;
                    if let Err(error) = self.source.rewind() {
                        self.report(&error);
                        break;
                    }
                }
                Ok(Captured::End) => break,
                Err(error @ (CaptureError::GivenUp { .. } | CaptureError::Uri(_))) => {
                    self.given_up = Some(error);
                    break;
                }
                // Behind it there is nothing to ask for.
                Err(error @ CaptureError::Lost { .. }) => {
                    self.report(&error);
                    break;
                }
                Err(error) => self.report(&error),
            }
        }
        let Self { frames, given_up, source, .. } = self;
        CaptureEnd { frames, given_up, source: (!has_ended).then_some(source) }
    }

    /// Waits until the next frame is due; `None` when the stream is to end or to pause.
    fn next_job(&mut self, pool: &Pool, stop: &Stop) -> Option<Lease> {
        let mut due = Instant::now() + self.metronome.wait_from(Instant::now());
        if self.waits_for_us {
            due += self.gate.wait_from(due, self.control.rate_limit().period());
        }
        loop {
            let is_to_end = || stop.is_requested() || self.control.is_paused();
            if is_to_end() || pool.is_closed() {
                return None;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return pool.take().filter(|_| !is_to_end());
            }
            thread::sleep(left.min(LONGEST_NAP));
            self.control.pulse().done(Stage::Capture);
        }
    }

    fn report(&mut self, error: &CaptureError) {
        self.frames.unreadable += 1;
        self.counters.unreadable();
        match &mut self.throttle {
            None => tell!("wordsight: {error}"),
            Some(throttle) => match throttle.turn(Instant::now()) {
                Some(0) => tell!("wordsight: {error}"),
                Some(silent) => tell!("wordsight: {error} (and {silent} others before)"),
                None => {}
            },
        }
    }
}

/// What remains of the first thread.
struct CaptureEnd {
    frames: Frames,
    given_up: Option<CaptureError>,
    source: Option<Box<dyn Source>>,
}

/// Lets a few through at once, and then one now and then.
#[derive(Default)]
struct Throttle {
    told: u32,
    silent: u64,
    last: Option<Instant>,
}

impl Throttle {
    /// How many were kept silent since the last one that was told, if this one may be.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now - last >= ERROR_PAUSE) {
            self.told = 0;
        } else if self.told >= ERRORS_AT_ONCE {
            self.silent += 1;
            return None;
        }
        self.told += 1;
        self.last = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

/// The second thread: frames to the engine's inputs.
struct PreprocessStage<'a> {
    preprocess: Preprocess,
    buffers: Option<&'a FrameBuffers>,
    /// Whoever watches wants the frame until the end of the line.
    live: Live,
    counters: Arc<Counters>,
    control: &'a Control,
}

impl PreprocessStage<'_> {
    fn run(mut self, captured: &Receiver<Lease>, preprocessed: &Sender<Lease>) {
        while let Ok(mut job) = captured.recv() {
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            self.control.pulse().begin(Stage::Preprocess);
            self.preprocess.run(&mut job);
            self.buffers.filter(|_| !self.live.is_watched()).inspect(|buffers| buffers.take_from(&mut job));
            job.times.preprocess = start.elapsed();
            match preprocessed.send(job) {
                Ok(pushed_out) => self.counters.dropped_before(Stage::Engine, &pushed_out),
                Err(Disconnected) => break,
            }
            self.control.pulse().done(Stage::Preprocess);
            self.counters.allocated(Stage::Preprocess, allocations::on_this_thread() - allocations);
        }
    }
}

/// The third thread: inputs to regions.
struct EngineStage<'a> {
    engine: Box<dyn Engine>,
    inputs_to_keep: usize,
    kept_inputs: Vec<Vec<u8>>,
    frame_size: (usize, usize),
    frame_format: PixelFormat,
    turns: Option<Turns>,
    stop: Stop,
    /// When it was seen that the stream is to stop.
    stopping_since: Option<Instant>,
    /// How long the last one took, where frames may be passed over.
    last_inference: Option<Duration>,
    /// Of the words that frames carry.
    edition: u64,
    counters: Arc<Counters>,
    control: &'a Control,
}

impl EngineStage<'_> {
    fn run(mut self, preprocessed: &Receiver<Lease>, inferred: &Sender<Lease>) -> anyhow::Result<Self> {
        if self.engine.whole_frames().is_some() {
            return self.run_whole_frames(preprocessed, inferred);
        }
        while self.goes_on()? {
            let Ok(mut lease) = preprocessed.recv() else { break };
            if let Some(newer) = self.worth_waiting(&lease).and_then(|wait| preprocessed.recv_within(wait)) {
                self.counters.dropped_before(Stage::Engine, &Some(std::mem::replace(&mut lease, newer)));
            }
            self.take_up_words();
            let job = &mut *lease;
            job.edition = self.edition;
            self.keep_input(job);
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            self.control.pulse().begin(Stage::Engine);
            self.engine.infer(&job.image, &mut job.regions).with_context(|| place_of(job))?;
            self.note_done(job, start);
            match inferred.send(lease) {
                Ok(pushed_out) => self.counters.dropped_before(Stage::Publish, &pushed_out),
                Err(Disconnected) => break,
            }
            self.control.pulse().done(Stage::Engine);
            self.counters.allocated(Stage::Engine, allocations::on_this_thread() - allocations);
        }
        Ok(self)
    }

    /// As [`Self::run`], for an engine that takes whole frames: while it computes one, the next is started.
    fn run_whole_frames(
        mut self,
        preprocessed: &Receiver<Lease>,
        inferred: &Sender<Lease>,
    ) -> anyhow::Result<Self> {
        let mut under_way: Option<(Lease, Instant)> = None;
        loop {
            // With a frame under way the next is taken only if it is there: a result never waits for a camera.
            let mut next = match &under_way {
                // The measurement wants the engine for itself, and so do new words.
                Some(_) if self.turns.as_ref().is_some_and(Turns::is_due) => None,
                Some(_) if self.control.newest() != self.edition => None,
                Some(_) => preprocessed.try_recv(),
                None if self.goes_on()? => preprocessed.recv().ok(),
                None => None,
            };
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            if next.is_some() || under_way.is_some() {
                self.control.pulse().begin(Stage::Engine);
            }
            if let Some(job) = next.as_deref_mut() {
                self.take_up_words();
                job.edition = self.edition;
                self.keep_input(job);
                self.whole_frames()?.start(&job.frame.view()).with_context(|| place_of(job))?;
            }
            if let Some((mut lease, start)) = under_way.take() {
                let job = &mut *lease;
                self.whole_frames()?.finish(&mut job.regions).with_context(|| place_of(job))?;
                self.note_done(job, start);
                match inferred.send(lease) {
                    Ok(pushed_out) => self.counters.dropped_before(Stage::Publish, &pushed_out),
                    Err(Disconnected) => return Ok(self),
                }
            } else if next.is_none() {
                return Ok(self);
            }
            self.control.pulse().done(Stage::Engine);
            self.counters.allocated(Stage::Engine, allocations::on_this_thread() - allocations);
            under_way = next.map(|lease| (lease, start));
        }
    }

    /// Has the frames from here on carry the newest edition of the words. An engine that can't take them goes on with those
    /// that it has.
    fn take_up_words(&mut self) {
        if self.control.newest() == self.edition {
            return;
        }
        let (number, table) = self.control.take_up();
        if let Some((engine, table)) = self.engine.whole_frames().zip(table)
            && let Err(error) = engine.set_words(&table)
        {
            self.control.withdraw(number, format!("the engine can't take the new words: {error}"));
            return;
        }
        self.edition = number;
    }

    /// How long to wait for a newer frame rather than take this one, if that is worth it.
    fn worth_waiting(&self, job: &Job) -> Option<Duration> {
        let age = job.frame.received_at.elapsed();
        wait_for_newer(age, job.interval?, job.times.preprocess, self.last_inference?)
    }

    /// Whether to take another frame: a measurement may be over, or the time that a stop leaves. The engine may be measured
    /// alone meanwhile.
    fn goes_on(&mut self) -> anyhow::Result<bool> {
        if self.stop.is_requested() {
            let since = *self.stopping_since.get_or_insert_with(Instant::now);
            if since.elapsed() > LAST_FRAMES {
                return Ok(false);
            }
        }
        match &mut self.turns {
            Some(turns) => Ok(turns.next(&mut *self.engine, &self.kept_inputs)?),
            None => Ok(true),
        }
    }

    fn whole_frames(&mut self) -> anyhow::Result<&mut dyn WholeFrames> {
        self.engine
            .whole_frames()
            .context("an engine that took whole frames takes none; this is a bug in wordsight")
    }

    fn keep_input(&mut self, job: &Job) {
        self.frame_size = (job.frame.width, job.frame.height);
        self.frame_format = job.frame.format;
        if self.kept_inputs.len() < self.inputs_to_keep && !job.image.is_empty() {
            self.kept_inputs.push(job.image.clone());
        }
    }

    /// Notes that the engine is done with a frame that it began at `start`.
    fn note_done(&mut self, job: &mut Job, start: Instant) {
        job.times.engine = start.elapsed();
        if let Some(last) = &mut self.last_inference {
            *last = job.times.engine;
        }
        job.measured_at = self.turns.as_mut().and_then(Turns::frame);
        tracing::trace!(frame = job.number, elapsed = ?job.times.engine, "inferred");
    }
}

/// How long to wait for the next frame of a camera rather than take one of this age, if that is worth it.
///
/// Behind a slow engine the frame that it finds is up to an interval old, and how old wanders with the beat of camera and
/// engine. One that is older than a quarter of the interval is left for the next, if that is due within a tenth of an
/// inference: a result comes a little later and is of a newer frame, and the time from what happens to the result, which
/// is half a cycle and a frame's age in the mean, gets shorter.
fn wait_for_newer(
    age: Duration,
    interval: Duration,
    preprocess: Duration,
    inference: Duration,
) -> Option<Duration> {
    let due = (interval + preprocess).saturating_sub(age);
    let is_stale = 4 * age > interval;
    // A camera is not punctual, nor are threads; but one that is half an interval late may be gone.
    let is_to_come = 2 * age < 3 * interval;
    (is_stale && is_to_come && 10 * due <= inference).then_some(due + interval / 4)
}

/// Where an engine's error happened.
fn place_of(job: &Job) -> String {
    format!("frame {} of {}", job.number, job.frame.source)
}

/// The fourth thread, which is the caller's: regions to named things, and out.
struct PublishStage<'a> {
    scoring: Box<Scoring>,
    tracking: Tracking,
    /// Of the words of `scoring`.
    edition: u64,
    publisher: Publisher,
    on_frame: Option<OnFrame>,
    health: Health,
    counters: Arc<Counters>,
    control: &'a Control,
}

impl PublishStage<'_> {
    fn run(mut self, inferred: Receiver<Lease>) -> anyhow::Result<(Self, bool)> {
        let mut is_enough = false;
        while let Ok(mut job) = inferred.recv() {
            let allocations = allocations::on_this_thread();
            self.control.pulse().begin(Stage::Publish);
            self.swap_words(job.edition);
            self.scoring.run(&mut job);
            let events = self.tracking.run(&mut job);
            let ended = self.publisher.tell(&job, events)?;
            self.publisher.live().metrics().set_present(self.tracking.present());
            self.health.published();
            self.control.rate_limit().published(Instant::now());
            if let Some(ended) = ended.filter(|_| job.measured_at.is_some())
                && let Some(on_frame) = &mut self.on_frame
            {
                on_frame(&job, &ended);
            }
            let verdict = match ended {
                Some(_) => self.publisher.pass_on(job, self.tracking.events())?,
                None => Verdict::Enough,
            };
            self.control.pulse().done(Stage::Publish);
            self.counters.allocated(Stage::Publish, allocations::on_this_thread() - allocations);
            if verdict == Verdict::Enough {
                is_enough = true;
                break;
            }
        }
        // Before the pictures are waited for: the stages behind need not go on meanwhile.
        drop(inferred);
        self.publisher.end()?;
        Ok((self, is_enough))
    }

    /// Names the things from this frame on by the words that it carries.
    fn swap_words(&mut self, edition: u64) {
        if edition == self.edition {
            return;
        }
        let start = Instant::now();
        self.edition = edition;
        if let Some(scoring) = self.control.scoring_of(edition) {
            self.control.bury(std::mem::replace(&mut self.scoring, scoring));
            self.counters.swapped(start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;
