//! Loads the CUDA kernels.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaGraph, CudaModule, DeviceRepr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::device::{Device, GpuError, cuda};
use super::graph;

const PTX: &str = include_str!("kernels.ptx");
/// Machine code of Orin's GPU, 8.7: compiling PTX takes a library of the driver's (libnvidia-ptxjitcompiler) which is in
/// another package on a Jetson and may lack.
const CUBIN_87: &[u8] = include_bytes!("kernels.sm_87.cubin");

/// The kernels of `kernels.cu`.
pub(super) struct Kernels {
    letterbox_columns: CudaFunction,
    letterbox_rows: CudaFunction,
    similarities: CudaFunction,
    rank: CudaFunction,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    LetterboxColumns,
    LetterboxRows,
    Similarities,
    Rank,
}

impl Kernels {
    pub fn load(device: &Device) -> Result<Self, GpuError> {
        const DOING: &str = "load wordsight's kernels";
        let capability = device.context.compute_capability().map_err(cuda(DOING))?;
        let module: Arc<CudaModule> = match capability {
            (8, 7) => device.context.load_module(Ptx::from_binary(CUBIN_87.to_vec())).or_else(|error| {
                tracing::debug!(?error, "the kernels for this GPU do not load: compiling them");
                device.context.load_module(Ptx::from_src(PTX))
            }),
            _ => device.context.load_module(Ptx::from_src(PTX)),
        }
        .map_err(cuda(DOING))?;
        let function = |name| module.load_function(name).map_err(cuda(DOING));
        Ok(Self {
            letterbox_columns: function("letterbox_columns")?,
            letterbox_rows: function("letterbox_rows")?,
            similarities: function("similarities")?,
            rank: function("rank")?,
        })
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// `parameters` is what the kernel takes, every address in it belongs to memory of the GPU that is as
    /// long as the sizes beside it say and lives until the stream has come by, and `config` has the threads
    /// that the kernel was written for.
    pub unsafe fn launch<P: DeviceRepr>(
        &self,
        device: &Device,
        kernel: Kernel,
        config: LaunchConfig,
        parameters: &P,
    ) -> Result<(), GpuError> {
        // SAFETY: the caller's promise.
        unsafe { device.stream.launch_builder(self.function(kernel)).arg(parameters).launch(config) }
            .map(|_| ())
            .map_err(cuda("start a kernel"))
    }

    /// Has a kernel of a captured graph run with other parameters.
    ///
    /// # Safety
    /// As [`Self::launch`], until the graph is gone or patched again.
    pub unsafe fn patch<P: DeviceRepr>(
        &self,
        graph: &CudaGraph,
        kernel: Kernel,
        config: LaunchConfig,
        parameters: &P,
    ) -> Result<(), GpuError> {
        // SAFETY: the caller's promise.
        unsafe { graph::patch(graph, self.function(kernel).cu_function(), config, parameters) }
    }

    fn function(&self, kernel: Kernel) -> &CudaFunction {
        match kernel {
            Kernel::LetterboxColumns => &self.letterbox_columns,
            Kernel::LetterboxRows => &self.letterbox_rows,
            Kernel::Similarities => &self.similarities,
            Kernel::Rank => &self.rank,
        }
    }
}

/// Blocks of `each` that cover `all`.
pub(super) fn blocks(all: usize, each: usize) -> u32 {
    u32::try_from(all.div_ceil(each)).unwrap_or(u32::MAX)
}
