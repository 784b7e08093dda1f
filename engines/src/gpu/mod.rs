//! What a GPU does around a network: the letterbox before it, the words after it, and all of it in one stream.
//!
//! In flows a frame as the camera gave it, out flow boxes and the best words of each region; between them nothing
//! comes back to the processor. [`GpuEngine`] has the buffers, the stream and the kernels (`kernels.cu`); what runs the
//! student between the kernels is a [`Network`]: a TensorRT plan, or in tests a stand-in.
//!
//! Two frames may be under way: while the GPU computes one, the next is queued behind it. A frame that was captured into
//! the engine's own pinned memory ([`crate::WholeFrames::frame_memory`]) is copied to the GPU from there; another one is
//! copied to pinned memory first.
//! After a first run that warms up, the way of a frame is captured as a CUDA graph, one launch a frame, where the
//! network allows it. Other words are patched into it, where the driver allows that.
//!
//! The surprising thing: kernels travel as PTX (`kernels.ptx`, made by NVRTC and kept in the repository; a test holds
//! it against `kernels.cu`), for compute capability 7.5, the oldest that TensorRT 10 supports. The driver compiles it
//! for the GPU that is there and caches it, so that neither building nor running takes a CUDA toolkit. For Orin's GPU there
//! is machine code too (`kernels.sm_87.cubin`), which loads without that compiler.

mod device;
mod engine;
mod frames;
mod graph;
mod kernels;
mod letterbox;
mod ranking;

pub use device::{GpuError, Memory, Stream};
pub use engine::{GpuEngine, Network};
