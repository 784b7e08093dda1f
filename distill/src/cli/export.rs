//! `wordsight-distill export`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use image::RgbImage;
use wordsight_detection::TextWeights;
use wordsight_distill::export::{self, ScoringFacts, text_weights};
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::open_picture;
use wordsight_distill::train::Checkpoint;
use wordsight_files::Content;
use wordsight_teacher::{EmbedCaptions, TextTeacher};

use super::quantize::{self, Format, Options, Order, TargetName};
use super::{Origin, share, side};

/// The exported file may differ from the trained model by this much.
const PARITY_TOLERANCE: f32 = 1e-3;
/// And have this share of proposals that the model hasn't.
const MOST_SWAPPED: f32 = 0.01;
/// Pictures that an export is compared on.
const PARITY_PICTURES: usize = 20;

/// Arguments of `export`.
#[derive(Args)]
pub struct Arguments {
    /// Folder that `train` wrote.
    #[arg(long)]
    training: PathBuf,
    #[command(flatten)]
    origin: Origin,
    /// Folder of photographs to compare on.
    #[arg(long)]
    compare_on: Option<PathBuf>,
    /// Side of the square input in pixels, a multiple of 32, where it is to be another than
    /// training's: the student is convolutional, and finds smaller objects in a larger input.
    #[arg(long, value_parser = side)]
    input_size: Option<usize>,
    #[command(flatten)]
    scoring: Scoring,
    /// What the student is to compute in. All but fp32 do what `quantize` does, with its flags, and report.
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// What is to run it in INT8.
    #[arg(long, value_enum, required_if_eq("precision", "int8"))]
    target: Option<TargetName>,
    /// Folder of photographs like those that it will see, as for `quantize`; with fp32 the report has the student alone.
    #[arg(long, required_if_eq_any([("precision", "int8"), ("precision", "fp16")]))]
    images: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// The student to write.
    #[arg(long, short)]
    output: PathBuf,
}

/// How an exported student's detections are to be scored.
#[derive(Args)]
pub(super) struct Scoring {
    /// Softmax temperature of the scores. Training's 0.01 would make scores of overlapping regions all 1, and leave their
    /// order to the objectness; at this one half of what ten words show at a threshold of 0.3 is right.
    #[arg(long, default_value_t = Scoring::default().temperature)]
    pub(super) temperature: f32,
    /// Weight of the text head for words trained on: it saw their boxes.
    #[arg(long, default_value_t = Scoring::default().trained_text_weight, value_parser = share)]
    pub(super) trained_text_weight: f32,
    /// Weight of the text head for words not trained on.
    #[arg(long, default_value_t = Scoring::default().ensemble_lambda, value_parser = share)]
    pub(super) ensemble_lambda: f32,
    /// Weight of the objectness in a detection's score.
    #[arg(long, default_value_t = Scoring::default().objectness_weight, value_parser = share)]
    pub(super) objectness_weight: f32,
}

/// The shipped student's (demo/student.md).
impl Default for Scoring {
    fn default() -> Self {
        Self { temperature: 0.0196, trained_text_weight: 1.0, ensemble_lambda: 0.1, objectness_weight: 0.695 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// Weights stored in FP16, computed in FP32.
    Fp32,
    /// Convolutions and linear layers in FP16, for TensorRT.
    Fp16,
    /// What pays in integers, for --target.
    Int8,
}

/// Writes a trained student, converts it where it is asked to, and reports.
pub fn run(arguments: &Arguments) -> Result<()> {
    let temperature = arguments.scoring.temperature;
    ensure!(temperature > 0.0, Mistake::new(format!("--temperature must be above 0, not {temperature}")));
    let output = arguments.output.as_path();
    let mut inputs =
        super::inputs([Some(&arguments.training.join("checkpoint")), Some(&arguments.origin.backbone)]);
    super::add_teacher(&mut inputs, &arguments.origin.teacher);
    [&arguments.compare_on, &arguments.images]
        .into_iter()
        .flatten()
        .for_each(|path| inputs.add_pictures(path));
    inputs.check(output, Content::Onnx)?;
    let write = |path: &Path| {
        let Arguments { training, origin, compare_on, input_size, scoring, .. } = arguments;
        export_student(training, origin, compare_on.as_deref(), *input_size, scoring, path)
    };
    let Some(images) = &arguments.images else { return write(output) };
    let format = match arguments.precision {
        Precision::Fp32 => Format::Fp32,
        Precision::Fp16 => Format::of_fp16(arguments.target)?,
        Precision::Int8 => Format::of_int8(arguments.target),
    };
    let in_float = match format {
        Format::Fp32 => InFloat(output.to_owned(), false),
        _ => {
            let between = output.with_extension("fp32.onnx");
            ensure!(
                !between.exists(),
                "{} is there already, where the student in float is written in between and removed: move it away",
                between.display()
            );
            InFloat(between, true)
        }
    };
    let order = Order {
        student: &in_float.0,
        format,
        images,
        options: &arguments.options,
        teacher: Some(&arguments.origin.teacher),
        output,
    };
    // Before work that takes minutes.
    order.check()?;
    write(&in_float.0)?;
    quantize::carry_out(&order)
}

/// The student before its conversion, and whether it goes when that is done or has failed.
struct InFloat(PathBuf, bool);

impl Drop for InFloat {
    fn drop(&mut self) {
        if self.1 {
            // It may never have been written.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Writes a trained student in float and compares it with the model.
pub(super) fn export_student(
    training: &Path,
    origin: &Origin,
    compare_on: Option<&Path>,
    input_size: Option<usize>,
    scoring: &Scoring,
    output: &Path,
) -> Result<()> {
    let mut teacher = TextTeacher::open(&origin.teacher)?;
    let checkpoint = Checkpoint::open(training)?;
    let mut config = checkpoint.sizes(training)?;
    let (head, words) = (checkpoint.config.fresh_head, checkpoint.words.len());
    let student = origin.student(&mut teacher, &config, head, words, &Device::flex().autodiff())?;
    config.input_size = input_size.unwrap_or(config.input_size);
    config.check_side(config.input_size)?;
    let student = checkpoint.student(training, student)?;
    let student = student.rounded_to_f16();
    let ensemble = TextWeights { trained: scoring.trained_text_weight, others: scoring.ensemble_lambda };
    let facts = ScoringFacts {
        teacher: teacher.id().to_owned(),
        temperature: scoring.temperature,
        text_weights: text_weights(checkpoint.config.head(), ensemble),
        objectness_weight: scoring.objectness_weight,
        training: checkpoint.summary()?,
    };
    let model = export::student_model(&student, &config, &facts)?;
    wordsight_onnx::write(&model, output)?;
    let size = fs::metadata(output).map_or(0, |metadata| metadata.len());
    println!("{} ({:.1} MB, {} steps)", output.display(), size as f64 / 1e6, checkpoint.step);
    if let Some(folder) = compare_on {
        let pictures = some_pictures(folder)?;
        let parity = export::compare(&student, &config, output, &pictures)?;
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
    let paths = wordsight_pictures::pictures_in(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?;
    let pictures: Vec<RgbImage> =
        paths.iter().take(PARITY_PICTURES).map(|path| open_picture(path)).collect::<Result<_>>()?;
    ensure!(!pictures.is_empty(), "there are no pictures in {}", folder.display());
    Ok(pictures)
}
