//! Builds a plan from an ONNX model.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};

use serde::{Deserialize, Serialize};

use super::library::text_of;
use super::{Library, Precision, TensorRtError, ffi};
use crate::nvidia::has_driver;

/// How a plan is to be built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// The most memory that the build and a layer may use for scratch, MiB; half a gigabyte or less without it. On a
    /// small Jetson a lower one keeps the build from being killed. TensorRT's own default is all of the GPU's memory,
    /// which on a Jetson is the board's.
    pub workspace_mib: Option<u32>,
    /// The compute capability to build for, 89 for 8.9; the GPU's that is there without it. Only
    /// TensorRT for RTX builds for others.
    pub target: Option<u32>,
    /// What a student in FP32 may become.
    pub precision: Precision,
}

/// Scratch memory unless it is given: half a gigabyte, or a quarter of what is free where that is less.
pub(super) fn default_workspace_mib() -> u32 {
    const MOST_MIB: u32 = 512;
    const LEAST_MIB: u32 = 64;
    available_mib().map_or(MOST_MIB, |free| (free / 4).clamp(LEAST_MIB, MOST_MIB))
}

/// Whether TensorRT says that an allocation failed. It often says instead that it finds no implementation.
pub(super) fn lacks_memory(reason: &str) -> bool {
    ["OutOfMemory", "out of memory"].iter().any(|words| reason.contains(words))
}

/// Memory that programs can still have, MiB (proc(5), MemAvailable).
fn available_mib() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    u32::try_from(kib / 1024).ok()
}

impl BuildSettings {
    /// Whether a library can build so on this machine.
    ///
    /// # Errors
    /// When it builds for no other GPU than the one that is there, or there is none to build for.
    pub(super) fn check(&self, library: &Library) -> Result<(), TensorRtError> {
        if self.target.is_some() && !library.builds_for_other_gpus() {
            return Err(TensorRtError::Refused {
                library: library.name(),
                reason: "it builds only for the GPU that it runs on: leave --target out".to_owned(),
            });
        }
        if self.target.is_none() && !has_driver() {
            return Err(TensorRtError::NoDriver {
                what_to_do: if library.builds_for_other_gpus() {
                    "name the GPU to build for (--target 89 for compute capability 8.9), or build on the device"
                } else {
                    "build the plan on the device that will run it"
                },
            });
        }
        Ok(())
    }
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What TensorRT calls this part of it.
    pub phase: &'a str,
    /// Steps of the phase done, and of how many.
    pub done: (u32, u32),
}

/// An input or an output of a model or a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPort {
    /// Its name.
    pub name: String,
    /// What it holds: `float32`, `uint8`.
    pub element_type: String,
    /// Its shape; -1 where it isn't fixed.
    pub shape: Vec<i64>,
}

impl PlanPort {
    /// Bytes of its data, where its shape is fixed and its type has a size that we know.
    pub(super) fn bytes(&self) -> Option<usize> {
        let element = match self.element_type.as_str() {
            "bool" | "int8" | "uint8" => 1,
            "float16" => 2,
            "float32" | "int32" => 4,
            "int64" => 8,
            _ => return None,
        };
        self.shape
            .iter()
            .try_fold(element, |bytes: usize, &size| bytes.checked_mul(usize::try_from(size).ok()?))
    }

    pub(super) fn from_shim(port: &ffi::Port) -> Self {
        const TYPES: [&str; 7] = ["float32", "float16", "int8", "int32", "bool", "uint8", "int64"];
        let type_at = usize::try_from(port.element_type).ok();
        let rank = usize::try_from(port.dimension_count).unwrap_or(0).min(port.dimensions.len());
        Self {
            name: text_of(port.name),
            element_type: type_at.and_then(|at| TYPES.get(at)).unwrap_or(&"other").to_string(),
            shape: port.dimensions[..rank].to_vec(),
        }
    }
}

/// A parsed model, ready to be built.
pub struct PlanBuilder {
    library: Library,
    builder: *mut ffi::Builder,
    workspace_mib: u32,
    inputs: Vec<PlanPort>,
    outputs: Vec<PlanPort>,
}

impl Drop for PlanBuilder {
    fn drop(&mut self) {
        // SAFETY: it came from `parse` and is freed once, before the library that it came from.
        unsafe { (self.library.functions().free_builder)(self.builder) }
    }
}

impl PlanBuilder {
    /// Parses a model; `name` is for errors. The model is taken as it is, whatever precision the settings want.
    ///
    /// # Errors
    /// When TensorRT doesn't understand the model, can't build for the target, or has no driver where it
    /// needs one.
    pub fn parse(
        library: &Library,
        model: &[u8],
        name: &str,
        settings: BuildSettings,
    ) -> Result<Self, TensorRtError> {
        let refused = |(status, reason)| match status {
            ffi::NOT_A_MODEL => {
                TensorRtError::NotAModel { model: name.to_owned(), library: library.name(), reason }
            }
            _ => TensorRtError::Refused { library: library.name(), reason },
        };
        settings.check(library)?;
        library.can_build()?;
        let mut builder = null_mut();
        // SAFETY: the model is readable for its length, and `builder` is written only on success.
        library
            .call(|shim, handle| unsafe {
                (shim.parse)(handle, model.as_ptr().cast(), model.len(), &raw mut builder)
            })
            .map_err(refused)?;
        let workspace_mib = settings.workspace_mib.unwrap_or_else(default_workspace_mib);
        let mut this = Self {
            library: library.clone(),
            builder,
            workspace_mib,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        this.inputs = this.ports(false);
        this.outputs = this.ports(true);
        // SAFETY: the builder is alive.
        unsafe { (library.functions().limit_workspace)(builder, u64::from(workspace_mib) << 20) };
        let target = settings.target.unwrap_or(0);
        let target = i32::try_from(target).unwrap_or(i32::MAX);
        // SAFETY: the builder is alive.
        library.call(|shim, _| unsafe { (shim.set_target)(builder, target) }).map_err(refused)?;
        Ok(this)
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[PlanPort] {
        &self.inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[PlanPort] {
        &self.outputs
    }

    fn ports(&self, outputs: bool) -> Vec<PlanPort> {
        let shim = self.library.functions();
        let side = i32::from(outputs);
        // SAFETY: the builder is alive, and a port's name as long as it.
        (0..unsafe { (shim.port_count)(self.builder, side) })
            .filter_map(|at| {
                let mut port =
                    ffi::Port { name: null(), element_type: 0, dimension_count: 0, dimensions: [0; 8] };
                let status = unsafe { (shim.port)(self.builder, side, at, &raw mut port) };
                (status == ffi::OK).then(|| PlanPort::from_shim(&port))
            })
            .collect()
    }

    /// Uses what earlier builds timed; an empty slice starts a cache. Another TensorRT's or another
    /// GPU's cache is left aside, and TensorRT for RTX has none: `false` then.
    pub fn use_timing_cache(&mut self, cache: &[u8]) -> bool {
        let builder = self.builder;
        let start = |bytes: &[u8]| {
            // SAFETY: the builder is alive, and TensorRT copies the bytes.
            self.library.call(|shim, _| unsafe {
                (shim.set_timing_cache)(builder, bytes.as_ptr().cast(), bytes.len())
            })
        };
        start(cache).or_else(|_| start(&[])).is_ok()
    }

    /// What this build and those before it timed.
    pub fn timing_cache(&self) -> Option<Vec<u8>> {
        let mut bytes = null_mut();
        // SAFETY: the builder is alive.
        let call = self.library.call(|shim, _| unsafe { (shim.timing_cache)(self.builder, &raw mut bytes) });
        call.ok().map(|()| self.take(bytes))
    }

    /// Builds the plan, which takes seconds to tens of minutes. `progress` is called for every step, on
    /// threads of TensorRT's.
    ///
    /// # Errors
    /// When TensorRT fails, or with [`TensorRtError::Stopped`] when `progress` breaks.
    pub fn build<F: Fn(Step<'_>) -> ControlFlow<()> + Sync>(
        &mut self,
        progress: &F,
    ) -> Result<Vec<u8>, TensorRtError> {
        extern "C" fn tell<F: Fn(Step<'_>) -> ControlFlow<()> + Sync>(
            user: *mut c_void,
            phase: *const c_char,
            step: i32,
            steps: i32,
        ) -> i32 {
            // SAFETY: it is the `progress` below, which outlives the build.
            let progress = unsafe { &*user.cast_const().cast::<F>() };
            let phase = text_of(phase);
            let done = [step, steps].map(|number| u32::try_from(number).unwrap_or(0));
            let step = Step { phase: &phase, done: done.into() };
            // A panic must not pass through C++: it stops the build instead.
            let going = catch_unwind(AssertUnwindSafe(|| progress(step))).unwrap_or(ControlFlow::Break(()));
            i32::from(going == ControlFlow::Continue(()))
        }
        let mut bytes = null_mut();
        let user = (&raw const *progress).cast_mut().cast::<c_void>();
        // SAFETY: the builder is alive, and `progress` outlives the call.
        let built = self
            .library
            .call(|shim, _| unsafe { (shim.build)(self.builder, tell::<F>, user, &raw mut bytes) });
        match built {
            Ok(()) => Ok(self.take(bytes)),
            Err((ffi::STOPPED, _)) => Err(TensorRtError::Stopped),
            Err((_, reason)) => {
                let reason = format!("{reason}{}", self.lack_of_memory(&reason));
                Err(TensorRtError::Refused { library: self.library.name(), reason })
            }
        }
    }

    /// What TensorRT does not say of memory: where an allocation fails, it finds "no implementation" of a layer.
    fn lack_of_memory(&self, reason: &str) -> String {
        if !reason.contains("Could not find any implementation") && !lacks_memory(reason) {
            return String::new();
        }
        let free = available_mib().map_or("an unknown part".to_owned(), |mib| format!("{mib} MiB"));
        format!(
            "; it says so where memory lacks: its workspace was {} MiB, and {free} of the memory is free. Stop what else \
             runs, or try another workspace (--workspace, engine.workspace_mib)",
            self.workspace_mib
        )
    }

    /// Copies TensorRT's memory and frees it.
    fn take(&self, bytes: *mut ffi::Bytes) -> Vec<u8> {
        let shim = self.library.functions();
        // SAFETY: a successful call wrote it, and it is freed once, after the copy.
        unsafe {
            let data = (shim.bytes_data)(bytes).cast::<u8>();
            let copy = std::slice::from_raw_parts(data, (shim.bytes_size)(bytes)).to_vec();
            (shim.free_bytes)(bytes);
            copy
        }
    }
}
