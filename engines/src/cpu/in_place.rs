//! Runs a session frame after frame without an allocation.
//!
//! The input's bytes and the outputs stay in the same tensors for every run. `ort`'s own `run` makes several small
//! lists for each run and new tensors for its outputs; here the tensors are made once and ONNX Runtime's C function is
//! called directly. The pointers that it is called with are collected on the stack for each run, so no address is kept
//! of something that might move.

use std::ffi::{CStr, CString};

use ort::AsPointer;
use ort::memory::Allocator;
use ort::session::Session;
use ort::value::Tensor;

/// The most outputs that a graph may have here.
const MOST_OUTPUTS: usize = 8;

/// The tensors of a session with one input of bytes and some outputs of floats, all of fixed shapes.
pub(super) struct InPlace {
    input_name: CString,
    output_names: Vec<CString>,
    input: Tensor<u8>,
    outputs: Vec<Tensor<f32>>,
}

impl InPlace {
    /// For a session whose ports are these: names and shapes.
    ///
    /// # Errors
    /// What ONNX Runtime says, when it has no memory for them.
    pub fn new(input: (&str, &[usize]), outputs: &[(&str, Vec<usize>)]) -> Result<Self, String> {
        if outputs.len() > MOST_OUTPUTS {
            return Err(format!("{} outputs are more than {MOST_OUTPUTS}", outputs.len()));
        }
        let said = |error: ort::Error| error.to_string();
        let name = |name: &str| CString::new(name).map_err(|error| error.to_string());
        let allocator = Allocator::default();
        let tensors =
            outputs.iter().map(|(_, shape)| Tensor::new(&allocator, shape.as_slice()).map_err(said));
        Ok(Self {
            input_name: name(input.0)?,
            output_names: outputs.iter().map(|output| name(output.0)).collect::<Result<_, _>>()?,
            input: Tensor::new(&allocator, input.1).map_err(said)?,
            outputs: tensors.collect::<Result<_, _>>()?,
        })
    }

    /// How many bytes the input has.
    pub fn input_len(&self) -> usize {
        self.input.extract_tensor().1.len()
    }

    /// Runs the session once and shows each output, by its place.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    ///
    /// # Panics
    /// When `image` is of another length than the input: a mistake in the calling code.
    pub fn run(
        &mut self,
        session: &mut Session,
        image: &[u8],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), String> {
        self.input.extract_tensor_mut().1.copy_from_slice(image);
        let count = self.outputs.len();
        let mut names = [std::ptr::null(); MOST_OUTPUTS];
        let mut outputs = [std::ptr::null_mut(); MOST_OUTPUTS];
        for (place, (name, tensor)) in self.output_names.iter().zip(&mut self.outputs).enumerate() {
            names[place] = name.as_ptr();
            outputs[place] = tensor.ptr_mut();
        }
        // SAFETY: the session and the tensors live and are borrowed exclusively for the call; there is one input name for
        // one input, and `count` names for as many tensors, which are not null and so are what ONNX Runtime writes to.
        let status = unsafe {
            (ort::api().Run)(
                session.ptr_mut(),
                std::ptr::null(),
                [self.input_name.as_ptr()].as_ptr(),
                [self.input.ptr()].as_ptr(),
                1,
                names.as_ptr(),
                count,
                outputs.as_mut_ptr(),
            )
        };
        if !status.0.is_null() {
            // SAFETY: a status that isn't null has a message, which is copied before the status is released, once.
            return Err(unsafe {
                let message =
                    CStr::from_ptr((ort::api().GetErrorMessage)(status.0)).to_string_lossy().into_owned();
                (ort::api().ReleaseStatus)(status.0);
                message
            });
        }
        self.outputs.iter().enumerate().for_each(|(place, tensor)| each(place, tensor.extract_tensor().1));
        Ok(())
    }
}
