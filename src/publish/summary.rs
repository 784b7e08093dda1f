//! The summary of a whole stream: frames, rates, latencies.

use std::fmt;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::sink::OutletStatus;
use crate::job::{Ended, Job, WordList};

/// Counts and durations of everything published; shown as a few lines for people.
///
/// What was found is counted from the last change of words on: the places of others say nothing any more.
#[derive(Default)]
pub struct Summary {
    words: WordList,
    /// In how many frames each word was found.
    frames_with_word: Vec<u64>,
    words_changed: u64,
    frames: u64,
    things: u64,
    latency: Histogram,
    age: Histogram,
    first_captured: Option<Instant>,
    last_published: Option<Instant>,
    /// Of each folder of pictures.
    saved: Vec<OutletStatus>,
    /// Pictures that the processor could not keep up with.
    undrawn: u64,
}

impl Summary {
    pub(super) fn add(&mut self, job: &Job, ended: &Ended) {
        self.frames += 1;
        self.things += job.detections.len() as u64;
        self.latency.add(job.times.latency());
        self.age.add(ended.age);
        self.first_captured.get_or_insert(job.frame.captured_at);
        self.last_published = Some(ended.at);
        if !self.words.are(&job.words) {
            self.words_changed += 1;
            self.words = job.words.clone();
            self.frames_with_word.clear();
            self.frames_with_word.resize(self.words.len(), 0);
        }
        for (place, found) in job.detections.iter().enumerate() {
            let first_of_its_word = job.detections[..place].iter().all(|before| before.word != found.word);
            self.frames_with_word[found.word] += u64::from(first_of_its_word);
        }
    }

    pub(super) fn set_saved(&mut self, saved: Vec<OutletStatus>) {
        self.saved = saved;
    }

    pub(super) fn add_undrawn(&mut self, pictures: u64) {
        self.undrawn += pictures;
    }

    /// Frames published.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Things found in them.
    pub fn things(&self) -> u64 {
        self.things
    }

    /// From the first frame's capture to the last one's publishing.
    fn duration(&self) -> Duration {
        let both = self.first_captured.zip(self.last_published);
        both.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// Frames published a second, from the first frame's capture to the last one's publishing.
    pub fn frames_per_second(&self) -> f64 {
        let seconds = self.duration().as_secs_f64();
        if seconds > 0.0 { self.frames as f64 / seconds } else { 0.0 }
    }

    fn write_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found: Vec<(u64, usize)> =
            self.frames_with_word.iter().copied().zip(0..).filter(|(frames, _)| *frames > 0).collect();
        found.sort_by_key(|&(frames, place)| (std::cmp::Reverse(frames), place));
        if self.frames == 0 {
            return writeln!(f, "found     nothing: there was no frame");
        }
        if found.is_empty() {
            return writeln!(f, "found     nothing of the {} words", self.words.len());
        }
        let counts: Vec<String> =
            found.iter().map(|(frames, place)| format!("{} {frames}", self.words.get(*place))).collect();
        let since = if self.words_changed > 1 {
            "frames since the last change of words, with"
        } else {
            "frames with"
        };
        writeln!(f, "found     ({since}) {}", counts.join(", "))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rate) = (self.duration().as_secs_f64(), self.frames_per_second());
        writeln!(f, "frames    {} in {seconds:.1} s, {rate:.1} frames/s", self.frames)?;
        for (name, histogram) in [("latency", &self.latency), ("age", &self.age)] {
            let [p50, p90, p99] = [50.0, 90.0, 99.0].map(|percent| histogram.percentile_ms(percent));
            writeln!(f, "{name:<9} p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms")?;
        }
        self.write_words(f)?;
        for OutletStatus { name, sent, dropped, .. } in &self.saved {
            let dropped = dropped + self.undrawn;
            let lost =
                if dropped > 0 { format!(" ({dropped} more dropped to keep up)") } else { String::new() };
            writeln!(f, "saved     {sent} pictures in {name}{lost}")?;
        }
        Ok(())
    }
}
