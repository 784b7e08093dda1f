//! A student's metadata, and the regions that it finds in a frame.
//!
//! A student is one ONNX file that contains everything about it: its sizes are those of its graph's inputs and
//! outputs, and the rest is in `metadata_props` under `wordsight.*`. All of it is checked when it is read, so no later
//! code meets a NaN temperature or a background of the wrong length.
//!
//! At run time outputs are taken by position, not by name; [`StudentFacts::read`] refuses a file whose outputs are in
//! another order.

use std::collections::HashSet;

use serde_json::Value;
use sha2::{Digest, Sha256};
use wordsight_detection::{Ranked, RegionStatistics, Shown};

use crate::EngineError;
use crate::cpu::session::{ElementType, OnnxSession, PortSpec};

/// Everything about a student that is not its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentFacts {
    /// Which teacher's embedding space it speaks; a vocabulary must name the same.
    pub teacher: String,
    /// Width of its input, pixels.
    pub input_width: usize,
    /// Height of its input, pixels.
    pub input_height: usize,
    /// Regions a frame (K).
    pub proposals: usize,
    /// Length of an embedding (D).
    pub embedding_size: usize,
    /// Cosines are divided by this before a softmax.
    pub temperature: f32,
    /// The text head's embedding of "nothing nameable", `[D]`, of length 1.
    pub background: Vec<f32>,
    /// Weight of the text head in the geometric mean for words that were not trained on (ViLD,
    /// arXiv 2104.13921, section 3.4).
    pub ensemble_lambda: f32,
    /// The same for words that were trained on. Where the file doesn't say: 1 minus the other. A head
    /// with one embedding has it in both places and the same weight, 0 or 1, for all words.
    pub trained_text_weight: f32,
    /// Weight of the objectness in the geometric mean that is the score, 0 to 1.
    pub objectness_weight: f32,
    /// What its regions are like on ordinary photographs, for words by example; none where the file doesn't say.
    pub region_statistics: Option<RegionStatistics>,
    /// How it was trained; free form, for people.
    pub training: Value,
}

impl StudentFacts {
    /// The name of the graph's one input.
    pub const INPUT: &str = "image";
    /// The names of the graph's outputs, in their order.
    pub const OUTPUTS: [&str; 4] = ["boxes", "objectness", "text_embeddings", "image_embeddings"];
    /// The version of the file's layout that this code reads.
    pub const FORMAT: &str = "1";
    /// The key of [`Self::region_statistics`], JSON.
    pub const REGION_STATISTICS: &str = "wordsight.region_statistics";

    /// What examples name it by: the same in float and in integers, since their embeddings are nearly so.
    pub fn id(&self) -> String {
        let background: Vec<u8> = self.background.iter().flat_map(|value| value.to_le_bytes()).collect();
        hex::encode(&Sha256::digest(background)[..8])
    }

    /// The student as one to which things were shown, by its [`Self::id`].
    pub fn shown<'a>(&'a self, id: &'a str) -> Shown<'a> {
        Shown { student: id, temperature: self.temperature, statistics: self.region_statistics.as_ref() }
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
        let ports =
            |ports: &[wordsight_onnx::proto::ValueInfoProto]| ports.iter().map(PortSpec::of_model).collect();
        let (inputs, outputs): (Vec<_>, Vec<_>) =
            model.graph.as_ref().map(|graph| (ports(&graph.input), ports(&graph.output))).unwrap_or_default();
        Self::of(name, &inputs, &outputs, &|key| wordsight_onnx::metadata(model, key).map(str::to_owned))
    }

    fn of(
        name: &str,
        inputs: &[PortSpec],
        outputs: &[PortSpec],
        metadata: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EngineError> {
        let refused = |reason| EngineError::NotAStudent { model: name.to_owned(), reason };
        let sizes = Sizes::read(inputs, outputs).map_err(refused)?;
        Metadata(metadata).facts(sizes).map_err(refused)
    }
}

/// The most of anything: pixels of an input's side, regions, numbers of an embedding. Far more than students have, and so
/// few that what is made for them can be counted and allocated.
const LARGEST: usize = 1 << 14;

/// The sizes that a student's ports declare.
struct Sizes {
    input_width: usize,
    input_height: usize,
    proposals: usize,
    embedding_size: usize,
}

impl Sizes {
    fn read(inputs: &[PortSpec], outputs: &[PortSpec]) -> Result<Self, String> {
        let names =
            |ports: &[PortSpec]| -> Vec<String> { ports.iter().map(|port| port.name.clone()).collect() };
        let [image] = inputs else {
            return Err(wrong_ports("inputs", &names(inputs), &[StudentFacts::INPUT]));
        };
        if image.name != StudentFacts::INPUT {
            return Err(wrong_ports("inputs", &names(inputs), &[StudentFacts::INPUT]));
        }
        let found = names(outputs);
        let [boxes, objectness, text, image_side] = outputs else {
            return Err(wrong_ports("outputs", &found, &StudentFacts::OUTPUTS));
        };
        if found != StudentFacts::OUTPUTS {
            return Err(wrong_ports("outputs", &found, &StudentFacts::OUTPUTS));
        }

        let [batch, channels, input_height, input_width] =
            static_shape(image, ElementType::U8, "[1, 3, H, W]")?;
        let [proposals, corners] = static_shape(boxes, ElementType::F32, "[K, 4]")?;
        let objectness: [usize; 1] = static_shape(objectness, ElementType::F32, "[K]")?;
        let text: [usize; 2] = static_shape(text, ElementType::F32, "[K, D]")?;
        let image_side: [usize; 2] = static_shape(image_side, ElementType::F32, "[K, D]")?;
        let agree = objectness == [proposals] && text[0] == proposals && image_side == text;
        if [batch, channels, corners] != [1, 3, 4] || !agree {
            return Err(format!(
                "its shapes do not fit together: image {:?}, boxes {:?}, objectness {objectness:?}, \
                 text_embeddings {text:?}, image_embeddings {image_side:?}",
                image.shape, boxes.shape
            ));
        }
        if [input_width, input_height, proposals, text[1]].iter().any(|size| *size > LARGEST) {
            return Err(format!(
                "its sizes are beyond any student's, which end at {LARGEST}: image {:?}, text_embeddings {text:?}",
                image.shape
            ));
        }
        Ok(Self { input_width, input_height, proposals, embedding_size: text[1] })
    }
}

fn wrong_ports(kind: &str, found: &[String], wanted: &[&str]) -> String {
    format!("its {kind} are {found:?}, and a student's are {wanted:?}")
}

/// A port's shape, if every dimension is fixed and it holds what it should; `meaning` is for the
/// error.
fn static_shape<const RANK: usize>(
    port: &PortSpec,
    element_type: ElementType,
    meaning: &str,
) -> Result<[usize; RANK], String> {
    let fixed: Option<Vec<usize>> =
        port.shape.iter().map(|&size| usize::try_from(size).ok().filter(|&size| size > 0)).collect();
    fixed.filter(|_| port.element_type == element_type).and_then(|sizes| sizes.try_into().ok()).ok_or_else(
        || {
            format!(
                "`{}` is {:?} {:?}, and must be {element_type:?} {meaning} with every size fixed",
                port.name, port.element_type, port.shape
            )
        },
    )
}

/// A key that a file may lack.
const TRAINED_TEXT_WEIGHT: &str = "wordsight.trained_text_weight";

/// The `wordsight.*` entries of a model's metadata.
struct Metadata<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Metadata<'_> {
    fn facts(&self, sizes: Sizes) -> Result<StudentFacts, String> {
        let format = self.text("wordsight.format")?;
        if format != StudentFacts::FORMAT {
            return Err(format!(
                "its format is {format:?}, and this version reads {:?}",
                StudentFacts::FORMAT
            ));
        }
        let temperature = self.number("wordsight.temperature")?;
        if temperature <= 0.0 {
            return Err(format!("`wordsight.temperature` is {temperature}, and must be above 0"));
        }
        let ensemble_lambda = self.weight("wordsight.ensemble_lambda")?;
        let trained_text_weight = match (self.0)(TRAINED_TEXT_WEIGHT) {
            Some(_) => self.weight(TRAINED_TEXT_WEIGHT)?,
            None => 1.0 - ensemble_lambda,
        };
        Ok(StudentFacts {
            teacher: self.text("wordsight.teacher")?,
            temperature,
            background: self.background(sizes.embedding_size)?,
            ensemble_lambda,
            trained_text_weight,
            objectness_weight: self.weight("wordsight.objectness_weight")?,
            region_statistics: self.region_statistics(sizes.embedding_size)?,
            training: self.json("wordsight.training")?,
            input_width: sizes.input_width,
            input_height: sizes.input_height,
            proposals: sizes.proposals,
            embedding_size: sizes.embedding_size,
        })
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

/// What a student finds in one frame: K regions, in descending order of objectness.
///
/// Meant to be kept and passed again for the next frame, so that its buffers are reused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regions {
    /// K boxes as left, top, right, bottom, in pixels of the student's input.
    pub boxes_in_input: Vec<[f32; 4]>,
    /// K numbers, 0 to 1: how much a region looks like a thing, whichever.
    pub objectness: Vec<f32>,
    /// `[K, D]` row-major, rows of length 1: the text head.
    pub text_embeddings: Vec<f32>,
    /// `[K, D]` row-major, rows of length 1: the image head.
    pub image_embeddings: Vec<f32>,
    /// The best words of each region, where the engine ranks them itself
    /// ([`crate::WholeFrames::set_words`]); there are no embeddings then.
    pub ranked: Option<Vec<Ranked>>,
}

impl Regions {
    /// Forgets the regions and keeps the buffers.
    pub fn clear(&mut self) {
        if let Some(ranked) = &mut self.ranked {
            ranked.clear();
        }
        self.boxes_in_input.clear();
        self.objectness.clear();
        self.text_embeddings.clear();
        self.image_embeddings.clear();
    }

    /// Copies one of a student's outputs, by its place in [`StudentFacts::OUTPUTS`].
    pub(crate) fn take_output(&mut self, index: usize, values: &[f32]) {
        match index {
            0 => self.boxes_in_input.extend_from_slice(values.as_chunks::<4>().0),
            1 => self.objectness.extend_from_slice(values),
            2 => self.text_embeddings.extend_from_slice(values),
            _ => self.image_embeddings.extend_from_slice(values),
        }
    }
}
