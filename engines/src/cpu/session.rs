//! Runs any ONNX file with ONNX Runtime on the CPU.
//!
//! It takes named tensors as plain slices and returns 32-bit float tensors in the order of the graph's outputs. Three
//! settings differ from ONNX Runtime's defaults:
//!
//! - the number of threads is always given as a number: asked for "all", ONNX Runtime pins its threads to cores, and a
//!   pinned thread waits although another core is free;
//! - threads sleep while they wait (`session.intra_op.allow_spinning` = 0). Spinning threads wait for one another, and
//!   they spin on the cores that decode and score the neighbouring frames. Measured with the layers of an
//!   EfficientNet-Lite0 at 320x320 on two cores: beside another busy process, 41 ms with two spinning threads, 22 ms
//!   with one, 23 ms with two that sleep; on the machine alone 7.3, 13.5 and 8.2 ms. Sleeping costs a tenth at best
//!   and saves half at worst;
//! - its warnings are not logged unless asked for (`RUST_LOG=onnxruntime=info`).

use std::path::Path;

use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef};

use super::in_place::InPlace;
use super::library;
use super::placement::Placement;
use crate::EngineError;
use crate::loading::one_line;

/// The data of one input tensor, row-major; its element type is the variant's.
#[derive(Debug, Clone, Copy)]
pub enum TensorView<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

impl TensorView<'_> {
    /// How many elements the data has.
    fn elements(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::U8(data) => data.len(),
            Self::I64(data) => data.len(),
        }
    }
}

/// One named input of a run.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The graph input's name.
    pub name: &'a str,
    /// Its shape in this run.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub data: TensorView<'a>,
}

/// One output of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape in this run.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub data: Vec<f32>,
}

/// What a graph input or output holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// Bytes.
    U8,
    /// 64-bit integers.
    I64,
    /// Something that this crate neither feeds nor reads, by ONNX Runtime's name for it.
    Other(String),
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => out.write_str("float32"),
            Self::U8 => out.write_str("uint8"),
            Self::I64 => out.write_str("int64"),
            Self::Other(name) => out.write_str(name),
        }
    }
}

/// One input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name.
    pub name: String,
    /// Its shape; -1 where the graph leaves a dimension open.
    pub shape: Vec<i64>,
    /// What it holds.
    pub element_type: ElementType,
}

impl std::fmt::Display for PortSpec {
    /// `float32 [100, ?]`: a dimension that the graph leaves open is a question mark.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes: Vec<String> =
            self.shape.iter().map(|size| if *size < 0 { "?".to_owned() } else { size.to_string() }).collect();
        write!(out, "{} [{}]", self.element_type, sizes.join(", "))
    }
}

impl PortSpec {
    fn of(outlet: &Outlet) -> Self {
        let dtype = outlet.dtype();
        Self {
            name: outlet.name().to_owned(),
            shape: dtype.tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
            element_type: match dtype.tensor_type() {
                Some(TensorElementType::Float32) => ElementType::F32,
                Some(TensorElementType::Uint8) => ElementType::U8,
                Some(TensorElementType::Int64) => ElementType::I64,
                _ => ElementType::Other(dtype.to_string()),
            },
        }
    }

    /// As a model's file has it.
    pub(crate) fn of_model(port: &wordsight_onnx::proto::ValueInfoProto) -> Self {
        use wordsight_onnx::proto::{self, Dimension};
        let tensor = port.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
        let sizes = tensor.and_then(|tensor| tensor.shape.as_ref()).map_or(&[][..], |shape| &shape.dim);
        let shape = sizes.iter().map(|size| match size.value {
            Some(Dimension::Fixed(size)) => size,
            Some(Dimension::Named(_)) | None => -1,
        });
        let element_type = match tensor.map(|tensor| tensor.elem_type()).unwrap_or_default() {
            proto::ElementType::Float => ElementType::F32,
            proto::ElementType::Uint8 => ElementType::U8,
            proto::ElementType::Int64 => ElementType::I64,
            other => ElementType::Other(format!("{other:?}")),
        };
        Self { name: port.name.clone(), shape: shape.collect(), element_type }
    }
}

/// An ONNX model that is loaded and ready to run.
pub struct OnnxSession {
    session: Session,
    name: String,
    inputs: Vec<PortSpec>,
    outputs: Vec<PortSpec>,
}

impl OnnxSession {
    /// Opens a model file, on the processor or elsewhere.
    ///
    /// # Errors
    /// When ONNX Runtime is missing, the file cannot be read, or it is no ONNX model.
    pub fn open(path: &Path, placement: impl Into<Placement>) -> Result<Self, EngineError> {
        let unreadable = |reason| EngineError::Unreadable { path: path.to_path_buf(), reason };
        // Asked here, because ONNX Runtime's own words for a missing file name no file, and it would wait for a pipe's writer.
        drop(wordsight_files::open_whole(path, wordsight_onnx::LONGEST_FILE).map_err(unreadable)?);
        Self::commit(&path.display().to_string(), placement.into(), &[], |builder| {
            builder.commit_from_file(path)
        })
    }

    /// Opens a model from its bytes; `name` stands for it in errors.
    ///
    /// # Errors
    /// When ONNX Runtime is missing or the bytes are no ONNX model.
    pub fn from_bytes(
        model: &[u8],
        name: &str,
        placement: impl Into<Placement>,
    ) -> Result<Self, EngineError> {
        Self::commit(name, placement.into(), &[], |builder| builder.commit_from_memory(model))
    }

    /// As [`OnnxSession::from_bytes`], with the integers of a quantised model computed in float, rounded
    /// where the graph says so. ONNX Runtime's own integer kernels saturate on x86 processors without
    /// VNNI, which another runtime's don't.
    ///
    /// # Errors
    /// As [`OnnxSession::from_bytes`].
    pub fn from_bytes_in_float(
        model: &[u8],
        name: &str,
        placement: impl Into<Placement>,
    ) -> Result<Self, EngineError> {
        let exact = [("session.disable_quant_qdq", "1")];
        Self::commit(name, placement.into(), &exact, |builder| builder.commit_from_memory(model))
    }

    fn commit(
        name: &str,
        placement: Placement,
        more: &[(&str, &str)],
        commit: impl FnOnce(&mut ort::session::builder::SessionBuilder) -> ort::Result<Session>,
    ) -> Result<Self, EngineError> {
        let environment = library::environment()?;
        let provider = placement.provider()?;
        let session = (|| {
            let mut builder = Session::builder(environment)?
                .with_intra_threads(thread_count(placement.threads()))?
                .with_config_entry("session.intra_op.allow_spinning", "0")?
                // A pattern is a second home for all tensors, beside the one that the first run has built: a seventh of a
                // student's memory, and no faster by what the processor's time tells.
                .with_memory_pattern(false)?;
            for (key, value) in more {
                builder = builder.with_config_entry(key, value)?;
            }
            if let Some(provider) = provider {
                builder = builder.with_execution_providers([provider])?;
            }
            commit(&mut builder)
        })()
        .map_err(|error: ort::Error| EngineError::NotAModel {
            model: name.to_owned(),
            reason: one_line(&error.to_string()),
        })?;
        Ok(Self {
            name: name.to_owned(),
            inputs: session.inputs().iter().map(PortSpec::of).collect(),
            outputs: session.outputs().iter().map(PortSpec::of).collect(),
            session,
        })
    }

    /// The file, or the name given to the bytes, as it stands in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph's inputs, in its order.
    pub fn inputs(&self) -> &[PortSpec] {
        &self.inputs
    }

    /// The graph's outputs, in its order.
    pub fn outputs(&self) -> &[PortSpec] {
        &self.outputs
    }

    /// The value of one of the model's `metadata_props`, if it has it.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
    }

    /// Runs the model once; returns all outputs, in the graph's order.
    ///
    /// # Errors
    /// When an input's data does not fill its shape, the model refuses an input, an output is not
    /// 32-bit float, or ONNX Runtime fails.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Tensor>, EngineError> {
        let mut tensors = Vec::with_capacity(self.outputs.len());
        self.run_each(inputs, |_, shape, data| {
            tensors.push(Tensor {
                // A tensor that exists has no negative dimension.
                shape: shape.iter().map(|&size| size as usize).collect(),
                data: data.to_vec(),
            });
        })?;
        Ok(tensors)
    }

    /// Runs the model once and shows each output (its place in the graph's order, shape, elements)
    /// where it lies, for a caller who has a buffer of his own.
    ///
    /// # Errors
    /// As [`OnnxSession::run`].
    pub fn run_each(
        &mut self,
        inputs: &[Input<'_>],
        mut each: impl FnMut(usize, &[i64], &[f32]),
    ) -> Result<(), EngineError> {
        let values = inputs
            .iter()
            .map(|input| Ok((input.name, value_of(input, &self.name)?)))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let outputs = self.session.run(values).map_err(|error| EngineError::Failed {
            model: self.name.clone(),
            reason: one_line(&error.to_string()),
        })?;
        for (index, value) in outputs.values().enumerate() {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|_| EngineError::BadOutput {
                model: self.name.clone(),
                output: self.outputs[index].name.clone(),
                found: value.dtype().to_string(),
            })?;
            each(index, shape, data);
        }
        Ok(())
    }
}

impl OnnxSession {
    /// Runs the model once on tensors that were made for it, and shows each output, by its place.
    pub(super) fn run_in_place(
        &mut self,
        tensors: &mut InPlace,
        image: &[u8],
        each: impl FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        tensors
            .run(&mut self.session, image, each)
            .map_err(|reason| EngineError::Failed { model: self.name.clone(), reason: one_line(&reason) })
    }
}

/// The number for ONNX Runtime: itself, or for 0 the cores that this process may use.
fn thread_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

/// A view of an input's data as ONNX Runtime wants it, without a copy.
fn value_of<'a>(input: &Input<'a>, model: &str) -> Result<SessionInputValue<'a>, EngineError> {
    let bad_input = |reason: String| EngineError::BadInput {
        model: model.to_owned(),
        input: input.name.to_owned(),
        reason,
    };
    let expected: usize = input.shape.iter().product();
    if expected != input.data.elements() {
        return Err(bad_input(format!(
            "the shape {:?} has {expected} elements, and {} were given",
            input.shape,
            input.data.elements()
        )));
    }
    let value = match input.data {
        TensorView::F32(data) => TensorRef::from_array_view((input.shape, data)).map(SessionInputValue::from),
        TensorView::U8(data) => TensorRef::from_array_view((input.shape, data)).map(SessionInputValue::from),
        TensorView::I64(data) => TensorRef::from_array_view((input.shape, data)).map(SessionInputValue::from),
    };
    value.map_err(|error| bad_input(one_line(&error.to_string())))
}
