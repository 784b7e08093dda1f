//! Where frames come from.
//!
//! In flows a URI that the user wrote ([`SourceUri`]: a camera, a stream, a file, a folder, a test pattern), out flow
//! frames in the buffers of the pipeline's pool, each with the moment of its capture, in the format that the camera
//! gave: nothing is converted here.
//!
//! The one surprising thing: an error is about one frame, not about the source. A folder with a broken photograph and
//! a recording with a torn frame go on with the next one; only [`Captured::End`] ends a source. What ends by itself
//! and shouldn't, a camera, is wrapped into [`Reconnecting`], which opens it again.

mod decode;
pub(crate) mod framing;
#[cfg(feature = "gstreamer")]
mod gstreamer;
mod held;
mod motion_jpeg;
mod pacing;
mod photographs;
#[cfg(feature = "gstreamer")]
mod pipelines;
mod reconnect;
mod settings;
mod test_pattern;
mod uri;
#[cfg(feature = "v4l2")]
mod v4l2;

/// The cameras of this machine, for who asks what there is.
#[cfg(feature = "v4l2")]
pub(crate) mod cameras {
    pub(crate) use super::v4l2::{Camera, Rate, Size, cameras, name_of};
    #[cfg(test)]
    pub(crate) use super::v4l2::{Offer, SizeOffer};
}

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wordsight_detection::{FrameView, PixelFormat, YuvEncoding};
use wordsight_engines::FrameBuffer;

use crate::threads::clock::since_1970;
#[cfg(feature = "gstreamer")]
pub(crate) use gstreamer::init as start_gstreamer;
pub use held::Held;
pub use motion_jpeg::MotionJpeg;
pub(crate) use pacing::Metronome;
pub use pacing::Pacing;
pub use photographs::{Photographs, is_photograph};
pub use reconnect::{ReconnectSettings, Reconnecting};
pub use settings::{PacingName, SourceKeys};
pub(crate) use uri::without_password;
pub use uri::{SourceUri, StreamSettings, UriError};

/// How long a source may keep the capture thread waiting for a frame: the thread looks at whether to stop in between.
pub const LONGEST_NAP: Duration = Duration::from_millis(50);

/// One frame as it was captured.
#[derive(Debug)]
pub struct Frame {
    /// Its rows, one after the other without padding; reused from frame to frame.
    pub bytes: FrameBuffer,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the bytes mean.
    pub format: PixelFormat,
    /// And what YUV means, where they are YUV.
    pub encoding: YuvEncoding,
    /// The file or URI it came from, as the user wrote it, without a password.
    pub source: Arc<str>,
    /// When the camera took it, by its own clock where it has one; or else when its bytes were there, before they were
    /// decoded. What ages are counted from.
    pub captured_at: Instant,
    /// When this program had its bytes: what end-to-end times are counted from.
    pub received_at: Instant,
    /// `captured_at` in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Frames that the camera or its driver dropped since the last one, by their own count.
    pub missed: u64,
}

impl Default for Frame {
    /// A frame without pixels, to be filled.
    fn default() -> Self {
        let now = Instant::now();
        Self {
            bytes: FrameBuffer::default(),
            width: 0,
            height: 0,
            format: PixelFormat::Rgb,
            encoding: YuvEncoding::default(),
            source: Arc::default(),
            captured_at: now,
            received_at: now,
            timestamp_ns: 0,
            missed: 0,
        }
    }
}

impl Frame {
    /// The frame as the letterbox takes it.
    pub fn view(&self) -> FrameView<'_> {
        FrameView {
            bytes: &self.bytes,
            width: self.width,
            height: self.height,
            format: self.format,
            encoding: self.encoding,
        }
    }

    /// Notes that the frame's bytes are there now, and were captured now.
    fn stamp(&mut self, source: &Arc<str>) {
        self.stamp_aged(source, Duration::ZERO);
    }

    /// Notes that the frame's bytes are there now, and were captured `age` ago.
    fn stamp_aged(&mut self, source: &Arc<str>, age: Duration) {
        if !Arc::ptr_eq(&self.source, source) {
            self.source = Arc::clone(source);
        }
        self.received_at = Instant::now();
        // A machine that has run for less than the age has never seen that moment.
        self.captured_at = self.received_at.checked_sub(age).unwrap_or(self.received_at);
        self.timestamp_ns = since_1970().saturating_sub(age).as_nanos() as u64;
        self.missed = 0;
    }

    /// Takes RGB's place in the frame: the size and the format, the bytes follow.
    fn set_rgb(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        (self.format, self.encoding) = (PixelFormat::Rgb, YuvEncoding::default());
    }
}

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
    /// The URI is wrong, or names something that this program cannot open.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A camera or a stream cannot be opened.
    #[error("cannot open {source_name}: {reason}")]
    Unopened {
        /// The source, as the user wrote it, without a password.
        source_name: String,
        /// What the system, the camera or GStreamer said, and what to do.
        reason: String,
    },
    /// A camera or a stream that was open is gone.
    #[cfg_attr(
        not(any(feature = "gstreamer", feature = "v4l2")),
        allow(dead_code, reason = "what can be opened without them can't be lost")
    )]
    #[error("{source_name} is lost: {reason}")]
    Lost {
        /// The source, as the user wrote it, without a password.
        source_name: String,
        /// What was seen of it.
        reason: String,
    },
    /// A lost source did not come back in time.
    #[error(
        "{source_name} did not come back for {seconds:.0} s (source.give_up_after_s); the last reason: {reason}"
    )]
    GivenUp {
        /// The source, as the user wrote it, without a password.
        source_name: String,
        /// For how long it was asked for.
        seconds: f64,
        /// Why it was not there the last time.
        reason: String,
    },
}

/// Opens a file or folder; `display` stands for it in results.
///
/// # Errors
/// When it is missing or of no known kind.
fn open_file(path: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    let metadata = std::fs::metadata(path)
        .map_err(|reason| CaptureError::Unreadable { path: path.to_path_buf(), reason })?;
    if metadata.is_dir() || is_photograph(path) {
        return Ok(Box::new(Photographs::open(&[path.to_path_buf()])));
    }
    if is_motion_jpeg(path) {
        return Ok(Box::new(MotionJpeg::open(path, display)?));
    }
    open_video(path, display)
}

#[cfg(feature = "gstreamer")]
fn open_video(path: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    Ok(Box::new(gstreamer::GstSource::open_file(path, display)?))
}

#[cfg(not(feature = "gstreamer"))]
fn open_video(_: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    Err(UriError::NotBuilt {
        uri: display.to_owned(),
        feature: "gstreamer",
        otherwise: "a Motion-JPEG file (.mjpeg, .mjpg), a photograph (.jpg, .jpeg, .png, .webp) or a folder of \
                    photographs needs none",
    }
    .into())
}

/// Whether a file's name says that it is a Motion-JPEG stream.
pub fn is_motion_jpeg(path: &Path) -> bool {
    has_extension(path, &["mjpeg", "mjpg"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}
