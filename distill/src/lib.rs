//! The host program: it makes a student and its vocabulary.
//!
//! Photographs become [`scenes`], scenes become cached [`features`], features train a [`student`].

pub mod coco;
pub mod eval;
pub mod export;
pub mod features;
pub mod photographs;
pub mod progress;
pub mod scenes;
pub mod start;
pub mod student;
pub mod train;
