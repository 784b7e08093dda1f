//! The command line: parses, calls the library, prints.

mod data;
mod eval;
mod quantize;
mod train;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::{Args, Parser, Subcommand};
use image::RgbImage;
use wordsight_distill::export::{self, ScoringFacts, text_weights};
use wordsight_distill::photographs::Collection;
use wordsight_distill::student::{Student, StudentConfig};
use wordsight_distill::train::{Checkpoint, TrainConfig};
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
    /// Computes the backbone's features, which training reads. Goes on where it stopped.
    Precompute(data::Precompute),
    /// Chooses the boxes whose crops the teacher will see. Goes on where it stopped.
    Proposals(data::Proposals),
    /// Computes the teacher's embeddings of proposals. Goes on where it stopped.
    Embed(data::Embed),
    /// Joins the shards that `precompute`, `proposals` or `embed` wrote with --shard.
    Merge {
        /// The folder that they were written to.
        folder: PathBuf,
    },
    /// Trains a student on a cache. Goes on from its checkpoint; Ctrl-C saves one and stops.
    Train(train::Arguments),
    /// Turns an exported student into INT8 and reports what that costs
    Quantize(quantize::Arguments),
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
        /// Side of the square input in pixels, a multiple of 32, where it is to be another than
        /// training's: the student is convolutional, and sees smaller things in a larger input.
        #[arg(long, value_parser = side)]
        input_size: Option<usize>,
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
    /// Average precision of a student on annotated images.
    Eval(eval::Eval),
    /// Tests a student on photographs that training never saw, base and novel.
    EvalPhotographs(eval::EvalPhotographs),
    /// Holds a student, and trainings of every kind of head, against what is asked of them.
    Bars(eval::Bars),
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
    #[arg(long, default_value = BACKBONE)]
    backbone: PathBuf,
}

impl Origin {
    pub(crate) fn weights(&self) -> Result<Weights> {
        read_backbone(&self.backbone)
    }

    /// A student as it is before a training like `config`, its sizes, and the weights of its backbone.
    /// `words`: how many the training has.
    pub(crate) fn student(
        &self,
        teacher: &mut Teacher,
        config: &TrainConfig,
        words: usize,
        device: &Device,
    ) -> Result<(Student, StudentConfig, Weights)> {
        let weights = self.weights()?;
        let (mut student, student_config) = start::untrained(&weights, teacher, device)?;
        if let Some(head) = config.fresh_head {
            student = start::with_fresh_head(student, &student_config, &weights, head, words)?;
        }
        Ok((student, student_config, weights))
    }
}

/// Where scripts/fetch-packages puts the backbone's weights.
const BACKBONE: &str = ".deps/efficientnet-lite0.pth";

fn read_backbone(path: &Path) -> Result<Weights> {
    Ok(wordsight_teacher::pth::read_pth(path)?)
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    let share: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it is a share, from 0 to 1".to_owned()) }
}

/// A side of a student's input.
fn side(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(side) if (64..=2048).contains(&side) && side % 32 == 0 => Ok(side),
        _ => Err("it is a multiple of 32 from 64 to 2048".to_owned()),
    }
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
        Command::Precompute(arguments) => data::precompute(&arguments),
        Command::Proposals(arguments) => data::proposals(&arguments),
        Command::Embed(arguments) => data::embed(&arguments),
        Command::Merge { folder } => data::merge(&folder),
        Command::Train(arguments) => train::run(&arguments),
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Export {
            training,
            origin,
            compare_on,
            input_size,
            temperature,
            ensemble_lambda,
            objectness_weight,
            output,
        } => {
            let scoring = Scoring { temperature, ensemble_lambda, objectness_weight };
            export_student(&training, &origin, compare_on.as_deref(), input_size, &scoring, &output)
        }
        Command::Eval(arguments) => eval::run(&arguments),
        Command::EvalPhotographs(arguments) => eval::photographs(&arguments),
        Command::Bars(arguments) => eval::bars(&arguments),
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
    input_size: Option<usize>,
    scoring: &Scoring,
    output: &Path,
) -> Result<()> {
    ensure!(scoring.temperature > 0.0, "--temperature must be above 0, not {}", scoring.temperature);
    let mut teacher = Teacher::open(&origin.teacher)?;
    let checkpoint = Checkpoint::open(training)?;
    let (student, mut config, backbone) = origin.student(
        &mut teacher,
        &checkpoint.config,
        checkpoint.words.len(),
        &Device::flex().autodiff(),
    )?;
    config.input_size = input_size.unwrap_or(config.input_size);
    let student = checkpoint.student(training, student)?;
    let student = student.rounded_to_f16();
    let facts = ScoringFacts {
        teacher: teacher.id().to_owned(),
        temperature: scoring.temperature,
        text_weights: text_weights(checkpoint.config.head(), scoring.ensemble_lambda),
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
