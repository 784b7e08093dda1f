//! ONNX graphs: what an `.onnx` file holds, how to build one, how to read and write it.
//!
//! The host program builds a graph from tensors and operator names and gets a [`proto::ModelProto`] and its bytes. The
//! crate knows the *file format* and the names of a few operators; it runs nothing (`wordsight-engines` does) and
//! knows nothing about detectors.
//!
//! With [`Storage::F16`] weights are stored as FP16 and widened by a `Cast` node in the graph, so a file is half as
//! large and every runtime still computes in FP32 (ONNX Runtime and TensorRT both fold the cast when they load the
//! file).
//!
//! Format: ONNX IR, <https://github.com/onnx/onnx/blob/main/docs/IR.md>.

mod builder;
mod cut;
mod file;
pub mod proto;

pub use builder::{Attribute, Graph, Storage, Value};
pub use cut::{CutError, Part, lift_constants, reads};
pub use file::{LONGEST_FILE, OnnxFileError, decode, encode, metadata, read, set_metadata, write};

/// What a model computes in: `fp32`, `fp16` or `int8`.
pub fn precision_of(model: &proto::ModelProto) -> &'static str {
    let Some(graph) = &model.graph else { return "fp32" };
    if graph.node.iter().any(|node| node.op_type == "QuantizeLinear") {
        return "int8";
    }
    // Weights may be stored in FP16 and cast at once: what counts is what convolutions are given.
    const FLOAT16: i32 = 10;
    let half = |name: &String| {
        graph.initializer.iter().any(|weight| &weight.name == name && weight.data_type == FLOAT16)
    };
    let convolutions = graph.node.iter().filter(|node| node.op_type == "Conv");
    if convolutions.clone().count() > 0
        && convolutions.into_iter().all(|node| node.input.get(1).is_some_and(half))
    {
        return "fp16";
    }
    "fp32"
}
