//! What several commands share: flags that are put over the configuration, engines, printing.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::CommonArgs;
use crate::config::{Config, ConfigError};
use crate::service::Installed;
use crate::settings::FramesPerSecond;
use crate::source::PacingName;

/// The engines of this machine, whose plans are built in sight of whoever sits at the terminal.
pub(super) const INSTALLED: Installed = Installed {
    #[cfg(feature = "tensorrt")]
    progress: super::plan::show_build,
};

/// How long a stream may take to end when it is asked to. One whose results are read takes two seconds at most.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(5);

/// What a stream comes from, and at what pace.
#[derive(Debug, Default, Args)]
pub(super) struct SourceArgs {
    /// A file or folder, or v4l2:///dev/video0, csi://0, rtsp://..., gst:..., test://bars
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// How the frames of a file follow one another
    #[arg(long)]
    pacing: Option<PacingName>,
    /// Frames per second of a file, with the pacing of a camera
    #[arg(long, value_name = "X")]
    fps: Option<FramesPerSecond>,
}

impl SourceArgs {
    /// Puts these flags over a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(written) = &self.source {
            config.set_source(written);
        }
        put(&mut config.source.pacing, self.pacing);
        put(&mut config.source.fps, self.fps);
    }
}

/// Takes a flag's value, if it was given.
pub(super) fn put<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

impl CommonArgs {
    /// Reads the configuration, and puts these flags over it.
    pub(super) fn load_config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        self.apply(&mut config);
        Ok(config)
    }

    /// Puts these flags over a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        put(&mut config.student, self.student.clone().map(Into::into));
        put(&mut config.vocabulary, self.vocabulary.clone().map(Into::into));
        put(&mut config.detection.score_threshold, self.score_threshold);
        put(&mut config.detection.nms_iou, self.nms_iou);
        put(&mut config.detection.max_detections, self.max_detections);
        put(&mut config.detection.words_per_region, self.words_per_region);
        put(&mut config.engine.kind, self.engine);
        put(&mut config.engine.threads, self.threads);
    }
}

/// Prints to the standard output. A reader who has seen enough is no error.
pub(super) fn print(what: &impl Display) -> io::Result<()> {
    match write!(io::stdout(), "{what}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
