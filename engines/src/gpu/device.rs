//! One GPU, its stream, and memory on the GPU and on the host.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUevent_flags};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits, result,
};

use crate::nvidia::{self, DriverError};

/// Why a GPU would not do something.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is none.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// CUDA failed.
    #[error("CUDA cannot {doing}: {reason}")]
    Cuda {
        /// What was to be done.
        doing: &'static str,
        /// What CUDA said.
        reason: String,
    },
    /// The network failed.
    #[error("{0}")]
    Network(String),
    /// A frame that can't be.
    #[error("a frame of {width}x{height} pixels in {bytes} bytes is none that a camera gives as {format}")]
    BadFrame {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Its bytes.
        bytes: usize,
        /// The format's name.
        format: String,
    },
}

/// Names what failed.
pub(super) fn cuda(doing: &'static str) -> impl Fn(cudarc::driver::DriverError) -> GpuError {
    move |error| {
        let reason = match (error.error_name(), error.error_string()) {
            (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
            _ => format!("{error:?}"),
        };
        GpuError::Cuda { doing, reason }
    }
}

/// A GPU and the one stream that everything goes through, in order.
#[derive(Clone)]
pub(super) struct Device {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
}

impl Device {
    /// The first GPU.
    pub fn open() -> Result<Self, GpuError> {
        // Without a driver CUDA's bindings would panic.
        let gpus = nvidia::gpus()?;
        if gpus.is_empty() {
            return Err(DriverError::Unusable(0).into());
        }
        let context = CudaContext::new(0).map_err(cuda("open the GPU"))?;
        // SAFETY: all work goes through one stream, in order; nothing has to wait for another stream's events.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(cuda("make a stream"))?;
        Ok(Self { context, stream })
    }

    /// Makes this GPU the calling thread's own, as TensorRT expects it to be.
    pub fn enter(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(cuda("use the GPU"))
    }

    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> Result<CudaSlice<T>, GpuError> {
        // CUDA has no memory of no bytes.
        self.stream.alloc_zeros(len.max(1)).map_err(cuda("reserve memory on the GPU"))
    }

    pub fn copy_of<T: DeviceRepr + ValidAsZeroBits>(&self, values: &[T]) -> Result<CudaSlice<T>, GpuError> {
        let copy = self.stream.clone_htod(values).map_err(cuda("copy a table to the GPU"))?;
        // The table is the caller's and may go at once.
        self.stream.synchronize().map_err(cuda("copy a table to the GPU"))?;
        Ok(copy)
    }

    /// Where a buffer lies, for a kernel's parameters.
    pub fn address<T>(&self, buffer: &CudaSlice<T>) -> u64 {
        buffer.device_ptr(&self.stream).0
    }

    /// Something to wait for; the waiting thread sleeps.
    pub fn event(&self) -> Result<CudaEvent, GpuError> {
        self.context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).map_err(cuda("make an event"))
    }

    /// Queues a copy to the start of a buffer.
    pub fn upload<T: Copy>(
        &self,
        pinned: &Pinned<T>,
        count: usize,
        buffer: &CudaSlice<T>,
    ) -> Result<(), GpuError> {
        assert!(count <= pinned.len() && count <= buffer.len(), "a copy within both buffers");
        // SAFETY: both are alive and long enough, and whoever reuses them waits for the stream first.
        unsafe { result::memcpy_htod_async(self.address(buffer), &pinned[..count], self.stream.cu_stream()) }
            .map_err(cuda("copy to the GPU"))
    }

    /// Queues a copy of pinned memory to the start of a buffer.
    ///
    /// # Safety
    /// `pinned` came from [`Pinned`], which is freed only when the copy is done, whatever holds it.
    pub unsafe fn upload_from(&self, pinned: &[u8], buffer: &CudaSlice<u8>) -> Result<(), GpuError> {
        assert!(pinned.len() <= buffer.len(), "a copy within the buffer");
        // SAFETY: the caller's promise, and whoever reuses the buffer waits for the stream first.
        unsafe { result::memcpy_htod_async(self.address(buffer), pinned, self.stream.cu_stream()) }
            .map_err(cuda("copy to the GPU"))
    }

    /// Queues a copy of a whole buffer.
    pub fn download<T: Copy>(&self, buffer: &CudaSlice<T>, pinned: &mut Pinned<T>) -> Result<(), GpuError> {
        assert_eq!(buffer.len(), pinned.len(), "a copy of a whole buffer");
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(&mut pinned[..], self.address(buffer), self.stream.cu_stream()) }
            .map_err(cuda("copy from the GPU"))
    }
}

/// From one event to another, by the GPU's clock. Both are waited for.
///
/// CUDA's bindings call another function for it from CUDA 13 on, which drivers before 12.8 don't have, and JetPack
/// 6.2's is of 12.6.
pub(super) fn milliseconds_between(first: &CudaEvent, last: &CudaEvent) -> Result<f32, GpuError> {
    type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    const DOING: &str = "read the GPU's clock";
    last.synchronize().map_err(cuda(DOING))?;
    let mut milliseconds = 0.0;
    // SAFETY: the driver is loaded, since there are events; the signature is cuda.h's.
    unsafe {
        let elapsed = sys::culib().get::<ElapsedTime>(b"cuEventElapsedTime\0");
        let elapsed = elapsed.map_err(|error| GpuError::Cuda { doing: DOING, reason: error.to_string() })?;
        elapsed(&raw mut milliseconds, first.cu_event(), last.cu_event()).result().map_err(cuda(DOING))?;
    }
    Ok(milliseconds)
}

/// The stream that a network is queued in, as C has it (`CUstream`). It outlives the network.
#[derive(Debug, Clone, Copy)]
pub struct Stream(*mut c_void);

impl Stream {
    pub(super) fn of(device: &Device) -> Self {
        Self(device.stream.cu_stream().cast())
    }

    /// For CUDA.
    pub fn as_ptr(self) -> *mut c_void {
        self.0
    }
}

/// Memory of the processor that the GPU reads and writes by itself.
pub(super) struct Pinned<T> {
    start: NonNull<T>,
    len: usize,
    /// Keeps the context alive that it was made in.
    context: Arc<CudaContext>,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl<T: Send> Send for Pinned<T> {}
// SAFETY: as above; what is shared is only read.
unsafe impl<T: Sync> Sync for Pinned<T> {}

impl<T: ValidAsZeroBits + Copy> Pinned<T> {
    /// `len` zeros.
    pub fn zeros(device: &Device, len: usize) -> Result<Self, GpuError> {
        const DOING: &str = "reserve pinned memory";
        device.enter()?;
        let bytes = len.max(1).saturating_mul(size_of::<T>());
        // SAFETY: the context is current.
        let start = unsafe { result::malloc_host(bytes, 0) }.map_err(cuda(DOING))?;
        let Some(start) = NonNull::new(start.cast::<T>()) else {
            return Err(GpuError::Cuda { doing: DOING, reason: "it gave none".to_owned() });
        };
        // SAFETY: the memory is new and that long, and zeros are values of T.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Ok(Self { start, len, context: device.context.clone() })
    }
}

impl<T> Deref for Pinned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the memory is that long and has held values since `zeros`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and this is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        let freed = self.context.bind_to_thread().and_then(|()| {
            // SAFETY: it came from `malloc_host` and is freed once.
            unsafe { result::free_host(self.start.as_ptr().cast::<c_void>()) }
        });
        if let Err(error) = freed {
            tracing::debug!(?error, "pinned memory was not given back");
        }
    }
}

/// Where a port of the network is to read or write on the GPU: an address and the bytes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The address, as CUDA counts them.
    pub address: u64,
    /// Bytes.
    pub len: usize,
}
