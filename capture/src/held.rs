//! Frames that are read once and played from memory: for benchmarks.
//!
//! Plays a file's first frames again and again, as fast as somebody asks, so that a benchmark measures the pipeline and
//! not a decoder, which a camera's frames don't need. A long file is cut where its frames fill the memory that they may
//! take.

use crate::{CaptureError, Captured, Frame, Source};

/// The memory that frames may take, bytes.
const MOST_BYTES: usize = 48 << 20;

/// Frames in memory.
pub struct Held {
    frames: Vec<Frame>,
    next: usize,
}

impl Held {
    /// Reads a source, as far as there is room: at least one frame.
    ///
    /// # Errors
    /// When there is no frame that can be read.
    pub fn read(source: &mut dyn Source) -> Result<Self, CaptureError> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let mut first_error = None;
        while frames.is_empty() || bytes < MOST_BYTES {
            let mut frame = Frame::default();
            match source.capture(&mut frame) {
                Ok(Captured::Frame) => {
                    bytes += frame.bytes.len();
                    frame.bytes.shrink_to_fit();
                    frames.push(frame);
                }
                Ok(Captured::NotYet) => {}
                Ok(Captured::End) => break,
                // One frame that can't be read is no reason to do without the others; a source that is lost has none.
                Err(error) => {
                    let is_lost = matches!(error, CaptureError::Lost { .. });
                    first_error.get_or_insert(error);
                    if is_lost {
                        break;
                    }
                }
            }
        }
        match first_error {
            Some(error) if frames.is_empty() => Err(error),
            _ => Ok(Self { frames, next: 0 }),
        }
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }
}

impl Source for Held {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        let Some(held) = self.frames.get(self.next) else { return Ok(Captured::End) };
        frame.stamp(&held.source);
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&held.bytes);
        (frame.width, frame.height) = (held.width, held.height);
        (frame.format, frame.encoding) = (held.format, held.encoding);
        self.next += 1;
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.next = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{SourceUri, StreamSettings};

    fn open(uri: &str) -> Box<dyn Source> {
        SourceUri::parse(uri).unwrap().open(&StreamSettings { latency_ms: 0 }).unwrap()
    }

    #[test]
    fn frames_are_the_same_again_and_again_and_end_where_the_source_did() {
        let uri = "test://noise?width=64&height=48&format=nv12&frames=3";
        let mut held = Held::read(&mut *open(uri)).unwrap();
        assert_eq!(held.frames(), 3);
        for _ in 0..2 {
            let mut source = open(uri);
            let (mut ours, mut theirs) = (Frame::default(), Frame::default());
            while source.capture(&mut theirs).unwrap() == Captured::Frame {
                assert_eq!(held.capture(&mut ours).unwrap(), Captured::Frame);
                assert!(ours.bytes == theirs.bytes && ours.format == theirs.format && ours.width == 64);
            }
            assert_eq!(held.capture(&mut ours).unwrap(), Captured::End);
            held.rewind().unwrap();
        }
    }

    #[test]
    fn a_source_without_end_is_cut_where_the_memory_is_full() {
        let held = Held::read(&mut *open("test://bars?width=1920&height=1080")).unwrap();
        assert_eq!(held.frames(), MOST_BYTES.div_ceil(3 * 1920 * 1080));
    }

    #[test]
    fn a_source_without_a_frame_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = Held::read(&mut *open(folder.path().to_str().unwrap())).err().unwrap();
        assert!(error.to_string().contains("no photographs"), "{error}");
    }
}
