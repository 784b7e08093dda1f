//! The teacher: embeds photographs and words into one space.
//!
//! A teacher is a directory in the layout of Hugging Face's ONNX exports of CLIP (`onnx/vision_model.onnx`,
//! `onnx/text_model.onnx`, `tokenizer.json`, `preprocessor_config.json`, `config.json`). It turns captions and crops
//! of photographs into embeddings of length 1, for training ([`Teacher::embed_crops`], with the feature `vision`) and for
//! vocabularies ([`words`]). Words take the text half alone ([`TextTeacher`]), which may be a directory by itself
//! ([`TextOnly`]).
//!
//! A teacher is identified by its content. [`TextTeacher::id`] ends in a hash, which students and vocabularies carry:
//! files that were made by different teachers are refused together, even if the teachers have the same name.

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
pub use crate::error::{TeacherError, read_json};
pub use crate::identity::{STANDIN_MODEL_TYPE, TextOnly, weights_beside};
pub use crate::text_teacher::TextTeacher;
#[cfg(feature = "vision")]
pub use crate::vision_teacher::Teacher;
