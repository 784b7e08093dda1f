//! What runs a student: from one letterboxed frame to boxes and region embeddings.
//!
//! In flows an RGB frame of the student's own input size, one byte a channel; out flow [`Regions`]:
//! K boxes with an objectness and two embeddings each. An engine knows no words: the vocabulary
//! meets the regions later, in `wordsight-detection`, which is why a new vocabulary needs no new
//! engine. Everything else that the device must know about a student, its teacher's name to its
//! temperature, it carries in its own file and an engine reads as [`StudentFacts`].
//!
//! The one surprising thing: ONNX Runtime is not linked. It is looked for when the first model is
//! opened (see [`cpu::library`]), so that a program of a few megabytes builds without C++ and a
//! missing library is a sentence rather than a failure of the loader before `main`.
//!
//! The feature `tensorrt` adds plans: what TensorRT makes of a student, for one kind of GPU.
//!
//! [`OnnxSession`] is the plain door for any other ONNX file: the teacher's towers, an exported
//! graph under test.

mod agreement;
pub mod cpu;
mod engine;
mod error;
mod frame_buffer;
#[cfg(feature = "tensorrt")]
pub mod gpu;
mod loading;
pub mod nvidia;
mod student;
#[cfg(feature = "tensorrt")]
pub mod tensorrt;

pub use agreement::{Agreement, Cosines};
pub use cpu::CpuEngine;
pub use cpu::session::{ElementType, Input, OnnxSession, PortSpec, Tensor, TensorView};
pub use engine::{Engine, StepTimes, WholeFrames};
pub use error::{EngineError, LibraryError};
pub use frame_buffer::{FrameBlock, FrameBuffer, FrameMemory};
pub use student::{Regions, StudentFacts};
