//! What can go wrong with the stand-in's assembly, in sentences for the person who can put it right.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use wordsight_onnx::OnnxFileError;
use wordsight_teacher::TeacherError;

use crate::efficientnet::EfficientNetError;
use crate::pth::PthError;

/// Why a stand-in could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum StandinError {
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
    /// The teacher's directory could not be written.
    #[error("cannot write the teacher {}: {reason}", path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Something else stands where the teacher should go.
    #[error("{} exists and is not {kept}: it was left alone; name another directory", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What may be replaced.
        kept: &'static str,
    },
    /// Smaller weights make another teacher.
    #[error(
        "with smaller weights a caption's embedding has a cosine of {least_cosine:.4} to the teacher's own, and 0.999 is the \
         least: cut it with the weights as they are"
    )]
    OtherEmbeddings {
        /// The least cosine of a caption.
        least_cosine: f32,
    },
    /// A model can't be written.
    #[error(transparent)]
    Onnx(#[from] OnnxFileError),
    /// The classifier's weights can't be read.
    #[error(transparent)]
    Pth(#[from] PthError),
    /// The classifier's weights belong to another network.
    #[error(transparent)]
    EfficientNet(#[from] EfficientNetError),
    /// The text half that was assembled can't embed the class names.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
}

impl StandinError {
    pub(crate) fn unreadable(path: &Path, reason: io::Error) -> Self {
        Self::Unreadable { path: path.into(), reason }
    }

    pub(crate) fn unusable(path: &Path, problem: String) -> Self {
        Self::Unusable { path: path.into(), problem }
    }
}

/// A JSON file of a known form.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StandinError> {
    let text = fs::read_to_string(path).map_err(|reason| StandinError::unreadable(path, reason))?;
    serde_json::from_str(&text).map_err(|error| StandinError::unusable(path, error.to_string()))
}
