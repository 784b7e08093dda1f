//! What can go wrong with the stand-in's assembly, in sentences for the person who can put it right.

use std::io;
use std::path::PathBuf;

use wordsight_onnx::OnnxFileError;
use wordsight_teacher::TeacherError;

use crate::efficientnet::EfficientNetError;
use crate::pth::PthError;

/// Why a stand-in could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum StandinError {
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
    /// A part of a teacher can't be read or isn't what it should be, or a text half can't embed.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
}
