//! Engines run a student: one letterboxed frame in, boxes and region embeddings out.
//!
//! The input is an RGB frame of the student's own input size, one byte a channel. The output is [`Regions`]: K boxes
//! with an objectness and two embeddings each. An engine knows no words: the vocabulary is compared with the regions
//! later, in `wordsight-detection`, so a new vocabulary needs no new engine. Everything else that the device must know
//! about a student, from its teacher's name to its temperature, is in the student's file; an engine reads it as
//! [`StudentFacts`].
//!
//! ONNX Runtime is not linked. It is loaded when the first model is opened (see [`cpu::library`]), so a program of a
//! few megabytes builds without C++, and a missing library is an error message and not a failure of the loader before
//! `main`.
//!
//! The feature `tensorrt` adds TensorRT plans: a student compiled for one kind of GPU.
//!
//! [`OnnxSession`] runs any other ONNX file: the teacher's towers, an exported graph under test.

mod agreement;
pub mod cpu;
mod engine;
mod error;
mod frame_buffer;
#[cfg(feature = "tensorrt")]
pub mod gpu;
mod loading;
pub mod nvidia;
mod regions;
mod shared;
mod student;
#[cfg(feature = "tensorrt")]
pub mod tensorrt;

pub use agreement::{Agreement, Cosines};
pub use cpu::session::{ElementType, Input, OnnxSession, PortSpec, Tensor, TensorView};
pub use cpu::{CpuEngine, Placement};
pub use engine::{Engine, ManyStreams, StepTimes, WholeFrames};
pub use error::{EngineError, LibraryError};
pub use frame_buffer::{FrameBlock, FrameBuffer, FrameMemory};
pub use regions::Regions;
pub use shared::{EngineQueue, EngineTurn, SharedEngine};
pub use student::{StudentFacts, StudentOutput};
