//! After a first frame nothing is allocated for the next ones with as much in them.

use std::time::Duration;

use allocation_counter::measure;
use wordsight_tracking::{Observation, Tracker, TrackingSettings};

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
        let count = measure(|| {
            tracker.update(Duration::from_millis(33) * frame, shown);
        })
        .count_total;
        assert!(frame < 30 || count == 0, "{count} allocations in frame {frame}");
    }
    let counted = measure(|| {
        tracker.end_all();
    });
    assert_eq!(counted.count_total, 0);
}
