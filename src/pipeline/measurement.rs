//! Measuring a pipeline while it runs, for `wordsight bench`.
//!
//! Turns what the stages count into the rates of the stream and of the engine alone, dropped frames and allocations,
//! all without the warm-up.
//!
//! In the mode `throughput` the engine runs alone in slices *between* slices of the stream, on the same thread and
//! inputs. So its speed alone and in the stream are measured within the same seconds, on a machine in the same state.
//! While the engine is alone the other stages wait: none of their jobs returns to the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wordsight_engines::{Engine, EngineError, Regions};

use super::counters::Counters;
use crate::job::{Ended, Job};

/// Runs of the engine alone that aren't counted.
const SETTLING_RUNS: u64 = 3;
/// Frames of the stream that aren't counted after the engine was alone: as many as were waiting for it, and a few more.
const SETTLING_FRAMES: u32 = 9;

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct MeasurementSettings {
    /// From the first frame on, how long nothing is counted.
    pub warm_up: Duration,
    /// How long to measure then.
    pub duration: Duration,
    /// Whether the engine is measured alone, and by how long slices.
    pub slices: Option<Slices>,
    /// What tells the processor's time that this process has taken so far.
    pub cpu_time: fn() -> Option<Duration>,
}

/// By turns.
#[derive(Debug, Clone, Copy)]
pub struct Slices {
    /// Of the stream.
    pub stream: Duration,
    /// Of the engine alone.
    pub alone: Duration,
}

/// What is called with every measured frame once it is published, on the publishing thread. It should allocate nothing.
pub type OnFrame = Box<dyn FnMut(&Job, &Ended) + Send>;

/// A measurement that is wanted.
pub struct Measurement {
    /// How.
    pub settings: MeasurementSettings,
    /// Where single frames go.
    pub on_frame: OnFrame,
}

/// Frames in a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// How many frames.
    pub frames: u64,
    /// In how long.
    pub time: Duration,
}

impl Rate {
    /// Frames per second, 0 where there was no time.
    pub fn per_second(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.frames as f64 / seconds } else { 0.0 }
    }
}

/// What a measurement came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// The stream, from capture to publishing.
    pub stream: Rate,
    /// The engine alone, if that was asked for.
    pub alone: Rate,
    /// The processor's time that the whole process took for the stream.
    pub cpu_time: Option<Duration>,
    /// When the warm-up was over, and with slices for the engine alone the first of the stream's began.
    pub since: Option<Instant>,
}

/// The turns that the engine's thread takes.
pub(super) struct Turns {
    settings: MeasurementSettings,
    counters: Arc<Counters>,
    turn: Turn,
    /// The processor's time when this slice began.
    cpu_before: Option<Duration>,
    rates: Rates,
    regions: Regions,
}

enum Turn {
    /// Nothing has come yet.
    Before,
    WarmUp {
        until: Instant,
    },
    Settling {
        frames: u32,
    },
    Stream {
        since: Instant,
        frames: u64,
    },
    Over,
}

impl Turns {
    pub fn new(settings: MeasurementSettings, counters: Arc<Counters>) -> Self {
        counters.note_moments();
        Self {
            settings,
            counters,
            turn: Turn::Before,
            cpu_before: None,
            rates: Rates { cpu_time: Some(Duration::ZERO), ..Rates::default() },
            regions: Regions::default(),
        }
    }

    /// Whether [`Self::next`] has something to do: then no other frame should be under way.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        match self.turn {
            Turn::WarmUp { until } => now >= until,
            Turn::Settling { frames } => frames == 0,
            Turn::Stream { since, .. } => self.is_slice_over(now - since, now),
            Turn::Before | Turn::Over => false,
        }
    }

    /// Before a frame is taken, with nothing under way: whether to take it. The engine may be used alone meanwhile.
    pub fn next(&mut self, engine: &mut dyn Engine, inputs: &[Vec<u8>]) -> Result<bool, EngineError> {
        if !self.is_due() {
            return Ok(!matches!(self.turn, Turn::Over));
        }
        match self.turn {
            Turn::Stream { since, frames } => {
                self.end_slice(since.elapsed(), frames);
                if let Some(slices) = self.settings.slices {
                    self.measure_alone(engine, inputs, slices.alone)?;
                }
                self.turn = if self.is_time_over(Instant::now()) {
                    Turn::Over
                } else {
                    Turn::Settling { frames: SETTLING_FRAMES }
                };
            }
            _ => self.begin_stream(),
        }
        Ok(!matches!(self.turn, Turn::Over))
    }

    /// What was measured so far, a slice that was cut short included.
    pub fn rates(mut self) -> Rates {
        if let Turn::Stream { since, frames } = self.turn {
            self.end_slice(since.elapsed(), frames);
        }
        self.rates
    }

    fn end_slice(&mut self, lasted: Duration, frames: u64) {
        self.counters.measure(false);
        self.rates.stream.frames += frames;
        self.rates.stream.time += lasted;
        let times = self.rates.cpu_time.zip((self.settings.cpu_time)()).zip(self.cpu_before);
        self.rates.cpu_time = times.map(|((sum, after), before)| sum + after.saturating_sub(before));
    }

    /// A frame was inferred; returns after how long, by a clock that stands still while nothing is measured, or nothing
    /// if it isn't.
    pub fn frame(&mut self) -> Option<Duration> {
        match &mut self.turn {
            Turn::Before => self.turn = Turn::WarmUp { until: Instant::now() + self.settings.warm_up },
            Turn::Settling { frames } => *frames = frames.saturating_sub(1),
            Turn::Stream { frames, since } => {
                *frames += 1;
                return Some(self.rates.stream.time + since.elapsed());
            }
            Turn::WarmUp { .. } | Turn::Over => {}
        }
        None
    }

    fn begin_stream(&mut self) {
        self.rates.since.get_or_insert_with(Instant::now);
        self.cpu_before = (self.settings.cpu_time)();
        self.counters.measure(true);
        self.turn = Turn::Stream { since: Instant::now(), frames: 0 };
    }

    fn is_slice_over(&self, lasted: Duration, now: Instant) -> bool {
        self.is_time_over(now) || self.settings.slices.is_some_and(|slices| lasted >= slices.stream)
    }

    fn is_time_over(&self, now: Instant) -> bool {
        self.rates.since.is_some_and(|since| now - since >= self.settings.duration)
    }

    fn measure_alone(
        &mut self,
        engine: &mut dyn Engine,
        inputs: &[Vec<u8>],
        longest: Duration,
    ) -> Result<(), EngineError> {
        // Runs that aren't counted: the other stages come to rest meanwhile.
        run_alone(engine, inputs, &mut self.regions, |runs, _| runs >= SETTLING_RUNS)?;
        let rate = run_alone(engine, inputs, &mut self.regions, |_, elapsed| elapsed >= longest)?;
        self.rates.alone.frames += rate.frames;
        self.rates.alone.time += rate.time;
        Ok(())
    }
}

/// Runs an engine on inputs again and again, until it is enough: after so many runs, in so much time.
///
/// # Errors
/// When the engine fails.
pub fn run_alone(
    engine: &mut dyn Engine,
    inputs: &[Vec<u8>],
    regions: &mut Regions,
    is_enough: impl Fn(u64, Duration) -> bool,
) -> Result<Rate, EngineError> {
    let start = Instant::now();
    let mut frames = 0;
    for input in inputs.iter().cycle() {
        engine.infer(input, regions)?;
        frames += 1;
        if is_enough(frames, start.elapsed()) {
            break;
        }
    }
    Ok(Rate { frames, time: start.elapsed() })
}
