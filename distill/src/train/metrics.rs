//! The metrics that a training writes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use wordsight_files::Durability;

/// One line of metrics: means since the line before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done.
    pub step: usize,
    /// Objectness loss.
    pub objectness: f32,
    /// Box loss.
    pub boxes: f32,
    /// Loss of refined boxes.
    #[serde(default)]
    pub refined: f32,
    /// What a detector taught of boxes and objectness.
    #[serde(default)]
    pub taught: f32,
    /// How far the student's predictions are from the detector's features; 1: they explain nothing.
    #[serde(default)]
    pub imitated: f32,
    /// Cross entropy against what the detector calls regions.
    #[serde(default)]
    pub soft_words: f32,
    /// Loss of how well regions' boxes fit.
    #[serde(default)]
    pub quality: f32,
    /// ViLD-text loss.
    pub text: f32,
    /// ViLD-image loss.
    pub image: f32,
    /// How far the backbone's classifier is from its opinions before training.
    #[serde(default)]
    pub forgotten: f32,
    /// Images learnt from a second.
    #[serde(default)]
    pub images_per_second: f32,
    /// Seconds that all steps so far took, validation left out.
    #[serde(default)]
    pub seconds: f64,
    /// Processor time of these steps in seconds, of all threads: on a busy machine it says more than `seconds`.
    #[serde(default)]
    pub processor_seconds: f64,
    /// Share of validation objects covered with IoU >= 0.5 by the ten best proposals, where measured.
    pub recall_of_ten: Option<f32>,
    /// Share covered by all proposals, averaged over IoUs from 0.5 to 0.95 (COCO's AR@100), where measured.
    pub average_recall: Option<f32>,
    /// Share of validation objects whose own box is named rightly among the words of their set, where measured.
    #[serde(default)]
    pub named: Option<f32>,
}

impl Metrics {
    /// Adds a step's losses; `step` counts them.
    pub(super) fn add(&mut self, step: &Metrics) {
        self.step += 1;
        self.objectness += step.objectness;
        self.boxes += step.boxes;
        self.refined += step.refined;
        self.taught += step.taught;
        self.imitated += step.imitated;
        self.soft_words += step.soft_words;
        self.quality += step.quality;
        self.text += step.text;
        self.image += step.image;
        self.forgotten += step.forgotten;
    }

    /// The means of a sum over several steps, of which the last is `step`.
    pub(super) fn mean(self, step: usize) -> Self {
        let count = self.step.max(1) as f32;
        Self {
            step,
            objectness: self.objectness / count,
            boxes: self.boxes / count,
            refined: self.refined / count,
            taught: self.taught / count,
            imitated: self.imitated / count,
            soft_words: self.soft_words / count,
            quality: self.quality / count,
            text: self.text / count,
            image: self.image / count,
            forgotten: self.forgotten / count,
            ..Self::default()
        }
    }
}

/// One JSON object a line.
pub(super) fn write(metrics: &[Metrics], path: &Path) -> Result<()> {
    let lines: Result<Vec<String>, _> = metrics.iter().map(serde_json::to_string).collect();
    wordsight_files::replace(path, Durability::Whole, (lines?.join("\n") + "\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Times a step by the clock and by the processor's time of this process.
pub(super) struct StepTimer {
    began: Instant,
    processor: Duration,
}

impl StepTimer {
    /// From here on.
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), processor: processor_time() }
    }

    /// Time and processor time since the start.
    pub(super) fn elapsed(&self) -> (Duration, Duration) {
        (self.began.elapsed(), processor_time().saturating_sub(self.processor))
    }
}

/// Processor time of all threads of this process.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes the structure that it is given and nothing else.
    match unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

/// How fast a run is.
#[derive(Default)]
pub(super) struct Pace {
    images: usize,
    time: Duration,
}

impl Pace {
    /// Takes in a step; images a second so far.
    pub(super) fn add(&mut self, images: usize, time: Duration) -> f32 {
        self.images += images;
        self.time += time;
        self.images as f32 / self.time.as_secs_f32().max(1e-6)
    }
}
