//! What a stream is to be made of, and the making of each part.
//!
//! In flow the configuration and the flags that go before it, resolved to paths and numbers; out flow an engine, words, a
//! source and outputs. Two such descriptions can be compared, part by part: what is equal need not be made again when the
//! configuration is loaded again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use wordsight_board::GovernorSettings;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_engines::{CpuEngine, Engine, Regions, StudentFacts};
use wordsight_tracking::TrackingSettings;

use crate::capture::{
    CaptureError, Pacing, Source, SourceUri, StreamSettings, Supervised, SupervisionSettings,
};
use crate::config::{ConfigError, EngineKind, Precision};
use crate::health::Health;
use crate::http::HttpSettings;
use crate::pipeline::Stop;
use crate::publish::{Output, SinkSettings};
use crate::scoring::Scoring;

/// All parts of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What finds regions.
    pub engine: EngineWanted,
    /// What names them.
    pub words: WordsWanted,
    /// Where frames come from.
    pub source: SourceWanted,
    /// What follows the things from frame to frame, if anything does.
    pub tracking: Option<TrackingSettings>,
    /// Where results go, in the order of the configuration.
    pub sinks: Vec<SinkSettings>,
    /// What the stream is called.
    pub name: String,
    /// What is served over HTTP, if anything is.
    pub http: Option<HttpSettings>,
    /// Where the health goes.
    pub health: Option<PathBuf>,
    /// What keeps the stream within what the board can stand.
    pub governor: Option<GovernorSettings>,
}

/// A student, and what runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineWanted {
    /// The student's file.
    pub student: PathBuf,
    /// What runs it.
    pub kind: EngineKind,
    /// CPU threads; 0: all cores.
    pub threads: usize,
    /// A folder of TensorRT's libraries.
    pub tensorrt: Option<PathBuf>,
    /// Whether plans that lack are built.
    pub builds_plans: bool,
    /// What they compute in.
    pub precision: Precision,
    /// Scratch memory of theirs, MiB; 0: by what is free.
    pub workspace_mib: u32,
}

impl EngineWanted {
    /// Opens the student and runs it once on grey, so that the first frame isn't slower than the rest: engines lay out
    /// their memory in the first run. `alive` is called now and then while a plan is built.
    ///
    /// # Errors
    /// When the student or what is to run it can't be opened.
    pub fn open(&self, stop: &Stop, alive: &(dyn Fn() + Sync)) -> anyhow::Result<Box<dyn Engine>> {
        let mut engine = match self.kind {
            EngineKind::OnnxRuntime => self.open_on_processor()?,
            EngineKind::TensorRt => self.open_on_tensorrt(stop, alive)?,
            EngineKind::Auto => match self.open_on_tensorrt(stop, alive) {
                Ok(engine) => engine,
                Err(_) if stop.is_requested() => anyhow::bail!("stopped while a plan was built"),
                Err(reason) => {
                    // First: what is wrong with the student is wrong here too, and is told then.
                    let engine = self.open_on_processor()?;
                    say_why_not_tensorrt(&reason);
                    engine
                }
            },
        };
        let facts = engine.facts();
        let grey = vec![wordsight_detection::PADDING; 3 * facts.input_width * facts.input_height];
        engine.infer(&grey, &mut Regions::default())?;
        let (student, teacher) = (self.student.display(), &engine.facts().teacher);
        tracing::info!(%student, teacher, engine = engine.name(), "opened the student");
        Ok(engine)
    }

    fn open_on_processor(&self) -> anyhow::Result<Box<dyn Engine>> {
        Ok(Box::new(CpuEngine::open(&self.student, self.threads)?))
    }

    #[cfg(feature = "tensorrt")]
    fn open_on_tensorrt(&self, stop: &Stop, alive: &(dyn Fn() + Sync)) -> anyhow::Result<Box<dyn Engine>> {
        use wordsight_engines::tensorrt::{BuildSettings, PlanStore, TensorRtEngine, TensorRtSettings};
        let settings = TensorRtSettings {
            libraries: self.tensorrt.clone(),
            state: PlanStore::default_state(),
            builds_plans: self.builds_plans,
            build: BuildSettings {
                workspace_mib: (self.workspace_mib > 0).then_some(self.workspace_mib),
                target: None,
                precision: self.precision.into(),
            },
        };
        let bar = crate::cli::BuildBar::new(&self.student)?;
        let show = |step: wordsight_engines::tensorrt::Step<'_>| {
            alive();
            bar.show(step, stop)
        };
        Ok(Box::new(TensorRtEngine::open(&self.student, &settings, &show)?))
    }

    #[cfg(not(feature = "tensorrt"))]
    fn open_on_tensorrt(&self, _: &Stop, _: &(dyn Fn() + Sync)) -> anyhow::Result<Box<dyn Engine>> {
        let _ = (&self.tensorrt, self.builds_plans, self.precision, self.workspace_mib);
        Err(ConfigError::NoTensorRt.into())
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

/// A vocabulary, and what is told of what it names.
#[derive(Debug, Clone, PartialEq)]
pub struct WordsWanted {
    /// The vocabulary's file.
    pub vocabulary: PathBuf,
    /// Which detections are told.
    pub detection: DetectionSettings,
}

impl WordsWanted {
    /// Reads the vocabulary and makes it meet the student.
    ///
    /// # Errors
    /// When it can't be read, or comes from another teacher.
    pub fn open(&self, student: &StudentFacts) -> anyhow::Result<Scoring> {
        let path = self.vocabulary.display();
        let vocabulary = Vocabulary::load(&self.vocabulary)?;
        let scoring = Scoring::new(&vocabulary, student, self.detection)
            .with_context(|| format!("{path} does not fit the student"))?;
        tracing::info!(vocabulary = %path, words = vocabulary.shown().len(), "opened the vocabulary");
        Ok(scoring)
    }
}

/// A source, and what becomes of it when it is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceWanted {
    /// What and where it is.
    pub uri: SourceUri,
    /// How its frames follow one another.
    pub pacing: Pacing,
    /// Whether a file begins again at its end.
    pub repeat: bool,
    /// How a live stream is opened.
    pub stream: StreamSettings,
    /// What happens to a live one that is lost.
    pub supervision: SupervisionSettings,
}

impl SourceWanted {
    /// Opens the source; one that is live is kept open from then on.
    ///
    /// # Errors
    /// When it isn't there or isn't what was asked for; [`of_usage`] tells which.
    pub fn open(&self, health: &Health, stop: &Stop) -> Result<Box<dyn Source>, CaptureError> {
        if !self.uri.is_live() {
            return self.uri.open(&self.stream);
        }
        let (uri, stream) = (self.uri.clone(), self.stream);
        let open = move || uri.open(&stream);
        let name = self.uri.display();
        let supervised =
            Supervised::open(name, self.supervision, health.clone(), open, &|| stop.is_requested())?;
        Ok(Box::new(supervised))
    }

    /// The same, but one that isn't there is waited for.
    pub fn waited_for(&self) -> Self {
        let supervision = SupervisionSettings { waits_at_start: true, ..self.supervision };
        Self { supervision, ..self.clone() }
    }

    /// The same, but one that isn't there is an error.
    pub fn at_once(&self) -> Self {
        let supervision = SupervisionSettings { waits_at_start: false, ..self.supervision };
        Self { supervision, ..self.clone() }
    }
}

/// An error of a source; a mistake in what the user wrote is one of usage.
pub fn of_usage(error: CaptureError) -> anyhow::Error {
    match error {
        CaptureError::Uri(error) => ConfigError::Source(error).into(),
        other => other.into(),
    }
}

/// Opens where lines go: a file, or for `-` the standard output.
///
/// # Errors
/// When the file can't be made.
pub fn open_output(path: &Path) -> anyhow::Result<Output> {
    if is_standard_output(path) {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(file))
}

/// Whether a path stands for the standard output.
pub fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}
