//! TensorRT: builds plans from a student, keeps them, checks them and loads them.
//!
//! The input is an ONNX model, the output a plan: the model compiled for one GPU by one version of TensorRT. Nothing
//! of NVIDIA's is linked: [`Library::open`] loads TensorRT when it is needed, and a machine without it gets an error
//! message.
//!
//! TensorRT's interface is C++ with virtual functions. Within a family (10.x, 11.x, RTX 1.x) its vtables only grow;
//! between families functions move, and a call would crash. So `shim.cpp` is compiled once for each family whose
//! headers are available, each in its own namespace, and the library's version decides which one is called, before the
//! first call.
//!
//! [`TensorRtEngine`] runs a plan between the kernels of [`crate::gpu`].
//!
//! Networks are strongly typed, the only kind that TensorRT 11 has: a model's precision is that of the graph that
//! TensorRT is given, which [`Precision`] decides.

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

pub use builder::{BuildSettings, PlanBuilder, PlanPort, Step};
pub use engine::LoadedPlan;
pub use error::TensorRtError;
pub use library::{Library, Version};
pub use manifest::{Manifest, PlanKey};
pub use precision::{Decided, Precision};
pub use store::{BuildPolicy, Plan, PlanRequest, PlanStore};
pub use student::{TensorRtEngine, TensorRtSettings};
