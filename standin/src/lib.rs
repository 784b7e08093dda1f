//! The stand-in teacher, and what it is assembled from.
//!
//! [`assemble`] makes a teacher's directory of packages with open licences, as `scripts/fetch-packages host` unpacks
//! them; [`efficientnet`] and [`pth`] read the EfficientNet-Lite that students begin with. Out of any teacher
//! [`text_only`] cuts what words need. Only the host program needs this: `wordsight-teacher` reads what is made.

mod assembly;
pub mod directory;
pub mod efficientnet;
mod error;
mod minilm;
pub mod pth;
pub mod text_only;

pub use crate::assembly::{assemble, class_names};
pub use crate::error::StandinError;
