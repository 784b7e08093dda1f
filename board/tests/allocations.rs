//! A board is looked at once a second for years: a look allocates nothing.
#![cfg(feature = "fixtures")]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use wordsight_board::fixtures::Board;
use wordsight_board::{Governor, GovernorSettings, Look, Sampler};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: it hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_look_at_a_board_and_the_decision_on_it_allocate_nothing() {
    for board in Board::ALL {
        let root = tempfile::tempdir().unwrap();
        board.write(root.path()).unwrap();
        let sampler = Sampler::open(root.path());
        let mut governor = Governor::new(GovernorSettings::default());
        let mut before = sampler.read();
        let allocations = ALLOCATIONS.get();
        for _ in 0..100 {
            let now = sampler.read();
            governor.decide(Duration::from_secs(1), &Look::between(&before, &now));
            before = now;
        }
        assert_eq!(ALLOCATIONS.get() - allocations, 0, "{board:?}");
        assert!(!before.temperatures.is_empty());
    }
}
