//! What runs on a GPU around a network: the letterbox before it and the ranking of words after it, all in one stream.
//!
//! It takes a frame as the camera gave it and returns boxes and the best words of each region; nothing is copied back
//! to the processor in between. [`GpuEngine`] owns the buffers, the stream and the kernels (`kernels.cu`). The student
//! between the kernels is run by a [`Network`]: a TensorRT plan, or a stand-in in tests.
//!
//! Two frames may be in flight: while the GPU computes one, the next is queued behind it. A frame that was captured
//! into the engine's own pinned memory ([`crate::WholeFrames::frame_memory`]) is copied to the GPU from there; any
//! other is copied to pinned memory first. After a first run that warms up, all work of a frame is captured as a CUDA
//! graph, one launch a frame, if the network allows it. Other words are patched into that graph, if the driver allows
//! it.
//!
//! Several streams of frames share a network ([`crate::ManyStreams`]). Each has a letterbox, words, graphs and pinned memory
//! of its own; a lock gives the CUDA stream to one thread at a time, for as long as it queues.
//!
//! Kernels are shipped as PTX for compute capability 7.5, the oldest that TensorRT 10 supports (`kernels.ptx`, made by
//! NVRTC and kept in the repository; a test compares it with `kernels.cu`). The driver compiles PTX for the GPU that
//! is there and caches the result, so neither building nor running needs a CUDA toolkit. For Orin's GPU there is
//! machine code as well (`kernels.sm_87.cubin`), which needs no compilation.

mod device;
mod engine;
mod frames;
mod graph;
mod kernels;
mod letterbox;
mod ranking;

pub use device::{GpuError, Memory, Stream};
pub use engine::{GpuEngine, Network};
