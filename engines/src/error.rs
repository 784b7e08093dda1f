//! Errors of engines; each says what to do.

use std::path::PathBuf;

/// Why an engine or a session could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime is not there, or not usable.
    #[error(transparent)]
    Library(#[from] LibraryError),

    /// A model file cannot be read at all.
    #[error("cannot read the model {}: {reason}", path.display())]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },

    /// The bytes are not a model that ONNX Runtime can run.
    #[error("{model} is not a usable ONNX model: {reason}; it may be damaged: fetch or export it again")]
    NotAModel {
        /// The file, or the name that the caller gave the bytes.
        model: String,
        /// What ONNX Runtime said, on one line.
        reason: String,
    },

    /// It is an ONNX model, but not a student as this program understands one.
    #[error(
        "{model} is not a student for this version of wordsight: {reason}; docs/bring.md says what a student is, and `wordsight-distill export` writes one"
    )]
    NotAStudent {
        /// The student's file.
        model: String,
        /// The first thing that is missing or wrong.
        reason: String,
    },

    /// An input does not fit the model; a fault of the calling code.
    #[error("{model}: input `{input}`: {reason}")]
    BadInput {
        /// The model that was to run.
        model: String,
        /// The input's name.
        input: String,
        /// What does not fit.
        reason: String,
    },

    /// The model has an output that is not 32-bit float.
    #[error("{model}: output `{output}` is {found}, and only 32-bit float outputs can be read")]
    BadOutput {
        /// The model that ran.
        model: String,
        /// The output's name.
        output: String,
        /// What it is instead.
        found: String,
    },

    /// A GPU failed, or something that was to be done on it.
    #[cfg(feature = "tensorrt")]
    #[error("{engine}: {reason}")]
    Gpu {
        /// The engine.
        engine: String,
        /// What failed.
        reason: crate::gpu::GpuError,
    },

    /// There is no plan to run, or TensorRT won't run it.
    #[cfg(feature = "tensorrt")]
    #[error(transparent)]
    TensorRt(#[from] crate::tensorrt::TensorRtError),

    /// ONNX Runtime failed while it ran the model.
    #[error("ONNX Runtime failed on {model}: {reason}")]
    Failed {
        /// The model that ran.
        model: String,
        /// What ONNX Runtime said, on one line.
        reason: String,
    },
}

/// Why ONNX Runtime could not be loaded. It is looked for once a process, and every later attempt
/// to open a model gets the same answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LibraryError {
    /// It was built for the processor alone.
    #[error(
        "this ONNX Runtime has no CUDA provider: set ORT_DYLIB_PATH to libonnxruntime.so of the package onnxruntime-gpu, with \
         its libonnxruntime_providers_cuda.so beside it, or leave --device out"
    )]
    WithoutCuda,

    /// Nothing was found by the whole search.
    #[error(
        "ONNX Runtime was not found: run `make deps` in the checkout, or install libonnxruntime \
         1.{minimum_minor} or later and set ORT_DYLIB_PATH to its file ({loader_said})"
    )]
    Missing {
        /// The oldest release that will do: 1.this.
        minimum_minor: u32,
        /// What the system's loader said of the last attempt.
        loader_said: String,
    },

    /// A file was found, and the loader will not have it.
    #[error(
        "ONNX Runtime at {} cannot be loaded ({reason}): run `make deps` again, or set ORT_DYLIB_PATH to a libonnxruntime.so for this machine",
        path.display()
    )]
    Unloadable {
        /// The file that was tried.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },

    /// A library was loaded, and it is too old.
    #[error(
        "ONNX Runtime at {} is version {found}, and wordsight needs 1.{minimum_minor} or later: run `make deps`, or set ORT_DYLIB_PATH to a newer libonnxruntime.so",
        path.display()
    )]
    TooOld {
        /// The file that was tried.
        path: PathBuf,
        /// The version that it claims.
        found: String,
        /// The oldest release that will do: 1.this.
        minimum_minor: u32,
    },
}
