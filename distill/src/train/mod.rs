//! Training on photographs: boxes and the two embeddings at once.
//!
//! Takes [`Sets`] of annotated photographs, a [`Student`] and the words' text embeddings. Writes a folder with the
//! weights, the optimiser's state, one line of metrics every few steps and a plot of them.
//!
//! No random state is carried from step to step. What a step sees, and which regions it learns from, comes from (seed,
//! step), so a run that is killed and resumed sees the same as an uninterrupted one.

mod assign;
mod average;
mod batch_losses;
mod box_teacher;
mod checkpoint;
mod config;
mod frozen;
pub mod losses;
mod metrics;
mod plot;
mod quality;
mod soft_words;
mod words;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::label::yolox::COCO_NAMES;
use crate::progress;
use crate::sets::{Augmentation, Loader, LoaderSettings, Phase, Sets, TrainingImage};
use crate::student::{Backbone, Student, StudentConfig, TrainFrom};
use average::Average;
use batch_losses::{Batch, LossContext, Tally};
pub use box_teacher::BoxTeacher;
pub use checkpoint::Checkpoint;
pub use config::{Learn, Optimizer, TrainConfig};
use frozen::FrozenBackbone;
pub use metrics::Metrics;
use metrics::{Pace, StepTimer};
pub use plot::{Curve, draw_curves};
use soft_words::SharedWords;
use words::Words;

/// Steps between two lines of metrics.
const METRICS_EVERY: usize = 25;
/// Steps between two sums of the weights' moving average, which costs a pass over all of them.
const AVERAGE_EVERY: usize = 4;

/// What a training reads.
pub struct Material {
    /// What it learns from.
    pub sets: Arc<Sets>,
    /// What it is measured on beside.
    pub validation: Option<Arc<Sets>>,
    /// Text embeddings of the sets' words, in their order, L2-normalised.
    pub words: Vec<Vec<f32>>,
    /// The same of the validation's.
    pub validation_words: Vec<Vec<f32>>,
    /// A detector that teaches boxes.
    pub box_teacher: Option<BoxTeacher>,
    /// The backbone as it was before any training, on the device without gradients: what its classifier is held to.
    pub pretrained: Option<Backbone>,
    /// Threads that decode and augment.
    pub threads: usize,
    /// Bytes of decoded photographs to keep in memory.
    pub cache_bytes: u64,
}

impl Material {
    /// Whether it is all that a training learns from.
    fn check(&self, config: &TrainConfig) -> Result<()> {
        ensure!(self.words.len() == self.sets.words.len(), "every word needs an embedding");
        // The first checkpoint would be too late.
        if let Some(validation) = &self.validation {
            ensure!(
                validation.photographs.len() >= config.batch,
                "{} photographs are too few to validate on: it takes a batch of them, {}; give --validation more, or a \
                 smaller --batch",
                validation.photographs.len(),
                config.batch
            );
        }
        let has_crops = self.sets.embedding_size() > 0;
        if config.learn == Learn::Proposals || !config.head().learns_crops() || has_crops {
            return Ok(());
        }
        let told = "no set has the teacher's `embeddings`: make them with `wordsight-distill embed` and name their \
                    folder in the sets' file";
        // One that starts from the classifier has an image embedding without any training.
        ensure!(config.fresh_head.is_none(), "a {} head learns from crops, and {told}", config.head().name());
        tracing::warn!("the image embedding stays the classifier's: {told}");
        Ok(())
    }

    fn loader(&self, config: &TrainConfig, first_step: usize) -> Result<Loader> {
        let strong = Augmentation::strong();
        let plain = Augmentation { mosaic: 0.0, scale: [0.7, 1.2], ..strong.clone() };
        let plain_from = (config.steps as f32 * (1.0 - config.plain_share)) as usize;
        let phase = |from_step, augmentation| Phase { from_step, sides: config.sides.clone(), augmentation };
        let mut phases = vec![phase(plain_from, plain)];
        if plain_from > 0 {
            phases.insert(0, phase(0, strong));
        }
        let Self { threads, cache_bytes, .. } = *self;
        let settings =
            LoaderSettings { seed: config.seed, batch: config.batch, phases, threads, cache_bytes };
        Loader::new(Arc::clone(&self.sets), settings, first_step, config.steps.saturating_sub(first_step))
    }
}

/// A student's two optimisers: the backbone, which knows much, changes more slowly.
struct Optimizers {
    backbone: ModuleOptimizer,
    rest: ModuleOptimizer,
}

impl Optimizers {
    fn new(config: &TrainConfig) -> Self {
        let new = || config.optimizer.init(config.weight_decay);
        Self { backbone: new(), rest: new() }
    }

    fn step(&mut self, config: &TrainConfig, step: usize, mut student: Student, loss: &Tensor<1>) -> Student {
        let rate = config.learning_rate_at(step);
        let mut gradients = loss.backward();
        let of_backbone = GradientsParams::from_module(&mut gradients, &student.backbone);
        if !of_backbone.is_empty() {
            student.backbone = self.backbone.step(rate * config.backbone_rate, student.backbone, of_backbone);
        }
        let of_rest = GradientsParams::from_module(&mut gradients, &student);
        self.rest.step(rate, student, of_rest)
    }
}

/// Trains `student` until the configured step, from the checkpoint in `folder` if there is one, and
/// returns where it stands; the weights are in the folder.
///
/// Everything computes on the device that the student lies on, which must know gradients
/// (`Device::autodiff`). `stop` ends training early, after a checkpoint.
///
/// # Errors
/// When the material doesn't fit the configuration, a photograph can't be read, or the folder can't be written.
pub fn train(
    student: Student,
    sizes: &StudentConfig,
    config: &TrainConfig,
    material: &Material,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Checkpoint> {
    material.check(config)?;
    config.sides.iter().try_for_each(|&side| sizes.check_side(side))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let device = student.device();
    let mut run = Run::start(student, sizes, config, material, folder)?;
    let frozen = frozen_backbone(&run.student, config, &device);
    let context = LossContext {
        sets: &material.sets,
        words: Words::new(&material.sets, &material.words, &device),
        detector_words: SharedWords::new(COCO_NAMES.lines(), &material.sets),
        config,
        device,
        box_teacher: material.box_teacher.as_ref(),
        pretrained: material.pretrained.as_ref(),
        frozen: frozen.as_ref(),
    };
    let mut loader = material.loader(config, run.checkpoint.step)?;
    let bar = progress::bar(config.steps as u64, "training");
    while run.checkpoint.step < config.steps {
        bar.set_position(run.checkpoint.step as u64);
        let timer = StepTimer::start();
        run = run.step(&context, &loader.next()?)?;
        run.count_time(&timer);
        let last = run.checkpoint.step == config.steps || stop.load(Ordering::Relaxed);
        run.record(material, last, &bar)?;
        if last {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(run.checkpoint)
}

/// The backbone in ONNX Runtime, where none of it trains and the processor computes.
fn frozen_backbone(student: &Student, config: &TrainConfig, device: &Device) -> Option<FrozenBackbone> {
    let is_frozen = config.train_from == TrainFrom::Heads && *device == Device::flex().autodiff();
    let frozen = is_frozen.then(|| FrozenBackbone::new(&student.backbone, &config.sides)).transpose();
    frozen.unwrap_or_else(|error| {
        tracing::warn!("the backbone is computed by slower kernels: {error:#}");
        None
    })
}

/// A training under way.
struct Run<'a> {
    student: Student,
    average: Average,
    optimizers: Optimizers,
    checkpoint: Checkpoint,
    config: &'a TrainConfig,
    sizes: &'a StudentConfig,
    folder: &'a Path,
    pace: Pace,
    /// Of the steps since the last line of metrics.
    sums: Metrics,
}

impl<'a> Run<'a> {
    /// From the checkpoint in `folder`, or from the student as it is.
    fn start(
        student: Student,
        sizes: &'a StudentConfig,
        config: &'a TrainConfig,
        material: &Material,
        folder: &'a Path,
    ) -> Result<Self> {
        let mut student = student.trained_from(config.train_from);
        let mut optimizers = Optimizers::new(config);
        let mut checkpoint = Checkpoint::resume(folder, config)?;
        let decay = config.average_decay.powi(AVERAGE_EVERY as i32);
        let mut average = Average::new(&student, decay);
        if checkpoint.step > 0 {
            let averaged;
            (student, averaged) = checkpoint.restore(folder, student, &mut optimizers)?;
            student = student.trained_from(config.train_from);
            average = Average::new(&averaged, decay);
            tracing::info!(step = checkpoint.step, "resumed");
        }
        checkpoint.words.clone_from(&material.sets.words);
        checkpoint.sizes = Some(sizes.clone());
        let (pace, sums) = (Pace::default(), Metrics::default());
        Ok(Self { student, average, optimizers, checkpoint, config, sizes, folder, pace, sums })
    }

    /// Learns from one batch.
    fn step(mut self, context: &LossContext<'_>, images: &[TrainingImage]) -> Result<Self> {
        let step = self.checkpoint.step;
        let side = images.first().context("a batch without pictures")?.side;
        let batch = Batch { images, sizes: StudentConfig { input_size: side, ..self.sizes.clone() } };
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(step as u64 + 1);
        let (loss, parts) = context.loss(&self.student, &batch, &mut rng)?;
        self.student = self.optimizers.step(self.config, step, self.student, &loss);
        if step.is_multiple_of(AVERAGE_EVERY) {
            self.average.add(&self.student, step / AVERAGE_EVERY);
        }
        self.checkpoint.step += 1;
        self.sums.add(&parts);
        Ok(self)
    }

    /// Counts the time of a step.
    fn count_time(&mut self, timer: &StepTimer) {
        let (time, processor) = timer.elapsed();
        self.checkpoint.images_per_second = self.pace.add(self.config.batch, time);
        self.checkpoint.seconds += time.as_secs_f64();
        self.checkpoint.processor_seconds += processor.as_secs_f64();
    }

    /// Writes metrics and a checkpoint down where it is time to, and the last ones in any case.
    fn record(&mut self, material: &Material, last: bool, bar: &ProgressBar) -> Result<()> {
        let step = self.checkpoint.step;
        let save = last || step.is_multiple_of(self.config.checkpoint_every);
        if !save && !step.is_multiple_of(METRICS_EVERY) {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.sums).mean(step);
        line.images_per_second = self.checkpoint.images_per_second;
        line.seconds = self.checkpoint.seconds;
        line.processor_seconds = self.checkpoint.processor_seconds;
        bar.set_message(format!(
            "objectness {:.2}, boxes {:.2}/{:.2}, text {:.2}, image {:.2}, {:.1} images/s",
            line.objectness, line.boxes, line.refined, line.text, line.image, line.images_per_second
        ));
        if save {
            let averaged = self.average.student(&self.student);
            validate(&averaged, self.sizes, self.config, material, &mut line)?;
            self.checkpoint.metrics.push(line);
            self.checkpoint.save(self.folder, &self.student, &averaged, &self.optimizers)?;
        } else {
            self.checkpoint.metrics.push(line);
        }
        metrics::write(&self.checkpoint.metrics, &self.folder.join("metrics.jsonl"))?;
        plot::draw(&self.checkpoint.metrics, &self.folder.join("training.svg"))
    }
}

/// How the averaged student does on the validation's photographs, whole.
fn validate(
    student: &Student,
    sizes: &StudentConfig,
    config: &TrainConfig,
    material: &Material,
    line: &mut Metrics,
) -> Result<()> {
    let Some(sets) = &material.validation else { return Ok(()) };
    let device = student.device();
    let words = Words::new(sets, &material.validation_words, &device);
    let context = LossContext {
        sets,
        words,
        detector_words: SharedWords::default(),
        config,
        device,
        box_teacher: None,
        pretrained: None,
        frozen: None,
    };
    let phases = Phase::always(sizes.input_size, Augmentation::plain());
    let settings =
        LoaderSettings { seed: 0, batch: config.batch, phases, threads: material.threads, cache_bytes: 0 };
    let steps = sets.photographs.len() / config.batch;
    let mut loader = Loader::new(Arc::clone(sets), settings, 0, steps)?;
    let mut tally = Tally::default();
    for _ in 0..steps {
        let images = loader.next()?;
        context.validate(student, &Batch { images: &images, sizes: sizes.clone() }, &mut tally);
    }
    tally.write(line);
    tracing::info!(
        step = line.step,
        of_ten = line.recall_of_ten,
        average = line.average_recall,
        named = line.named
    );
    Ok(())
}
