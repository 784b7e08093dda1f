//! TensorRT: plans built from a student, kept, checked and loaded.
//!
//! In flows an ONNX model, out flows a plan: the model compiled for one GPU by one TensorRT. Nothing of NVIDIA's is
//! linked: [`Library::open`] looks for TensorRT when it is wanted, and a machine without it gets a sentence.
//!
//! The surprising thing is the door (`shim.cpp`). TensorRT's interface is C++ with virtual functions, whose tables only
//! grow within a family (10.x, 11.x, RTX 1.x) and move between them, where a call would crash. So the shim is compiled
//! once for every family whose headers there are, each with its own namespace, and the library's version decides which
//! is called, before the first call.
//!
//! [`TensorRtEngine`] runs a plan between the kernels of [`crate::gpu`].
//!
//! Networks are strongly typed: TensorRT 11 has nothing else, and so a model's precision is in what TensorRT is given,
//! which [`Precision`] decides.

mod attempts;
mod builder;
mod engine;
mod error;
mod ffi;
mod library;
mod manifest;
mod precision;
mod state;
mod store;
mod student;

pub use builder::{BuildSettings, Going, PlanBuilder, PlanPort, Step};
pub use engine::LoadedPlan;
pub use error::TensorRtError;
pub use library::{Library, Version};
pub use manifest::{Manifest, PlanKey};
pub use precision::{Decided, Precision};
pub use store::{BuildPolicy, Plan, PlanRequest, PlanStore};
pub use student::{TensorRtEngine, TensorRtSettings};
