//! `wordsight-distill quantize`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use wordsight_calibration::{Method, Target};
use wordsight_distill::eval::Detector;
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Row, Rules};
use wordsight_distill::quantization::{
    Agreement, BUDGET_IMAGES, Calibration, FEWEST_IMAGES, Sensitivity, engine_as_on,
};
use wordsight_engines::CpuEngine;
use wordsight_onnx::proto::ModelProto;
use wordsight_teacher::Teacher;

use super::eval::{vocabulary_for, write_json};

/// Frames that latencies are measured on.
const ROUNDS: usize = 60;
/// Layers that the printed sweep has.
const SHOWN: usize = 10;

/// What `quantize` is told.
#[derive(Args)]
pub struct Arguments {
    /// The student in float: an exported .onnx file.
    #[arg(long)]
    student: PathBuf,
    /// What it is to compute in; INT8 where it isn't said.
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// What is to run it in INT8.
    #[arg(long, value_enum, required_unless_present = "precision", required_if_eq("precision", "int8"))]
    target: Option<TargetName>,
    /// Folder of photographs like those that it will see, none of them from an evaluation set: scenes'
    /// images, or frames of the camera.
    #[arg(long)]
    images: PathBuf,
    /// How many of them to calibrate on, evenly chosen.
    #[arg(long, default_value_t = FEWEST_IMAGES)]
    count: usize,
    /// Calibrate on fewer than 500 images all the same.
    #[arg(long)]
    few_images: bool,
    /// How thresholds are chosen; `best` tries all and takes what keeps the embeddings best, by the median
    /// and the lowest tenth of their cosines.
    #[arg(long, value_enum, default_value_t = MethodName::Best)]
    method: MethodName,
    /// Pin the costliest layers to float until the median cosine between embeddings before and after is
    /// at least this.
    #[arg(long, default_value_t = 0.98, value_parser = super::share)]
    least_cosine: f32,
    /// A layer to keep in float whatever it costs; may be given several times.
    #[arg(long)]
    pin: Vec<String>,
    /// Also evaluate, before and after: annotations in COCO's format.
    #[arg(long, requires = "annotated_images", requires = "teacher")]
    annotations: Option<PathBuf>,
    /// The annotations' images.
    #[arg(long)]
    annotated_images: Option<PathBuf>,
    /// The teacher's folder, whose words the annotations' categories are.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// The quantised student to write.
    #[arg(long, short)]
    output: PathBuf,
    /// Also write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// Convolutions in integers.
    Int8,
    /// Convolutions and linear layers in FP16, for TensorRT.
    Fp16,
}

#[derive(Clone, Copy, ValueEnum)]
enum TargetName {
    /// TensorRT on a GPU: int8 on both sides.
    Tensorrt,
    /// ONNX Runtime on a processor: uint8 activations.
    Cpu,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    Best,
    Max,
    Percentile,
    Mse,
    Entropy,
}

impl MethodName {
    fn methods(self) -> Vec<Method> {
        match self {
            Self::Best => Method::ALL.to_vec(),
            Self::Max => vec![Method::Max],
            Self::Percentile => vec![Method::Percentile],
            Self::Mse => vec![Method::Mse],
            Self::Entropy => vec![Method::Entropy],
        }
    }
}

/// One student of the report.
#[derive(Serialize)]
struct Line {
    student: String,
    pinned: Vec<String>,
    agreement: Option<Agreement>,
    megabytes: f64,
    milliseconds: f64,
    /// Its time in that of the float student, run in turns.
    relative_time: f64,
    evaluation: Option<Row>,
}

/// Quantises, and says what it costs.
pub fn run(arguments: &Arguments) -> Result<()> {
    let images = chosen_images(arguments)?;
    // Before work that takes minutes.
    let folder = arguments.output.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("there is no folder {} for --output: make it first", folder.display());
    }
    let target = match arguments.target {
        Some(TargetName::Cpu) => Target::Cpu,
        Some(TargetName::Tensorrt) | None => Target::TensorRt,
    };
    let evaluation = Evaluation::open(arguments)?;
    let calibration = Calibration::watch(&arguments.student, &images)?;
    let asked: BTreeSet<String> = arguments.pin.iter().cloned().collect();
    if arguments.precision == Some(Precision::Fp16) {
        return convert_to_f16(arguments, &calibration, evaluation.as_ref());
    }

    let mut lines = Vec::new();
    let mut best: Option<(Method, Agreement)> = None;
    for method in arguments.method.methods() {
        let model = calibration.quantised(method, target, &asked)?;
        let line = line(method.name(), (&model, target), &calibration, &asked, evaluation.as_ref())?;
        // Medians hardly differ between methods: the regions that move most say more.
        let agreement = line.agreement.context("a quantised student has been compared")?;
        let kept = |agreement: &Agreement| agreement.median_cosine + agreement.lowest_tenth;
        if best.as_ref().is_none_or(|(_, known)| kept(&agreement) > kept(known)) {
            best = Some((method, agreement));
        }
        lines.push(line);
    }
    let (method, agreement) = best.context("there is no method to try")?;
    let mut sensitivities = Vec::new();
    let mut pinned = asked.clone();
    if agreement.median_cosine < arguments.least_cosine {
        sensitivities = calibration.sweep(method, target)?;
        pinned = calibration.pin_until(method, target, &sensitivities, arguments.least_cosine, pinned)?;
    }
    let model = calibration.quantised(method, target, &pinned)?;
    if pinned != asked {
        let name = format!("{}, {} pinned", method.name(), pinned.len());
        lines.push(line(&name, (&model, target), &calibration, &pinned, evaluation.as_ref())?);
    }
    let float = float_line(&arguments.student, &lines, evaluation.as_ref())?;
    lines.insert(0, float);
    // What was measured is told even if the file can't be written.
    print_table(&lines);
    if !sensitivities.is_empty() {
        println!("\nlayers alone in integers, the costliest: mean of 1 - cosine");
        for Sensitivity { layer, error } in sensitivities.iter().take(SHOWN) {
            println!("{layer:<28} {error:.5}{}", if pinned.contains(layer) { "  pinned" } else { "" });
        }
    }
    wordsight_onnx::write(&model, &arguments.output)?;
    CpuEngine::open(&arguments.output, 1)?;
    println!(
        "\n{}: {} of {} layers in integers, thresholds by {} over {} images",
        arguments.output.display(),
        calibration.layer_count() - pinned.len(),
        calibration.layer_count(),
        method.name(),
        images.len()
    );
    write_json(
        arguments.json.as_deref(),
        &serde_json::json!({
            "target": target, "method": method, "images": images.len(), "layers": calibration.layer_count(),
            "students": lines, "sensitivities": sensitivities,
        }),
    )
}

/// Writes the student in FP16 and says what that costs.
fn convert_to_f16(
    arguments: &Arguments,
    calibration: &Calibration,
    evaluation: Option<&Evaluation>,
) -> Result<()> {
    let model = calibration.in_f16()?;
    let line = line("fp16", (&model, Target::TensorRt), calibration, &BTreeSet::new(), evaluation)?;
    let float = float_line(&arguments.student, std::slice::from_ref(&line), evaluation)?;
    let lines = [float, line];
    print_table(&lines);
    wordsight_onnx::write(&model, &arguments.output)?;
    println!(
        "\n{}: a processor computes FP16 as FP32 and slower; it is for TensorRT",
        arguments.output.display()
    );
    write_json(arguments.json.as_deref(), &serde_json::json!({ "students": lines }))
}

/// Images of the folder, evenly chosen.
fn chosen_images(arguments: &Arguments) -> Result<Vec<PathBuf>> {
    let folder = &arguments.images;
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png" | "webp"))
        })
        .collect();
    files.sort();
    // FP16 has no thresholds: its images are only compared on.
    let most = if arguments.precision == Some(Precision::Fp16) { BUDGET_IMAGES } else { usize::MAX };
    let count = arguments.count.min(files.len()).min(most);
    ensure!(
        count >= FEWEST_IMAGES
            || (count > 0 && (arguments.few_images || arguments.precision == Some(Precision::Fp16))),
        "{} has {} images, --count asks for {}, and calibration takes {FEWEST_IMAGES} at least: thresholds from fewer \
         are chance; give more, or say --few-images if you know better",
        folder.display(),
        files.len(),
        arguments.count
    );
    Ok((0..count).map(|at| files[at * files.len() / count].clone()).collect())
}

struct Evaluation {
    set: AnnotatedSet,
    vocabulary: wordsight_detection::Vocabulary,
}

impl Evaluation {
    fn open(arguments: &Arguments) -> Result<Option<Self>> {
        let (Some(annotations), Some(images), Some(teacher)) =
            (&arguments.annotations, &arguments.annotated_images, &arguments.teacher)
        else {
            return Ok(None);
        };
        let set = AnnotatedSet::load(annotations, images)?;
        let vocabulary = vocabulary_for(&arguments.student, set.names(), &mut Teacher::open(teacher)?)?;
        Ok(Some(Self { set, vocabulary }))
    }

    fn row(&self, who: &str, engine: CpuEngine) -> Result<Row> {
        let mut detector = Detector::of(engine, &self.vocabulary)?;
        annotated::student_row(who, &mut detector, &self.vocabulary, &self.set, Rules::Coco)
    }
}

fn line(
    who: &str,
    (model, target): (&ModelProto, Target),
    calibration: &Calibration,
    pinned: &BTreeSet<String>,
    evaluation: Option<&Evaluation>,
) -> Result<Line> {
    let [float, quantised] = calibration.latencies(model, ROUNDS)?;
    Ok(Line {
        student: who.to_owned(),
        pinned: pinned.iter().cloned().collect(),
        agreement: Some(calibration.agreement(model, target)?),
        megabytes: wordsight_onnx::encode(model).len() as f64 / 1e6,
        milliseconds: 1e3 * quantised.as_secs_f64(),
        relative_time: quantised.as_secs_f64() / float.as_secs_f64(),
        evaluation: evaluation
            .map(|evaluation| evaluation.row(who, engine_as_on(model, target)?))
            .transpose()?,
    })
}

/// The student in float, its time as it was beside the last of the others.
fn float_line(student: &Path, lines: &[Line], evaluation: Option<&Evaluation>) -> Result<Line> {
    let milliseconds = lines.last().map_or(0.0, |line| line.milliseconds / line.relative_time);
    Ok(Line {
        student: "float".to_owned(),
        pinned: Vec::new(),
        agreement: None,
        megabytes: fs::metadata(student)?.len() as f64 / 1e6,
        milliseconds,
        relative_time: 1.0,
        evaluation: evaluation
            .map(|evaluation| evaluation.row("float", CpuEngine::open(student, 0)?))
            .transpose()?,
    })
}

fn print_table(lines: &[Line]) {
    let evaluated = lines.iter().any(|line| line.evaluation.is_some());
    let mut heading = vec!["", "cosine", "lowest tenth", "regions kept", "MB", "ms", "time"];
    if evaluated {
        heading.extend(["AP", "AP50", "novel AP50", "AR@100"]);
    }
    let mut table: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1}", 100.0 * share));
    for line in lines {
        let mut cells = vec![line.student.clone()];
        cells.extend(match line.agreement {
            Some(agreement) => [
                format!("{:.4}", agreement.median_cosine),
                format!("{:.4}", agreement.lowest_tenth),
                percent(Some(f64::from(agreement.regions_kept))),
            ],
            None => ["1", "1", "100.0"].map(str::to_owned),
        });
        cells.push(format!("{:.1}", line.megabytes));
        cells.push(format!("{:.1}", line.milliseconds));
        cells.push(format!("{:.2}", line.relative_time));
        if let Some(row) = &line.evaluation {
            let novel = row.novel.as_ref().and_then(|part| part.ap50);
            cells.extend([row.all.ap, row.all.ap50, novel, row.proposal_recall].map(percent));
        }
        table.push(cells);
    }
    print!("{}", annotated::aligned(&table));
}
