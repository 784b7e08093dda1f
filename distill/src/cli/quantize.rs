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
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::{Unreadable, open_picture};
use wordsight_distill::quantization::{
    BUDGET_IMAGES, Budget, Calibration, FEWEST_IMAGES, Sensitivity, engine_as_on, plot,
};
use wordsight_engines::{Agreement, CpuEngine};
use wordsight_files::Content;
use wordsight_onnx::proto::ModelProto;
use wordsight_teacher::Teacher;

use super::report::{vocabulary_for, write_json};

/// Frames that latencies are measured on.
const ROUNDS: usize = 60;
/// Layers that the printed sweep has.
const SHOWN: usize = 10;

/// Arguments of `quantize`.
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
    #[command(flatten)]
    options: Options,
    /// The teacher's folder, whose words the annotations' categories are.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// The quantised student to write.
    #[arg(long, short)]
    output: PathBuf,
}

/// Arguments that `export` has too.
#[derive(Args)]
pub struct Options {
    /// How many of the images to calibrate on, evenly chosen.
    #[arg(long, default_value_t = FEWEST_IMAGES)]
    count: usize,
    /// Leave out, by name, images that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
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
    /// And until no more than a tenth of the cosines are below this: a layer that spoils one kind of region
    /// moves them long before the median.
    #[arg(long, default_value_t = 0.97, value_parser = super::share)]
    least_lowest_tenth: f32,
    /// And until this share of the float student's proposals is there at least. Low, because most of a hundred
    /// proposals are of nothing and change places freely: it catches a ranking that has degenerated.
    #[arg(long, default_value_t = 0.5, value_parser = super::share)]
    least_kept: f32,
    /// A layer to keep in float whatever it costs; may be given several times.
    #[arg(long)]
    pin: Vec<String>,
    /// Also evaluate, before and after: annotations in COCO's format.
    #[arg(long, requires = "annotated_images", requires = "teacher", requires = "images")]
    annotations: Option<PathBuf>,
    /// The annotations' images.
    #[arg(long)]
    annotated_images: Option<PathBuf>,
    /// Also write the report as JSON.
    #[arg(long, requires = "images")]
    json: Option<PathBuf>,
    /// Also draw it, as SVG.
    #[arg(long, requires = "images")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// What pays in integers.
    Int8,
    /// Convolutions and linear layers in FP16, for TensorRT.
    Fp16,
}

/// What is to run a student.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// TensorRT on a GPU: int8 on both sides.
    Tensorrt,
    /// ONNX Runtime on a processor: uint8 activations, matrix products too.
    Cpu,
}

/// What a student is to compute in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As it was exported.
    Fp32,
    /// FP16, for TensorRT.
    Fp16,
    /// Integers.
    Int8(Target),
}

impl Format {
    /// FP16, which is for one target only.
    pub fn of_fp16(target: Option<TargetName>) -> Result<Self> {
        ensure!(
            target != Some(TargetName::Cpu),
            Mistake::new(
                "--precision fp16 is for --target tensorrt: a processor computes FP16 as FP32 and slower"
            )
        );
        Ok(Self::Fp16)
    }

    /// INT8 for a target; clap has asked for one.
    pub fn of_int8(target: Option<TargetName>) -> Self {
        Self::Int8(match target {
            Some(TargetName::Cpu) => Target::Cpu,
            Some(TargetName::Tensorrt) | None => Target::TensorRt,
        })
    }
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

/// A conversion and its report, as `quantize` and `export` ask for them.
pub struct Order<'a> {
    /// The student in float.
    pub student: &'a Path,
    /// What it is to become.
    pub format: Format,
    /// Photographs like those that it will see.
    pub images: &'a Path,
    /// All that has a default.
    pub options: &'a Options,
    /// Needed to evaluate.
    pub teacher: Option<&'a Path>,
    /// What to write; with [`Format::Fp32`] it is there already.
    pub output: &'a Path,
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
    let Arguments { student, images, options, output, .. } = arguments;
    let format = match arguments.precision {
        Some(Precision::Fp16) => Format::of_fp16(arguments.target)?,
        Some(Precision::Int8) | None => Format::of_int8(arguments.target),
    };
    carry_out(&Order { student, format, images, options, teacher: arguments.teacher.as_deref(), output })
}

/// Converts, writes, and says what it costs.
pub fn carry_out(order: &Order<'_>) -> Result<()> {
    let images = order.check()?;
    let evaluation = Evaluation::open(order)?;
    let evaluation = evaluation.as_ref();
    match order.format {
        Format::Fp32 => report_float(order, &Calibration::unwatched(order.student, &images)?, evaluation),
        Format::Fp16 => convert_to_f16(order, &Calibration::unwatched(order.student, &images)?, evaluation),
        Format::Int8(target) => {
            convert_to_int8(order, target, &Calibration::watch(order.student, target, &images)?, evaluation)
        }
    }
}

/// Tries the methods, pins what the budget asks for, writes and reports.
fn convert_to_int8(
    order: &Order<'_>,
    target: Target,
    calibration: &Calibration,
    evaluation: Option<&Evaluation>,
) -> Result<()> {
    let options = order.options;
    let asked: BTreeSet<String> = options.pin.iter().cloned().collect();
    let (method, agreement, mut lines) = best_method(options, target, calibration, &asked, evaluation)?;
    let budget = Budget {
        median_cosine: options.least_cosine,
        lowest_tenth: options.least_lowest_tenth,
        regions_kept: options.least_kept,
    };
    let mut sensitivities = Vec::new();
    let mut pinned = asked.clone();
    if !budget.holds(agreement) {
        sensitivities = calibration.sweep(method, target)?;
        pinned = calibration.pin_until(method, target, &sensitivities, budget, pinned)?;
    }
    let model = calibration.quantised(method, target, &pinned)?;
    if pinned != asked {
        let name = format!("{}, {} pinned", method.name(), pinned.len());
        lines.push(line(&name, (&model, target), calibration, &pinned, evaluation)?);
    }
    lines.insert(0, float_line(order.student, &lines, evaluation)?);
    // What was measured is told even if the file can't be written.
    print_table(&lines);
    print_sensitivities(&sensitivities, &pinned);
    wordsight_onnx::write(&model, order.output)?;
    CpuEngine::open(order.output, 1)?;
    println!(
        "\n{}: {} of {} layers in integers, thresholds by {} over {} images",
        order.output.display(),
        calibration.layer_count() - pinned.len(),
        calibration.layer_count(),
        method.name(),
        calibration.image_count()
    );
    draw(order, &lines, &sensitivities, &pinned)?;
    write_json(
        options.json.as_deref(),
        &serde_json::json!({
            "target": target, "method": method, "images": calibration.image_count(),
            "layers": calibration.layer_count(), "students": lines, "sensitivities": sensitivities,
        }),
    )
}

/// Of the methods that are to be tried the one whose student keeps most, how far that agrees, and a line on each.
fn best_method(
    options: &Options,
    target: Target,
    calibration: &Calibration,
    pinned: &BTreeSet<String>,
    evaluation: Option<&Evaluation>,
) -> Result<(Method, Agreement, Vec<Line>)> {
    let mut lines = Vec::new();
    let mut best: Option<(Method, Agreement)> = None;
    for method in options.method.methods() {
        let model = calibration.quantised(method, target, pinned)?;
        let line = line(method.name(), (&model, target), calibration, pinned, evaluation)?;
        // Medians hardly differ between methods: the regions that move most say more.
        let agreement = line.agreement.context("a quantised student has been compared")?;
        let kept = |agreement: &Agreement| agreement.median_cosine + agreement.lowest_tenth;
        if best.as_ref().is_none_or(|(_, known)| kept(&agreement) > kept(known)) {
            best = Some((method, agreement));
        }
        lines.push(line);
    }
    let (method, agreement) = best.context("there is no method to try")?;
    Ok((method, agreement, lines))
}

fn print_sensitivities(sensitivities: &[Sensitivity], pinned: &BTreeSet<String>) {
    if sensitivities.is_empty() {
        return;
    }
    println!("\nlayers alone in integers, the costliest: mean of 1 - cosine, regions lost");
    for Sensitivity { layer, error, regions_lost } in sensitivities.iter().take(SHOWN) {
        let mark = if pinned.contains(layer) { "  pinned" } else { "" };
        println!("{layer:<28} {error:.5}  {:>5.1}%{mark}", 100.0 * regions_lost);
    }
}

/// Writes the student in FP16 and says what that costs.
fn convert_to_f16(
    order: &Order<'_>,
    calibration: &Calibration,
    evaluation: Option<&Evaluation>,
) -> Result<()> {
    let model = calibration.in_f16()?;
    let line = line("fp16", (&model, Target::TensorRt), calibration, &BTreeSet::new(), evaluation)?;
    let float = float_line(order.student, std::slice::from_ref(&line), evaluation)?;
    let lines = [float, line];
    print_table(&lines);
    wordsight_onnx::write(&model, order.output)?;
    println!(
        "\n{}: a processor computes FP16 as FP32 and slower; it is for TensorRT",
        order.output.display()
    );
    draw(order, &lines, &[], &BTreeSet::new())?;
    write_json(order.options.json.as_deref(), &serde_json::json!({ "students": lines }))
}

/// Says what the student in float is like.
fn report_float(order: &Order<'_>, calibration: &Calibration, evaluation: Option<&Evaluation>) -> Result<()> {
    let [_, time] = calibration.latencies(&wordsight_onnx::read(order.student)?, ROUNDS)?;
    let mut float = float_line(order.student, &[], evaluation)?;
    float.milliseconds = 1e3 * time.as_secs_f64();
    let lines = [float];
    print_table(&lines);
    draw(order, &lines, &[], &BTreeSet::new())?;
    write_json(order.options.json.as_deref(), &serde_json::json!({ "students": lines }))
}

/// The report as a picture, where one is asked for.
fn draw(
    order: &Order<'_>,
    lines: &[Line],
    sensitivities: &[Sensitivity],
    pinned: &BTreeSet<String>,
) -> Result<()> {
    let Some(path) = &order.options.plot else { return Ok(()) };
    let students: Vec<plot::Student> = lines
        .iter()
        .map(|line| plot::Student {
            name: line.student.clone(),
            agreement: line.agreement,
            relative_time: line.relative_time,
            ap50: line.evaluation.as_ref().and_then(|row| row.all.ap50),
            novel_ap50: line.evaluation.as_ref().and_then(|row| row.novel.as_ref()?.ap50),
        })
        .collect();
    plot::draw(&students, sensitivities, pinned, path)
}

impl Order<'_> {
    /// Looks for what would fail after minutes of work; returns the images, evenly chosen from the folder.
    pub fn check(&self) -> Result<Vec<PathBuf>> {
        for (path, flag) in [(Some(self.output), "--output"), (self.options.plot.as_deref(), "--plot")] {
            let folder = path.and_then(Path::parent).filter(|folder| *folder != Path::new(""));
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                bail!("there is no folder {} for {flag}: make it first", folder.display());
            }
        }
        let (folder, options) = (self.images, self.options);
        self.check_outputs()?;
        let files = wordsight_pictures::pictures_in(folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let files = readable(files, Unreadable::of_flag(options.skip_unreadable))?;
        // Without thresholds images are only compared on.
        let has_thresholds = matches!(self.format, Format::Int8(_));
        let most = if has_thresholds { usize::MAX } else { BUDGET_IMAGES };
        let count = options.count.min(files.len()).min(most);
        ensure!(
            count >= FEWEST_IMAGES || (count > 0 && (options.few_images || !has_thresholds)),
            "{} has {} images, --count asks for {}, and calibration takes {FEWEST_IMAGES} at least: thresholds from \
             fewer are chance; give more, or say --few-images if you know better",
            folder.display(),
            files.len(),
            options.count
        );
        Ok((0..count).map(|at| files[at * files.len() / count].clone()).collect())
    }
}

impl Order<'_> {
    /// Nothing that is read is written.
    fn check_outputs(&self) -> Result<()> {
        let options = self.options;
        let mut inputs = super::inputs([options.annotations.as_ref()]);
        // What is only reported on was written by the export itself.
        if self.format != Format::Fp32 {
            inputs.add(self.student);
        }
        inputs.add_pictures(self.images);
        options.annotated_images.iter().for_each(|folder| inputs.add_pictures(folder));
        self.teacher.into_iter().for_each(|teacher| super::add_teacher(&mut inputs, teacher));
        inputs.check(self.output, Content::Onnx)?;
        super::check_report(&inputs, options.json.as_ref(), options.plot.as_ref())
    }
}

/// The files that can be read, where the others are to be left out.
fn readable(files: Vec<PathBuf>, unreadable: Unreadable) -> Result<Vec<PathBuf>> {
    if unreadable == Unreadable::Refused {
        return Ok(files);
    }
    let read = |path: PathBuf| Ok(unreadable.take(open_picture(&path))?.map(|_| path));
    let files: Vec<Option<PathBuf>> = files.into_iter().map(read).collect::<Result<_>>()?;
    Ok(files.into_iter().flatten().collect())
}

struct Evaluation {
    set: AnnotatedSet,
    vocabulary: wordsight_detection::Vocabulary,
}

impl Evaluation {
    fn open(order: &Order<'_>) -> Result<Option<Self>> {
        let (Some(annotations), Some(images), Some(teacher)) =
            (&order.options.annotations, &order.options.annotated_images, order.teacher)
        else {
            return Ok(None);
        };
        let unreadable = Unreadable::of_flag(order.options.skip_unreadable);
        let set = AnnotatedSet::load(annotations, images)?.readable(unreadable)?;
        let vocabulary = vocabulary_for(order.student, set.names(), &mut Teacher::open(teacher)?)?;
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
