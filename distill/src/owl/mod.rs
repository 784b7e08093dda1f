//! Makes a student and a teacher's text half of an OWL-ViT or OWLv2, from Hugging Face's ONNX export.
//!
//! OWL-ViT (Minderer et al., arXiv 2205.06230) and OWLv2 (arXiv 2306.09683) fuse late: each patch of an image gets a box,
//! an embedding, a shift and a scale, and only the last product meets the captions. There the graph is cut. The image's
//! side becomes a student with the normalisation inside and the captions' side a text-only teacher; both are run against
//! the whole before anything is written.

mod check;
mod graph;
mod source;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use wordsight_files::Durability;
use wordsight_standin::directory::{NewDirectory, refuse_to_replace_others};
use wordsight_teacher::{CAPTIONS_FILE, TextOnly, TextTeacher, competitors};

use check::Agreement;
use graph::{Halves, StudentParts};
use source::Source;

/// What was imported.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Imported {
    /// `owlvit` or `owlv2`.
    pub model_type: String,
    /// The teacher's id, which the student names too.
    pub teacher: String,
    /// Width and height of the student's input, pixels.
    pub input_size: (usize, usize),
    /// Regions a frame.
    pub regions: usize,
    /// Numbers of an embedding.
    pub embedding_size: usize,
    /// Whether the student tells the objectness of its regions.
    pub has_objectness: bool,
    /// The largest difference between the logits of both halves together and of the whole.
    pub largest_logit_difference: f32,
    /// The same of boxes, as a share of the input's sides.
    pub largest_box_difference: f32,
}

/// What is asked of an import.
#[derive(Debug, Clone, Copy)]
pub struct ImportSettings<'a> {
    /// The student to write.
    pub student: &'a Path,
    /// The folder of the text half to write.
    pub teacher: &'a Path,
    /// What the teacher's id begins with; by default the name that the export has.
    pub name: Option<&'a str>,
    /// Weight of the objectness in scores, where the model tells it; 0 is what transformers does.
    pub objectness_weight: f32,
}

/// Imports the export in `source`, a file or a folder.
///
/// # Errors
/// When a file is missing, not such an export, or its halves together answer otherwise than the whole.
pub fn import(source: &Path, settings: &ImportSettings<'_>) -> Result<Imported> {
    ensure!(
        (0.0..=1.0).contains(&settings.objectness_weight),
        "--objectness-weight must be from 0 to 1, not {}",
        settings.objectness_weight
    );
    let is_import = |config: &serde_json::Value| config.get("text_only").is_some();
    refuse_to_replace_others(settings.teacher, "a text half", is_import)?;
    let source = Source::open(source)?;
    let halves = Halves::cut(&source)?;
    let (parts, agreement) = check::run(&source, &halves)?;
    let (new_teacher, teacher) = prepare_teacher(&source, &halves, &parts, settings)?;
    let student = graph::student(&source, &halves, &parts, &metadata(&source, &parts, &teacher, settings)?);
    let bytes = wordsight_onnx::encode(&student);
    // Read as the device reads it, so that what is written is a student.
    check::open_as_student(&bytes)?;
    let parent = wordsight_files::folder_of(settings.student);
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    wordsight_files::replace(settings.student, Durability::Whole, &bytes)
        .with_context(|| format!("cannot write the student {}", settings.student.display()))?;
    new_teacher.put_in_place()?;
    let Agreement { logits, boxes } = agreement;
    Ok(Imported {
        model_type: source.config.model_type.clone(),
        teacher,
        input_size: source.preprocessor.input_size,
        regions: parts.regions,
        embedding_size: parts.embedding_size,
        has_objectness: halves.image.objectness.is_some(),
        largest_logit_difference: logits,
        largest_box_difference: boxes,
    })
}

/// Writes the text half beside its folder, which it takes the place of when the student is written. Returns its id.
fn prepare_teacher<'a>(
    source: &Source,
    halves: &Halves,
    parts: &StudentParts,
    settings: &ImportSettings<'a>,
) -> Result<(NewDirectory<'a>, String)> {
    let new = NewDirectory::beside(settings.teacher)?;
    let made = new.path();
    let model = graph::text_model(halves, Some(parts.embedding_size));
    wordsight_onnx::write(&model, &made.join("onnx/text_model.onnx"))?;
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let from = source.folder.join(file);
        if file == "tokenizer.json" || from.exists() {
            fs::copy(&from, made.join(file)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    let stated = TextOnly::of_directory(&made, "")?;
    let name = plain(settings.name.unwrap_or(&source.config.name));
    let id = format!("{name}-{}", stated.sha256.get(..ID_DIGITS).unwrap_or_default());
    let config = json!({
        "_name_or_path": source.config.name,
        "model_type": source.config.model_type,
        "text_config": { "max_position_embeddings": source.config.longest_caption },
        "projection_dim": parts.embedding_size,
        "text_only": TextOnly { id: id.clone(), ..stated },
    });
    let path = made.join("config.json");
    fs::write(&path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    // Those that compete with every list come along, so that a device embeds what is new and nothing else.
    let tokenizer =
        || format!("the tokenizer or the text model of {} can't be used", source.folder.display());
    let mut text = TextTeacher::open(&made).with_context(tokenizer)?;
    let competitors = text.vocabulary_of(&competitors::built_in_captions())?;
    competitors.save(&made.join(CAPTIONS_FILE))?;
    Ok((new, id))
}

/// A name as an id has it: what a log, a topic and a file name can all hold.
fn plain(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name: String =
        name.chars().map(|letter| if is_plain(letter) { letter.to_ascii_lowercase() } else { '-' }).collect();
    if name.is_empty() { "owl".to_owned() } else { name }
}

/// Hexadecimal digits of the hash in an id.
const ID_DIGITS: usize = 12;

/// The student's facts, as its file has them.
fn metadata(
    source: &Source,
    parts: &StudentParts,
    teacher: &str,
    settings: &ImportSettings<'_>,
) -> Result<Vec<(&'static str, String)>> {
    let preprocessor = &source.preprocessor;
    let training = json!({
        "imported_from": source.config.name,
        "model_type": source.config.model_type,
        "command": "wordsight-distill import owl",
    });
    let mut id = Sha256::new();
    id.update(teacher);
    parts.sample.iter().for_each(|value| id.update(value.to_le_bytes()));
    Ok(vec![
        ("wordsight.format", wordsight_engines::StudentFacts::FORMAT_OF_OTHERS.to_owned()),
        ("wordsight.teacher", teacher.to_owned()),
        ("wordsight.scores", "sigmoid".to_owned()),
        ("wordsight.objectness_weight", settings.objectness_weight.to_string()),
        ("wordsight.resize", preprocessor.mode.name().to_owned()),
        ("wordsight.resize_filter", preprocessor.filter.name().to_owned()),
        ("wordsight.padding", serde_json::to_string(&preprocessor.padding)?),
        ("wordsight.id", hex::encode(&id.finalize()[..8])),
        ("wordsight.training", training.to_string()),
    ])
}
