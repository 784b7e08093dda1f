//! How a tracker handles objects that move freely and a detector that makes mistakes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use wordsight_tracking::{Observation, Tracker, TrackingSettings};

const CAT: usize = 3;
const DOG: usize = 5;
const STEP: Duration = Duration::from_millis(33);

fn seen(word: usize, x: f32, y: f32) -> Observation {
    Observation { word, score: 0.6, box_in_frame: [x - 20.0, y - 15.0, x + 20.0, y + 15.0], is_weak: false }
}

fn weak(observation: Observation) -> Observation {
    Observation { score: 0.2, is_weak: true, ..observation }
}

/// A tracker with a clock.
struct Stage {
    tracker: Tracker,
    now: Duration,
    step: Duration,
    /// Numbers of the tracks that were told of, and of those that have ended.
    appeared: Vec<u64>,
    ended: Vec<u64>,
}

impl Stage {
    fn new() -> Self {
        let tracker = Tracker::new(TrackingSettings::default());
        Self { tracker, now: Duration::ZERO, step: STEP, appeared: vec![], ended: vec![] }
    }

    /// The number of each observation's track.
    fn show(&mut self, observations: &[Observation]) -> Vec<Option<u64>> {
        self.now += self.step;
        let update = self.tracker.update(self.now, observations);
        self.appeared.extend(update.appeared.iter().map(|&place| update.tracks[place].id));
        self.ended.extend(update.ended.iter().map(|track| track.id));
        for track in update.tracks.iter().chain(update.ended) {
            assert!(track.box_in_frame.iter().all(|side| side.is_finite()), "{track:?}");
            assert!((0.0..=1.0).contains(&track.score), "{track:?}");
        }
        update.track_of.iter().map(|place| place.map(|place| update.tracks[place].id)).collect()
    }

    fn show_times(&mut self, times: usize, observations: &[Observation]) {
        (0..times).for_each(|_| drop(self.show(observations)));
    }

    /// The word of the only track.
    fn word(&self) -> usize {
        let [track] = self.tracker.tracks() else { panic!("{:?}", self.tracker.tracks()) };
        track.word
    }
}

#[test]
fn a_thing_is_told_of_at_its_third_hit_and_keeps_its_number_while_it_moves() {
    let mut stage = Stage::new();
    for frame in 0..100 {
        assert_eq!(stage.show(&[seen(CAT, 5.0 * frame as f32, 50.0)]), [Some(1)]);
        assert_eq!(stage.appeared, if frame < 2 { vec![] } else { vec![1] });
    }
    let [track] = stage.tracker.tracks() else { panic!() };
    assert_eq!((track.hits, track.first_seen, track.last_seen), (100, STEP, 100 * STEP));
    assert!((track.score - 0.6).abs() < 1e-3 && track.best_score == 0.6 && track.is_seen);
}

#[test]
fn a_false_alarm_is_never_told_of() {
    let mut stage = Stage::new();
    for frame in 0..200 {
        // One for a single frame, each time elsewhere, and one that is there in every third frame.
        let mut observations = vec![seen(CAT, 50.0 + 13.0 * frame as f32, 200.0 - 31.0 * (frame % 7) as f32)];
        observations.extend((frame % 3 == 0).then_some(seen(DOG, -300.0, -300.0)));
        stage.show(&observations);
    }
    assert!(stage.appeared.is_empty() && stage.ended.is_empty());
    assert!(stage.tracker.tracks().len() < 6);
}

#[test]
fn two_of_a_kind_that_cross_keep_their_numbers() {
    let mut stage = Stage::new();
    let at = |frame: usize| {
        let x = 6.0 * frame as f32;
        [seen(CAT, x, 100.0 + 0.4 * x), seen(CAT, 360.0 - x, 124.0 + 0.4 * (360.0 - x) - 144.0)]
    };
    for frame in 0..60 {
        let [one, other] = at(frame);
        // A detector tells them apart only while they don't cover each other.
        let hidden = (one.box_in_frame[0] - other.box_in_frame[0]).abs() < 14.0;
        let ids = if hidden { stage.show(&[one])[..1].to_vec() } else { stage.show(&[one, other]) };
        if !hidden {
            assert_eq!(ids, [Some(1), Some(2)], "frame {frame}");
        }
    }
}

#[test]
fn a_thing_that_goes_on_behind_another_comes_out_with_its_number() {
    for (hidden, step) in [(6, STEP), (18, STEP), (4, Duration::from_millis(200))] {
        let mut stage = Stage { step, ..Stage::new() };
        let speed = 60.0 * step.as_secs_f32();
        let x = |frame: usize| speed * frame as f32;
        (0..20).for_each(|frame| drop(stage.show(&[seen(CAT, x(frame), 50.0)])));
        stage.show_times(hidden, &[]);
        assert!(!stage.tracker.tracks()[0].is_seen);
        assert_eq!(stage.show(&[seen(CAT, x(20 + hidden), 50.0)]), [Some(1)], "{hidden} frames of {step:?}");
    }
}

#[test]
fn a_thing_that_stops_behind_another_comes_out_with_its_number() {
    let mut stage = Stage::new();
    (0..20).for_each(|frame| drop(stage.show(&[seen(CAT, 4.0 * frame as f32, 50.0)])));
    stage.show_times(20, &[]);
    assert_eq!(stage.show(&[seen(CAT, 4.0 * 19.0 + 4.0, 50.0)]), [Some(1)]);
}

#[test]
fn a_thing_that_is_gone_ends_once_and_what_comes_after_is_another() {
    let mut stage = Stage::new();
    stage.show_times(10, &[seen(CAT, 50.0, 50.0)]);
    stage.show_times(29, &[]);
    assert!(stage.ended.is_empty());
    stage.show_times(10, &[]);
    assert_eq!(stage.ended, [1]);
    assert_eq!(stage.show(&[seen(CAT, 50.0, 50.0)]), [Some(2)]);
}

#[test]
fn weak_observations_go_on_with_a_track_and_begin_none() {
    let mut stage = Stage::new();
    assert_eq!(stage.show(&[weak(seen(DOG, 300.0, 50.0))]), [None]);
    stage.show_times(3, &[seen(CAT, 50.0, 50.0)]);
    for frame in 0..50 {
        let x = 50.0 + 3.0 * frame as f32;
        assert_eq!(stage.show(&[weak(seen(CAT, x, 50.0))]), [Some(1)]);
    }
    assert_eq!(stage.tracker.tracks().len(), 1);
    assert!(stage.tracker.tracks()[0].best_score == 0.6 && stage.tracker.tracks()[0].score < 0.3);
}

#[test]
fn weak_observations_alone_do_not_hold_a_track_for_ever() {
    let mut stage = Stage::new();
    stage.show_times(5, &[seen(CAT, 50.0, 50.0)]);
    stage.show_times(200, &[weak(seen(CAT, 50.0, 50.0))]);
    assert_eq!(stage.ended, [1]);
    assert!(stage.tracker.tracks().is_empty());
}

#[test]
fn a_strong_observation_goes_before_a_nearer_weak_one() {
    let mut stage = Stage::new();
    stage.show_times(5, &[seen(CAT, 50.0, 50.0)]);
    assert_eq!(stage.show(&[weak(seen(CAT, 50.0, 50.0)), seen(CAT, 56.0, 50.0)]), [None, Some(1)]);
}

#[test]
fn a_word_that_flickers_is_not_told() {
    let mut stage = Stage::new();
    stage.show_times(3, &[seen(CAT, 50.0, 50.0)]);
    for frame in 0..300 {
        // A third of the time it is called a dog, at times twice in a row.
        let word = if frame % 6 < 2 { DOG } else { CAT };
        assert_eq!(stage.show(&[seen(word, 50.0, 50.0)]), [Some(1)]);
        assert_eq!(stage.word(), CAT, "frame {frame}");
    }
}

#[test]
fn two_words_that_are_told_as_often_do_not_take_turns() {
    let mut stage = Stage::new();
    let mut changes = 0;
    stage.show_times(3, &[seen(CAT, 50.0, 50.0)]);
    for frame in 0..300 {
        let before = stage.word();
        stage.show(&[seen(if frame % 2 == 0 { DOG } else { CAT }, 50.0, 50.0)]);
        changes += usize::from(stage.word() != before);
    }
    assert!(changes <= 1, "{changes}");
}

#[test]
fn after_a_cut_another_thing_in_the_same_place_has_its_word_within_eight_frames_at_any_rate() {
    for milliseconds in [16, 33, 200] {
        let mut stage = Stage { step: Duration::from_millis(milliseconds), ..Stage::new() };
        stage.show_times(500, &[seen(CAT, 50.0, 50.0)]);
        let told = (1..=20).find(|_| {
            stage.show(&[seen(DOG, 50.0, 50.0)]);
            stage.word() == DOG
        });
        assert!(told.is_some_and(|frames| (3..=8).contains(&frames)), "{milliseconds} ms: {told:?}");
    }
}

#[test]
fn another_word_beside_a_thing_is_another_thing_where_the_same_word_would_not_be() {
    for (word, is_same) in [(CAT, true), (DOG, false)] {
        let mut stage = Stage::new();
        stage.show_times(10, &[seen(CAT, 50.0, 50.0)]);
        // They overlap by 0.29.
        let ids = stage.show(&[seen(word, 72.0, 50.0)]);
        assert_eq!(ids == [Some(1)], is_same);
    }
}

#[test]
fn a_rate_that_changes_costs_no_number() {
    let mut stage = Stage::new();
    for frame in 0..200 {
        // Every third frame is late by as much as the governor makes it.
        stage.step = Duration::from_millis(if frame % 3 == 0 { 180 } else { 33 });
        let x = 70.0 * (stage.now + stage.step).as_secs_f32();
        assert_eq!(stage.show(&[seen(CAT, x, 50.0)]), [Some(1)], "frame {frame}");
    }
}

#[test]
fn frames_two_seconds_apart_still_show_the_same_thing_and_a_minute_apart_another() {
    let mut stage = Stage { step: Duration::from_secs(2), ..Stage::new() };
    stage.show_times(5, &[seen(CAT, 50.0, 50.0)]);
    assert_eq!(stage.appeared, [1]);
    stage.step = Duration::from_secs(60);
    assert_eq!(stage.show(&[seen(CAT, 50.0, 50.0)]), [Some(2)]);
    assert_eq!(stage.ended, [1]);
}

#[test]
fn a_clock_that_stands_still_or_runs_backwards_is_no_error() {
    let mut tracker = Tracker::new(TrackingSettings::default());
    for milliseconds in [5000, 5000, 100, 5033, 0, 5066] {
        let update = tracker.update(Duration::from_millis(milliseconds), &[seen(CAT, 50.0, 50.0)]);
        assert_eq!(update.track_of, [Some(0)]);
        assert!(update.tracks[0].last_seen >= Duration::from_secs(5));
    }
}

#[test]
fn what_is_no_box_is_passed_over_and_nothing_that_is_no_number_comes_out() {
    let mut stage = Stage::new();
    let good = seen(CAT, 50.0, 50.0);
    let bad = |box_in_frame| Observation { box_in_frame, ..good };
    let observations = [
        bad([50.0, 50.0, 50.0, 50.0]),
        bad([60.0, 60.0, 40.0, 40.0]),
        bad([f32::NAN, 0.0, 10.0, 10.0]),
        bad([0.0, 0.0, f32::INFINITY, 10.0]),
        bad([-3e38, -3e38, 3e38, 3e38]),
        Observation { score: f32::NAN, ..good },
        good,
        // Thinner than a float can tell apart at its place.
        bad([900_000.0, 0.0, 900_000.06, 1e-30]),
        Observation { score: 7.0, ..seen(DOG, 300.0, 300.0) },
    ];
    for _ in 0..50 {
        let ids = stage.show(&observations);
        assert_eq!(ids[..6], [None; 6]);
        assert_eq!(ids[6], Some(1));
    }
    stage.show_times(50, &[]);
    assert!(stage.tracker.tracks().is_empty());
}

#[test]
fn empty_frames_from_the_start_are_no_error() {
    let mut stage = Stage::new();
    stage.show_times(10, &[]);
    assert!(stage.tracker.tracks().is_empty());
    assert_eq!(stage.show(&[seen(CAT, 50.0, 50.0)]), [Some(1)]);
}

#[test]
fn all_end_when_the_words_change_and_no_number_is_given_twice() {
    let mut stage = Stage::new();
    stage.show_times(5, &[seen(CAT, 50.0, 50.0), seen(DOG, 200.0, 50.0)]);
    stage.show(&[seen(CAT, 50.0, 50.0), seen(DOG, 200.0, 50.0), seen(DOG, 400.0, 50.0)]);
    let ended: Vec<u64> = stage.tracker.end_all().iter().map(|track| track.id).collect();
    assert_eq!(ended, [1, 2], "the third was never told of");
    assert!(stage.tracker.tracks().is_empty());
    assert_eq!(stage.show(&[seen(CAT, 50.0, 50.0)]), [Some(4)]);
}

#[test]
fn places_hold_when_a_track_before_them_ends() {
    let mut stage = Stage::new();
    stage.show_times(5, &[seen(CAT, 50.0, 50.0), seen(DOG, 200.0, 50.0)]);
    stage.show_times(29, &[seen(DOG, 200.0, 50.0)]);
    stage.show(&[seen(CAT, 500.0, 50.0), seen(DOG, 200.0, 50.0)]);
    let ids = stage.show(&[seen(CAT, 500.0, 50.0), seen(DOG, 200.0, 50.0)]);
    assert_eq!((ids, stage.ended.clone()), (vec![Some(3), Some(2)], vec![1]));
    stage.show(&[seen(CAT, 500.0, 50.0), seen(DOG, 200.0, 50.0)]);
    assert_eq!(stage.appeared, [1, 2, 3]);
}

#[test]
fn new_settings_go_on_with_the_tracks_there_are() {
    let mut stage = Stage::new();
    stage.show(&[seen(CAT, 50.0, 50.0)]);
    stage.tracker.set(TrackingSettings { confirm_after: 1, ..TrackingSettings::default() });
    assert_eq!(stage.show(&[seen(CAT, 50.0, 50.0), seen(DOG, 200.0, 50.0)]), [Some(1), Some(2)]);
    assert_eq!(stage.appeared, [1, 2]);
}
