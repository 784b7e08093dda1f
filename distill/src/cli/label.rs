//! `wordsight-distill label`: a detector completes annotations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{ArgAction, Args};
use serde_json::json;
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Rules};
use wordsight_distill::label::yolox::{COCO_NAMES, Suppression, Yolox};
use wordsight_distill::label::{self, AnnotationFile, Settings};
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Unreadable;
use wordsight_distill::table;

use super::report::write_json;

/// Arguments of `label`.
#[derive(Args)]
pub struct Arguments {
    /// The detector, a YOLOX as ONNX.
    #[arg(long)]
    detector: PathBuf,
    /// The detector's words, one a line in its output's order; COCO's 80 by default.
    #[arg(long)]
    names: Option<PathBuf>,
    /// Annotations to complete, in COCO's format; without them all are the detector's.
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// The images' folder.
    #[arg(long)]
    images: PathBuf,
    /// Detections of this score and more become annotations.
    #[arg(long, default_value_t = 0.35, value_parser = super::share)]
    object: f32,
    /// Detections between this score and --object become annotations that training ignores.
    #[arg(long, default_value_t = 0.10, value_parser = super::share)]
    ignore: f32,
    /// Whether the annotations have every object of their own categories. If so, further detections of them are
    /// ignored.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    complete_for_own: bool,
    /// Further words, comma-separated, of which nothing is left to annotate, though no category is named so.
    #[arg(long, value_delimiter = ',')]
    complete_for: Vec<String>,
    /// Leave out, by name, pictures that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
    /// How many photographs at once; by default one a core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Instead of completing the annotations, say how good the detector is on them.
    #[arg(long, requires = "annotations")]
    evaluate: bool,
    /// The annotation file to write.
    #[arg(long, short, required_unless_present = "evaluate")]
    output: Option<PathBuf>,
    /// Also write the counts, or with --evaluate the figures, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Arguments {
    fn unreadable(&self) -> Unreadable {
        Unreadable::of_flag(self.skip_unreadable)
    }
}

/// Completes annotations, or evaluates who would.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut inputs =
        super::inputs([Some(&arguments.detector), arguments.names.as_ref(), arguments.annotations.as_ref()]);
    inputs.add_pictures(&arguments.images);
    super::check_report(&inputs, arguments.output.as_ref(), None)?;
    super::check_report(&inputs, arguments.json.as_ref(), None)?;
    let mut detectors = open_detectors(arguments)?;
    match (&arguments.annotations, &arguments.output) {
        (Some(annotations), _) if arguments.evaluate => evaluate(arguments, annotations, &mut detectors),
        (_, Some(output)) => complete(arguments, output, &mut detectors),
        (_, None) => anyhow::bail!(Mistake::new("name the file to write with --output")),
    }
}

fn open_detectors(arguments: &Arguments) -> Result<Vec<Yolox>> {
    let text = match &arguments.names {
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the detector's words {}", path.display()))?,
        None => COCO_NAMES.to_owned(),
    };
    let names: Arc<[String]> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let threads = arguments.threads.map_or_else(table::workers, usize::from);
    (0..threads).map(|_| Yolox::open(&arguments.detector, Arc::clone(&names))).collect()
}

fn complete(arguments: &Arguments, output: &Path, detectors: &mut [Yolox]) -> Result<()> {
    let settings = Settings {
        object_score: arguments.object,
        ignore_score: arguments.ignore,
        complete_for_own: arguments.complete_for_own,
        complete_for: arguments.complete_for.clone(),
    };
    ensure!(
        settings.ignore_score <= settings.object_score,
        Mistake::new(format!(
            "--ignore {} is above --object {}: it is the lower of the two",
            settings.ignore_score, settings.object_score
        ))
    );
    let mut file = match &arguments.annotations {
        Some(path) => AnnotationFile::load(path, &arguments.images)?,
        None => AnnotationFile::of_folder(&arguments.images)?,
    };
    let suppression = Suppression { score_threshold: settings.ignore_score, ..label::TO_LABEL };
    let answers =
        label::detect_all(detectors, &file, &arguments.images, arguments.unreadable(), &suppression)?;
    let names = detectors.first().map_or(&[][..], Yolox::names);
    let source = arguments.detector.file_stem().unwrap_or_default().to_string_lossy();
    let counts = label::complete(&mut file, &answers, names, &source, &settings);
    file.save(output)?;
    println!(
        "{} photographs: {} boxes annotated, {} objects and {} ignored boxes added, {} detections dropped; {}",
        counts.images,
        counts.annotated,
        counts.objects,
        counts.ignored,
        counts.dropped,
        output.display()
    );
    write_json(arguments.json.as_deref(), &counts)
}

fn evaluate(arguments: &Arguments, annotations: &Path, detectors: &mut [Yolox]) -> Result<()> {
    let set = AnnotatedSet::load(annotations, &arguments.images)?.readable(arguments.unreadable())?;
    let file = AnnotationFile::load(annotations, &arguments.images)?;
    let began = Instant::now();
    let answers =
        label::detect_all(detectors, &file, &arguments.images, arguments.unreadable(), &label::TO_EVALUATE)?;
    let time = began.elapsed();
    let names = detectors.first().map_or(&[][..], Yolox::names);
    let detections = label::detections(&file, &answers, names, &set);
    let who = arguments.detector.file_stem().unwrap_or_default().to_string_lossy();
    let row = annotated::fixed_words_row(&who, &set, detections, time, Rules::Coco);
    print!("{}", annotated::table(std::slice::from_ref(&row)));
    write_json(arguments.json.as_deref(), &json!({ "rows": [row] }))
}
