//! From settings to the parts of a stream that both commands need.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_engines::{CpuEngine, Engine, Regions};

use super::CommonArgs;
use super::config::{Config, EngineKind};
use crate::pipeline::Stop;
use crate::publish::Output;
use crate::scoring::Scoring;

impl CommonArgs {
    /// Reads the configuration that these flags go before.
    pub(super) fn load_config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Opens the student and runs it once on grey, so that the first frame isn't slower than the
    /// rest: engines lay out their memory in the first run.
    pub(super) fn open_engine(&self, config: &Config, stop: &Stop) -> anyhow::Result<Box<dyn Engine>> {
        let student = match &self.student {
            Some(student) => student.clone(),
            None => config.path("student", |keys| keys.student.clone())?,
        };
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

    fn open_on_processor(&self, student: &Path, config: &Config) -> anyhow::Result<Box<dyn Engine>> {
        let threads = config.or(self.threads, |keys| keys.engine.threads)?;
        Ok(Box::new(CpuEngine::open(student, threads)?))
    }

    /// Reads the vocabulary and makes it meet the student.
    pub(super) fn open_scoring(&self, config: &Config, engine: &dyn Engine) -> anyhow::Result<Scoring> {
        let path = match &self.vocabulary {
            Some(vocabulary) => vocabulary.clone(),
            None => config.path("vocabulary", |keys| keys.vocabulary.clone())?,
        };
        let vocabulary = Vocabulary::load(&path)?;
        let settings = self.detection_settings(config)?;
        let scoring = Scoring::new(&vocabulary, engine.facts(), settings)
            .with_context(|| format!("{} does not fit the student", path.display()))?;
        tracing::info!(vocabulary = %path.display(), words = vocabulary.words.len(), "opened the vocabulary");
        Ok(scoring)
    }

    fn detection_settings(&self, config: &Config) -> anyhow::Result<DetectionSettings> {
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
