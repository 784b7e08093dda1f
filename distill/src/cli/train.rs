//! `wordsight-distill train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;
use clap::Args;
use wordsight_distill::device::TrainDevice;
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Unreadable;
use wordsight_distill::sets::Sets;
use wordsight_distill::student::imitation::Imitation;
use wordsight_distill::student::{Backbone, Head, Student, StudentConfig, TrainFrom};
use wordsight_distill::train::{self, BoxTeacher, Checkpoint, Learn, Material, Optimizer, TrainConfig};
use wordsight_distill::{export, start};
use wordsight_teacher::{EmbedCaptions, TextTeacher};

use super::{Origin, memory, root, share, side};

/// Arguments of `train`.
#[derive(Args)]
pub struct Arguments {
    /// The annotated sets to learn from: a sets.toml.
    #[arg(long)]
    sets: PathBuf,
    /// Sets to measure recall and naming on at each checkpoint, whole; never learnt from.
    #[arg(long)]
    validation: Option<PathBuf>,
    /// A folder for a `{name}` that the sets' paths may begin with, as NAME=FOLDER; may be given more than once.
    #[arg(long, value_parser = root)]
    root: Vec<(String, PathBuf)>,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    sizes: Sizes,
    /// What changes; the rest of the student stays as it is.
    #[arg(long, value_enum, default_value_t = TrainConfig::default().learn)]
    learn: Learn,
    /// From where on the backbone changes.
    #[arg(long, value_enum, default_value_t = TrainConfig::default().train_from)]
    train_from: TrainFrom,
    /// Give the student a region head that starts from nothing, as in the paper's figure 3, instead of
    /// ViLD-ensemble's that starts from the backbone's classifier.
    #[arg(long, value_enum)]
    fresh_head: Option<Head>,
    /// Start from the weights of another training, in this folder, or of an exported student.
    #[arg(long)]
    start_from: Option<PathBuf>,
    /// Steps in all.
    #[arg(long, default_value_t = TrainConfig::default().steps)]
    steps: usize,
    /// Pictures a step.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Sides of the input in pixels, multiples of 32; each step draws one.
    #[arg(long, value_delimiter = ',', value_parser = side, default_values_t = TrainConfig::default().sides)]
    sides: Vec<usize>,
    /// The share of steps at the end without mosaics.
    #[arg(long, value_parser = share, default_value_t = TrainConfig::default().plain_share)]
    plain_share: f32,
    /// Which optimiser.
    #[arg(long, value_enum, default_value_t = TrainConfig::default().optimizer)]
    optimizer: Optimizer,
    /// Highest learning rate: reached after the warm-up, then falling to a hundredth along a cosine.
    #[arg(long, default_value_t = TrainConfig::default().learning_rate)]
    learning_rate: f64,
    /// The backbone's learning rate as a fraction of it.
    #[arg(long, default_value_t = TrainConfig::default().backbone_rate)]
    backbone_rate: f64,
    /// Steps of warm-up.
    #[arg(long, default_value_t = TrainConfig::default().warm_up)]
    warm_up: usize,
    /// Weight decay.
    #[arg(long, default_value_t = TrainConfig::default().weight_decay)]
    weight_decay: f32,
    /// A YOLOX of COCO's words that teaches words and quality of regions, and in inputs of its own size what each cell
    /// should say.
    #[arg(long)]
    box_teacher: Option<PathBuf>,
    /// Weight of what it teaches, against the annotations' 1.
    #[arg(long, default_value_t = TrainConfig::default().box_teacher_weight)]
    box_teacher_weight: f32,
    /// Weight of what the student's features are apart from those that it answers from.
    #[arg(long, default_value_t = TrainConfig::default().imitation_weight)]
    imitation_weight: f32,
    /// Weight of its scores of words as soft targets of the text embedding.
    #[arg(long, default_value_t = TrainConfig::default().soft_word_weight)]
    soft_word_weight: f32,
    /// Share of what the quality of regions should be that it says, the annotations the rest.
    #[arg(long, value_parser = share, default_value_t = TrainConfig::default().soft_quality_share)]
    soft_quality_share: f32,
    /// Weight of what a region head with --region-quality says of how well boxes fit.
    #[arg(long, default_value_t = TrainConfig::default().quality_weight)]
    quality_weight: f32,
    /// Weight of the ViLD-text loss.
    #[arg(long, default_value_t = TrainConfig::default().text_weight)]
    text_weight: f32,
    /// Weight of the ViLD-image loss (the paper's w).
    #[arg(long, default_value_t = TrainConfig::default().image_weight)]
    image_weight: f32,
    /// Weight of what holds the backbone's classifier to its opinions before training; 0: it may forget.
    #[arg(long, default_value_t = TrainConfig::default().retain_weight)]
    retain_weight: f32,
    /// Share of the region head's hidden numbers that a step leaves out.
    #[arg(long, default_value_t = TrainConfig::default().dropout)]
    dropout: f32,
    /// Temperature of the text loss.
    #[arg(long, default_value_t = TrainConfig::default().temperature)]
    temperature: f32,
    /// What a step leaves of the weights' moving average, which is what is measured and exported.
    #[arg(long, default_value_t = TrainConfig::default().average_decay)]
    average_decay: f32,
    /// Steps between two checkpoints.
    #[arg(long, default_value_t = TrainConfig::default().checkpoint_every)]
    checkpoint_every: usize,
    /// Where to compute: cpu, cuda or cuda:N (a build with the feature `cuda`).
    #[arg(long, default_value_t)]
    device: TrainDevice,
    /// Threads that decode and augment pictures.
    #[arg(long, default_value_t = 1)]
    loader_threads: usize,
    /// Gigabytes of decoded photographs to keep in memory.
    #[arg(long, default_value_t = 6)]
    cache_gb: u64,
    /// Leave out pictures that can't be read, by name, in place of ending at the first: each is read once before.
    #[arg(long)]
    skip_unreadable: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Folder for checkpoints, metrics and their plot.
    #[arg(long, short)]
    output: PathBuf,
}

/// The sizes of a student that starts from nothing; one that starts from another has the other's.
#[derive(Args)]
struct Sizes {
    /// Whether strides 8 and 16 have a branch of their own to learn where things are, so that the backbone can stay the
    /// classifier's with --train-from heads; a student without one that training starts from gets one.
    #[arg(long)]
    detail_branch: Option<bool>,
    /// Whether the region head says how well a box fits a thing; a student without that training starts from learns to.
    #[arg(long)]
    region_quality: Option<bool>,
    /// Channels of the neck.
    #[arg(long)]
    neck_channels: Option<usize>,
    /// Separable convolutions behind each of the neck's sums.
    #[arg(long)]
    neck_depth: Option<usize>,
    /// Separable convolutions of the proposal head at each level.
    #[arg(long)]
    tower_depth: Option<usize>,
    /// Width of the region head's hidden layers.
    #[arg(long)]
    region_width: Option<usize>,
}

impl Sizes {
    fn config(&self, embedding_size: usize) -> StudentConfig {
        let shipped = StudentConfig::new(embedding_size);
        StudentConfig {
            detail_branch: self.detail_branch.unwrap_or(shipped.detail_branch),
            region_quality: self.region_quality.unwrap_or(shipped.region_quality),
            neck_channels: self.neck_channels.unwrap_or(shipped.neck_channels),
            neck_depth: self.neck_depth.unwrap_or(shipped.neck_depth),
            tower_depth: self.tower_depth.unwrap_or(shipped.tower_depth),
            region_width: self.region_width.unwrap_or(shipped.region_width),
            ..shipped
        }
    }
}

impl Arguments {
    fn config(&self) -> TrainConfig {
        TrainConfig {
            learn: self.learn,
            train_from: self.train_from,
            fresh_head: self.fresh_head,
            optimizer: self.optimizer,
            steps: self.steps,
            batch: self.batch,
            sides: self.sides.clone(),
            plain_share: self.plain_share,
            learning_rate: self.learning_rate,
            backbone_rate: self.backbone_rate,
            warm_up: self.warm_up,
            weight_decay: self.weight_decay,
            box_teacher_weight: if self.box_teacher.is_some() { self.box_teacher_weight } else { 0.0 },
            imitation_weight: if self.box_teacher.is_some() { self.imitation_weight } else { 0.0 },
            soft_word_weight: if self.box_teacher.is_some() { self.soft_word_weight } else { 0.0 },
            soft_quality_share: if self.box_teacher.is_some() { self.soft_quality_share } else { 0.0 },
            quality_weight: self.quality_weight,
            text_weight: self.text_weight,
            image_weight: self.image_weight,
            retain_weight: self.retain_weight,
            dropout: self.dropout,
            temperature: self.temperature,
            average_decay: self.average_decay,
            checkpoint_every: self.checkpoint_every,
            seed: self.seed,
            ..TrainConfig::default()
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "--batch must be at least 1");
        ensure!(self.checkpoint_every > 0, "--checkpoint-every must be at least 1");
        for (flag, weight) in [
            ("--box-teacher-weight", self.box_teacher_weight),
            ("--imitation-weight", self.imitation_weight),
            ("--soft-word-weight", self.soft_word_weight),
            ("--quality-weight", self.quality_weight),
            ("--text-weight", self.text_weight),
            ("--image-weight", self.image_weight),
            ("--retain-weight", self.retain_weight),
        ] {
            ensure!(weight >= 0.0 && weight.is_finite(), "{flag} must be a number from 0 on, not {weight}");
        }
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "--dropout must be from 0 to below 1, not {}",
            self.dropout
        );
        ensure!(self.temperature > 0.0, "--temperature must be above 0, not {}", self.temperature);
        ensure!(
            (0.0..1.0).contains(&self.average_decay),
            "--average-decay must be from 0 to below 1, not {}",
            self.average_decay
        );
        Ok(())
    }
}

/// The student that training starts from.
fn first_student(
    arguments: &Arguments,
    config: &TrainConfig,
    teacher: &mut TextTeacher,
    words: usize,
    device: &Device,
) -> Result<(Student, StudentConfig)> {
    let origin = &arguments.origin;
    let Some(start) = &arguments.start_from else {
        let sizes = arguments.sizes.config(teacher.embedding_size());
        return Ok((origin.student(teacher, &sizes, config.fresh_head, words, device)?, sizes));
    };
    // As it was trained, and only then with the head that is asked for.
    let (earlier, student, sizes) = if start.is_file() {
        let sizes = export::read_sizes(start)?;
        let student = origin.student(teacher, &sizes, None, words, device)?;
        (None, export::read_student(start, student)?, sizes)
    } else {
        let checkpoint = Checkpoint::open(start)?;
        let sizes = checkpoint.sizes(start)?;
        let earlier = checkpoint.config.fresh_head;
        let student = origin.student(teacher, &sizes, earlier, checkpoint.words.len(), device)?;
        (earlier, checkpoint.student(start, student)?, sizes)
    };
    let (mut student, mut sizes) = (student, sizes);
    if arguments.sizes.detail_branch == Some(true) && !sizes.detail_branch {
        student = student.with_detail_branch(Backbone::pretrained(&origin.weights()?, device)?);
        sizes.detail_branch = true;
    }
    if arguments.sizes.region_quality == Some(true) && !sizes.region_quality {
        student = student.with_region_quality();
        sizes.region_quality = true;
    }
    match config.fresh_head {
        same if same == earlier => Ok((student, sizes)),
        Some(head) => Ok((start::with_fresh_head(student, &sizes, &origin.weights()?, head, words)?, sizes)),
        None => {
            bail!(Mistake::new(format!("{} has a fresh head: give the same --fresh-head", start.display())))
        }
    }
}

/// The backbone that the classifier is held to; none where it can't or needn't be.
fn pretrained(arguments: &Arguments, config: &TrainConfig, device: &Device) -> Result<Option<Backbone>> {
    // What never trains forgets nothing.
    let trains = config.train_from != TrainFrom::Heads;
    let is_held =
        trains && config.retain_weight > 0.0 && config.fresh_head.is_none() && config.learn == Learn::All;
    if !is_held {
        return Ok(None);
    }
    Ok(Some(Backbone::pretrained(&arguments.origin.weights()?, &device.clone().inner())?))
}

/// The words of some sets as the teacher embeds them, which must be the one that looked at the sets' proposals.
fn embed_words(sets: &Sets, path: &Path, teacher: &mut TextTeacher) -> Result<Vec<Vec<f32>>> {
    if let Some(other) = sets.teacher() {
        ensure!(
            other == teacher.id(),
            Mistake::new(format!(
                "the embeddings in {} are of the teacher {other}, not of {}: run `wordsight-distill embed` again",
                path.display(),
                teacher.id()
            ))
        );
    }
    start::embed_names(&sets.words, teacher)
}

/// Trains, and says how far it came.
pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.check().map_err(|error| Mistake::of(&error))?;
    let config = arguments.config();
    let Arguments { sets, validation, start_from, box_teacher, .. } = arguments;
    let origin = [Some(&arguments.origin.teacher), Some(&arguments.origin.backbone)];
    let given = [Some(sets), validation.as_ref(), start_from.as_ref(), box_teacher.as_ref()];
    super::inputs(given.into_iter().chain(origin)).check_folder(&arguments.output)?;
    let device = arguments.device.open()?;
    let unreadable = Unreadable::of_flag(arguments.skip_unreadable);
    let load = |path: &Path| Sets::load_with_roots(path, &arguments.root)?.readable(unreadable).map(Arc::new);
    let sets = load(&arguments.sets)?;
    let validation = arguments.validation.as_deref().map(load).transpose()?;
    let mut teacher = TextTeacher::open(&arguments.origin.teacher)?;
    let words = embed_words(&sets, &arguments.sets, &mut teacher)?;
    let validation_words = match (&validation, &arguments.validation) {
        (Some(sets), Some(path)) => embed_words(sets, path, &mut teacher)?,
        _ => Vec::new(),
    };
    device.seed(arguments.seed);
    let (mut student, sizes) = first_student(arguments, &config, &mut teacher, words.len(), &device)?;
    let box_teacher = arguments.box_teacher.as_deref().map(BoxTeacher::open).transpose()?;
    if let Some(detector) = box_teacher.as_ref().filter(|_| config.imitation_weight > 0.0) {
        student.imitation = Some(Imitation::random(&sizes, detector.features(), &device));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let material = Material {
        sets,
        validation,
        words,
        validation_words,
        box_teacher,
        pretrained: pretrained(arguments, &config, &device)?,
        threads: arguments.loader_threads,
        cache_bytes: arguments.cache_gb << 30,
    };
    if arguments.device == TrainDevice::Cpu {
        memory::keep_buffers();
    }
    let checkpoint = train::train(student, &sizes, &config, &material, &arguments.output, &stop)?;
    println!(
        "{} of {} steps done, {:.1} images/s; checkpoint, metrics.jsonl and training.svg in {}",
        checkpoint.step,
        config.steps,
        checkpoint.images_per_second,
        arguments.output.display()
    );
    Ok(())
}
