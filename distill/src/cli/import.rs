//! `wordsight-distill import`: students of other people's models.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use wordsight_distill::owl::{self, ImportSettings, Imported};
use wordsight_files::{Content, Durability, Inputs};

#[derive(Subcommand)]
pub enum Import {
    /// Of OWL-ViT or OWLv2, from Hugging Face's ONNX export: a student, and a teacher's text half for its words.
    Owl(Owl),
}

#[derive(Args)]
pub struct Owl {
    /// The export's folder (config.json, preprocessor_config.json, tokenizer.json and model.onnx, or an encoder for images
    /// and one for texts), or its model.onnx.
    source: PathBuf,
    /// The student to write.
    #[arg(long, short)]
    output: PathBuf,
    /// Folder for the text half, which makes vocabularies for it.
    #[arg(long)]
    teacher_out: PathBuf,
    /// What the teacher's id begins with; by default the export's own name.
    #[arg(long)]
    name: Option<String>,
    /// Weight of the objectness in scores, 0 to 1, where the export has `objectness_logits`; transformers scores without.
    #[arg(long, default_value_t = 0.0, value_parser = super::share)]
    objectness_weight: f32,
    /// Writes what was imported as JSON too.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub fn run(import: &Import) -> Result<()> {
    let Import::Owl(arguments) = import;
    let Owl { source, output, teacher_out, name, objectness_weight, json } = arguments;
    let inputs = Inputs::of([source.as_path()]);
    inputs.check(output, Content::Onnx)?;
    inputs.check_folder(teacher_out)?;
    json.as_ref().map(|path| inputs.check(path, Content::Json)).transpose()?;
    let settings = ImportSettings {
        student: output,
        teacher: teacher_out,
        name: name.as_deref(),
        objectness_weight: *objectness_weight,
    };
    let imported = owl::import(source, &settings)?;
    if let Some(path) = json {
        let text = format!("{}\n", serde_json::to_string_pretty(&imported)?);
        wordsight_files::replace(path, Durability::Whole, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let Imported { model_type, teacher, input_size: (width, height), regions, embedding_size, .. } =
        &imported;
    println!(
        "{model_type}: {width}x{height}, {regions} regions with embeddings of {embedding_size}, in {}; its halves together \
         are the whole to {:.0e} in logits and {:.0e} in boxes",
        output.display(),
        imported.largest_logit_difference,
        imported.largest_box_difference
    );
    println!(
        "{teacher} in {}: make words with `wordsight words make --teacher {}`",
        teacher_out.display(),
        teacher_out.display()
    );
    Ok(())
}
