//! Errors of teachers; each says what to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use wordsight_detection::VocabularyError;
use wordsight_engines::EngineError;

use crate::words::WordsError;

/// Why a teacher could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// The directory lacks a file of the layout.
    #[error(
        "{} is not a teacher: it has no {file}; a teacher is a directory as Hugging Face's ONNX exports of CLIP are, \
         and `wordsight-distill teacher standin` assembles one; `wordsight-distill import owl` makes an OWL's",
        directory.display()
    )]
    Missing {
        /// The directory that was asked for.
        directory: PathBuf,
        /// The first file that is missing.
        file: &'static str,
    },
    /// A file is there and can't be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file was read and isn't what it should be.
    #[error("{} is not usable as part of a teacher: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A text half whose directory doesn't say whose it is.
    #[error(
        "{} has no onnx/vision_model.onnx, and its config.json doesn't say which teacher its text model is of: cut one by \
         `wordsight-distill teacher text-only`",
        directory.display()
    )]
    Unnamed {
        /// The directory.
        directory: PathBuf,
    },
    /// A text half whose files are others than those that its id was stated for.
    #[error(
        "the text model or the tokenizer in {} is not the one that was cut from the teacher `{id}`: it was changed or \
         damaged; install it again, or make it again by `wordsight-distill teacher text-only` or `import`",
        directory.display()
    )]
    Changed {
        /// The directory.
        directory: PathBuf,
        /// The teacher that it says it is of.
        id: String,
    },
    /// A name that would mean the same as any other that the teacher doesn't know.
    #[error(
        "the teacher's tokenizer knows nothing of {0:?}, so that it would mean the same as any other such word: name it in \
         the teacher's language, or take a teacher that knows it"
    )]
    UnknownName(String),
    /// Captions were embedded by another process, which failed.
    #[error("{0}")]
    Elsewhere(String),
    /// A text tokenized to something the tokenizer can't handle.
    #[error("the teacher's tokenizer failed on \"{text}\": {problem}")]
    Tokenizer {
        /// The first text of the batch.
        text: String,
        /// What it said.
        problem: String,
    },
    /// A box without area inside its image.
    #[error(
        "the box {box_in_image:?} (x1, y1, x2, y2) has no area inside its image of {width}x{height} pixels"
    )]
    EmptyBox {
        /// The box.
        box_in_image: [f32; 4],
        /// The image's width.
        width: usize,
        /// The image's height.
        height: usize,
    },
    /// A crop could not be resized.
    #[cfg(feature = "vision")]
    #[error("a crop could not be resized for the teacher: {0}")]
    Resize(#[from] wordsight_pictures::resize::ResizeError),
    /// A prompt template doesn't say where the word goes.
    #[error("the prompt \"{0}\" must contain {{}} once, where the word goes")]
    Prompt(String),
    /// The words file is wrong.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// The vocabulary can't be made.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// A model can't be opened or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl TeacherError {
    /// A file that can't be read.
    pub fn unreadable(path: &Path, reason: io::Error) -> Self {
        Self::Unreadable { path: path.into(), reason }
    }

    /// A file that isn't what it should be.
    pub fn unusable(path: &Path, problem: String) -> Self {
        Self::Unusable { path: path.into(), problem }
    }
}

/// A JSON file of a known form.
///
/// # Errors
/// When it can't be read, or has another form.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TeacherError> {
    let text = fs::read_to_string(path).map_err(|reason| TeacherError::unreadable(path, reason))?;
    serde_json::from_str(&text).map_err(|error| TeacherError::unusable(path, error.to_string()))
}
