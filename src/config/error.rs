//! Why there is no usable configuration.

use std::path::PathBuf;

use wordsight_capture::UriError;

use crate::files::OutputError;
use crate::settings::SettingError;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` can't be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not as it should be; the message shows the line.
    #[error("the configuration {} is wrong: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What toml says, with line and column, and what may have been meant.
        reason: String,
    },
    /// Cameras that can't be told apart, or are none.
    #[error("the configuration's [[camera]] is wrong: {0}")]
    Cameras(String),
    /// What is wrong with one of several cameras.
    #[error("camera {name}: {reason}")]
    OfCamera {
        /// What it is called.
        name: String,
        /// What is wrong.
        reason: Box<ConfigError>,
    },
    /// A flag about the one source of a file, and a file with several.
    #[error(
        "the configuration has several cameras, and {0} is about one source: change the configuration's [[camera]]"
    )]
    FlagOfOneSource(&'static str),
    /// A variable of the environment that is no key's, or holds what its key doesn't take.
    #[error("the environment's variable {variable} is wrong: {reason}")]
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong, and what may have been meant.
        reason: String,
    },
    /// A secret that systemd hasn't handed over.
    #[error("the configuration has {key} = \"credential:{name}\": {reason}")]
    Credential {
        /// The key.
        key: String,
        /// The credential.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Words in two places.
    #[error(
        "the configuration {} has both `vocabulary` and `words`: what is looked for stands in one of them; take one out",
        path.display()
    )]
    TwoVocabularies {
        /// The file.
        path: PathBuf,
    },
    /// The built-in configuration names a file of a checkout, and there is no checkout.
    #[error(
        "demo/{} was not found under the current directory or above the executable: run wordsight in its \
         checkout (and `make demo` once), or name your own with `--{flag}` or in a configuration file", name.display()
    )]
    NoDemoFile {
        /// The file's name.
        name: PathBuf,
        /// The flag that names another.
        flag: &'static str,
    },
    /// A value of an output or the server that can't be what it is, by itself or beside the others.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// TensorRT is wanted from a program that can't have it.
    #[cfg(not(feature = "tensorrt"))]
    #[error(
        "this wordsight was built without TensorRT: set engine.kind to \"auto\" or \"onnxruntime\", or build it with \
         `cargo build --release --features tensorrt`"
    )]
    NoTensorRt,
    /// Pictures, and nobody to look at them.
    #[error("{} has examples: name the student that they are shown to, as --student", .0.display())]
    ExamplesWithoutStudent(PathBuf),
    /// A stream where photographs are wanted.
    #[error("{} is a stream and not a photograph: use `wordsight run --source`", .0.display())]
    NotAPhotograph(PathBuf),
    /// A source that can't be opened as it is written, or not by this program.
    #[error(transparent)]
    Source(#[from] UriError),
    /// An output that would be written over an input, or over what is no output.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A camera that is to lose no frame.
    #[error(
        "{0} is live, and what isn't fetched in time is lost: `lossless` is for files; leave source.pacing at \"auto\""
    )]
    LosslessCamera(String),
}

impl ConfigError {
    /// Whether the user wrote something wrong, as against a file that isn't there.
    pub fn is_a_mistake_of_usage(&self) -> bool {
        match self {
            Self::NoDemoFile { .. } => false,
            Self::OfCamera { reason, .. } => reason.is_a_mistake_of_usage(),
            _ => true,
        }
    }
}
