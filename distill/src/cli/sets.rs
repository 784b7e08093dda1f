//! `wordsight-distill show-batch` and `set-annotations`: what training sees of the sets.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use wordsight_distill::mistake::Mistake;
use wordsight_distill::progress;
use wordsight_distill::sets::{Augmentation, Loader, LoaderSettings, Phase, Sets, show};
use wordsight_files::Content;

/// Arguments of `set-annotations`.
#[derive(Args)]
pub struct SetAnnotations {
    #[command(flatten)]
    sets: SetsFile,
    /// The set's name in the list.
    #[arg(long)]
    set: String,
    /// The folder that the photographs' names are to be relative to.
    #[arg(long)]
    images: PathBuf,
    /// The annotation file to write.
    #[arg(long, short)]
    output: PathBuf,
}

/// Writes what training takes of one set as annotations in COCO's format, for commands that read those.
pub fn set_annotations(arguments: &SetAnnotations) -> Result<()> {
    let sets = arguments.sets.load()?;
    sets.inputs(&arguments.sets.sets).check(&arguments.output, Content::Json)?;
    let dataset = sets.dataset(&arguments.set, &arguments.images)?;
    dataset.save(&arguments.output)?;
    println!(
        "{} photographs with {} objects in {}",
        dataset.images.len(),
        dataset.annotations.len(),
        arguments.output.display()
    );
    Ok(())
}

/// Which sets to train on.
#[derive(Args)]
pub struct SetsFile {
    /// The list of annotated sets, a sets.toml: see docs/sets.md.
    #[arg(long)]
    sets: PathBuf,
    /// A folder for `{name}` in the list's paths, as NAME=FOLDER; may be given more than once.
    #[arg(long, value_parser = super::root)]
    root: Vec<(String, PathBuf)>,
}

impl SetsFile {
    /// Reads the sets.
    pub fn load(&self) -> Result<Sets> {
        Sets::load_with_roots(&self.sets, &self.root)
    }
}

/// Arguments of `show-batch`.
#[derive(Args)]
pub struct ShowBatch {
    #[command(flatten)]
    sets: SetsFile,
    /// Steps whose pictures to write.
    #[arg(long, default_value_t = 1)]
    steps: usize,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_step: usize,
    /// Pictures a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// The input's side in pixels.
    #[arg(long, default_value = "416", value_parser = super::side)]
    side: usize,
    /// Only letterbox, as for validation.
    #[arg(long)]
    plain: bool,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the pictures; without it they are made and timed only.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// Writes the pictures of some steps with their boxes, and says what they took to make.
pub fn show_batch(arguments: &ShowBatch) -> Result<()> {
    let sets = Arc::new(arguments.sets.load()?);
    ensure!(arguments.steps > 0, Mistake::new("--steps must be at least 1"));
    if let Some(output) = &arguments.output {
        let inputs = sets.inputs(&arguments.sets.sets);
        inputs.check_folder(output)?;
        inputs.check_pictures(output)?;
    }
    let augmentation = if arguments.plain { Augmentation::plain() } else { Augmentation::strong() };
    let settings = LoaderSettings {
        seed: arguments.seed,
        batch: arguments.batch,
        phases: Phase::always(arguments.side, augmentation),
        threads: 1,
        cache_bytes: u64::MAX,
    };
    if let Some(output) = &arguments.output {
        fs::create_dir_all(output).with_context(|| format!("cannot make the folder {}", output.display()))?;
    }
    let mut loader = Loader::new(sets.clone(), settings, arguments.first_step, arguments.steps)?;
    let bar = progress::bar(arguments.steps as u64, "steps");
    let begun = Instant::now();
    for step in arguments.first_step..arguments.first_step + arguments.steps {
        for (place, picture) in loader.next()?.iter().enumerate() {
            let Some(output) = &arguments.output else { break };
            let path = output.join(format!("{step:06}-{place:03}.png"));
            show::annotated(picture, &sets.words)
                .save(&path)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        bar.inc(1);
    }
    bar.finish();
    let pictures = arguments.steps * arguments.batch;
    match &arguments.output {
        Some(output) => println!("{pictures} pictures in {}", output.display()),
        None => println!(
            "{pictures} pictures at {:.2} ms each on one thread",
            1000.0 * begun.elapsed().as_secs_f64() / pictures as f64
        ),
    }
    Ok(())
}
