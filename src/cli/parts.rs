//! From settings to the parts of a stream that both commands need.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_engines::{CpuEngine, Engine, Regions};

use super::CommonArgs;
use super::config::Config;
use crate::publish::Output;
use crate::scoring::Scoring;

impl CommonArgs {
    /// Reads the configuration that these flags go before.
    pub(super) fn load_config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Opens the student and runs it once on grey, so that the first frame isn't slower than the
    /// rest: ONNX Runtime lays out its memory in the first run.
    pub(super) fn open_engine(&self, config: &Config) -> anyhow::Result<Box<dyn Engine>> {
        let student = match &self.student {
            Some(student) => student.clone(),
            None => config.path("student", |keys| keys.student.clone())?,
        };
        let threads = config.or(self.threads, |keys| keys.engine.threads)?;
        let mut engine = CpuEngine::open(&student, threads)?;
        let facts = engine.facts();
        let grey = vec![wordsight_detection::PADDING; 3 * facts.input_width * facts.input_height];
        engine.infer(&grey, &mut Regions::default())?;
        tracing::info!(student = %student.display(), teacher = engine.facts().teacher, "opened the student");
        Ok(Box::new(engine))
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
