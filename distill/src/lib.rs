//! The host program: it makes a student and its vocabulary.
//!
//! Photographs become [`scenes`], scenes become cached [`features`] and the teacher's embeddings of proposals
//! ([`embed`]), both train a [`student`], and [`eval`] says how good it is.

pub mod coco;
pub mod device;
pub mod embed;
pub mod eval;
pub mod export;
pub mod features;
pub mod label;
pub mod photographs;
pub mod progress;
pub mod quantization;
pub mod scenes;
pub mod start;
pub mod student;
pub mod table;
pub mod train;
