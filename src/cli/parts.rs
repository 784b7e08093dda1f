//! From settings to the parts of a stream that both commands need.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_engines::{CpuEngine, Engine, Regions};

use super::CommonArgs;
use super::config::{Config, ConfigError, EngineKind, FramesPerSecond, PacingName};
use crate::capture::{CaptureError, Pacing, Source, StreamSettings, Supervised, SupervisionSettings};
use crate::health::Health;
use crate::pipeline::Stop;
use crate::publish::Output;
use crate::scoring::Scoring;

/// How long a stream may take to end when it is asked to. One whose results are read takes two seconds at most.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(5);

/// What a stream comes from, and at what pace.
#[derive(Debug, Args)]
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

/// A source that is open.
pub(super) struct OpenSource {
    pub source: Box<dyn Source>,
    pub pacing: Pacing,
    /// As it was written, without a password.
    pub name: String,
    pub is_live: bool,
}

/// How the frames of a source follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub pacing: PacingName,
    pub fps: FramesPerSecond,
}

impl SourceArgs {
    /// Opens the source; one that is live is kept open from then on.
    pub(super) fn open(&self, config: &Config, health: &Health, stop: &Stop) -> anyhow::Result<OpenSource> {
        let pace = Pace {
            pacing: config.or(self.pacing, |keys| keys.source.pacing)?,
            fps: config.or(self.fps, |keys| keys.source.fps)?,
        };
        OpenSource::open(self.source.as_deref(), pace, config, health, stop)
    }
}

impl OpenSource {
    /// Opens the source that a flag or the configuration names.
    pub(super) fn open(
        flag: Option<&str>,
        pace: Pace,
        config: &Config,
        health: &Health,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let uri = config.source(flag)?;
        let (name, is_live) = (uri.display().to_owned(), uri.is_live());
        let pacing = pace.pacing.at(pace.fps, is_live);
        let pacing = pacing.ok_or_else(|| ConfigError::LosslessCamera(name.clone()))?;
        let settings = StreamSettings { latency_ms: config.or(None, |keys| keys.source.latency_ms)? };
        if !is_live {
            return Ok(Self { source: uri.open(&settings).map_err(of_usage)?, pacing, name, is_live });
        }
        let give_up_after = config.or(None, |keys| keys.source.give_up_after_s)?.0;
        let supervision = SupervisionSettings {
            stalled_after: config.or(None, |keys| keys.source.stalled_after_s)?.0,
            longest_wait: config.or(None, |keys| keys.source.longest_wait_s)?.0,
            give_up_after: (!give_up_after.is_zero()).then_some(give_up_after),
            waits_at_start: config.or(None, |keys| keys.source.wait_at_start)?,
        };
        let open = move || uri.open(&settings);
        let supervised = Supervised::open(&name, supervision, health.clone(), open, &|| stop.is_requested());
        let source = Box::new(supervised.map_err(of_usage)?);
        Ok(Self { source, pacing, name, is_live })
    }
}

/// An error of a source; a mistake in what the user wrote is one of usage.
pub(super) fn of_usage(error: CaptureError) -> anyhow::Error {
    match error {
        CaptureError::Uri(error) => ConfigError::Source(error).into(),
        other => other.into(),
    }
}

impl CommonArgs {
    /// Reads the configuration that these flags go before.
    pub(super) fn load_config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Opens the student and runs it once on grey, so that the first frame isn't slower than the
    /// rest: engines lay out their memory in the first run.
    pub(super) fn open_engine(&self, config: &Config, stop: &Stop) -> anyhow::Result<Box<dyn Engine>> {
        let student = self.student_path(config)?;
        let mut engine = match config.or(self.engine, |keys| keys.engine.kind)? {
            EngineKind::OnnxRuntime => self.open_on_processor(&student, config)?,
            EngineKind::TensorRt => open_on_tensorrt(&student, config, stop)?,
            EngineKind::Auto => match open_on_tensorrt(&student, config, stop) {
                Ok(engine) => engine,
                Err(_) if stop.is_requested() => anyhow::bail!("stopped while a plan was built"),
                Err(reason) => {
                    // First: what is wrong with the student is wrong here too, and is told then.
                    let engine = self.open_on_processor(&student, config)?;
                    say_why_not_tensorrt(&reason);
                    engine
                }
            },
        };
        let facts = engine.facts();
        let grey = vec![wordsight_detection::PADDING; 3 * facts.input_width * facts.input_height];
        engine.infer(&grey, &mut Regions::default())?;
        let teacher = &engine.facts().teacher;
        tracing::info!(student = %student.display(), teacher, engine = engine.name(), "opened the student");
        Ok(engine)
    }

    /// The student's file.
    pub(super) fn student_path(&self, config: &Config) -> Result<PathBuf, ConfigError> {
        self.student.clone().map_or_else(|| config.path("student", |keys| keys.student.clone()), Ok)
    }

    /// The vocabulary's file.
    pub(super) fn vocabulary_path(&self, config: &Config) -> Result<PathBuf, ConfigError> {
        self.vocabulary.clone().map_or_else(|| config.path("vocabulary", |keys| keys.vocabulary.clone()), Ok)
    }

    fn open_on_processor(&self, student: &Path, config: &Config) -> anyhow::Result<Box<dyn Engine>> {
        let threads = config.or(self.threads, |keys| keys.engine.threads)?;
        Ok(Box::new(CpuEngine::open(student, threads)?))
    }

    /// Reads the vocabulary and makes it meet the student.
    pub(super) fn open_scoring(&self, config: &Config, engine: &dyn Engine) -> anyhow::Result<Scoring> {
        let path = self.vocabulary_path(config)?;
        let vocabulary = Vocabulary::load(&path)?;
        let settings = self.detection_settings(config)?;
        let scoring = Scoring::new(&vocabulary, engine.facts(), settings)
            .with_context(|| format!("{} does not fit the student", path.display()))?;
        tracing::info!(vocabulary = %path.display(), words = vocabulary.words.len(), "opened the vocabulary");
        Ok(scoring)
    }

    pub(super) fn detection_settings(&self, config: &Config) -> anyhow::Result<DetectionSettings> {
        let score_threshold = config.or(self.score_threshold, |keys| keys.detection.score_threshold)?;
        let nms_iou = config.or(self.nms_iou, |keys| keys.detection.nms_iou)?;
        let voting_iou = config.or(None, |keys| keys.detection.voting_iou)?;
        let max_detections = config.or(self.max_detections, |keys| keys.detection.max_detections)?;
        let words_per_region = config.or(self.words_per_region, |keys| keys.detection.words_per_region)?;
        Ok(DetectionSettings {
            score_threshold: score_threshold.0,
            nms_iou: nms_iou.0,
            voting_iou: voting_iou.0,
            max_detections: max_detections.get(),
            words_per_region: words_per_region.get(),
        })
    }
}

/// That ONNX Runtime takes TensorRT's place. On a machine without NVIDIA's driver that is no news.
fn say_why_not_tensorrt(reason: &anyhow::Error) {
    #[cfg(feature = "tensorrt")]
    {
        use wordsight_engines::EngineError;
        use wordsight_engines::tensorrt::TensorRtError;
        match reason.downcast_ref() {
            Some(EngineError::TensorRt(TensorRtError::NoDriver { .. })) => {
                tracing::info!("ONNX Runtime runs the student, on the processor: {reason:#}");
            }
            _ => tracing::warn!(
                "ONNX Runtime runs the student, on the processor, and not TensorRT: {reason:#}"
            ),
        }
    }
    #[cfg(not(feature = "tensorrt"))]
    tracing::debug!("{reason:#}");
}

#[cfg(feature = "tensorrt")]
fn open_on_tensorrt(student: &Path, config: &Config, stop: &Stop) -> anyhow::Result<Box<dyn Engine>> {
    use wordsight_engines::tensorrt::{PlanStore, TensorRtEngine, TensorRtSettings};
    let settings = TensorRtSettings {
        libraries: config.own_path(|keys| keys.engine.tensorrt.clone()),
        state: PlanStore::default_state(),
        builds_plans: config.or(None, |keys| keys.engine.build_plans)?,
    };
    let bar = super::plan::BuildBar::new(student)?;
    Ok(Box::new(TensorRtEngine::open(student, &settings, &|step| bar.show(step, stop))?))
}

#[cfg(not(feature = "tensorrt"))]
fn open_on_tensorrt(_: &Path, _: &Config, _: &Stop) -> anyhow::Result<Box<dyn Engine>> {
    Err(super::config::ConfigError::NoTensorRt.into())
}

/// Opens where lines go: a file, or for `-` the standard output.
pub(super) fn open_output(path: &Path) -> anyhow::Result<Output> {
    if is_standard_output(path) {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Whether a path stands for the standard output.
pub(super) fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}

/// Prints to the standard output. A reader who has seen enough is no error.
pub(super) fn print(what: &impl Display) -> io::Result<()> {
    match write!(io::stdout(), "{what}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
