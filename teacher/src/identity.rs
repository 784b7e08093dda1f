//! Which teacher a directory is: a short name and a hash over what makes its embedding space.
//!
//! Reads a teacher's directory for its id and for what `config.json` says of its captions. A whole teacher is known by
//! both of its models. A text-only one has the id of the teacher that it was cut from, because its embeddings are
//! that teacher's: `config.json` states it beside a hash over the text files ([`TextOnly`]), which is held against them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{TeacherError, read_json};
use crate::text::TextConfig;

/// `model_type` in a stand-in's `config.json`: its id is stated there, since its models' last digits depend on the
/// processor that assembled it.
pub const STANDIN_MODEL_TYPE: &str = "wordsight-standin";

/// The files of the text half, those that every one has.
pub(crate) const TEXT_FILES: [&str; 3] = ["config.json", "tokenizer.json", "onnx/text_model.onnx"];
pub(crate) const VISION_MODEL: &str = "onnx/vision_model.onnx";
/// The files that the identity of a whole teacher is computed from.
const IDENTITY: [&str; 3] = [VISION_MODEL, "onnx/text_model.onnx", "tokenizer.json"];
/// Those that the hash of a text-only one is computed from; the last may lack.
const TEXT_IDENTITY: [&str; 3] = ["onnx/text_model.onnx", "tokenizer.json", "tokenizer_config.json"];
/// Hexadecimal digits of the hash in an id.
const ID_DIGITS: usize = 12;

/// What `text_only` in `config.json` says of a text half that lies in a directory by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextOnly {
    /// The id of the whole teacher.
    pub id: String,
    /// SHA-256 over the text model, the weights beside it, and the tokenizer's files, hexadecimal.
    pub sha256: String,
}

/// The part of `config.json` that is read.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "_name_or_path")]
    name_or_path: Option<String>,
    model_type: Option<String>,
    text_config: Option<TextConfig>,
    /// Only a stand-in's.
    sources_sha256: Option<String>,
    text_only: Option<TextOnly>,
}

/// Which teacher a directory is, and what is to be known of its captions.
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) text_config: TextConfig,
}

impl TextOnly {
    /// What `config.json` is to say beside the text files of this directory.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn of_directory(directory: &Path, id: &str) -> Result<Self, TeacherError> {
        Ok(Self { id: id.to_owned(), sha256: digest_of_text(directory)? })
    }
}

impl Identity {
    /// Looks whether the text half is there, and which teacher it is of.
    pub(crate) fn of(directory: &Path) -> Result<Self, TeacherError> {
        if let Some(file) = TEXT_FILES.into_iter().find(|file| !directory.join(file).is_file()) {
            return Err(TeacherError::Missing { directory: directory.into(), file });
        }
        let config_path = directory.join("config.json");
        let mut config: Config = read_json(&config_path)?;
        let text_config = config.text_config.take().unwrap_or_default();
        let id = match (&config.text_only, config.stated_digest()) {
            (Some(stated), _) => {
                if digest_of_text(directory)? != stated.sha256 {
                    return Err(TeacherError::Changed { directory: directory.into(), id: stated.id.clone() });
                }
                stated.id.clone()
            }
            (None, Some(digest)) => config.id(digest),
            (None, None) if !directory.join(VISION_MODEL).is_file() => {
                return Err(TeacherError::Unnamed { directory: directory.into() });
            }
            (None, None) => {
                config.id(&digest_of(directory, &IDENTITY, &["vision_model.onnx", "text_model.onnx"])?)
            }
        };
        Ok(Self { id, text_config })
    }
}

impl Config {
    fn stated_digest(&self) -> Option<&str> {
        let is_standin = self.model_type.as_deref() == Some(STANDIN_MODEL_TYPE);
        self.sources_sha256.as_deref().filter(|_| is_standin)
    }

    /// The last part of the name, and the digest's first digits.
    fn id(&self, digest: &str) -> String {
        let name = [&self.name_or_path, &self.model_type].into_iter().flatten().find_map(|name| {
            let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            (!last.is_empty()).then(|| last.to_lowercase())
        });
        let digits = digest.get(..ID_DIGITS).unwrap_or(digest);
        format!("{}-{digits}", name.as_deref().unwrap_or("teacher"))
    }
}

fn digest_of_text(directory: &Path) -> Result<String, TeacherError> {
    let files: Vec<&str> = TEXT_IDENTITY.into_iter().filter(|file| directory.join(file).is_file()).collect();
    digest_of(directory, &files, &["text_model.onnx"])
}

/// SHA-256 over files and the weights beside these models.
fn digest_of(directory: &Path, files: &[&str], models: &[&str]) -> Result<String, TeacherError> {
    let mut digest = Sha256::new();
    let mut paths: Vec<PathBuf> = files.iter().map(|file| directory.join(file)).collect();
    paths.extend(weights_beside(directory, models)?);
    for path in paths {
        let copied = fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut digest));
        copied.map_err(|source| TeacherError::unreadable(&path, source))?;
    }
    Ok(hex::encode(digest.finalize()))
}

/// Files in which a large export keeps the weights of these models (`vision_model.onnx`, ...), such as
/// `vision_model.onnx_data`, in order: without them, two trainings of one architecture would be one teacher.
///
/// # Errors
/// When the folder of models can't be read.
pub fn weights_beside(directory: &Path, models: &[&str]) -> Result<Vec<PathBuf>, TeacherError> {
    let folder = directory.join("onnx");
    let unreadable = |source| TeacherError::unreadable(&folder, source);
    let is_beside = |name: &str| {
        models.iter().any(|model| name.strip_prefix(model).is_some_and(|rest| rest.contains("data")))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_beside) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
