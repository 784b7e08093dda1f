//! Where ONNX Runtime computes.

use ort::ep::{CUDA, ExecutionProvider, ExecutionProviderDispatch};

use crate::LibraryError;

/// Where a session computes. A number is one of threads of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On the processor.
    Processor {
        /// How many threads work on one operator together; 0 = all cores.
        threads: usize,
    },
    /// On an NVIDIA GPU, by ONNX Runtime's CUDA provider: for the host program, where that is installed. Devices have
    /// TensorRT.
    Cuda {
        /// The GPU's number.
        device: usize,
    },
}

impl From<usize> for Placement {
    fn from(threads: usize) -> Self {
        Self::Processor { threads }
    }
}

impl Placement {
    /// The threads of the processor that it takes.
    pub(super) fn threads(self) -> usize {
        match self {
            Self::Processor { threads } => threads,
            // What the provider leaves to the processor is little.
            Self::Cuda { .. } => 1,
        }
    }

    /// The provider to ask for, if it isn't the processor's.
    ///
    /// # Errors
    /// When ONNX Runtime was built without it.
    pub(super) fn provider(self) -> Result<Option<ExecutionProviderDispatch>, LibraryError> {
        let Self::Cuda { device } = self else { return Ok(None) };
        if !CUDA::is_available().unwrap_or(false) {
            return Err(LibraryError::WithoutCuda);
        }
        let cuda = CUDA::default().with_device_id(i32::try_from(device).unwrap_or(i32::MAX));
        Ok(Some(cuda.build().error_on_failure()))
    }
}
