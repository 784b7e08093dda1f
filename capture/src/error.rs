//! Why a source can't be opened, or gives no frame.

use std::path::PathBuf;

/// Why text is no source.
#[derive(Debug, thiserror::Error)]
pub enum UriError {
    /// The part before the colon is none that we know.
    #[error(
        "the source `{0}` is of no kind that wordsight can open: it takes a file or folder, v4l2://, csi://, \
         rtsp://, gst: or test://"
    )]
    UnknownScheme(String),
    /// A part of it is wrong.
    #[error("the source `{uri}` is wrong: {reason}")]
    Wrong {
        /// The source as it was written, without a password.
        uri: String,
        /// Which part, and what would be right.
        reason: String,
    },
    /// It needs a part of this program that wasn't compiled.
    #[cfg(not(all(feature = "gstreamer", feature = "v4l2")))]
    #[error(
        "the source `{uri}` needs a wordsight built with `cargo build --release --features {feature}`; {otherwise}"
    )]
    NotBuilt {
        /// The source as it was written, without a password.
        uri: String,
        /// The cargo feature.
        feature: &'static str,
        /// What works without.
        otherwise: &'static str,
    },
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
