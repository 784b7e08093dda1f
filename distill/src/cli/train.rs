//! `wordsight-distill train`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;
use clap::Args;
use wordsight_distill::device::TrainDevice;
use wordsight_distill::embed::Embedded;
use wordsight_distill::features::Cache;
use wordsight_distill::student::{Head, Student, StudentConfig};
use wordsight_distill::train::{self, Checkpoint, Learn, Material, Optimizer, TrainConfig};
use wordsight_distill::{export, start};
use wordsight_teacher::Teacher;

use super::Origin;

/// What `train` is told.
#[derive(Args)]
pub struct Arguments {
    /// Folder that `precompute` wrote.
    #[arg(long)]
    cache: PathBuf,
    #[command(flatten)]
    origin: Origin,
    /// Folder that `embed` wrote: the teacher's embeddings of proposals in the cache's scenes, or in the
    /// first of them. The image loss needs it.
    #[arg(long)]
    embeddings: Option<PathBuf>,
    /// What changes; the rest of the student stays as it is.
    #[arg(long, value_enum, default_value_t = TrainConfig::default().learn)]
    learn: Learn,
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
    /// Scenes a step.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Which optimiser.
    #[arg(long, value_enum, default_value_t = TrainConfig::default().optimizer)]
    optimizer: Optimizer,
    /// Highest learning rate: reached after the warm-up, then falling to a hundredth along a cosine.
    #[arg(long, default_value_t = TrainConfig::default().learning_rate)]
    learning_rate: f64,
    /// Steps of warm-up.
    #[arg(long, default_value_t = TrainConfig::default().warm_up)]
    warm_up: usize,
    /// Weight decay.
    #[arg(long, default_value_t = TrainConfig::default().weight_decay)]
    weight_decay: f32,
    /// Weight of the ViLD-text loss.
    #[arg(long, default_value_t = TrainConfig::default().text_weight)]
    text_weight: f32,
    /// Weight of the ViLD-image loss (the paper's w).
    #[arg(long, default_value_t = TrainConfig::default().image_weight)]
    image_weight: f32,
    /// Temperature of the text loss.
    #[arg(long, default_value_t = TrainConfig::default().temperature)]
    temperature: f32,
    /// Where to compute: cpu, cuda or cuda:N (a build with the feature `cuda`).
    #[arg(long, default_value_t)]
    device: TrainDevice,
    /// Seed of everything random.
    #[arg(long, default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Folder for checkpoints, metrics and their plot.
    #[arg(long, short)]
    output: PathBuf,
}

impl Arguments {
    fn config(&self) -> TrainConfig {
        TrainConfig {
            learn: self.learn,
            fresh_head: self.fresh_head,
            optimizer: self.optimizer,
            steps: self.steps,
            batch: self.batch,
            learning_rate: self.learning_rate,
            warm_up: self.warm_up,
            weight_decay: self.weight_decay,
            text_weight: self.text_weight,
            image_weight: self.image_weight,
            temperature: self.temperature,
            seed: self.seed,
            ..TrainConfig::default()
        }
    }
}

/// The student that training starts from.
fn first_student(
    arguments: &Arguments,
    config: &TrainConfig,
    teacher: &mut Teacher,
    words: usize,
    device: &Device,
) -> Result<(Student, StudentConfig)> {
    let origin = &arguments.origin;
    let Some(start) = &arguments.start_from else {
        let (student, student_config, _) = origin.student(teacher, config, words, device)?;
        return Ok((student, student_config));
    };
    // As it was trained, and only then with the head that is asked for.
    let (earlier, (student, student_config, weights)) = if start.is_file() {
        let (student, student_config, weights) =
            origin.student(teacher, &TrainConfig::default(), words, device)?;
        (None, (export::read_student(start, student)?, student_config, weights))
    } else {
        let checkpoint = Checkpoint::open(start)?;
        let (student, student_config, weights) =
            origin.student(teacher, &checkpoint.config, checkpoint.words.len(), device)?;
        (checkpoint.config.fresh_head, (checkpoint.student(start, student)?, student_config, weights))
    };
    match config.fresh_head {
        same if same == earlier => Ok((student, student_config)),
        Some(head) => {
            let student = start::with_fresh_head(student, &student_config, &weights, head, words)?;
            Ok((student, student_config))
        }
        None => bail!("{} has a fresh head: give the same --fresh-head", start.display()),
    }
}

/// Trains, and says how far it came.
pub fn run(arguments: &Arguments) -> Result<()> {
    let config = arguments.config();
    ensure!(config.batch > 0, "--batch must be at least 1");
    ensure!(config.temperature > 0.0, "--temperature must be above 0, not {}", config.temperature);
    let device = arguments.device.open()?;
    let cache = Cache::open(&arguments.cache)?;
    let embedded = arguments.embeddings.as_deref().map(Embedded::open).transpose()?;
    let mut teacher = Teacher::open(&arguments.origin.teacher)?;
    if let Some(embedded) = &embedded {
        ensure!(
            embedded.teacher() == teacher.id(),
            "the embeddings are of the teacher {}, not of {}: run `wordsight-distill embed` again",
            embedded.teacher(),
            teacher.id()
        );
    }
    let names: Vec<String> = cache.dataset.categories.iter().map(|category| category.name.clone()).collect();
    let words = start::embed_names(&names, &mut teacher)?;
    let (student, student_config) = first_student(arguments, &config, &mut teacher, names.len(), &device)?;
    let (cached, input_size) = (cache.manifest.input_size, student_config.input_size);
    ensure!(
        cached == input_size,
        "{} has features of {cached}x{cached} pixels, and students train at {input_size}: run `wordsight-distill \
         precompute` again",
        arguments.cache.display()
    );

    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let material = Material { cache: &cache, embedded: embedded.as_ref(), words: &words };
    let checkpoint = train::train(student, &student_config, &config, material, &arguments.output, &stop)?;
    println!(
        "{} of {} steps done, {:.1} scenes/s; checkpoint, metrics.jsonl and training.svg in {}",
        checkpoint.step,
        config.steps,
        checkpoint.scenes_per_second,
        arguments.output.display()
    );
    Ok(())
}
