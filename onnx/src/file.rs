//! `.onnx` files on disk.

use std::io;
use std::path::{Path, PathBuf};

use prost::Message;
use wordsight_files::Durability;

use crate::proto::{ModelProto, StringStringEntryProto};

/// Why an `.onnx` file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxFileError {
    /// The file could not be read.
    #[error("cannot read the ONNX file {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("{path} is not an ONNX model ({reason}): it may be truncated; fetch or export it again")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        reason: String,
    },
    /// The file could not be written.
    #[error("cannot write the ONNX file {path}: {reason}; check the folder's permissions and free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
}

/// The most bytes of a model: protocol buffers end at 2 GiB.
pub const LONGEST_FILE: u64 = 2 << 30;

/// Reads a model.
///
/// # Errors
/// When the file can't be read or isn't an ONNX model with a graph.
pub fn read(path: &Path) -> Result<ModelProto, OnnxFileError> {
    let bytes = wordsight_files::read_whole(path, LONGEST_FILE)
        .map_err(|reason| OnnxFileError::Read { path: path.into(), reason })?;
    decode(&bytes).map_err(|reason| OnnxFileError::Parse { path: path.into(), reason })
}

/// Reads a model from memory.
///
/// # Errors
/// Why the bytes are no ONNX model with a graph.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, String> {
    let model = ModelProto::decode(bytes).map_err(|error| error.to_string())?;
    if model.graph.is_none() {
        return Err("it holds no graph".to_owned());
    }
    Ok(model)
}

/// The bytes of a model, for a runtime that takes them from memory.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Writes a model: whole or not at all, by a temporary neighbour and a rename.
///
/// # Errors
/// When the file can't be written.
pub fn write(model: &ModelProto, path: &Path) -> Result<(), OnnxFileError> {
    let write_error = |reason| OnnxFileError::Write { path: path.into(), reason };
    wordsight_files::replace(path, Durability::Whole, &encode(model)).map_err(write_error)
}

/// The value of a metadata key, if the model has it.
pub fn metadata<'a>(model: &'a ModelProto, key: &str) -> Option<&'a str> {
    model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Sets a metadata key, or takes it away.
pub fn set_metadata(model: &mut ModelProto, key: &str, value: Option<String>) {
    model.metadata_props.retain(|entry| entry.key != key);
    let entry = value.map(|value| StringStringEntryProto { key: key.to_owned(), value });
    model.metadata_props.extend(entry);
}
