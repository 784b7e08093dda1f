//! Annotated video: to a file, a network server or any pipeline, through GStreamer.
//!
//! `settings` is what may be asked for, `recording` is a pipeline at work, and `sink` begins one, ends it and begins
//! the next.
//!
//! Of a camera the frames are as far apart as they were captured; of a recording, which is processed as fast as it can
//! be, every frame is in the video, and they are `1 / fps` apart.

#[cfg(feature = "gstreamer")]
mod recording;
mod settings;
#[cfg(feature = "gstreamer")]
mod sink;

pub use settings::{VideoKeys, VideoSettings};

use super::sink::{Sink, SinkContext};

impl VideoSettings {
    /// Makes the output.
    ///
    /// # Errors
    /// When it can't be made: an encoder isn't there, or the folder can't be made.
    #[cfg(feature = "gstreamer")]
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        sink::open(self, context)
    }

    /// Makes the output: not without GStreamer, which [`VideoKeys::resolve`] has told already.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "gstreamer"))]
    pub fn open(&self, _: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        let _ = (self.fps, self.bitrate_kbps);
        anyhow::bail!("this wordsight was built without GStreamer")
    }
}
