//! Counters and histograms of a stream: the numbers behind `/metrics`.
//!
//! Everything is a fixed number of atomics but the things by word, which are counted when one appears and not in every
//! frame. So counting allocates nothing per frame.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::job::{Ended, Event, EventKind, Job};
use crate::threads::locked;

/// Upper ends of the buckets of a duration, milliseconds; one more takes what is longer.
pub const BUCKETS_MS: [f64; 14] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 250.0, 500.0, 1000.0];
/// So many words are counted by name; what else appears is counted under none.
const MOST_WORDS: usize = 1_000;

/// Durations, counted by buckets.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// Durations as they were counted at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationCounts {
    /// In each bucket of [`BUCKETS_MS`] alone, and in the one behind.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// All together, seconds.
    pub sum_s: f64,
}

impl Durations {
    pub(super) fn add(&self, duration: Duration) {
        let ms = duration.as_secs_f64() * 1e3;
        let bucket = BUCKETS_MS.iter().position(|end| ms <= *end).unwrap_or(BUCKETS_MS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counts(&self) -> DurationCounts {
        DurationCounts {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum_s: self.sum_us.load(Ordering::Relaxed) as f64 * 1e-6,
        }
    }
}

/// What is counted of a stream since the program started.
#[derive(Debug, Default)]
pub struct Metrics {
    frames: AtomicU64,
    things: AtomicU64,
    /// Things that are tracked now.
    present: AtomicU64,
    /// By stage: capture (decoding), preprocess, engine, scoring, NMS, publish.
    stages: [Durations; 6],
    age: Durations,
    latency: Durations,
    pictures: AtomicU64,
    appeared: Mutex<BTreeMap<String, u64>>,
    appeared_others: AtomicU64,
}

/// The names of the stages that are timed, in the order of [`Metrics::stages`].
pub const STAGES: [&str; 6] = ["capture", "preprocess", "engine", "scoring", "nms", "publish"];

impl Metrics {
    pub(super) fn frame(&self, job: &Job, ended: &Ended) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.things.fetch_add(job.detections.len() as u64, Ordering::Relaxed);
        let times = job.times;
        let stages = [times.capture, times.preprocess, times.engine, times.scoring, times.nms, ended.publish];
        self.stages.iter().zip(stages).for_each(|(durations, time)| durations.add(time));
        self.age.add(ended.age);
        self.latency.add(times.latency());
    }

    pub(super) fn event(&self, event: &Event) {
        // What happens at zones is counted there.
        if event.kind == EventKind::Appeared {
            self.appeared(event.word());
        }
    }

    fn appeared(&self, word: &str) {
        let mut appeared = locked(&self.appeared);
        if let Some(count) = appeared.get_mut(word) {
            *count += 1;
        } else if appeared.len() < MOST_WORDS {
            appeared.insert(word.to_owned(), 1);
        } else {
            self.appeared_others.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many things are tracked now.
    pub fn set_present(&self, things: usize) {
        self.present.store(things as u64, Ordering::Relaxed);
    }

    pub(super) fn picture(&self) {
        self.pictures.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames that were published.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Things that were found in them.
    pub fn things(&self) -> u64 {
        self.things.load(Ordering::Relaxed)
    }

    /// Things that are tracked now.
    pub fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    /// Pictures that were drawn and compressed.
    pub fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// How long each stage took for a frame, by [`STAGES`].
    pub fn stages(&self) -> [DurationCounts; 6] {
        std::array::from_fn(|stage| self.stages[stage].counts())
    }

    /// How old results were when they were published.
    pub fn age(&self) -> DurationCounts {
        self.age.counts()
    }

    /// What frames took from capture to publishing without the waiting.
    pub fn latency(&self) -> DurationCounts {
        self.latency.counts()
    }

    /// How many things appeared, by word; and how many of words beyond the first thousand.
    pub fn appeared_by_word(&self) -> (BTreeMap<String, u64>, u64) {
        (locked(&self.appeared).clone(), self.appeared_others.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_it_fits() {
        let durations = Durations::default();
        for ms in [0, 1, 20, 21, 5_000] {
            durations.add(Duration::from_millis(ms));
        }
        let counts = durations.counts();
        let in_bucket = |end: f64| counts.buckets[BUCKETS_MS.iter().position(|e| *e == end).unwrap_or(14)];
        assert_eq!([0.5, 1.0, 20.0, 30.0, f64::NAN].map(in_bucket), [1, 1, 1, 1, 1]);
        assert!((counts.sum_s - 5.042).abs() < 1e-9);
    }

    #[test]
    fn words_are_counted_by_name_up_to_a_number_of_them() {
        let metrics = Metrics::default();
        for word in 0..1_500 {
            metrics.appeared(&word.to_string());
            metrics.appeared(&word.to_string());
        }
        let (by_word, others) = metrics.appeared_by_word();
        assert_eq!((by_word.len(), by_word.get("7"), others), (1_000, Some(&2), 1_000));
    }
}
