//! A student's metadata.
//!
//! A student is one ONNX file that contains everything about it: its sizes are those of its graph's inputs and
//! outputs, and the rest is in `metadata_props` under `wordsight.*`. All of it is checked when it is read, so no later
//! code meets a NaN temperature or a background of the wrong length. `docs/bring.md` says what a file must have.
//!
//! There are two formats. In the first, of this project's own students, the outputs are four in a fixed order, frames are
//! letterboxed, and scores are a softmax's. In the second the file says how frames are resized and scored, and has the
//! outputs that this takes, in any order.

mod metadata;
mod ports;

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::Value;
use sha2::{Digest, Sha256};
use wordsight_detection::{RegionStatistics, ResizeSettings, ScoreFunction, Shown};

use crate::EngineError;
use crate::cpu::session::{OnnxSession, PortSpec};
use metadata::Metadata;
use ports::Ports;
pub use ports::StudentOutput;

/// Everything about a student that is not its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentFacts {
    /// Which teacher's embedding space it speaks; a vocabulary must name the same.
    pub teacher: String,
    /// The size of its input, and how a frame comes into it.
    pub resize: ResizeSettings,
    /// Its graph's outputs, in their order.
    pub outputs: Vec<StudentOutput>,
    /// Regions a frame (K).
    pub proposals: usize,
    /// Length of an embedding (D).
    pub embedding_size: usize,
    /// How similarities to words become probabilities.
    pub scores: ScoreFunction,
    /// Weight of the objectness in the geometric mean that is the score, 0 to 1.
    pub objectness_weight: f32,
    /// What its regions are like on ordinary photographs, for words by example; none where the file doesn't say.
    pub region_statistics: Option<RegionStatistics>,
    /// What examples name it by, where the file says it.
    pub stated_id: Option<String>,
    /// How it was trained; free form, for people.
    pub training: Value,
}

impl StudentFacts {
    /// The name of the graph's one input.
    pub const INPUT: &str = "image";
    /// The version of the file's layout of this project's own students.
    pub const FORMAT: &str = "1";
    /// The version in which a file says how frames are resized and scored.
    pub const FORMAT_OF_OTHERS: &str = "2";
    /// The key of [`Self::region_statistics`], JSON.
    pub const REGION_STATISTICS: &str = "wordsight.region_statistics";

    /// All keys of `metadata_props` that mean something.
    pub const KEYS: [&str; 17] = [
        "wordsight.background",
        "wordsight.ensemble_lambda",
        "wordsight.format",
        "wordsight.id",
        "wordsight.objectness_weight",
        "wordsight.padding",
        "wordsight.precision",
        "wordsight.quantisation",
        "wordsight.region_statistics",
        "wordsight.resize",
        "wordsight.resize_filter",
        "wordsight.scores",
        "wordsight.sizes",
        "wordsight.teacher",
        "wordsight.temperature",
        "wordsight.trained_text_weight",
        "wordsight.training",
    ];

    /// Those that other readers take, and those for people.
    const KEYS_OF_OTHERS: [&str; 3] = ["wordsight.precision", "wordsight.quantisation", "wordsight.sizes"];

    /// Width of its input, pixels.
    pub fn input_width(&self) -> usize {
        self.resize.input_size.0
    }

    /// Height of its input, pixels.
    pub fn input_height(&self) -> usize {
        self.resize.input_size.1
    }

    /// The shape of an output.
    pub fn shape_of(&self, output: StudentOutput) -> Vec<usize> {
        match output {
            StudentOutput::Boxes => vec![self.proposals, 4],
            StudentOutput::Objectness | StudentOutput::LogitShift | StudentOutput::LogitScale => {
                vec![self.proposals]
            }
            StudentOutput::TextEmbeddings | StudentOutput::ImageEmbeddings => {
                vec![self.proposals, self.embedding_size]
            }
        }
    }

    /// Whether its graph has an output.
    pub fn has(&self, output: StudentOutput) -> bool {
        self.outputs.contains(&output)
    }

    /// What examples name it by: the same in float and in integers, since their embeddings are nearly so.
    pub fn id(&self) -> String {
        if let Some(id) = &self.stated_id {
            return id.clone();
        }
        let bytes: Vec<u8> = match &self.scores {
            ScoreFunction::Softmax { background, .. } => {
                background.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            ScoreFunction::Sigmoid => format!("{} {}", self.teacher, self.training).into_bytes(),
        };
        hex::encode(&Sha256::digest(bytes)[..8])
    }

    /// The student as one to which things were shown, by its [`Self::id`]. Only those with a softmax can be.
    pub fn shown<'a>(&'a self, id: &'a str) -> Shown<'a> {
        match &self.scores {
            ScoreFunction::Softmax { temperature, .. } => {
                Shown { student: id, temperature: *temperature, statistics: self.region_statistics.as_ref() }
            }
            ScoreFunction::Sigmoid => Shown { student: id, temperature: 1.0, statistics: None },
        }
    }

    /// The words whose boxes it was trained on, as its file lists them.
    pub fn trained_words(&self) -> HashSet<String> {
        let words = self.training.get("words").and_then(Value::as_array);
        words.into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    }

    /// Reads and checks the facts of an opened model.
    ///
    /// # Errors
    /// [`EngineError::NotAStudent`], with the first thing that is missing or wrong.
    pub fn read(session: &OnnxSession) -> Result<Self, EngineError> {
        Self::of(session.name(), session.inputs(), session.outputs(), &|key| session.metadata(key))
    }

    /// Reads and checks the facts of a model that ONNX Runtime doesn't run.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_model(model: &wordsight_onnx::proto::ModelProto, name: &str) -> Result<Self, EngineError> {
        Self::of_ports(model, name, &|key| wordsight_onnx::metadata(model, key).map(str::to_owned))
    }

    fn of_ports(
        model: &wordsight_onnx::proto::ModelProto,
        name: &str,
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EngineError> {
        let ports =
            |ports: &[wordsight_onnx::proto::ValueInfoProto]| ports.iter().map(PortSpec::of_model).collect();
        let (inputs, outputs): (Vec<_>, Vec<_>) =
            model.graph.as_ref().map(|graph| (ports(&graph.input), ports(&graph.output))).unwrap_or_default();
        Self::of(name, &inputs, &outputs, metadata)
    }

    /// The keys of a student's file that mean something in others and nothing in this one, a temperature beside a sigmoid
    /// for example; their values were never looked at.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn unused_keys(
        model: &wordsight_onnx::proto::ModelProto,
        name: &str,
    ) -> Result<Vec<&'static str>, EngineError> {
        let asked = RefCell::new(HashSet::new());
        let value = |key: &str| wordsight_onnx::metadata(model, key).map(str::to_owned);
        let facts = Self::of_ports(model, name, &|key| {
            asked.borrow_mut().insert(key.to_owned());
            value(key)
        })?;
        let is_unused = |key: &&str| {
            let is_for_examples = **key == *Self::REGION_STATISTICS;
            let takes_no_examples = facts.scores == ScoreFunction::Sigmoid;
            !asked.borrow().contains(*key) || (is_for_examples && takes_no_examples)
        };
        let own = Self::KEYS.into_iter().filter(|key| !Self::KEYS_OF_OTHERS.contains(key));
        Ok(own.filter(|key| value(key).is_some()).filter(is_unused).collect())
    }

    fn of(
        name: &str,
        inputs: &[PortSpec],
        outputs: &[PortSpec],
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EngineError> {
        let refused = |reason| EngineError::NotAStudent { model: name.to_owned(), reason };
        let ports = Ports::read(inputs, outputs).map_err(refused)?;
        Metadata(metadata).facts(ports).map_err(refused)
    }
}
