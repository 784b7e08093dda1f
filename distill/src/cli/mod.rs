//! The command line: parses, calls the library, prints.

mod annotated;
mod average;
mod check_student;
mod data;
mod eval;
mod examples;
mod exit_code;
mod export;
mod generate;
mod import;
mod label;
mod learning_curves;
mod memory;
mod quantize;
mod report;
mod sets;
mod small_vocabularies;
mod train;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use wordsight_detection::Vocabulary;
use wordsight_distill::photographs::Collection;
use wordsight_distill::student::{Head, Student, StudentConfig};
use wordsight_distill::{scenes, start};
use wordsight_files::{Content, Inputs};
use wordsight_standin::efficientnet::Weights;
use wordsight_standin::text_only;
use wordsight_teacher::{Teacher, TextTeacher, words};

pub use exit_code::exit_code_of;

/// Makes students and vocabularies for wordsight.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or configuration.")]
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
        /// What for: training, or validation on photographs and words that training never sees.
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
    /// Chooses the boxes whose crops the teacher will see. Goes on where it stopped.
    Proposals(data::Proposals),
    /// Computes the teacher's embeddings of proposals. Goes on where it stopped.
    Embed(data::Embed),
    /// Joins the shards that `proposals`, `embed` or `label` wrote with --shard.
    Merge {
        /// The folder that they were written to.
        folder: PathBuf,
    },
    /// Writes augmented training pictures with their boxes, to be looked at: objects green, ignored red, tiles blue.
    ShowBatch(sets::ShowBatch),
    /// Writes what training takes of one set as annotations in COCO's format.
    SetAnnotations(sets::SetAnnotations),
    /// Completes annotations with a detector's answers, or says how good the detector is.
    Label(label::Arguments),
    /// Trains a student on annotated photographs. Goes on from its checkpoint; Ctrl-C saves one and stops.
    Train(train::Arguments),
    /// Trainings side by side: what their validations said, over the time that they took.
    LearningCurves(learning_curves::Arguments),
    /// Makes a student of another model that fuses late.
    #[command(subcommand)]
    Import(import::Import),
    /// Turns an exported student into INT8 and reports what that costs
    Quantize(quantize::Arguments),
    /// Writes a trained student as one .onnx file, compares it with the model, and turns it into FP16 or INT8
    /// where it is asked to.
    Export(export::Arguments),
    /// Averages the weights of students that were trained from one.
    Average(average::Arguments),
    /// Adds to a student's facts what its regions are like on photographs, which words by example need.
    MeasureRegions(examples::MeasureRegions),
    /// Average precision of a student on annotated images.
    Eval(annotated::Eval),
    /// How often a word's examples name an object right, beside its text and alone.
    EvalExamples(examples::EvalExamples),
    /// Tests a student on photographs that training never saw, base and novel.
    EvalPhotographs(eval::EvalPhotographs),
    /// Whether things keep their numbers and words through made-up clips, with and without the tracker.
    EvalTracking(eval::EvalTracking),
    /// Holds a student, and trainings of every kind of head, against what is asked of them.
    CheckStudent(check_student::Arguments),
    /// Writes the man pages and completions for bash, zsh and fish, which the package installs
    #[command(hide = true)]
    Generate(generate::Generate),
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
    /// Cuts the text half out of a teacher, for a device that makes vocabularies itself.
    TextOnly {
        /// The teacher's folder.
        teacher: PathBuf,
        /// How the weights are stored.
        #[arg(long, value_enum, default_value_t = TextWeights::Small)]
        weights: TextWeights,
        /// Folder to write.
        #[arg(long, short)]
        output: PathBuf,
    },
}

/// How the weights of a text half are stored.
#[derive(Clone, Copy, ValueEnum)]
enum TextWeights {
    /// Tables in INT8 and linear layers in FP16: two fifths of the size.
    Small,
    /// As the teacher has them.
    AsTheyAre,
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

    /// A student of these sizes as it is before any training, with the region head of its kind.
    /// `words`: how many the training has.
    pub(crate) fn student(
        &self,
        teacher: &mut TextTeacher,
        sizes: &StudentConfig,
        fresh_head: Option<Head>,
        words: usize,
        device: &Device,
    ) -> Result<Student> {
        let weights = self.weights()?;
        let student = start::untrained(&weights, sizes, teacher, device)?;
        match fresh_head {
            Some(head) => start::with_fresh_head(student, sizes, &weights, head, words),
            None => Ok(student),
        }
    }
}

/// Where scripts/fetch-packages puts the backbone's weights.
const BACKBONE: &str = ".deps/efficientnet-lite0.pth";

/// What a command was given to read: files, and folders with all that is in them.
fn inputs<'a>(paths: impl IntoIterator<Item = Option<&'a PathBuf>>) -> Inputs {
    Inputs::of(paths.into_iter().flatten().map(PathBuf::as_path))
}

/// What `--images` names.
fn add_images(inputs: &mut Inputs, images: &Path) -> Result<()> {
    wordsight_distill::images::files_of(images)?.iter().for_each(|path| inputs.add_pictures(path));
    Ok(())
}

/// A teacher's folder, in which vocabularies may lie beside what is the teacher's.
fn add_teacher(inputs: &mut Inputs, teacher: &Path) {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "onnx"] {
        inputs.add(&teacher.join(name));
    }
}

/// Holds a report's files against the inputs.
fn check_report(inputs: &Inputs, json: Option<&PathBuf>, plot: Option<&PathBuf>) -> Result<()> {
    json.map(|path| inputs.check(path, Content::Json)).transpose()?;
    plot.map(|path| inputs.check(path, Content::Svg)).transpose()?;
    Ok(())
}

fn read_backbone(path: &Path) -> Result<Weights> {
    Ok(wordsight_standin::pth::read_pth(path)?)
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    let share: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it is a share, from 0 to 1".to_owned()) }
}

/// A folder that paths may begin with, by its name.
fn root(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() => Ok((name.to_owned(), folder.into())),
        _ => Err("it is NAME=FOLDER".to_owned()),
    }
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
        Command::Teacher(TeacherCommand::TextOnly { teacher, weights, output }) => {
            cut_text_half(&teacher, weights, &output)
        }
        Command::Vocabulary { words, teacher, output } => make_vocabulary(&words, &teacher, &output),
        Command::Scenes { data, count, part, seed, leave_out, output } => {
            make_scenes(&data, scenes::Settings { part, count, seed, leave_out }, &output)
        }
        Command::Proposals(arguments) => data::proposals(&arguments),
        Command::Embed(arguments) => data::embed(&arguments),
        Command::Merge { folder } => data::merge(&folder),
        Command::ShowBatch(arguments) => sets::show_batch(&arguments),
        Command::SetAnnotations(arguments) => sets::set_annotations(&arguments),
        Command::Label(arguments) => label::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::LearningCurves(arguments) => learning_curves::run(&arguments),
        Command::Import(import) => import::run(&import),
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Average(arguments) => average::run(&arguments),
        Command::MeasureRegions(arguments) => examples::measure_regions(&arguments),
        Command::Eval(arguments) => annotated::run(&arguments),
        Command::EvalExamples(arguments) => examples::eval_examples(&arguments),
        Command::EvalPhotographs(arguments) => eval::photographs(&arguments),
        Command::EvalTracking(arguments) => eval::tracking(&arguments),
        Command::CheckStudent(arguments) => check_student::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments, &Arguments::command()),
    }
}

fn assemble_standin(packages: &Path, class_names: Option<&Path>, output: &Path) -> Result<()> {
    let mut inputs = Inputs::of([packages]);
    class_names.into_iter().for_each(|path| inputs.add(path));
    inputs.check_folder(output)?;
    let class_names = match class_names {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not a JSON list of names", path.display()))?
        }
        None => wordsight_standin::class_names(),
    };
    wordsight_standin::assemble(packages, &class_names, output)?;
    println!("{} in {}", Teacher::open(output)?.id(), output.display());
    Ok(())
}

fn cut_text_half(teacher: &Path, weights: TextWeights, output: &Path) -> Result<()> {
    Inputs::of([teacher]).check_folder(output)?;
    let weights = match weights {
        TextWeights::Small => text_only::Weights::Small,
        TextWeights::AsTheyAre => text_only::Weights::AsTheyAre,
    };
    let cut = text_only::cut(teacher, weights, output)?;
    println!(
        "the text half of {} in {}; {} captions have a cosine of {:.5} to the teacher's own at the least",
        cut.id,
        output.display(),
        cut.captions,
        cut.least_cosine
    );
    Ok(())
}

fn make_vocabulary(words: &Path, teacher: &Path, output: &Path) -> Result<()> {
    let mut inputs = Inputs::of([words]);
    add_teacher(&mut inputs, teacher);
    inputs.check(output, Content::Safetensors)?;
    let vocabulary = words::make_vocabulary(words, &mut TextTeacher::open(teacher)?)?;
    warn_of_near_duplicates(&vocabulary);
    vocabulary.save(output)?;
    println!(
        "{} words of {} in {}, beside {} hidden competitors",
        vocabulary.shown().len(),
        vocabulary.teacher,
        output.display(),
        vocabulary.hidden().len()
    );
    Ok(())
}

/// How many pairs of near-duplicates are named.
const PAIRS_NAMED: usize = 5;

fn warn_of_near_duplicates(vocabulary: &Vocabulary) {
    let pairs = words::near_duplicates(vocabulary);
    if pairs.is_empty() {
        return;
    }
    let named: Vec<String> = pairs
        .iter()
        .take(PAIRS_NAMED)
        .map(|(a, b, cosine)| format!("{a:?} and {b:?} ({cosine:.3})"))
        .collect();
    tracing::warn!(
        "the teacher hardly tells {} pairs of words apart (cosine above {}): {}; make one a synonym of the other",
        pairs.len(),
        words::ALIKE,
        named.join(", ")
    );
}

fn make_scenes(data: &Path, settings: scenes::Settings, output: &Path) -> Result<()> {
    Inputs::of([data]).check_folder(output)?;
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
