//! Cuts the text half out of a teacher, small enough for a device that makes vocabularies itself.
//!
//! Flows in: a teacher's directory. Flows out: a directory with the text model in smaller weights, the tokenizer, and the
//! captions of the built-in competitors as they were embedded, so that a device embeds what is new and nothing else. Its
//! `config.json` states the whole teacher's id: words embedded here and there are in one space, which is measured before
//! anything is put in place.

use std::fs;
use std::path::Path;

use serde_json::Value;
use wordsight_calibration::smaller_weights;
use wordsight_files::folder_of;
use wordsight_teacher::{CAPTIONS_FILE, EmbedCaptions, TeacherError, TextOnly, TextTeacher, competitors};

use crate::error::{StandinError, read_json};

/// The least cosine between a caption's embedding by the smaller weights and by the teacher's own.
const LEAST_COSINE: f32 = 0.999;
/// The folder of the models, and the text model in it.
const MODELS: &str = "onnx";
const TEXT_MODEL: &str = "text_model.onnx";

/// How the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Tables in INT8 with a step a row, linear layers in FP16; computed in FP32.
    Small,
    /// As the teacher has them.
    AsTheyAre,
}

/// What was cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The teacher's id.
    pub id: String,
    /// How many captions were compared, and come with it.
    pub captions: usize,
    /// The least cosine between their embeddings and the whole teacher's.
    pub least_cosine: f32,
}

/// Cuts the text half out of the teacher in `directory` into the directory `output`, whole or not at all. A text half that
/// is there already is replaced; anything else is left alone.
///
/// # Errors
/// When the teacher can't be opened, its weights can't be stored so or embed another way then, or something else lies in
/// `output`.
pub fn cut(directory: &Path, weights: Weights, output: &Path) -> Result<Cut, StandinError> {
    refuse_to_replace_others(output)?;
    let mut whole = TextTeacher::open(directory)?;
    let unwritable = |reason| StandinError::Unwritable { path: output.into(), reason };
    let parent = folder_of(output);
    fs::create_dir_all(parent).map_err(unwritable)?;
    let workshop = tempfile::Builder::new().prefix(".teacher.").tempdir_in(parent).map_err(unwritable)?;
    let made = workshop.path().join("teacher");
    fs::create_dir_all(made.join(MODELS)).map_err(unwritable)?;
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        if directory.join(file).exists() {
            fs::copy(directory.join(file), made.join(file)).map_err(unwritable)?;
        }
    }
    write_model(&directory.join(MODELS), weights, &made.join(MODELS))?;
    let mut config: Value = read_json(&directory.join("config.json"))?;
    let stated = TextOnly::of_directory(&made, whole.id())?;
    let as_json = |error: serde_json::Error| unwritable(error.into());
    config["text_only"] = serde_json::to_value(stated).map_err(as_json)?;
    fs::write(made.join("config.json"), format!("{config:#}\n")).map_err(unwritable)?;

    let mut half = TextTeacher::open(&made)?;
    let (captions, least_cosine) = compare(&mut whole, &mut half, &made.join(CAPTIONS_FILE))?;
    if least_cosine < LEAST_COSINE {
        return Err(StandinError::OtherEmbeddings { least_cosine });
    }
    if output.exists() {
        fs::rename(output, workshop.path().join("replaced")).map_err(unwritable)?;
    }
    fs::rename(&made, output).map_err(unwritable)?;
    Ok(Cut { id: half.id().to_owned(), captions, least_cosine })
}

/// Embeds the built-in competitors' captions by both, and keeps the half's in a file. Returns how many there are, and the
/// least cosine between the two.
fn compare(
    whole: &mut TextTeacher,
    half: &mut TextTeacher,
    file: &Path,
) -> Result<(usize, f32), StandinError> {
    let captions = competitors::built_in_captions();
    let texts: Vec<String> = captions.iter().map(|caption| caption.text.clone()).collect();
    let before = whole.embed_texts(&texts)?;
    let embedded = half.vocabulary_of(&captions)?;
    let after = embedded.embeddings.chunks_exact(half.embedding_size());
    let cosine = |(a, b): (&Vec<f32>, &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let least = before.iter().zip(after).map(cosine).fold(1.0, f32::min);
    embedded.save(file).map_err(TeacherError::from)?;
    Ok((captions.len(), least))
}

/// A destination that holds something other than a text half isn't ours to remove.
fn refuse_to_replace_others(output: &Path) -> Result<(), StandinError> {
    if !output.exists() || fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    let is_half =
        read_json::<Value>(&output.join("config.json")).is_ok_and(|config| config.get("text_only").is_some());
    if is_half { Ok(()) } else { Err(StandinError::Occupied { path: output.into(), kept: "a text half" }) }
}

fn write_model(from: &Path, weights: Weights, to: &Path) -> Result<(), StandinError> {
    let (model, beside) = (from.join(TEXT_MODEL), weights_beside(from)?);
    if weights == Weights::Small {
        let stays = |problem: String| {
            StandinError::unusable(&model, problem + ": cut it with the weights as they are")
        };
        if !beside.is_empty() {
            return Err(stays("its weights lie in files of their own, which are not read here".to_owned()));
        }
        let small =
            smaller_weights(&wordsight_onnx::read(&model)?).map_err(|error| stays(error.to_string()))?;
        return Ok(wordsight_onnx::write(&small, &to.join(TEXT_MODEL))?);
    }
    for name in beside.iter().map(String::as_str).chain([TEXT_MODEL]) {
        let copied = fs::copy(from.join(name), to.join(name));
        copied.map_err(|reason| StandinError::unreadable(&from.join(name), reason))?;
    }
    Ok(())
}

/// Files in which a large export keeps the text model's weights.
fn weights_beside(folder: &Path) -> Result<Vec<String>, StandinError> {
    let entries = fs::read_dir(folder).map_err(|reason| StandinError::unreadable(folder, reason))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.strip_prefix(TEXT_MODEL).is_some_and(|rest| rest.contains("data"))).collect())
}
