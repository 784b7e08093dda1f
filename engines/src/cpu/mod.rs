//! The CPU engine: a student run by ONNX Runtime.
//!
//! It takes one letterboxed frame and returns its [`Regions`]. ONNX Runtime's threads sleep while they wait instead of
//! spinning (see [`session`]): on a small machine they would spin on the cores that prepare the next frame.

mod in_place;
pub mod library;
mod placement;
pub mod session;

use std::path::Path;

use wordsight_onnx::proto::ModelProto;

pub use placement::Placement;

use crate::cpu::in_place::InPlace;
use crate::cpu::session::OnnxSession;
use crate::{Engine, EngineError, Regions, StudentFacts};

/// A student on ONNX Runtime's CPU kernels.
pub struct CpuEngine {
    session: OnnxSession,
    facts: StudentFacts,
    title: String,
    tensors: InPlace,
}

impl CpuEngine {
    /// Opens a student file, on the processor or elsewhere.
    ///
    /// # Errors
    /// When ONNX Runtime is missing, or the file is missing, no ONNX model, or no student.
    pub fn open(student: &Path, placement: impl Into<Placement>) -> Result<Self, EngineError> {
        Self::of(OnnxSession::open(student, placement)?, wordsight_onnx::read(student).ok().as_ref())
    }

    /// Opens a student in memory; `name` is for errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(student: &[u8], name: &str, threads: usize) -> Result<Self, EngineError> {
        let session = OnnxSession::from_bytes(student, name, threads)?;
        Self::of(session, wordsight_onnx::decode(student).ok().as_ref())
    }

    /// As [`Self::from_bytes`], a quantised student's integers computed in float
    /// ([`OnnxSession::from_bytes_in_float`]).
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes_in_float(student: &[u8], name: &str, threads: usize) -> Result<Self, EngineError> {
        let session = OnnxSession::from_bytes_in_float(student, name, threads)?;
        Self::of(session, wordsight_onnx::decode(student).ok().as_ref())
    }

    /// `model`: the same file as a graph, for what it says of its precision.
    fn of(session: OnnxSession, model: Option<&ModelProto>) -> Result<Self, EngineError> {
        let facts = StudentFacts::read(&session)?;
        let image_shape = [1, 3, facts.input_height(), facts.input_width()];
        let outputs = facts.outputs.iter().map(|output| (output.name(), facts.shape_of(*output)));
        let outputs: Vec<(&str, Vec<usize>)> = outputs.collect();
        let tensors = InPlace::new((StudentFacts::INPUT, &image_shape), &outputs)
            .map_err(|reason| EngineError::Failed { model: session.name().to_owned(), reason })?;
        let precision = model.map(|model| format!(" ({})", wordsight_onnx::precision_of(model)));
        let title = format!("ONNX Runtime on the processor{}", precision.unwrap_or_default());
        Ok(Self { session, facts, title, tensors })
    }
}

impl Engine for CpuEngine {
    fn name(&self) -> &str {
        "onnxruntime-cpu"
    }

    fn title(&self) -> &str {
        &self.title
    }

    fn facts(&self) -> &StudentFacts {
        &self.facts
    }

    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        let expected = self.tensors.input_len();
        if image.len() != expected {
            return Err(EngineError::BadInput {
                model: self.session.name().to_owned(),
                input: StudentFacts::INPUT.to_owned(),
                reason: format!("it has {expected} elements, and {} were given", image.len()),
            });
        }
        regions.clear();
        let outputs = &self.facts.outputs;
        self.session.run_in_place(&mut self.tensors, image, |place, values| {
            regions.take_output(outputs[place], values)
        })?;
        regions.complete();
        Ok(())
    }
}
