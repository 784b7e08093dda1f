//! Counts what this program allocates, so that a benchmark and a test can hold the stream to nothing per frame.
//!
//! Only Rust's side is counted. ONNX Runtime, TensorRT and GStreamer allocate by means of their own, which no program
//! can count for them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, and a count for each thread.
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of the calling thread since it began; what is made larger counts too.
pub fn on_this_thread() -> u64 {
    // A thread that is ending has nothing to count for any more.
    COUNT.try_with(Cell::get).unwrap_or(0)
}

fn count() {
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a number of the thread's own, which needs
// no allocation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_counts_for_the_thread_that_made_it_and_arithmetic_does_not() {
        let before = on_this_thread();
        std::hint::black_box((0..100_u64).sum::<u64>());
        assert_eq!(on_this_thread(), before);
        let mut made = std::hint::black_box(Vec::<u8>::with_capacity(10));
        made.reserve_exact(100);
        assert_eq!(on_this_thread(), before + 2);
        let elsewhere = std::thread::spawn(|| std::hint::black_box(vec![1_u8; 10]).len());
        let here = on_this_thread();
        let _ = elsewhere.join();
        assert_eq!(on_this_thread(), here);
    }
}
