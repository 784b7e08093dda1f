//! From flags and the configuration to what a stream is to be made of.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use wordsight_board::GovernorSettings;
use wordsight_detection::DetectionSettings;
use wordsight_tracking::TrackingSettings;

use super::CommonArgs;
use crate::capture::{StreamSettings, SupervisionSettings};
use crate::config::{Config, ConfigError, PacingName};
use crate::files::is_standard_output;
use crate::publish::{LinesSettings, Place};
use crate::service::{EngineWanted, Installed, SourceWanted, WordsWanted};
use crate::settings::FramesPerSecond;

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

/// How the frames of a source follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub pacing: PacingName,
    pub fps: FramesPerSecond,
    pub repeat: bool,
}

impl SourceArgs {
    /// The source that these flags and the configuration ask for.
    pub(super) fn wanted(&self, config: &Config, repeats: bool) -> Result<SourceWanted, ConfigError> {
        let pace = Pace {
            pacing: config.or(self.pacing, |keys| keys.source.pacing)?,
            fps: config.or(self.fps, |keys| keys.source.fps)?,
            repeat: config.or(repeats.then_some(true), |keys| keys.source.repeat)?,
        };
        source_wanted(self.source.as_deref(), pace, config)
    }
}

/// The source that a flag or the configuration names.
pub(super) fn source_wanted(
    flag: Option<&str>,
    pace: Pace,
    config: &Config,
) -> Result<SourceWanted, ConfigError> {
    let uri = config.source(flag)?;
    let pacing = pace.pacing.at(pace.fps, uri.is_live());
    let pacing = pacing.ok_or_else(|| ConfigError::LosslessCamera(uri.display().to_owned()))?;
    let give_up_after = config.or(None, |keys| keys.source.give_up_after_s)?.0;
    Ok(SourceWanted {
        uri,
        pacing,
        repeat: pace.repeat,
        stream: StreamSettings { latency_ms: config.or(None, |keys| keys.source.latency_ms)? },
        supervision: SupervisionSettings {
            stalled_after: config.or(None, |keys| keys.source.stalled_after_s)?.0,
            longest_wait: config.or(None, |keys| keys.source.longest_wait_s)?.0,
            give_up_after: (!give_up_after.is_zero()).then_some(give_up_after),
            waits_at_start: config.or(None, |keys| keys.source.wait_at_start)?,
        },
    })
}

impl CommonArgs {
    /// Reads the configuration that these flags go before.
    pub(super) fn load_config(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }

    /// The same, with this text in the place of the file's, if there is one.
    pub(super) fn load_config_as(&self, text: Option<&str>) -> Result<Config, ConfigError> {
        match (text, self.config.as_deref()) {
            (Some(text), Some(path)) => Config::parse(text, path),
            _ => self.load_config(),
        }
    }

    /// The student, and what is to run it.
    pub(super) fn engine_wanted(&self, config: &Config) -> Result<EngineWanted, ConfigError> {
        let student = self.student.clone();
        Ok(EngineWanted {
            student: student.map_or_else(|| config.path("student", |keys| keys.student.clone()), Ok)?,
            kind: config.or(self.engine, |keys| keys.engine.kind)?,
            threads: config.or(self.threads, |keys| keys.engine.threads)?,
            tensorrt: config.own_path(|keys| keys.engine.tensorrt.clone()),
            builds_plans: config.or(None, |keys| keys.engine.build_plans)?,
            precision: config.or(None, |keys| keys.engine.precision)?,
            workspace_mib: config.or(None, |keys| keys.engine.workspace_mib)?,
        })
    }

    /// The vocabulary, and what is told of what it names.
    pub(super) fn words_wanted(&self, config: &Config) -> Result<WordsWanted, ConfigError> {
        let vocabulary = self.vocabulary.clone();
        let from_config = || config.path("vocabulary", |keys| keys.vocabulary.clone());
        let score_threshold = config.or(self.score_threshold, |keys| keys.detection.score_threshold)?;
        let nms_iou = config.or(self.nms_iou, |keys| keys.detection.nms_iou)?;
        let voting_iou = config.or(None, |keys| keys.detection.voting_iou)?;
        let max_detections = config.or(self.max_detections, |keys| keys.detection.max_detections)?;
        let words_per_region = config.or(self.words_per_region, |keys| keys.detection.words_per_region)?;
        let detection = DetectionSettings {
            score_threshold: score_threshold.0,
            nms_iou: nms_iou.0,
            voting_iou: voting_iou.0,
            max_detections: max_detections.get(),
            words_per_region: words_per_region.get(),
            weak_fraction: 1.0,
        };
        Ok(WordsWanted { vocabulary: vocabulary.map_or_else(from_config, Ok)?, detection })
    }
}

/// The governor, if there is to be one.
pub(super) fn governor_wanted(config: &Config) -> Result<Option<GovernorSettings>, ConfigError> {
    let settings = GovernorSettings {
        margin_c: config.or(None, |keys| keys.governor.margin_c)?.0,
        least_fraction: config.or(None, |keys| keys.governor.least_fraction)?.0,
    };
    Ok(config.or(None, |keys| keys.governor.enabled)?.then_some(settings))
}

/// What follows things from frame to frame, if anything is to.
pub(super) fn tracking_wanted(config: &Config) -> Result<Option<TrackingSettings>, ConfigError> {
    let settings = TrackingSettings {
        confirm_after: config.or(None, |keys| keys.tracking.confirm_after)?.get(),
        forget_after: config.or(None, |keys| keys.tracking.forget_after_s)?.0,
        vote_half_life: config.or(None, |keys| keys.tracking.vote_half_life_s)?.0,
    };
    Ok(config.or(None, |keys| keys.tracking.enabled)?.then_some(settings))
}

/// Words as whoever tracks wants them: what is not sure enough to be told may still be what is followed.
pub(super) fn tracked(words: WordsWanted, config: &Config) -> Result<WordsWanted, ConfigError> {
    if tracking_wanted(config)?.is_none() {
        return Ok(words);
    }
    let weak_fraction = config.or(None, |keys| keys.tracking.weak_fraction)?.0;
    Ok(WordsWanted { detection: DetectionSettings { weak_fraction, ..words.detection }, ..words })
}

/// Where JSON lines go, by a flag or else `publish.json`: `-` is no path and so relative to nothing, and an empty one is none.
pub(super) fn json_wanted(
    flag: Option<&Path>,
    config: &Config,
) -> Result<Option<LinesSettings>, ConfigError> {
    let written = match flag {
        Some(flag) => flag.to_owned(),
        None => config.or(None, |keys| keys.publish.json.clone())?,
    };
    if written.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = if flag.is_some() || is_standard_output(&written) {
        written
    } else {
        config.own_path(|keys| keys.publish.json.clone()).unwrap_or(written)
    };
    let place = if is_standard_output(&path) {
        Place::StandardOutput
    } else {
        Place::File { path, rotate_bytes: 0, keep: 0 }
    };
    Ok(Some(LinesSettings { place, frames: true, events: false }))
}

/// Prints to the standard output. A reader who has seen enough is no error.
pub(super) fn print(what: &impl Display) -> io::Result<()> {
    match write!(io::stdout(), "{what}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
