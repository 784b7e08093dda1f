//! What all stages of a stream share.

use std::sync::Arc;

use wordsight_capture::Pacing;

use super::control::Control;
use super::counters::Counters;
use crate::job::FrameBuffers;

/// Frames that a source gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frames {
    /// Frames that were captured whole.
    pub captured: u64,
    /// Frames that could not be had; each was reported when it happened.
    pub unreadable: u64,
    /// Captured since the source was opened or began again.
    pub in_pass: u64,
}

/// What the stages share.
#[derive(Clone)]
pub(super) struct Context<'a> {
    pub(super) pacing: Pacing,
    /// Of the words that the stream begins with.
    pub(super) version: u64,
    pub(super) buffers: Option<&'a FrameBuffers>,
    pub(super) counters: Arc<Counters>,
    pub(super) control: &'a Control,
}
