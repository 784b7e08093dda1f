//! ONNX graphs: what an `.onnx` file holds, how to build one, how to read and write it.
//!
//! Flows in: tensors and operator names from the host program. Flows out: a [`proto::ModelProto`]
//! and its bytes. The crate knows the *file format* and a handful of operator spellings; it does
//! not run anything (that is `wordsight-engines`) and knows nothing about detectors.
//!
//! The surprising thing: with [`Storage::F16`] weights are stored as FP16 and widened by a `Cast`
//! node in the graph, so a file is half as large while every runtime still computes in FP32
//! (ONNX Runtime and TensorRT both fold the cast once, when they load the file).
//!
//! Format: ONNX IR, <https://github.com/onnx/onnx/blob/main/docs/IR.md>.

mod builder;
mod file;
pub mod proto;

pub use builder::{Attribute, Graph, Storage, Value};
pub use file::{OnnxFileError, decode, encode, metadata, read, write};
