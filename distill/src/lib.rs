//! The host program: it makes a student and its vocabulary.
//!
//! Photographs become [`scenes`], scenes become cached [`features`], features train a [`student`].

pub mod coco;
pub mod photographs;
pub mod progress;
pub mod scenes;
pub mod student;
