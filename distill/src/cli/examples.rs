//! `wordsight-distill measure-regions` and `eval-examples`: what words by example need, and what they give.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use wordsight_distill::eval::annotated::AnnotatedSet;
use wordsight_distill::eval::{examples, region_statistics};
use wordsight_engines::{CpuEngine, StudentFacts};
use wordsight_files::Content;
use wordsight_onnx::set_metadata;
use wordsight_teacher::Teacher;

use super::report::{vocabulary_for, write_json};

/// Photographs that are enough.
const ENOUGH: usize = 300;

/// Arguments of `measure-regions`.
#[derive(Args)]
pub struct MeasureRegions {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// A folder of ordinary photographs; the first 300 are looked at.
    #[arg(long)]
    images: PathBuf,
    /// Only those that these annotations list.
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// The student to write: the same, with what was measured among its facts.
    #[arg(long, short)]
    output: PathBuf,
}

/// Arguments of `eval-examples`.
#[derive(Args)]
pub struct EvalExamples {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Annotations to take examples from.
    #[arg(long)]
    examples: PathBuf,
    /// Their photographs; without it those of --images.
    #[arg(long)]
    example_images: Option<PathBuf>,
    /// Annotations to judge by.
    #[arg(long)]
    annotations: PathBuf,
    /// Their photographs.
    #[arg(long)]
    images: PathBuf,
    /// The teacher's folder.
    #[arg(long)]
    teacher: PathBuf,
    /// Examples a word.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 10])]
    counts: Vec<usize>,
    /// Which examples are drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Writes a student that says what its regions are like.
pub fn measure_regions(arguments: &MeasureRegions) -> Result<()> {
    let MeasureRegions { student, images, annotations, output } = arguments;
    super::inputs([Some(student), Some(images), annotations.as_ref()]).check(output, Content::Onnx)?;
    let mut photographs = match annotations {
        Some(annotations) => {
            let set = AnnotatedSet::load(annotations, images)?;
            set.files().iter().map(|file| file.path.clone()).collect()
        }
        None => wordsight_pictures::pictures_in(images)
            .with_context(|| format!("cannot list {}", images.display()))?,
    };
    photographs.truncate(ENOUGH);
    ensure!(!photographs.is_empty(), "there are no pictures in {}", images.display());
    let mut engine = CpuEngine::open(student, 0)?;
    let statistics = region_statistics::measure_regions(&mut engine, &photographs)?;
    let mut model = wordsight_onnx::read(student)?;
    set_metadata(&mut model, StudentFacts::REGION_STATISTICS, Some(serde_json::to_string(&statistics)?));
    wordsight_onnx::write(&model, output)?;
    println!(
        "{}: its regions in {} photographs have a mean of length {:.3}, and are {:.3} from it on average",
        output.display(),
        photographs.len(),
        statistics.text_mean.iter().map(|value| value * value).sum::<f32>().sqrt(),
        statistics.spread
    );
    Ok(())
}

/// Prints what examples give.
pub fn eval_examples(arguments: &EvalExamples) -> Result<()> {
    let EvalExamples { student, annotations, images, teacher, counts, seed, json, .. } = arguments;
    let example_images = arguments.example_images.as_ref().unwrap_or(images);
    let read = [student, &arguments.examples, example_images, annotations, images, teacher];
    super::check_report(&super::inputs(read.map(Some)), json.as_ref(), None)?;
    ensure!(counts.iter().all(|&count| count > 0), "--counts are from 1 on");
    let given = AnnotatedSet::load(&arguments.examples, example_images)?;
    let judged = AnnotatedSet::load(annotations, images)?;
    let vocabulary = vocabulary_for(student, judged.names(), &mut Teacher::open(teacher)?)?;
    let report = examples::evaluate(student, &vocabulary, (&given, &judged), counts, *seed)?;
    print!("{}", examples::table(&report));
    write_json(json.as_deref(), &report)
}
