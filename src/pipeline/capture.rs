//! The capture stage: frames from the source into jobs of the pool, at the pace and within the rate limit that hold.

use std::thread;
use std::time::{Duration, Instant};

use wordsight_capture::{CaptureError, Captured, LONGEST_NAP, Metronome, Pacing, Source};

use super::context::{Context, Frames};
use super::rate_limit::Gate;
use crate::allocations;
use crate::job::{Job, Lease, Pool, Stage, StageTimes};
use crate::threads::{Disconnected, Sender, Stop};

/// What is said at once of frames that a live source can't give, and after how long the next one is.
const ERRORS_AT_ONCE: u32 = 5;
const ERROR_PAUSE: Duration = Duration::from_secs(10);

/// The first thread: frames from the source.
pub(super) struct CaptureStage<'a> {
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
    context: Context<'a>,
}

/// What remains of the first thread.
pub(super) struct CaptureEnd {
    pub frames: Frames,
    pub given_up: Option<CaptureError>,
    /// The source, of a stream that only pauses.
    pub source: Option<Box<dyn Source>>,
}

impl<'a> CaptureStage<'a> {
    /// For a source; `before` counts the frames of the streams before this one.
    pub(super) fn new(source: Box<dyn Source>, repeat: bool, before: Frames, context: Context<'a>) -> Self {
        Self {
            source,
            metronome: Metronome::new(context.pacing),
            repeat,
            frames: before,
            received_at: None,
            gate: Gate::default(),
            waits_for_us: context.pacing == Pacing::Lossless,
            throttle: matches!(context.pacing, Pacing::Live).then(Throttle::default),
            given_up: None,
            context,
        }
    }

    /// Ends with the source closed, unless the stream only pauses: a camera is free again before the last results are out.
    pub(super) fn run(mut self, pool: &Pool, captured: Sender<Lease>, stop: &Stop) -> CaptureEnd {
        let mut is_paused = false;
        loop {
            let Some(mut job) = self.next_job(pool, stop) else {
                is_paused = !pool.is_closed() && !stop.is_requested();
                break;
            };
            let allocations = allocations::on_this_thread();
            if let Some(buffers) = self.context.buffers {
                buffers.give_to(&mut job);
            }
            self.context.control.pulse().begin(Stage::Capture);
            let outcome = self.source.capture(&mut job.frame);
            self.context.control.pulse().done(Stage::Capture);
            let goes_on = match outcome {
                Ok(Captured::Frame) => self.pass_on(job, &captured, allocations),
                Ok(Captured::NotYet) => {
                    self.take_buffer(&mut job);
                    true
                }
                Ok(Captured::End) => self.begin_again(),
                Err(error) => self.goes_on_after(error),
            };
            if !goes_on {
                break;
            }
        }
        let Self { frames, given_up, source, .. } = self;
        CaptureEnd { frames, given_up, source: is_paused.then_some(source) }
    }

    /// Waits until the next frame is due; `None` when the stream is to end or to pause.
    fn next_job(&mut self, pool: &Pool, stop: &Stop) -> Option<Lease> {
        let control = self.context.control;
        let mut due = Instant::now() + self.metronome.wait_from(Instant::now());
        if self.waits_for_us {
            due += self.gate.wait_from(due, control.rate_limit().period());
        }
        loop {
            let is_to_end = || stop.is_requested() || control.is_paused();
            if is_to_end() || pool.is_closed() {
                return None;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return pool.take().filter(|_| !is_to_end());
            }
            thread::sleep(left.min(LONGEST_NAP));
            control.pulse().done(Stage::Capture);
        }
    }

    /// Sends a frame on, if it is let in; `false` when nobody takes it any more. `allocations`: the thread's count before it
    /// was captured.
    fn pass_on(&mut self, mut job: Lease, captured: &Sender<Lease>, allocations: u64) -> bool {
        let received_at = job.frame.received_at;
        job.number = self.frames.captured + self.frames.unreadable;
        job.times = StageTimes { capture: received_at.elapsed(), ..StageTimes::default() };
        self.frames.captured += 1;
        self.frames.in_pass += 1;
        let counters = &self.context.counters;
        counters.missed(job.frame.missed);
        let limit = self.context.control.rate_limit().period().filter(|_| !self.waits_for_us);
        if !self.gate.lets_in(received_at, limit) {
            counters.held_back();
            self.take_buffer(&mut job);
            return true;
        }
        job.interval = self.received_at.map(|before| received_at - before);
        self.received_at = Some(received_at);
        match captured.send(job) {
            Ok(mut pushed_out) => {
                counters.dropped_before(Stage::Preprocess, &pushed_out);
                if let Some(job) = &mut pushed_out {
                    self.take_buffer(job);
                }
            }
            Err(Disconnected) => return false,
        }
        counters.allocated(Stage::Capture, allocations::on_this_thread() - allocations);
        true
    }

    /// Takes the buffer of a frame that goes no further.
    fn take_buffer(&self, job: &mut Job) {
        if let Some(buffers) = self.context.buffers {
            buffers.take_from(job);
        }
    }

    /// Whether the source is over and begins again. A pass without a frame would be followed by others like it.
    fn begin_again(&mut self) -> bool {
        if !self.repeat || self.frames.in_pass == 0 {
            return false;
        }
        self.frames.in_pass = 0;
        match self.source.rewind() {
            Ok(()) => true,
            Err(error) => {
                self.report(&error);
                false
            }
        }
    }

    /// Whether there is something to ask for behind an error.
    fn goes_on_after(&mut self, error: CaptureError) -> bool {
        match error {
            CaptureError::GivenUp { .. } | CaptureError::Uri(_) => {
                self.given_up = Some(error);
                false
            }
            CaptureError::Lost { .. } => {
                self.report(&error);
                false
            }
            error => {
                self.report(&error);
                true
            }
        }
    }

    fn report(&mut self, error: &CaptureError) {
        self.frames.unreadable += 1;
        self.context.counters.unreadable();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_that_fails_for_ever_is_told_of_a_few_times_at_once_and_then_now_and_then() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let told: Vec<u64> = (0..100).filter_map(|_| throttle.turn(start)).collect();
        assert_eq!(told, [0; ERRORS_AT_ONCE as usize]);
        assert_eq!(throttle.turn(start + ERROR_PAUSE), Some(95), "with how many were kept silent");
    }
}
