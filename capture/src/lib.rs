//! Where frames come from.
//!
//! Opens a URI that the user wrote ([`SourceUri`]: a camera, a stream, a file, a folder, a test pattern) and fills the
//! caller's buffers with frames, each with the moment of its capture, in the format that the camera gave: nothing is
//! converted here that the letterbox can read.
//!
//! An error is about one frame, not about the source. A folder with a broken photograph and a recording with a torn
//! frame go on with the next one; only [`Captured::End`], [`CaptureError::Lost`] and [`CaptureError::GivenUp`] end a
//! source. A camera, which shouldn't end by itself, is wrapped into [`Reconnecting`], which opens it again.
//!
//! Cameras of the kernel are behind the feature `v4l2`; network and CSI cameras and video files behind `gstreamer`.

mod backoff;
mod clock;
mod decode;
mod error;
mod file_kind;
mod frame;
#[cfg(feature = "gstreamer")]
mod gstreamer;
mod held;
mod motion_jpeg;
mod open;
mod pacing;
mod password;
mod photographs;
mod reconnect;
mod secret;
mod source;
mod test_pattern;
mod uri;
#[cfg(feature = "v4l2")]
mod v4l2;

/// The cameras of this machine, for who asks what there is.
#[cfg(feature = "v4l2")]
pub mod cameras {
    pub use crate::v4l2::{Camera, Offer, Rate, Size, SizeOffer, cameras, name_of};
}

pub use backoff::Backoff;
pub use error::{CaptureError, UriError};
pub use file_kind::is_motion_jpeg;
pub use frame::Frame;
#[cfg(feature = "gstreamer")]
pub use gstreamer::init as start_gstreamer;
pub use held::Held;
pub use motion_jpeg::MotionJpeg;
pub use open::StreamSettings;
pub use pacing::{Metronome, Pacing};
pub use password::without_password;
pub use photographs::{Photographs, decode_photograph};
pub use reconnect::{ReconnectSettings, Reconnecting, SourceObserver};
pub use secret::{Secret, StreamUrl};
pub use source::{Captured, LONGEST_NAP, Source};
pub use uri::SourceUri;
pub use wordsight_pictures::framing;
pub use wordsight_pictures::pictures_in;
pub use wordsight_pictures::read_bytes as read_picture_file;
