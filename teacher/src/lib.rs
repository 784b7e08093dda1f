//! The teacher: embeds photographs and words into one space.
//!
//! A teacher is a directory in the layout of Hugging Face's ONNX exports of CLIP (`onnx/vision_model.onnx`,
//! `onnx/text_model.onnx`, `tokenizer.json`, `preprocessor_config.json`, `config.json`). It turns captions and crops
//! of photographs into embeddings of length 1, for training ([`Teacher::embed_crops`]) and for vocabularies
//! ([`words`]). [`standin`] assembles such a directory from packages with open licences.
//!
//! A teacher is identified by its content. [`Teacher::id`] ends in a hash, which students and vocabularies carry:
//! files that were made by different teachers are refused together, even if the teachers have the same name.

pub mod competitors;
pub mod efficientnet;
mod error;
mod minilm;
pub mod prompts;
pub mod pth;
pub mod standin;
mod text;
mod vision;
pub mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use crate::error::TeacherError;
use crate::error::read_json;
use crate::prompts::caption;
use crate::text::{TextConfig, TextTower, mean_direction};
use crate::vision::VisionTower;

/// The files that make a directory a teacher.
const LAYOUT: [&str; 5] = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "onnx/text_model.onnx",
    "onnx/vision_model.onnx",
];
/// Of these, the ones that the identity is computed from.
const IDENTITY: [&str; 3] = ["onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"];
/// A caption to measure embeddings by: Optimum's exports leave their size open.
const PROBE: &str = "a";
/// Hexadecimal digits of the hash in an id.
const ID_DIGITS: usize = 12;

/// A vision-language model that is ready to embed.
pub struct Teacher {
    id: String,
    embedding_size: usize,
    text: TextTower,
    vision: VisionTower,
}

/// The part of `config.json` that is read.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "_name_or_path")]
    name_or_path: Option<String>,
    model_type: Option<String>,
    text_config: Option<TextConfig>,
    /// Only a stand-in's: see [`standin`].
    sources_sha256: Option<String>,
}

impl Teacher {
    /// Opens a teacher's directory; both models run on all cores.
    ///
    /// # Errors
    /// When a file of the layout is missing or not what it should be, or ONNX Runtime is missing.
    pub fn open(directory: &Path) -> Result<Self, TeacherError> {
        Self::open_with_threads(directory, 0)
    }

    /// As [`Self::open`], with the number of threads that work on one batch; 0 is all cores.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_threads(directory: &Path, threads: usize) -> Result<Self, TeacherError> {
        if let Some(file) = LAYOUT.into_iter().find(|file| !directory.join(file).is_file()) {
            return Err(TeacherError::Missing { directory: directory.into(), file });
        }
        let config_path = directory.join("config.json");
        let mut config: Config = read_json(&config_path)?;
        let mut text = TextTower::open(directory, config.text_config.take().unwrap_or_default(), threads)?;
        let mut vision = VisionTower::open(directory, threads)?;
        let embedding_size = match text.stated_size() {
            Some(size) => size,
            None => text.embed(&[PROBE.to_owned()])?.concat().len(),
        };
        let of_images = match vision.stated_size() {
            Some(size) => size,
            None => vision.embed(&RgbImage::new(1, 1), &[[0.0, 0.0, 1.0, 1.0]])?.concat().len(),
        };
        if embedding_size != of_images {
            let problem = format!(
                "the text model's embeddings have {embedding_size} numbers and the vision model's {of_images}"
            );
            return Err(TeacherError::unusable(directory, problem));
        }
        Ok(Self { id: identity(directory, &config)?, embedding_size, text, vision })
    }

    /// Which teacher this is: a short name and the first 12 hexadecimal digits of a SHA-256. Two teachers with one
    /// id have one embedding space.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The length of every embedding.
    pub fn embedding_size(&self) -> usize {
        self.embedding_size
    }

    /// Captions to embeddings of length 1, one each.
    ///
    /// # Errors
    /// When the tokenizer or the model fails.
    pub fn embed_texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, TeacherError> {
        self.text.embed(texts)
    }

    /// The tokens that the text model is given for a caption on its own, to see what is left of a long one: begin and
    /// end included, cut to the model's length with the end kept, and padded to that length where the model takes no
    /// attention mask.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<i64>, TeacherError> {
        self.text.tokens(text)
    }

    /// Whether the text model knows anything of a name: not if all its tokens are "unknown", or there are none.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn sees(&self, name: &str) -> Result<bool, TeacherError> {
        self.text.sees(&prompts::clean(name))
    }

    /// A word and its synonyms to one embedding of length 1: the mean over the prompts for each name, then over the
    /// names, each step normalised (ViLD, arXiv 2104.13921, appendix on prompts).
    ///
    /// # Errors
    /// When a prompt has no place for the word, or the model fails.
    pub fn embed_word(
        &mut self,
        prompts: &[String],
        word: &str,
        synonyms: &[String],
    ) -> Result<Vec<f32>, TeacherError> {
        let embeddings = self.embed_words(prompts, &[(word, synonyms)])?;
        Ok(embeddings.concat())
    }

    /// As [`Self::embed_word`] for many words with their synonyms, in batches.
    ///
    /// # Errors
    /// As [`Self::embed_word`].
    pub fn embed_words(
        &mut self,
        prompts: &[String],
        words: &[(&str, &[String])],
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        let mut captions = Vec::new();
        for (word, synonyms) in words {
            for name in std::iter::once(*word).chain(synonyms.iter().map(String::as_str)) {
                for prompt in prompts {
                    captions.push(caption(prompt, name)?);
                }
            }
        }
        let embeddings = self.embed_texts(&captions)?;
        let names: Vec<Vec<f32>> =
            embeddings.chunks_exact(prompts.len().max(1)).map(mean_direction).collect();
        let mut rest = names.as_slice();
        let mut of_words = Vec::with_capacity(words.len());
        for (_, synonyms) in words {
            let (own, others) = rest.split_at_checked(1 + synonyms.len()).unwrap_or((rest, &[]));
            of_words.push(mean_direction(own));
            rest = others;
        }
        Ok(of_words)
    }

    /// Boxes `[x1, y1, x2, y2]` in pixels of a photograph to embeddings of length 1, one each: the direction of the sum
    /// of two crops, the box and the box at one and a half times its size. Crops are padded to a square with the mean
    /// colour and never cut.
    ///
    /// # Errors
    /// When a box has no area inside the image, or the model fails.
    pub fn embed_crops(
        &mut self,
        image: &RgbImage,
        boxes_in_image: &[[f32; 4]],
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        self.vision.embed(image, boxes_in_image)
    }
}

/// The id: the last part of the name and the hash, computed from the files or, for a stand-in, stated.
fn identity(directory: &Path, config: &Config) -> Result<String, TeacherError> {
    let stated =
        config.sources_sha256.as_ref().filter(|_| config.model_type.as_deref() == Some(standin::MODEL_TYPE));
    let digest = match stated {
        Some(sources) => sources.clone(),
        None => digest_of_files(directory)?,
    };
    let name = [&config.name_or_path, &config.model_type].into_iter().flatten().find_map(|name| {
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        (!last.is_empty()).then(|| last.to_lowercase())
    });
    let digits = digest.get(..ID_DIGITS).unwrap_or(&digest);
    Ok(format!("{}-{digits}", name.as_deref().unwrap_or("teacher")))
}

fn digest_of_files(directory: &Path) -> Result<String, TeacherError> {
    let mut digest = Sha256::new();
    let mut paths: Vec<PathBuf> = IDENTITY.into_iter().map(|file| directory.join(file)).collect();
    paths.extend(weights_beside_models(directory)?);
    for path in paths {
        let copied = fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut digest));
        copied.map_err(|source| TeacherError::unreadable(&path, source))?;
    }
    Ok(hex_digest(digest))
}

/// Files in which a large export keeps its weights, such as `vision_model.onnx_data`: without them, two trainings of
/// one architecture would be one teacher.
fn weights_beside_models(directory: &Path) -> Result<Vec<PathBuf>, TeacherError> {
    let folder = directory.join("onnx");
    let unreadable = |source| TeacherError::unreadable(&folder, source);
    let is_beside = |name: &str| {
        ["vision_model.onnx", "text_model.onnx"]
            .into_iter()
            .any(|model| name.strip_prefix(model).is_some_and(|rest| rest.contains("data")))
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

pub(crate) fn hex_digest(digest: Sha256) -> String {
    hex::encode(digest.finalize())
}
