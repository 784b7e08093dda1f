//! Flags that several commands have, and how they are put over the configuration.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use wordsight_capture::SourceUri;

use crate::config::{Config, ConfigError};
use crate::files::Inputs;
use crate::pipeline::EngineKind;
use crate::service::{WordsTarget, inputs_of};
use crate::settings::{Fraction, FramesPerSecond};
use crate::source::PacingName;

/// What all commands understand that open a student.
#[derive(Debug, Default, Args)]
pub(super) struct CommonArgs {
    /// The configuration file (TOML); without it the built-in one holds
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The student: an .onnx file from `wordsight-distill`
    #[arg(long, value_name = "FILE")]
    pub(super) student: Option<PathBuf>,
    /// What to look for: a .safetensors file from `wordsight words make`, or a words.toml where a teacher is installed
    #[arg(long, value_name = "FILE")]
    pub(super) vocabulary: Option<PathBuf>,
    /// The score threshold: what scores less is not told, 0 to 1
    #[arg(long, value_name = "X")]
    pub(super) score_threshold: Option<Fraction>,
    /// Overlap (intersection over union, 0 to 1) above which two detections are one thing
    #[arg(long, value_name = "X")]
    pub(super) nms_iou: Option<Fraction>,
    /// The most detections a frame
    #[arg(long, value_name = "N")]
    pub(super) max_detections: Option<NonZeroUsize>,
    /// Words that one region may carry; above 1, only equal words compete
    #[arg(long, value_name = "N")]
    pub(super) words_per_region: Option<NonZeroUsize>,
    /// What runs the student
    #[arg(long, value_name = "KIND")]
    pub(super) engine: Option<EngineKind>,
    /// CPU threads that run one frame together; 0 = all cores
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
}

impl CommonArgs {
    /// Reads the configuration, and puts these flags over it.
    pub(super) fn load_config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        self.apply(&mut config);
        Ok(config)
    }

    /// What is read by a command that runs this configuration; what can't be found is told when it is opened.
    pub(super) fn inputs(&self, config: &Config, source: Option<&SourceUri>) -> Inputs {
        let student = config.student.find("student").ok();
        let words = WordsTarget::of(config).ok();
        inputs_of(self.config.as_deref(), student.as_deref(), words.as_ref(), source)
    }

    /// Puts these flags over a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        put(&mut config.student, self.student.clone().map(Into::into));
        if self.vocabulary.is_some() {
            config.words = None;
        }
        put(&mut config.vocabulary, self.vocabulary.clone().map(Into::into));
        put(&mut config.detection.score_threshold, self.score_threshold);
        put(&mut config.detection.nms_iou, self.nms_iou);
        put(&mut config.detection.max_detections, self.max_detections);
        put(&mut config.detection.words_per_region, self.words_per_region);
        put(&mut config.engine.kind, self.engine);
        put(&mut config.engine.threads, self.threads);
    }
}

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
    /// The first of these flags that is given.
    pub(super) fn flag(&self) -> Option<&'static str> {
        let Self { source, pacing, fps } = self;
        let given =
            [(source.is_some(), "--source"), (pacing.is_some(), "--pacing"), (fps.is_some(), "--fps")];
        given.into_iter().find_map(|(is_given, flag)| is_given.then_some(flag))
    }

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
