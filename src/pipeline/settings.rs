//! `[engine]` of a configuration: what runs the student, and how.

use std::path::PathBuf;

use serde::Deserialize;

/// `[engine]`, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineKeys {
    pub kind: EngineKind,
    pub tensorrt: Option<PathBuf>,
    pub build_plans: bool,
    pub precision: Precision,
    pub workspace_mib: u32,
    pub threads: usize,
}

/// `engine.kind`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// TensorRT where it is, or else ONNX Runtime.
    Auto,
    /// ONNX Runtime, on the processor.
    #[value(name = "onnxruntime")]
    OnnxRuntime,
    /// TensorRT, on NVIDIA's GPU.
    #[value(name = "tensorrt")]
    TensorRt,
}

/// `engine.precision`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// FP16 on a GPU; a student in INT8 as its file has it.
    Auto,
    /// A student in FP32 stays in it.
    Fp32,
    /// A student in FP32 runs in FP16.
    Fp16,
}

#[cfg(feature = "tensorrt")]
impl From<Precision> for wordsight_engines::tensorrt::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Fp32 => Self::Fp32,
            Precision::Fp16 => Self::Fp16,
        }
    }
}
