//! Why results could not be published.

use std::io;
use std::path::PathBuf;

/// Why results could not be told.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The lines can't be written.
    #[error("cannot write the results: {0}")]
    Unwritable(io::Error),
    /// Nobody reads any more; no error to whoever runs the program.
    #[error("nobody reads the results any more")]
    ReaderGone,
    /// A folder for pictures can't be made.
    #[error("cannot make the folder {} for annotated pictures: {reason}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A thread can't be started.
    #[error("cannot start a thread for an output: {0}")]
    NoThread(io::Error),
    /// A picture can't be written.
    #[error("cannot write the annotated picture {}: {reason}", path.display())]
    UnwritablePicture {
        /// The picture.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// An output can't go on.
    #[error("{name}: {reason}")]
    #[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "only video gives up for good"))]
    Failed {
        /// The output.
        name: String,
        /// What was wrong, and what to do.
        reason: String,
    },
    /// A thread has panicked.
    #[error("the output {0} panicked; this is a bug in wordsight")]
    Panicked(String),
}
