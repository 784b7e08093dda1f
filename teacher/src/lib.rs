//! The teacher: photographs and words into one embedding space.
//!
//! Flows in: a directory as Hugging Face's ONNX exports of CLIP are laid out (`onnx/vision_model.onnx`,
//! `onnx/text_model.onnx`, `tokenizer.json`, `preprocessor_config.json`, `config.json`), then captions and crops of
//! photographs. Flows out: embeddings of length 1, for training ([`Teacher::embed_crops`], with the feature `vision`) and
//! for vocabularies ([`words`]). Words take the text half alone ([`TextTeacher`]), which may lie in a directory by itself
//! ([`TextOnly`]).
//!
//! The surprising thing: a teacher is named by its content. [`TextTeacher::id`] ends in a hash, students and vocabularies
//! carry it, and two files that were made by different teachers refuse each other, however alike their names are.

mod captions;
pub mod competitors;
mod error;
mod identity;
pub mod prompts;
mod text;
mod text_teacher;
#[cfg(feature = "vision")]
mod vision;
#[cfg(feature = "vision")]
mod vision_teacher;
pub mod words;

pub use crate::captions::{CAPTIONS_FILE, Caption, CaptionCache, EmbedCaptions, KnownCaption};
pub use crate::error::TeacherError;
pub use crate::identity::{STANDIN_MODEL_TYPE, TextOnly};
pub use crate::text_teacher::TextTeacher;
#[cfg(feature = "vision")]
pub use crate::vision_teacher::Teacher;
