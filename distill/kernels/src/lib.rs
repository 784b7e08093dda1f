//! Convolutions with the channels last, for training on a processor.
//!
//! Burn's own convolutions on a processor take a hundred times as long as their arithmetic (measured: 1.6 images/s for
//! the whole student, here above 20): grouped ones run one channel at a time, and every activation and sum is a
//! separate pass over memory. Here a map is `[N, height, width, channels]`, a 1x1 convolution is a matrix product by
//! the crate `gemm`, a depthwise one a loop over channels that vectorises, and bias and activation are applied while a
//! block of cells is in the cache.
//!
//! The functions of the submodules take slices; [`ops`] makes them operations of Burn with gradients. On a GPU [`ops`]
//! composes Burn's own operations instead ([`composed`]).

/// Defines a function that runs compiled for the widest vectors that this processor has. What it calls must be
/// `#[inline(always)]`, or it is compiled for the narrowest.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $kind),*) {
            #[inline(always)]
            fn body($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn with_avx512($($argument: $kind),*) {
                    body($($argument),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $kind),*) {
                    body($($argument),*);
                }
                let has_avx512 = is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl");
                if has_avx512 {
                    // SAFETY: the processor has what it was compiled for.
                    return unsafe { with_avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            body($($argument),*);
        }
    };
}

mod bins;
pub mod composed;
pub mod convolution;
mod dense;
mod depthwise;
pub mod enlarge;
pub mod ops;
mod pointwise;
pub mod pooling;
#[cfg(test)]
mod tests;

pub use bins::{BINS, SAMPLES, bin_weights};
pub use convolution::{Activation, Convolution, Kind, Size};

/// A matrix as `gemm` takes it: where it begins, and the distances from row to row and from column to column.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    row: usize,
    column: usize,
}

impl Matrix {
    /// Row after row.
    fn rows(values: &[f32], columns: usize) -> Self {
        Self { start: values.as_ptr(), row: columns, column: 1 }
    }

    fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// `out[m,n]` (row after row) becomes `a[m,k] b[k,n]`, plus what it was where `add` says so, on this thread.
///
/// # Safety
///
/// The three matrices must have so many rows and columns in memory, and no other thread may write to `out` meanwhile.
unsafe fn multiply([m, k, n]: [usize; 3], a: Matrix, b: Matrix, out: *mut f32, add: bool) {
    let alpha = if add { 1.0 } else { 0.0 };
    let step = |distance: usize| distance as isize;
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            step(n),
            add,
            a.start,
            step(a.column),
            step(a.row),
            b.start,
            step(b.column),
            step(b.row),
            alpha,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Numbers that are about to be written, every one of them: what a fresh buffer holds is not cleared first, which at
/// these sizes costs as much as a convolution.
fn unwritten(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there, every bit pattern is a number, and the kernels write each before it is read.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}

/// Adds the numbers of one slice to another's.
fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// A pointer that several threads may write through, each to places of its own.
#[derive(Clone, Copy)]
struct SharedPointer(*mut f32);

// SAFETY: only the module's kernels use it, and each gives every thread other places.
unsafe impl Send for SharedPointer {}
// SAFETY: as above.
unsafe impl Sync for SharedPointer {}

impl SharedPointer {
    /// The `len` places from `start` on.
    ///
    /// # Safety
    ///
    /// They must lie in the buffer, and belong to this thread alone.
    unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}
