//! The `wordsight.*` entries of a student's `metadata_props`.

use wordsight_detection::{
    RegionStatistics, ResizeFilter, ResizeMode, ResizeSettings, ScoreFunction, TextWeights,
};

use super::StudentFacts;
use super::ports::{Ports, StudentOutput};

/// A key that a file may lack.
const TRAINED_TEXT_WEIGHT: &str = "wordsight.trained_text_weight";
const OBJECTNESS_WEIGHT: &str = "wordsight.objectness_weight";

/// The `wordsight.*` entries of a model's metadata.
pub(super) struct Metadata<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Metadata<'_> {
    pub fn facts(&self, ports: Ports) -> Result<StudentFacts, String> {
        match self.text("wordsight.format")?.as_str() {
            StudentFacts::FORMAT => self.of_this_project(ports),
            StudentFacts::FORMAT_OF_OTHERS => self.of_others(ports),
            format => Err(format!(
                "its format is {format:?}, and this version reads {:?} and {:?}",
                StudentFacts::FORMAT,
                StudentFacts::FORMAT_OF_OTHERS
            )),
        }
    }

    fn of_this_project(&self, ports: Ports) -> Result<StudentFacts, String> {
        if ports.outputs != StudentOutput::OF_SOFTMAX {
            return Err(format!(
                "its outputs are {:?}, and a student's of format {:?} are {:?}",
                names(&ports.outputs),
                StudentFacts::FORMAT,
                names(&StudentOutput::OF_SOFTMAX)
            ));
        }
        Ok(StudentFacts {
            teacher: self.text("wordsight.teacher")?,
            resize: ResizeSettings::letterbox(ports.input_size.0, ports.input_size.1),
            scores: self.softmax(ports.embedding_size)?,
            objectness_weight: self.weight(OBJECTNESS_WEIGHT)?,
            region_statistics: self.region_statistics(ports.embedding_size)?,
            stated_id: None,
            training: self.json("wordsight.training")?,
            outputs: ports.outputs,
            proposals: ports.proposals,
            embedding_size: ports.embedding_size,
        })
    }

    fn of_others(&self, ports: Ports) -> Result<StudentFacts, String> {
        let key = "wordsight.scores";
        let named = self.text(key)?;
        // The outputs first: what else is asked follows from the scores.
        let (must_have, takes) = match named.as_str() {
            "softmax" => (&StudentOutput::OF_SOFTMAX, &StudentOutput::OF_SOFTMAX[..]),
            "sigmoid" => {
                use StudentOutput::{Boxes, LogitScale, LogitShift, Objectness, TextEmbeddings};
                (&StudentOutput::OF_SIGMOID, &[Boxes, TextEmbeddings, LogitShift, LogitScale, Objectness][..])
            }
            other => return Err(format!("`{key}` is {other:?}, and must be \"softmax\" or \"sigmoid\"")),
        };
        let fits = must_have.iter().all(|output| ports.outputs.contains(output))
            && ports.outputs.iter().all(|output| takes.contains(output));
        if !fits {
            let may = if takes.len() > must_have.len() { ", and may have `objectness`" } else { "" };
            return Err(format!(
                "its outputs are {:?}, and with {named:?} as `{key}` they must be {:?}{may}",
                names(&ports.outputs),
                names(must_have)
            ));
        }
        let scores = match named.as_str() {
            "softmax" => self.softmax(ports.embedding_size)?,
            _ => ScoreFunction::Sigmoid,
        };
        let objectness_weight = match ports.outputs.contains(&StudentOutput::Objectness) {
            true => self.weight(OBJECTNESS_WEIGHT)?,
            false => 0.0,
        };
        Ok(StudentFacts {
            teacher: self.text("wordsight.teacher")?,
            resize: self.resize(ports.input_size)?,
            scores,
            objectness_weight,
            region_statistics: self.region_statistics(ports.embedding_size)?,
            stated_id: (self.0)("wordsight.id").filter(|id| !id.is_empty()),
            training: match (self.0)("wordsight.training") {
                Some(_) => self.json("wordsight.training")?,
                None => serde_json::Value::Null,
            },
            outputs: ports.outputs,
            proposals: ports.proposals,
            embedding_size: ports.embedding_size,
        })
    }

    fn softmax(&self, embedding_size: usize) -> Result<ScoreFunction, String> {
        let temperature = self.number("wordsight.temperature")?;
        if temperature <= 0.0 {
            return Err(format!("`wordsight.temperature` is {temperature}, and must be above 0"));
        }
        // Of words that were not trained on (ViLD, arXiv 2104.13921, section 3.4). A head with one embedding has it in
        // both outputs and the same weight, 0 or 1, for all words.
        let others = self.weight("wordsight.ensemble_lambda")?;
        let trained = match (self.0)(TRAINED_TEXT_WEIGHT) {
            Some(_) => self.weight(TRAINED_TEXT_WEIGHT)?,
            None => 1.0 - others,
        };
        let background = self.background(embedding_size)?;
        Ok(ScoreFunction::Softmax { temperature, background, text_weights: TextWeights { trained, others } })
    }

    fn resize(&self, (width, height): (usize, usize)) -> Result<ResizeSettings, String> {
        let mut settings = ResizeSettings::letterbox(width, height);
        if let Some(mode) = (self.0)("wordsight.resize") {
            settings.mode = ResizeMode::of_name(&mode)
                .ok_or_else(|| not_among("wordsight.resize", &mode, ResizeMode::NAMES))?;
        }
        if let Some(filter) = (self.0)("wordsight.resize_filter") {
            settings.filter = ResizeFilter::of_name(&filter)
                .ok_or_else(|| not_among("wordsight.resize_filter", &filter, ResizeFilter::NAMES))?;
        }
        if let Some(padding) = (self.0)("wordsight.padding") {
            settings.padding = serde_json::from_str(&padding).map_err(|_| {
                format!(
                    "`wordsight.padding` is {padding:?}, and must be three whole numbers from 0 to 255, as [114, 114, 114]"
                )
            })?;
        }
        Ok(settings)
    }

    fn text(&self, key: &str) -> Result<String, String> {
        (self.0)(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("its metadata has no `{key}`"))
    }

    fn number(&self, key: &str) -> Result<f32, String> {
        let text = self.text(key)?;
        text.parse()
            .ok()
            .filter(|number: &f32| number.is_finite())
            .ok_or_else(|| format!("`{key}` is {text:?}, not a number"))
    }

    fn weight(&self, key: &str) -> Result<f32, String> {
        let weight = self.number(key)?;
        if (0.0..=1.0).contains(&weight) {
            Ok(weight)
        } else {
            Err(format!("`{key}` is {weight}, and must be between 0 and 1"))
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, String> {
        serde_json::from_str(&self.text(key)?).map_err(|error| format!("`{key}`: {error}"))
    }

    fn region_statistics(&self, embedding_size: usize) -> Result<Option<RegionStatistics>, String> {
        let key = StudentFacts::REGION_STATISTICS;
        if (self.0)(key).is_none() {
            return Ok(None);
        }
        let statistics: RegionStatistics = self.json(key)?;
        statistics.check(embedding_size).map_err(|problem| format!("`{key}`: {problem}"))?;
        Ok(Some(statistics))
    }

    fn background(&self, embedding_size: usize) -> Result<Vec<f32>, String> {
        let key = "wordsight.background";
        let background: Vec<f32> = self.json(key)?;
        if background.len() != embedding_size {
            return Err(format!(
                "`{key}` has {} numbers, and its embeddings have {embedding_size}",
                background.len()
            ));
        }
        let length = background.iter().map(|x| x * x).sum::<f32>().sqrt();
        if (length - 1.0).abs() > 1e-3 {
            return Err(format!("`{key}` has the length {length}, and must have 1"));
        }
        Ok(background)
    }
}

fn names(outputs: &[StudentOutput]) -> Vec<&'static str> {
    outputs.iter().map(|output| output.name()).collect()
}

fn not_among(key: &str, found: &str, names: &[&str]) -> String {
    format!("`{key}` is {found:?}, and must be one of {names:?}")
}
