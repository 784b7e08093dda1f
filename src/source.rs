//! `[source]` of a configuration: which source, and how it is kept open.

use serde::Deserialize;
use wordsight_capture::{Pacing, ReconnectSettings, Secret, StreamSettings};

use crate::settings::{FramesPerSecond, LongSeconds, Priority, RateOrAll, Seconds};

/// `[source]`, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceKeys {
    pub uri: Secret,
    pub pacing: PacingName,
    pub fps: FramesPerSecond,
    #[serde(rename = "loop")]
    pub repeat: bool,
    pub latency_ms: u32,
    pub stalled_after_s: LongSeconds,
    pub longest_wait_s: LongSeconds,
    pub give_up_after_s: Seconds,
    pub wait_at_start: bool,
    pub max_fps: RateOrAll,
    pub priority: Priority,
}

impl SourceKeys {
    /// How a live stream is opened.
    pub fn stream(&self) -> StreamSettings {
        StreamSettings { latency_ms: self.latency_ms }
    }

    /// What happens to a live source that is lost.
    pub fn reconnect(&self) -> ReconnectSettings {
        let give_up_after = self.give_up_after_s.0;
        ReconnectSettings {
            stalled_after: self.stalled_after_s.0,
            longest_wait: self.longest_wait_s.0,
            give_up_after: (!give_up_after.is_zero()).then_some(give_up_after),
            waits_at_start: self.wait_at_start,
        }
    }
}

/// `source.pacing`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PacingName {
    /// As the source is: a camera's newest frame wins, and every frame of a file is processed.
    Auto,
    /// Every frame is processed, as fast as the engine can.
    Lossless,
    /// Frames come as from a camera, and the newest wins.
    Camera,
}

impl PacingName {
    /// The pacing itself, of a source that is live or not; `None` for a live one that is to lose nothing.
    pub fn at(self, fps: FramesPerSecond, is_live: bool) -> Option<Pacing> {
        match (self, is_live) {
            (Self::Auto | Self::Camera, true) => Some(Pacing::Live),
            (Self::Lossless, true) => None,
            (Self::Auto | Self::Lossless, false) => Some(Pacing::Lossless),
            (Self::Camera, false) => Some(Pacing::Camera { period: fps.period() }),
        }
    }
}
