//! Where frames come from.
//!
//! In flows a [`Source`] that the user named (a photograph, a folder, a Motion-JPEG file), out flow
//! RGB frames in the buffers of the pipeline's pool, with the moment of their capture.
//!
//! The one surprising thing: an error is about one frame, not about the source. A folder with a
//! broken photograph and a recording with a torn frame go on with the next one; only
//! [`Captured::End`] ends a source.

mod decode;
mod framing;
mod motion_jpeg;
mod pacing;
mod photographs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use motion_jpeg::MotionJpeg;
pub(crate) use pacing::Metronome;
pub use pacing::Pacing;
pub use photographs::{Photographs, is_photograph};

/// One frame as it was captured.
#[derive(Debug)]
pub struct Frame {
    /// Rows of interleaved RGB, one byte a channel; reused from frame to frame.
    pub rgb: Vec<u8>,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The file or URI it came from, as the user wrote it.
    pub source: Arc<str>,
    /// When its bytes were there, before they were decoded: what ages are counted from.
    pub captured_at: Instant,
    /// The same moment in nanoseconds since 1970.
    pub timestamp_ns: u64,
}

impl Default for Frame {
    /// A frame without pixels, to be filled.
    fn default() -> Self {
        Self {
            rgb: Vec::new(),
            width: 0,
            height: 0,
            source: Arc::default(),
            captured_at: Instant::now(),
            timestamp_ns: 0,
        }
    }
}

impl Frame {
    /// Notes that the frame's bytes are there now.
    fn stamp(&mut self, source: &Arc<str>) {
        self.source = Arc::clone(source);
        self.captured_at = Instant::now();
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.timestamp_ns = since_1970.map_or(0, |duration| duration.as_nanos() as u64);
    }
}

/// What a source did when asked for a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Captured {
    /// The frame was filled.
    Frame,
    /// There are no more.
    End,
}

/// Something that yields frames.
pub trait Source: Send {
    /// Fills `frame` with the next frame.
    ///
    /// # Errors
    /// When this frame cannot be had; asking again goes on behind it.
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError>;

    /// Goes back to the first frame.
    ///
    /// # Errors
    /// When the source cannot be opened again.
    fn rewind(&mut self) -> Result<(), CaptureError>;
}

/// Why a source or one of its frames cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system would not give the bytes.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The bytes are no picture that can be decoded.
    #[error("{name} is not a usable picture: {reason}")]
    BadPicture {
        /// The file, and for a stream the frame in it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder has nothing to look at.
    #[error("there are no photographs (.jpg, .jpeg, .png, .webp) in {}", .0.display())]
    EmptyFolder(PathBuf),
    /// A stream has no frame in it.
    #[error("there is no JPEG frame in {}: it is not a Motion-JPEG file", .0.display())]
    EmptyStream(PathBuf),
    /// The URI names something that this program cannot open.
    #[error(
        "the source `{0}` is of no kind that wordsight can open: it takes a Motion-JPEG file (.mjpeg, .mjpg), \
         a photograph (.jpg, .jpeg, .png, .webp) or a folder of photographs"
    )]
    UnknownKind(String),
}

/// Opens what a `source.uri` names; `display` stands for it in results.
///
/// # Errors
/// When it is missing or of no known kind.
pub fn open(path: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    let metadata = std::fs::metadata(path)
        .map_err(|reason| CaptureError::Unreadable { path: path.to_path_buf(), reason })?;
    if metadata.is_dir() || is_photograph(path) {
        return Ok(Box::new(Photographs::open(&[path.to_path_buf()])));
    }
    if is_motion_jpeg(path) {
        return Ok(Box::new(MotionJpeg::open(path, display)?));
    }
    Err(CaptureError::UnknownKind(display.to_owned()))
}

/// Whether a file's name says that it is a Motion-JPEG stream.
pub fn is_motion_jpeg(path: &Path) -> bool {
    has_extension(path, &["mjpeg", "mjpg"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}
