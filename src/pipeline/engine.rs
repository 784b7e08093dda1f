//! The engine's stage: inputs, or whole frames, to regions.
//!
//! An engine that takes whole frames is given the next one while it computes the last, and the words of a frame are those
//! that the engine has when it starts it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wordsight_capture::Pacing;
use wordsight_detection::PixelFormat;
use wordsight_engines::{Engine, WholeFrames};

use super::context::Context;
use super::measurement::{MeasurementSettings, Turns};
use crate::allocations;
use crate::job::{Job, Lease, Stage};
use crate::threads::{Disconnected, Receiver, Sender, Stop};

/// How long frames that are on their way when a stop is requested are still worked on: an engine that takes a second for
/// one would keep the stream for as many as wait.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// The third thread: inputs to regions.
pub(super) struct EngineStage<'a> {
    pub engine: Box<dyn Engine>,
    inputs_to_keep: usize,
    pub kept_inputs: Vec<Vec<u8>>,
    pub frame_size: (usize, usize),
    pub frame_format: PixelFormat,
    pub turns: Option<Turns>,
    stop: Stop,
    /// When it was seen that the stream is to stop.
    stopping_since: Option<Instant>,
    /// How long the last one took, where frames may be passed over.
    last_inference: Option<Duration>,
    /// Of the words that frames carry.
    version: u64,
    context: Context<'a>,
}

impl<'a> EngineStage<'a> {
    /// For an engine; its first inputs are kept for a measurement afterwards, as many as are asked for.
    pub(super) fn new(
        engine: Box<dyn Engine>,
        inputs_to_keep: usize,
        measurement: Option<MeasurementSettings>,
        stop: &Stop,
        context: Context<'a>,
    ) -> Self {
        // A frame that has its turn is the newest that there was.
        let may_wait = context.pacing != Pacing::Lossless && engine.queue().is_none();
        let turns = measurement.map(|settings| Turns::new(settings, Arc::clone(&context.counters)));
        Self {
            engine,
            inputs_to_keep,
            kept_inputs: Vec::new(),
            frame_size: (1, 1),
            frame_format: PixelFormat::Rgb,
            turns,
            stop: stop.clone(),
            stopping_since: None,
            last_inference: may_wait.then_some(Duration::ZERO),
            version: context.version,
            context,
        }
    }

    pub(super) fn run(
        mut self,
        preprocessed: &Receiver<Lease>,
        inferred: &Sender<Lease>,
    ) -> anyhow::Result<Self> {
        if self.engine.whole_frames().is_some() {
            return self.run_whole_frames(preprocessed, inferred);
        }
        while self.goes_on()? {
            let Ok(mut lease) = preprocessed.recv() else { break };
            if let Some(newer) = self.worth_waiting(&lease).and_then(|wait| preprocessed.recv_within(wait)) {
                self.context
                    .counters
                    .dropped_before(Stage::Engine, &Some(std::mem::replace(&mut lease, newer)));
            }
            self.take_up_words();
            let job = &mut *lease;
            job.vocabulary_version = self.version;
            self.keep_input(job);
            if let Some(turn) = &mut job.turn {
                turn.begin();
            }
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            self.context.control.pulse().begin(Stage::Engine);
            self.engine.infer(&job.image, &mut job.regions).with_context(|| place_of(job))?;
            self.note_done(job, start);
            match inferred.send(lease) {
                Ok(pushed_out) => self.context.counters.dropped_before(Stage::Publish, &pushed_out),
                Err(Disconnected) => break,
            }
            self.context.control.pulse().done(Stage::Engine);
            self.context.counters.allocated(Stage::Engine, allocations::on_this_thread() - allocations);
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
                Some(_) if self.context.control.newest() != self.version => None,
                Some(_) => preprocessed.try_recv(),
                None if self.goes_on()? => preprocessed.recv().ok(),
                None => None,
            };
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            if next.is_some() || under_way.is_some() {
                self.context.control.pulse().begin(Stage::Engine);
            }
            if let Some(job) = next.as_deref_mut() {
                self.take_up_words();
                job.vocabulary_version = self.version;
                self.keep_input(job);
                self.whole_frames()?.start(&job.frame.view()).with_context(|| place_of(job))?;
            }
            if let Some((mut lease, start)) = under_way.take() {
                let job = &mut *lease;
                self.whole_frames()?.finish(&mut job.regions).with_context(|| place_of(job))?;
                self.note_done(job, start);
                match inferred.send(lease) {
                    Ok(pushed_out) => self.context.counters.dropped_before(Stage::Publish, &pushed_out),
                    Err(Disconnected) => return Ok(self),
                }
            } else if next.is_none() {
                return Ok(self);
            }
            self.context.control.pulse().done(Stage::Engine);
            self.context.counters.allocated(Stage::Engine, allocations::on_this_thread() - allocations);
            under_way = next.map(|lease| (lease, start));
        }
    }

    /// Has the frames from here on carry the newest version of the words. An engine that can't take them goes on with those
    /// that it has.
    fn take_up_words(&mut self) {
        if self.context.control.newest() == self.version {
            return;
        }
        let (number, table) = self.context.control.take_up();
        if let Some((engine, table)) = self.engine.whole_frames().zip(table)
            && let Err(error) = engine.set_words(&table)
        {
            self.context.control.withdraw(number, format!("the engine can't take the new words: {error}"));
            return;
        }
        self.version = number;
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
        job.turn = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_frame_is_left_for_one_that_is_due_soon_and_a_fresh_or_lonely_one_is_taken() {
        let ms = Duration::from_millis;
        let wait = |age, interval, inference| wait_for_newer(ms(age), ms(interval), ms(1), ms(inference));
        assert_eq!(wait(20, 32, 330), Some(ms(13 + 8)), "behind a slow engine");
        assert_eq!(wait(34, 32, 330), Some(ms(8)), "one that should have been followed by now");
        assert_eq!(wait(5, 32, 330), None, "a fresh one");
        assert_eq!(wait(20, 32, 40), None, "an engine that would lose a third of its time");
        assert_eq!(wait(500, 1000, 330), None, "a slow camera");
        assert_eq!(wait(60, 32, 330), None, "a camera that is late already");
    }
}
