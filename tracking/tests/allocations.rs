//! After a first frame nothing is allocated for the next ones with as much in them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use wordsight_tracking::{Observation, Tracker, TrackingSettings};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's, counting what each thread asks for.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does all of it; the count is a thread's own and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[test]
fn things_that_come_cross_and_go_allocate_nothing_after_the_first_second() {
    let mut tracker = Tracker::new(TrackingSettings::default());
    for frame in 0..400_u32 {
        // Twenty in each frame, as a device tells at most: half move on, half are never again where they were.
        let observations: [Observation; 20] = std::array::from_fn(|at| {
            let stays = at % 2 == 0;
            let x =
                100.0 * at as f32 + if stays { (frame % 150) as f32 } else { 5000.0 * (frame % 40) as f32 };
            let (word, is_weak) = (at % 3, at % 5 == 4);
            Observation { word, score: 0.5, box_in_frame: [x, 0.0, x + 60.0, 50.0], is_weak }
        });
        let shown = &observations[..if frame % 90 > 60 { 0 } else { 20 }];
        let before = COUNT.get();
        tracker.update(Duration::from_millis(33) * frame, shown);
        let count = COUNT.get() - before;
        assert!(frame < 30 || count == 0, "{count} allocations in frame {frame}");
    }
    let before = COUNT.get();
    tracker.end_all();
    assert_eq!(COUNT.get(), before);
}
