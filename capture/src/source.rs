//! The trait `Source`, which every source of frames implements.

use std::time::Duration;

use crate::{CaptureError, Frame};

/// How long a source may keep the capture thread waiting for a frame: the thread looks at whether to stop in between.
pub const LONGEST_NAP: Duration = Duration::from_millis(50);

/// What a source did when asked for a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Captured {
    /// The frame was filled.
    Frame,
    /// There is none yet; only a live source says so, after at most [`LONGEST_NAP`].
    NotYet,
    /// There are no more.
    End,
}

/// Something that yields frames.
pub trait Source: Send {
    /// Fills `frame` with the next frame.
    ///
    /// # Errors
    /// When this frame cannot be had; asking again goes on behind it. After [`CaptureError::Lost`] there is nothing to
    /// ask any more.
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError>;

    /// Goes back to the first frame; a live source has none and stays where it is.
    ///
    /// # Errors
    /// When the source cannot be opened again.
    fn rewind(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }
}
