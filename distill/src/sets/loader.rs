//! Loads batches of training pictures, decoded and augmented on threads of their own.
//!
//! Takes sets and the steps of a training, and gives the batch of every step, in order. Each of n threads makes every
//! n-th batch, one ahead of the training. A picture's generator is seeded by its number alone, so batches are the same
//! whatever the number of threads and whatever step a training resumes from.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::Sets;
use super::augment::{Augmentation, Augmenter};
use super::cache::Cache;
use super::order::Order;
use super::picture::TrainingImage;

/// Keeps the generators of steps apart from those of pictures.
const STEP_STREAM: u64 = 1 << 63;
/// Sides of an input that a loader makes.
const SIDES: std::ops::RangeInclusive<usize> = 32..=4096;

/// What a loader makes.
#[derive(Clone, Debug)]
pub struct LoaderSettings {
    /// The seed of everything random.
    pub seed: u64,
    /// Pictures a batch.
    pub batch: usize,
    /// What pictures look like, from which step on; the first is from step 0.
    pub phases: Vec<Phase>,
    /// Threads that decode and augment.
    pub threads: usize,
    /// Bytes of decoded photographs to keep in memory.
    pub cache_bytes: u64,
}

/// What pictures look like from a step on.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The first step.
    pub from_step: usize,
    /// Sides of the input in pixels; one is drawn each step.
    pub sides: Vec<usize>,
    /// How much pictures are changed.
    pub augmentation: Augmentation,
}

impl Phase {
    /// One side and one augmentation for all steps.
    pub fn always(side: usize, augmentation: Augmentation) -> Vec<Self> {
        vec![Self { from_step: 0, sides: vec![side], augmentation }]
    }
}

impl LoaderSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "a batch has at least one picture");
        let first = self.phases.first().map(|phase| phase.from_step);
        ensure!(first == Some(0), "a loader needs a phase from step 0 on");
        ensure!(
            self.phases.is_sorted_by(|a, b| a.from_step < b.from_step),
            "each phase begins after the one before it"
        );
        for phase in &self.phases {
            ensure!(!phase.sides.is_empty(), "the phase from step {} has no side", phase.from_step);
            for side in &phase.sides {
                ensure!(SIDES.contains(side), "an input's side of {side} pixels: give {SIDES:?}");
            }
            phase.augmentation.check()?;
        }
        Ok(())
    }

    /// The augmentation of a step and the side of its input.
    fn of_step(&self, step: usize) -> (&Augmentation, usize) {
        let begun = self.phases.partition_point(|phase| phase.from_step <= step).max(1);
        let phase = &self.phases[begun - 1];
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STEP_STREAM | step as u64);
        (&phase.augmentation, phase.sides.choose(&mut rng).copied().unwrap_or(phase.sides[0]))
    }
}

/// The batches of a training's steps.
pub struct Loader {
    /// One a thread; the next step's batch comes from the first.
    batches: Vec<Receiver<Result<Vec<TrainingImage>>>>,
    first_step: usize,
    step: usize,
    end: usize,
    epoch_length: usize,
    batch: usize,
}

impl Loader {
    /// Begins to make the batches of `steps` steps from `first_step` on.
    pub fn new(sets: Arc<Sets>, settings: LoaderSettings, first_step: usize, steps: usize) -> Result<Self> {
        settings.check()?;
        let epoch_length = Order::new(&sets, settings.seed).length();
        ensure!(epoch_length > 0, "an epoch of these sets has no photographs; give a set a larger weight");
        let cache = Arc::new(Cache::new(&sets, settings.cache_bytes));
        let (end, threads, batch) = (first_step + steps, settings.threads.max(1), settings.batch);
        let mut batches = Vec::with_capacity(threads);
        for thread in 0..threads {
            let (sender, receiver) = sync_channel(1);
            let worker = Worker { sets: sets.clone(), cache: cache.clone(), settings: settings.clone() };
            let own_steps = (first_step + thread..end).step_by(threads);
            thread::Builder::new()
                .name(format!("loader-{thread}"))
                .spawn(move || worker.run(own_steps, &sender))
                .context("cannot start a thread that loads photographs")?;
            batches.push(receiver);
        }
        Ok(Self { batches, first_step, step: first_step, end, epoch_length, batch })
    }

    /// The next step's batch.
    #[allow(clippy::should_implement_trait, reason = "it fails, and an iterator that fails goes on")]
    pub fn next(&mut self) -> Result<Vec<TrainingImage>> {
        ensure!(self.step < self.end, "the loader was made for the steps up to {}", self.end);
        let thread = (self.step - self.first_step) % self.batches.len();
        let step = self.step;
        self.step += 1;
        self.batches[thread]
            .recv()
            .map_err(|_| anyhow::anyhow!("a thread that loads photographs ended"))?
            .with_context(|| format!("step {step}"))
    }

    /// Pictures an epoch: visits of photographs, each in one picture of its own.
    pub fn epoch_length(&self) -> usize {
        self.epoch_length
    }

    /// The epoch that the next step is in, with the part of it that is done: 2.5 is half of the third.
    pub fn epoch(&self) -> f64 {
        (self.step * self.batch) as f64 / self.epoch_length as f64
    }
}

/// What a thread needs.
struct Worker {
    sets: Arc<Sets>,
    cache: Arc<Cache>,
    settings: LoaderSettings,
}

impl Worker {
    /// Makes batches until the receiver is gone.
    fn run(&self, steps: impl Iterator<Item = usize>, batches: &SyncSender<Result<Vec<TrainingImage>>>) {
        let mut order = Order::new(&self.sets, self.settings.seed);
        let mut augmenter = Augmenter::new(&self.sets, &self.cache);
        for step in steps {
            let batch = self.batch(step, &mut order, &mut augmenter);
            let has_failed = batch.is_err();
            if batches.send(batch).is_err() || has_failed {
                return;
            }
        }
    }

    fn batch(
        &self,
        step: usize,
        order: &mut Order,
        augmenter: &mut Augmenter<'_>,
    ) -> Result<Vec<TrainingImage>> {
        let (augmentation, side) = self.settings.of_step(step);
        let first = step * self.settings.batch;
        let length = order.length();
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        (first..first + self.settings.batch)
            .map(|visit| {
                rng.set_stream(visit as u64);
                rng.set_word_pos(0);
                let epoch = order.epoch((visit / length) as u64);
                let photograph = epoch[visit % length] as usize;
                augmenter.picture(photograph, epoch, augmentation, side, &mut rng)
            })
            .collect()
    }
}
