//! Zones and lines on known paths: entries, crossings and times, of the true track and of the tracker's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use allocation_counter::measure;
use wordsight_tracking::zones::{Anchor, Change, CrossingLine, Point, What, Zone, ZoneWatch};
use wordsight_tracking::{Observation, Track, Tracker, TrackingSettings};

const FRAME: [f64; 2] = [640.0, 480.0];
const PERSON: usize = 3;
const DOG: usize = 5;
/// The right half of the picture but for a rim.
const YARD: [Point; 4] = [[0.5, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.9]];

fn zone(points: &[Point]) -> Zone {
    Zone { points: points.to_vec(), words: None, anchor: Anchor::Bottom, dwell: None }
}

fn line(ends: [Point; 2]) -> CrossingLine {
    CrossingLine { ends, words: None, anchor: Anchor::Bottom }
}

/// A box of 40 by 60 pixels whose anchor is there.
fn box_at([x, y]: Point) -> [f32; 4] {
    let (x, y) = ((x * FRAME[0]) as f32, (y * FRAME[1]) as f32);
    [x - 20.0, y - 60.0, x + 20.0, y]
}

fn track_at(id: u64, at: Duration, place: Point) -> Track {
    Track {
        id,
        word: PERSON,
        score: 0.8,
        box_in_frame: box_at(place),
        is_confirmed: true,
        is_seen: true,
        first_seen: at,
        last_seen: at,
        hits: 9,
        best_score: 0.9,
    }
}

/// The frame's time at so many frames a second.
fn time(frame: u32, fps: u32) -> Duration {
    Duration::from_secs(1) * frame / fps
}

/// What a true track does that goes through these places, one a frame.
fn walk(watch: &mut ZoneWatch, fps: u32, places: impl IntoIterator<Item = Point>) -> Vec<(u32, Change)> {
    let mut all = Vec::new();
    for (frame, place) in (0..).zip(places) {
        let changes = watch.update(FRAME, &[track_at(1, time(frame, fps), place)]);
        all.extend(changes.iter().map(|change| (frame, *change)));
    }
    all
}

fn whats(changes: &[(u32, Change)]) -> Vec<What> {
    changes.iter().map(|(_, change)| change.what).collect()
}

/// Places on the way from one point to another, in so many steps.
fn way(from: Point, to: Point, steps: u32) -> impl Iterator<Item = Point> + Clone {
    let part = move |step: u32| f64::from(step) / f64::from(steps);
    (0..steps).map(move |step| std::array::from_fn(|axis| from[axis] + part(step) * (to[axis] - from[axis])))
}

fn assert_near(found: Duration, expected_s: f64, allowed_s: f64) {
    let found = found.as_secs_f64();
    assert!((found - expected_s).abs() <= allowed_s, "{found} s and not {expected_s} s");
}

#[test]
fn a_true_track_that_walks_through_a_zone_is_in_it_for_as_long_as_its_path_says() {
    // A tenth of the width a second: into the zone at 3.97 s and out at 7.97 s, between two frames at every rate.
    for fps in [2, 5, 13, 30] {
        let mut watch = ZoneWatch::new(vec![zone(&YARD)], vec![]);
        let changes = walk(&mut watch, fps, way([0.103, 0.5], [1.003, 0.5], 9 * fps));
        let [What::Entered { zone: 0 }, What::Exited { zone: 0, stayed }] = whats(&changes)[..] else {
            panic!("{changes:?}");
        };
        assert_near(stayed, 4.0, 1e-6);
        // And both are told soon: behind the border by a tenth of the thing's size, or after half a second.
        for (place, border_s) in [(0, 3.97), (1, 7.97)] {
            let late = time(changes[place].0, fps).as_secs_f64() - border_s;
            assert!(
                (0.0..=0.5 + 1.0 / f64::from(fps)).contains(&late),
                "{late} s late at {fps} frames a second"
            );
        }
    }
}

#[test]
fn a_true_track_dwells_in_the_first_frame_in_which_it_was_there_for_so_long() {
    let dwell = Some(Duration::from_millis(2_500));
    let mut watch = ZoneWatch::new(vec![Zone { dwell, ..zone(&YARD) }], vec![]);
    let changes = walk(&mut watch, 10, way([0.1, 0.5], [1.0, 0.5], 90));
    let [What::Entered { .. }, What::Dwelled { stayed, .. }, What::Exited { .. }] = whats(&changes)[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(changes[1].0, 65, "4 s and 2.5 s");
    assert_near(stayed, 2.5, 1e-6);
    // One that is there for less does not.
    let mut watch = ZoneWatch::new(vec![Zone { dwell, ..zone(&YARD) }], vec![]);
    let there_and_back = way([0.1, 0.5], [0.62, 0.5], 52).chain(way([0.62, 0.5], [0.1, 0.5], 52));
    let changes = walk(&mut watch, 10, there_and_back);
    let [What::Entered { .. }, What::Exited { stayed, .. }] = whats(&changes)[..] else {
        panic!("{changes:?}")
    };
    assert_near(stayed, 2.4, 1e-6);
}

#[test]
fn every_crossing_of_a_true_track_counts_once_and_to_its_side() {
    // Down the picture: its right-hand side is the picture's left.
    let gate = line([[0.5, 0.2], [0.5, 0.8]]);
    let mut watch = ZoneWatch::new(vec![], vec![gate.clone()]);
    let there_and_back = || way([0.2, 0.5], [0.8, 0.5], 17).chain(way([0.8, 0.5], [0.2, 0.5], 17));
    let changes = walk(&mut watch, 10, there_and_back().chain(there_and_back()).chain([[0.2, 0.5]]));
    let to_right: Vec<bool> = whats(&changes)
        .into_iter()
        .map(|what| matches!(what, What::Crossed { line: 0, to_right: true }))
        .collect();
    assert_eq!(to_right, [false, true, false, true]);
    // Around its end and back through it, twice: what comes back around is no crossing.
    let around = || {
        way([0.2, 0.5], [0.8, 0.5], 17)
            .chain(way([0.8, 0.5], [0.8, 0.95], 9))
            .chain(way([0.8, 0.95], [0.2, 0.95], 17))
            .chain(way([0.2, 0.95], [0.2, 0.5], 9))
    };
    let mut watch = ZoneWatch::new(vec![], vec![gate]);
    let changes = whats(&walk(&mut watch, 10, around().chain(around())));
    assert_eq!(changes, [What::Crossed { line: 0, to_right: false }; 2]);
}

#[test]
fn a_thing_that_trembles_on_a_border_neither_comes_and_goes_nor_crosses() {
    // A tenth of its size is 4.9 pixels, 0.0077 of the width.
    let tremble = |frame: u32| [0.5 + if frame.is_multiple_of(2) { 0.006 } else { -0.006 }, 0.5];
    let mut watch = ZoneWatch::new(vec![zone(&YARD)], vec![line([[0.5, 0.2], [0.5, 0.8]])]);
    let coming = way([0.2, 0.5], [0.494, 0.5], 20);
    let changes = walk(&mut watch, 10, coming.chain((0..200).map(tremble)));
    assert_eq!(whats(&changes), []);
    // One that stays just behind it is in the zone after half a second, and has not crossed the line for sure.
    let coming = way([0.2, 0.5], [0.494, 0.5], 20);
    let mut watch = ZoneWatch::new(vec![zone(&YARD)], vec![line([[0.5, 0.2], [0.5, 0.8]])]);
    let changes = walk(&mut watch, 10, coming.chain([[0.503, 0.5]; 10]));
    assert_eq!(whats(&changes), [What::Entered { zone: 0 }]);
    assert!((25..=26).contains(&changes[0].0), "{changes:?}");
    // And it has when it ends there.
    let ended = watch.end(&[track_at(1, time(29, 10), [0.503, 0.5])]).to_vec();
    assert!(
        ended.iter().any(|change| change.what == What::Crossed { line: 0, to_right: false }),
        "{ended:?}"
    );
}

#[test]
fn what_ends_in_a_zone_leaves_it_when_it_was_seen_last() {
    let mut watch = ZoneWatch::new(vec![zone(&YARD)], vec![]);
    let changes = walk(&mut watch, 10, [[0.7, 0.5]; 31]);
    assert_eq!(whats(&changes), [What::Entered { zone: 0 }], "in its first frame");
    let [Change { what: What::Exited { stayed, .. }, .. }] =
        watch.end(&[track_at(1, time(30, 10), [0.7, 0.5])])
    else {
        panic!("it left");
    };
    assert_near(*stayed, 3.0, 1e-9);
    assert!(watch.end(&[track_at(1, time(30, 10), [0.7, 0.5])]).is_empty(), "it is gone");
}

#[test]
fn an_unconfirmed_track_is_told_when_it_is_confirmed_and_counts_from_when_it_was_seen_first() {
    let mut watch = ZoneWatch::new(vec![Zone { dwell: Some(Duration::from_secs(1)), ..zone(&YARD) }], vec![]);
    for frame in 0..11 {
        let track = Track { is_confirmed: frame >= 2, ..track_at(1, time(frame, 10), [0.7, 0.5]) };
        let changes: Vec<What> = watch.update(FRAME, &[track]).iter().map(|change| change.what).collect();
        let expected = match frame {
            2 => vec![What::Entered { zone: 0 }],
            10 => vec![What::Dwelled { zone: 0, stayed: Duration::from_secs(1) }],
            _ => vec![],
        };
        assert_eq!(changes, expected, "frame {frame}");
    }
    // One that was never confirmed ends untold, and its number's place is free.
    assert!(watch.update(FRAME, &[]).is_empty());
    assert!(watch.end(&[track_at(1, time(11, 10), [0.7, 0.5])]).is_empty());
}

#[test]
fn a_zone_is_about_its_words_and_follows_what_a_thing_is_called() {
    let of_people = Zone { words: Some(vec![PERSON]), ..zone(&YARD) };
    let mut watch = ZoneWatch::new(vec![of_people, zone(&YARD)], vec![]);
    let mut all = Vec::new();
    for (frame, word) in (0..).zip([DOG, PERSON, PERSON, DOG]) {
        let track = Track { word, ..track_at(1, time(frame, 1), [0.7, 0.5]) };
        all.push(
            watch.update(FRAME, &[track]).iter().map(|change| (change.word, change.what)).collect::<Vec<_>>(),
        );
    }
    let stayed = Duration::from_secs(3);
    assert_eq!(all[0], [(DOG, What::Entered { zone: 1 })]);
    assert_eq!(all[1], [(PERSON, What::Entered { zone: 0 }), (PERSON, What::Renamed { zone: 1, from: DOG })]);
    assert_eq!(all[2], []);
    assert_eq!(
        all[3],
        [(PERSON, What::Exited { zone: 0, stayed }), (DOG, What::Renamed { zone: 1, from: PERSON })]
    );
}

#[test]
fn the_anchor_says_where_a_thing_is() {
    // Its feet are in the zone and its middle is not.
    let low = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]];
    let centre = Zone { anchor: Anchor::Centre, ..zone(&low) };
    let mut watch = ZoneWatch::new(vec![zone(&low), centre], vec![]);
    let changes = walk(&mut watch, 10, [[0.5, 0.53]]);
    assert_eq!(whats(&changes), [What::Entered { zone: 0 }]);
}

#[test]
fn a_thing_that_is_cut_off_by_the_pictures_edge_is_in_a_zone_that_reaches_it() {
    let corner = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]];
    let mut watch = ZoneWatch::new(vec![zone(&corner)], vec![]);
    // Along the lower edge, and a little beyond it.
    let changes = walk(&mut watch, 10, way([0.3, 1.003], [0.7, 1.003], 40));
    assert_eq!(whats(&changes), [What::Entered { zone: 0 }]);
    assert_eq!(changes[0].0, 21, "as soon as it is behind the side that can be crossed");
}

#[test]
fn other_zones_keep_who_is_in_those_that_stay() {
    let mut watch = ZoneWatch::new(vec![zone(&YARD), zone(&YARD)], vec![]);
    walk(&mut watch, 10, [[0.7, 0.5]; 3]);
    // The first goes, the second is moved away from the thing, and two are new.
    let elsewhere = YARD.map(|[x, y]| [x - 0.5, y]);
    watch.set(
        vec![zone(&YARD), zone(&elsewhere), zone(&elsewhere)],
        vec![],
        |zone| (zone == 1).then_some(1),
        |_| None,
    );
    let changes: Vec<What> = watch
        .update(FRAME, &[track_at(1, time(3, 10), [0.7, 0.5])])
        .iter()
        .map(|change| change.what)
        .collect();
    let [What::Entered { zone: 0 }, What::Exited { zone: 1, stayed }] = changes[..] else {
        panic!("{changes:?}")
    };
    assert_near(stayed, 0.3, 1e-9);
}

/// A detector's boxes on a path: they tremble by a few percent of their size, and one in ten is missing.
struct Detector(u64);

impl Detector {
    fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }

    fn see(&mut self, word: usize, place: Point) -> Option<Observation> {
        let mut tremble =
            |side: f32| ((self.number() + self.number() + self.number() - 1.5) * 0.08) as f32 * side;
        let [left, top, right, bottom] = box_at(place);
        let box_in_frame =
            [left + tremble(40.0), top + tremble(60.0), right + tremble(40.0), bottom + tremble(60.0)];
        (self.number() > 0.1).then_some(Observation { word, score: 0.7, box_in_frame, is_weak: false })
    }
}

/// Walkers through the yard and the gate before it, one after the other and each at a height and speed of its own.
struct Walker {
    y: f64,
    /// Widths a second.
    speed: f64,
    starts_s: f64,
}

impl Walker {
    fn all() -> Vec<Walker> {
        (0..60_u8)
            .map(|number| Walker {
                y: 0.25 + 0.02 * f64::from(number % 30),
                speed: 0.1 + 0.012 * f64::from(number % 7),
                starts_s: 2.5 * f64::from(number),
            })
            .collect()
    }

    /// Where it is, while it is in the picture.
    fn place(&self, at_s: f64) -> Option<Point> {
        let x = 0.04 + (at_s - self.starts_s) * self.speed;
        (at_s >= self.starts_s && x < 0.96).then_some([x, self.y])
    }
}

#[test]
fn the_trackers_own_tracks_come_within_5_percent_of_the_true_ones() {
    let walkers = Walker::all();
    let mut tracker = Tracker::new(TrackingSettings::default());
    let dwell = Some(Duration::from_secs(2));
    let gate = line([[0.4, 0.1], [0.4, 1.0]]);
    let mut watch = ZoneWatch::new(vec![Zone { dwell, ..zone(&YARD) }], vec![gate]);
    let (mut detector, mut all) = (Detector(11), Vec::new());
    for frame in 0..15 * 170 {
        let at = time(frame, 15);
        let seen = walkers.iter().filter_map(|walker| walker.place(at.as_secs_f64()));
        let seen: Vec<Observation> = seen.filter_map(|place| detector.see(PERSON, place)).collect();
        let update = tracker.update(at, &seen);
        all.extend_from_slice(watch.end(update.ended));
        all.extend_from_slice(watch.update(FRAME, update.tracks));
    }
    let count = |is_it: fn(&What) -> bool| all.iter().filter(|change| is_it(&change.what)).count();
    let true_count = walkers.len();
    let (entered, exited) = (
        count(|what| matches!(what, What::Entered { .. })),
        count(|what| matches!(what, What::Exited { .. })),
    );
    let dwelled = count(|what| matches!(what, What::Dwelled { .. }));
    let crossed = count(|what| matches!(what, What::Crossed { to_right: false, .. }));
    let back = count(|what| matches!(what, What::Crossed { to_right: true, .. }));
    let stayed: f64 = all
        .iter()
        .filter_map(|change| match change.what {
            What::Exited { stayed, .. } => Some(stayed.as_secs_f64()),
            _ => None,
        })
        .sum();
    let true_stay: f64 = walkers.iter().map(|walker| 0.4 / walker.speed).sum();
    println!(
        "of {true_count} walkers: {entered} entered, {exited} left, {dwelled} dwelled, {crossed} crossed, {back} came \
         back; {stayed:.1} s in the zone of {true_stay:.1} s"
    );
    let is_near = |found: f64, truth: f64| (found - truth).abs() <= 0.05 * truth;
    for found in [entered, exited, dwelled, crossed] {
        assert!(is_near(found as f64, true_count as f64), "{found} of {true_count}");
    }
    assert!(back * 20 <= true_count, "{back}");
    assert!(is_near(stayed, true_stay), "{stayed} s of {true_stay} s");
}

#[test]
fn things_that_come_and_go_allocate_nothing_after_the_first_second() {
    let zones = (0..8).map(|_| Zone { dwell: Some(Duration::from_secs(1)), ..zone(&YARD) }).collect();
    let lines = (0..4).map(|_| line([[0.5, 0.2], [0.5, 0.8]])).collect();
    let mut watch = ZoneWatch::new(zones, lines);
    for frame in 0..400_u32 {
        // Twenty in each frame, half of which end at once.
        let tracks: [Track; 20] = std::array::from_fn(|at| {
            let id = if at % 2 == 0 { at as u64 } else { u64::from(frame) * 20 + at as u64 };
            let x = f64::from((frame + at as u32 * 13) % 100) / 100.0;
            track_at(id, time(frame, 15), [x, 0.5])
        });
        let count = measure(|| {
            let ended: [Track; 1] = [Track { id: u64::from(frame.saturating_sub(1)) * 20 + 1, ..tracks[0] }];
            watch.end(&ended);
            watch.update(FRAME, &tracks);
        });
        assert!(frame < 15 || count.count_total == 0, "{} allocations in frame {frame}", count.count_total);
    }
}
