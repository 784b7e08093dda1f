//! The host program: it makes a student and its vocabulary.
//!
//! Annotated photographs ([`sets`]) and the teacher's embeddings of proposals in them ([`embed`]) train a [`student`]
//! ([`train`]), [`export`] makes it one file, and [`eval`] says how good it is.

pub mod annotations;
pub mod coco;
pub mod device;
pub mod embed;
pub mod eval;
pub mod export;
pub mod images;
pub mod input;
pub mod label;
pub mod mistake;
pub mod owl;
pub mod photographs;
pub mod progress;
pub mod quantization;
pub mod scenes;
pub mod sets;
pub mod start;
pub mod student;
pub mod table;
pub mod train;
