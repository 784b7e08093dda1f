//! A plan that TensorRT has loaded and can run.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use super::{Library, PlanPort, TensorRtError, ffi};
use crate::gpu::{Memory, Network, Stream};
use crate::nvidia::has_driver;

/// A plan, deserialised: proof that this TensorRT and this GPU take it.
pub struct LoadedPlan {
    library: Library,
    engine: *mut ffi::Engine,
}

// SAFETY: TensorRT's objects may be used from any thread, one at a time, and `&mut self` sees to it.
unsafe impl Send for LoadedPlan {}

impl Drop for LoadedPlan {
    fn drop(&mut self) {
        // SAFETY: it came from `load` and is freed once, before the library that it came from.
        unsafe { (self.library.functions().free_engine)(self.engine) }
    }
}

impl LoadedPlan {
    /// Loads a plan; `path` is for errors. That it is whole ([`super::Manifest::read_plan`]) and fits this machine
    /// ([`super::PlanKey::differences`]) is the caller's to check before.
    ///
    /// # Errors
    /// When there is no driver, or TensorRT refuses it.
    pub fn load(library: &Library, path: &Path, plan: &[u8]) -> Result<Self, TensorRtError> {
        if !has_driver() {
            return Err(TensorRtError::NoDriver {
                what_to_do: "a plan is loaded on the device that will run it",
            });
        }
        let mut engine = null_mut();
        // SAFETY: the plan is readable for its length, and `engine` is written only on success.
        let loaded = library.call(|shim, handle| unsafe {
            (shim.load)(handle, plan.as_ptr().cast(), plan.len(), &raw mut engine)
        });
        match loaded {
            Ok(()) => Ok(Self { library: library.clone(), engine }),
            Err((_, reason)) => {
                Err(TensorRtError::WontLoad { path: path.to_owned(), library: library.name(), reason })
            }
        }
    }

    /// Its inputs and outputs.
    pub fn ports(&self) -> (Vec<PlanPort>, Vec<PlanPort>) {
        let shim = self.library.functions();
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        // SAFETY: the engine is alive, and a port's name as long as it.
        for at in 0..unsafe { (shim.engine_port_count)(self.engine) } {
            let mut port =
                ffi::Port { name: null(), element_type: 0, dimension_count: 0, dimensions: [0; 8] };
            let mut is_input = 0;
            let status = unsafe { (shim.engine_port)(self.engine, at, &raw mut port, &raw mut is_input) };
            if status == ffi::OK {
                let side = if is_input == 0 { &mut outputs } else { &mut inputs };
                side.push(PlanPort::from_shim(&port));
            }
        }
        (inputs, outputs)
    }
}

impl Network for LoadedPlan {
    fn bind(&mut self, port: &str, memory: Memory) -> Result<(), String> {
        let (inputs, outputs) = self.ports();
        let found = inputs.iter().chain(&outputs).find(|found| found.name == port);
        let found = found.ok_or_else(|| format!("the plan has no `{port}`"))?;
        match found.bytes() {
            Some(bytes) if bytes == memory.len => {}
            _ => {
                return Err(format!(
                    "the plan's `{port}` is {} {:?}, which is not the student's {} bytes",
                    found.element_type, found.shape, memory.len
                ));
            }
        }
        let name = CString::new(port).map_err(|error| error.to_string())?;
        let address = memory.address as *mut c_void;
        // SAFETY: the engine is alive, and the memory as long as the port needs it.
        let bound = self.library.call(|shim, _| unsafe { (shim.bind)(self.engine, name.as_ptr(), address) });
        bound.map_err(|(_, reason)| format!("{} cannot bind `{port}`: {reason}", self.library.name()))
    }

    fn queue(&mut self, stream: Stream) -> Result<(), String> {
        // SAFETY: the engine is alive, its ports are bound to memory that outlives it, and the stream is the caller's.
        let queued = self.library.call(|shim, _| unsafe { (shim.enqueue)(self.engine, stream.as_ptr()) });
        queued.map_err(|(_, reason)| format!("{} cannot run the plan: {reason}", self.library.name()))
    }
}
