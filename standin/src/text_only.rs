//! Cuts the text half out of a teacher, small enough for a device that makes vocabularies itself.
//!
//! Turns a teacher's directory into one with the text model in smaller weights, the tokenizer, and the embedded captions
//! of the built-in competitors, so that a device embeds what is new and nothing else. Its `config.json` states the whole
//! teacher's id: words embedded here and there are in one space, which is measured before anything is put in place.

use std::fs;
use std::path::Path;

use serde_json::Value;
use wordsight_calibration::smaller_weights;
use wordsight_teacher::{
    CAPTIONS_FILE, EmbedCaptions, TeacherError, TextOnly, TextTeacher, competitors, read_json, weights_beside,
};

use crate::directory::{NewDirectory, refuse_to_replace_others};
use crate::error::StandinError;

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
    refuse_to_replace_others(output, "a text half", |config| config.get("text_only").is_some())?;
    let mut whole = TextTeacher::open(directory)?;
    let new = NewDirectory::beside(output)?;
    let (made, unwritable) = (new.path(), |reason| new.unwritable(reason));
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        if directory.join(file).exists() {
            fs::copy(directory.join(file), made.join(file)).map_err(unwritable)?;
        }
    }
    write_model(directory, weights, &made.join(MODELS))?;
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
    new.put_in_place()?;
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

fn write_model(directory: &Path, weights: Weights, to: &Path) -> Result<(), StandinError> {
    let (model, beside) =
        (directory.join(MODELS).join(TEXT_MODEL), weights_beside(directory, &[TEXT_MODEL])?);
    if weights == Weights::Small {
        let stays = |problem: String| {
            TeacherError::unusable(&model, problem + ": cut it with the weights as they are")
        };
        if !beside.is_empty() {
            let problem = "its weights lie in files of their own, which are not read here";
            return Err(stays(problem.to_owned()).into());
        }
        let small =
            smaller_weights(&wordsight_onnx::read(&model)?).map_err(|error| stays(error.to_string()))?;
        return Ok(wordsight_onnx::write(&small, &to.join(TEXT_MODEL))?);
    }
    for file in beside.iter().chain([&model]) {
        let copied = fs::copy(file, to.join(file.file_name().unwrap_or_default()));
        copied.map_err(|reason| TeacherError::unreadable(file, reason))?;
    }
    Ok(())
}
