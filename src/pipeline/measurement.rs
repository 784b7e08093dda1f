//! What a benchmark sees of the line.
//!
//! In flows what the stages count; out flow the rates of the stream and of the engine alone, dropped frames and
//! allocations, all of the measured part only: what happens in the warm-up is not looked at.
//!
//! The one surprising thing: the engine works alone in slices *between* slices of the stream, on the same thread and
//! inputs. Its speed alone and in the stream are then seen by the same machine within the same seconds; one run after
//! the other would compare two moods of the machine. While the engine is alone the other stages wait: none of their
//! jobs comes home.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wordsight_engines::{Engine, EngineError, Regions};

use crate::job::{Ended, Job, Stage};
use crate::threads::locked;

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

/// The most moments of drops that are noted.
const MOST_MOMENTS: usize = 20_000;

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

/// What the stages count, shared by their threads.
#[derive(Debug, Default)]
pub struct Counters {
    is_measuring: AtomicBool,
    missed: [AtomicU64; 2],
    unreadable: [AtomicU64; 2],
    held_back: [AtomicU64; 2],
    dropped: [[AtomicU64; 2]; 4],
    allocations: [AtomicU64; 4],
    /// How long each swap of words took, as many as there is room for.
    swaps: Mutex<Vec<Duration>>,
    /// When frames were dropped, as many as there is room for; there is none where nothing is measured.
    dropped_at: Mutex<Vec<Instant>>,
}

/// Where frames were left out: in all, or of the measured part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Lost by the camera or its driver, by their own count.
    pub camera: u64,
    /// There, and not to be read.
    pub unreadable: u64,
    /// Not let in, for the board's sake.
    pub held_back: u64,
    /// Pushed out by a newer frame while they waited for the stage, in the order of [`Stage::ALL`]; the first, which
    /// waits for the camera, has none.
    pub before: [u64; 4],
}

impl Counters {
    /// What is counted under "all", and under "measured" too while it is measured.
    fn add(&self, counts: &[AtomicU64; 2], number: u64) {
        if number > 0 {
            counts[0].fetch_add(number, Ordering::Relaxed);
            counts[1].fetch_add(number * u64::from(self.is_measuring()), Ordering::Relaxed);
        }
    }

    fn is_measuring(&self) -> bool {
        self.is_measuring.load(Ordering::Relaxed)
    }

    fn measure(&self, is_measuring: bool) {
        self.is_measuring.store(is_measuring, Ordering::Relaxed);
    }

    /// The camera says that so many frames are missing.
    pub fn missed(&self, number: u64) {
        self.add(&self.missed, number);
    }

    /// A frame came, and could not be read.
    pub fn unreadable(&self) {
        self.add(&self.unreadable, 1);
    }

    /// Makes room for so many swaps of words.
    pub fn note_swaps(&self, number: usize) {
        self.swaps().reserve_exact(number);
    }

    fn swaps(&self) -> MutexGuard<'_, Vec<Duration>> {
        locked(&self.swaps)
    }

    /// How long each swap of words took, as far as there was room to note it.
    pub fn swaps_took(&self) -> Vec<Duration> {
        self.swaps().clone()
    }

    /// The publishing stage has swapped its words.
    pub(super) fn swapped(&self, took: Duration) {
        let mut swaps = self.swaps();
        if swaps.len() < swaps.capacity() {
            swaps.push(took);
        }
    }

    /// A frame came, and was not let in.
    pub fn held_back(&self) {
        self.add(&self.held_back, 1);
    }

    /// Makes room for the moments of drops.
    pub(super) fn note_moments(&self) {
        self.moments().reserve_exact(MOST_MOMENTS);
    }

    fn moments(&self) -> MutexGuard<'_, Vec<Instant>> {
        locked(&self.dropped_at)
    }

    /// When frames of the measured part were dropped, as far as there was room to note it.
    pub fn dropped_at(&self) -> Vec<Instant> {
        self.moments().clone()
    }

    /// A frame that waited for a stage was pushed out, if it was.
    pub fn dropped_before<T>(&self, stage: Stage, pushed_out: &Option<T>) {
        if pushed_out.is_none() {
            return;
        }
        if self.is_measuring() {
            let mut moments = self.moments();
            if moments.len() < moments.capacity() {
                moments.push(Instant::now());
            }
        }
        self.add(&self.dropped[stage as usize], 1);
    }

    /// A stage allocated so often for a frame.
    pub fn allocated(&self, stage: Stage, number: u64) {
        if self.is_measuring() {
            self.allocations[stage as usize].fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Frames that were left out, of the measured part or of all.
    pub fn drops(&self, measured: bool) -> Drops {
        let which = usize::from(measured);
        Drops {
            camera: self.missed[which].load(Ordering::Relaxed),
            unreadable: self.unreadable[which].load(Ordering::Relaxed),
            held_back: self.held_back[which].load(Ordering::Relaxed),
            before: Stage::ALL.map(|stage| self.dropped[stage as usize][which].load(Ordering::Relaxed)),
        }
    }

    /// Allocations of the measured part, in the order of [`Stage::ALL`].
    pub fn allocations(&self) -> [u64; 4] {
        Stage::ALL.map(|stage| self.allocations[stage as usize].load(Ordering::Relaxed))
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
