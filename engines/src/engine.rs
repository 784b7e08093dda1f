//! The door that every engine stands behind.

use crate::{EngineError, Regions, StudentFacts};

/// Runs one student, one frame at a time.
///
/// An engine is owned by the thread that runs it; it is `Send` so that it can be opened on one
/// thread, where an error can still be told to the user, and run on another.
pub trait Engine: Send {
    /// What this engine is, for logs and reports: `onnxruntime-cpu`.
    fn name(&self) -> &str;

    /// What the student says of itself.
    fn facts(&self) -> &StudentFacts;

    /// Finds the regions of one frame.
    ///
    /// `image` is RGB in planes, `[3, input_height, input_width]`, one byte a channel, letterboxed
    /// to the student's input. `regions` is overwritten; its buffers are reused, so that the same
    /// `Regions` passed again costs no allocation of ours.
    ///
    /// # Errors
    /// When `image` has the wrong length or the runtime fails.
    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError>;
}
