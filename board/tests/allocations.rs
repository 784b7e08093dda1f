//! A board is looked at once a second for years: a look allocates nothing.
#![cfg(feature = "fixtures")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use wordsight_board::fixtures::Board;
use wordsight_board::{Governor, GovernorSettings, Look, Sampler};

#[test]
fn a_look_at_a_board_and_the_decision_on_it_allocate_nothing() {
    for board in Board::ALL {
        let root = tempfile::tempdir().unwrap();
        board.write(root.path()).unwrap();
        let sampler = Sampler::open(root.path());
        let mut governor = Governor::new(GovernorSettings::default());
        let mut before = sampler.read();
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                let now = sampler.read();
                governor.decide(Duration::from_secs(1), &Look::between(&before, &now));
                before = now;
            }
        });
        assert_eq!(counted.count_total, 0, "{board:?}");
        assert!(!before.temperatures.is_empty());
    }
}
