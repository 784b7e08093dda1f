//! The arithmetic around the engine: letterbox, vocabulary, scoring, non-maximum suppression.
//!
//! Frames become the engine's input; a vocabulary and the engine's regions become named [`Detection`]s. The device
//! program and the evaluation both use this crate and nothing else for it, so what is measured is what runs.
//!
//! Words come last. An engine's regions carry embeddings and no class: a [`Scorer`] made from another [`Vocabulary`]
//! finds other things in the same regions.

mod examples;
mod frame;
mod letterbox;
mod scoring;
mod suppression;
mod vocabulary;

pub use examples::{Component, RegionStatistics, Shown, WordExamples};
pub use frame::{FrameView, PixelFormat, YuvEncoding, YuvFactors};
pub use letterbox::{
    Channel, Letterbox, PADDING, Preprocessor, Resampler, ResizeFilter, ResizeMode, ResizeSettings, Side,
    Tables, Taps,
};
pub use scoring::{
    Detection, DetectionSettings, Ranked, RankingTable, RegionsView, ScoreFunction, Scorer, TextWeights,
};
pub use suppression::iou;
pub use vocabulary::{Vocabulary, VocabularyError, Word};
