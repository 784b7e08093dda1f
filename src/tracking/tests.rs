//! The stage on frames with one thing or a few: what is told of zones, lines and masks, and in which order.
#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use wordsight_tracking::TrackingSettings;

use super::{Tracking, WrittenZones, ZoneSettings};
use crate::allocations;
use crate::job::{Detection, Event, EventKind, Job, WordList};

const YARD: &str = "[[zone]]\nname = \"yard\"\npoints = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]\n";

fn zones(text: &str) -> ZoneSettings {
    ZoneSettings::of(&toml::from_str::<WrittenZones>(text).unwrap(), true).unwrap()
}

fn words(words: &[&str]) -> WordList {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The stage, and a clock.
struct Stage {
    tracking: Tracking,
    words: WordList,
    start: Instant,
    frame: u64,
}

impl Stage {
    fn new(text: &str) -> Self {
        let settings = TrackingSettings { confirm_after: 2, ..TrackingSettings::default() };
        let mut tracking = Tracking::new(Some(settings));
        tracking.set_zones(zones(text));
        Self { tracking, words: words(&["cat", "dog"]), start: Instant::now(), frame: 0 }
    }

    /// A frame with cats whose anchors are there, ten a second, of 100 by 100 pixels.
    fn show(&mut self, places: &[[f32; 2]]) -> (Job, Vec<Arc<Event>>) {
        let mut job = Job::default();
        (job.frame.width, job.frame.height, job.number) = (100, 100, self.frame);
        job.frame.captured_at = self.start + Duration::from_millis(100) * self.frame as u32;
        job.frame.timestamp_ns = 1_000_000_000_000 + 100_000_000 * self.frame;
        job.words = self.words.clone();
        job.detections.extend(places.iter().map(|[x, y]| Detection {
            word: 0,
            score: 0.9,
            objectness: 1.0,
            box_in_frame: [x - 5.0, y - 10.0, x + 5.0, *y],
            is_weak: false,
            track: None,
        }));
        self.frame += 1;
        let events = self.tracking.run(&mut job).to_vec();
        (job, events)
    }

    /// The events of a thing that stands there for so many frames, as "kind zone".
    fn told(&mut self, place: Option<[f32; 2]>, frames: usize) -> Vec<String> {
        let place: Vec<[f32; 2]> = place.into_iter().collect();
        (0..frames).flat_map(|_| self.show(&place).1).map(|event| tell(&event)).collect()
    }

    fn now(&self) -> u32 {
        let counts = self.tracking.zones.shared().unwrap().counts();
        counts.zones[0].values().map(|count| count.now).sum()
    }
}

fn tell(event: &Event) -> String {
    format!("{} {}", event.kind.name(), event.spot().unwrap_or_default()).trim_end().to_owned()
}

#[test]
fn what_appears_in_a_zone_enters_it_then_and_leaves_it_before_it_leaves_the_picture() {
    let mut stage = Stage::new(YARD);
    assert_eq!(stage.told(Some([80.0, 50.0]), 5), ["appeared", "entered yard"]);
    assert_eq!(stage.now(), 1);
    assert_eq!(stage.told(None, 12), ["exited yard", "left"]);
    assert_eq!(stage.now(), 0);
}

#[test]
fn a_thing_that_walks_is_told_of_at_zones_and_lines_with_its_way_and_time() {
    let gate = "[[crossing_line]]\nname = \"gate\"\nfrom = [0.3, 0]\nto = [0.3, 1]\nto_left = \"in\"\n";
    let mut stage = Stage::new(&format!("{}dwell_s = 1\n{gate}", YARD));
    let mut all = Vec::new();
    // 2 pixels a frame: through the gate at 1 s, into the yard at 2 s, and back out after 1.5 s.
    let there = (0..28).map(|frame| [10.0 + 2.0 * frame as f32, 50.0]);
    let back = (0..14).map(|frame| [64.0 - 2.0 * frame as f32, 50.0]);
    there.chain(back).for_each(|place| all.extend(stage.show(&[place]).1));
    let told: Vec<String> = all.iter().map(|event| tell(event)).collect();
    assert_eq!(told, ["appeared", "crossed gate", "entered yard", "dwelled yard", "exited yard"]);
    let json = |place: usize| serde_json::to_value(crate::publish::event_json(&all[place])).unwrap();
    assert_eq!(json(1)["direction"], "in");
    let stayed = json(4)["dwell_s"].as_f64().unwrap();
    assert!((stayed - 1.5).abs() < 0.075, "{stayed}");
    let counts = stage.tracking.zones.shared().unwrap().counts();
    assert_eq!((counts.zones[0]["cat"].entered.total, counts.lines[0][0]["cat"].total), (1, 1));
    assert!(counts.lines[0][1].is_empty());
}

#[test]
fn what_lies_in_a_mask_is_neither_told_nor_followed() {
    let mut stage = Stage::new(&YARD.replace("[[zone]]\nname = \"yard\"", "[[mask]]"));
    let (job, _) = stage.show(&[[80.0, 50.0], [20.0, 50.0]]);
    assert_eq!(job.detections.len(), 1);
    assert_eq!(stage.told(Some([80.0, 50.0]), 5), [""; 0]);
    assert!(stage.show(&[]).0.zones.is_none(), "there is nothing to show");
    // Also where nothing is followed; and only the words that it names.
    let mut stage =
        Stage::new(&format!("{}words = [\"dog\"]\n", YARD.replace("[[zone]]\nname = \"yard\"", "[[mask]]")));
    assert_eq!(stage.show(&[[80.0, 50.0]]).0.detections.len(), 1);
    let mut stage = Stage { tracking: Tracking::new(None), ..stage };
    stage.tracking.set_zones(zones(&YARD.replace("[[zone]]\nname = \"yard\"", "[[mask]]")));
    assert_eq!(stage.show(&[[80.0, 50.0], [20.0, 50.0]]).0.detections.len(), 1);
}

#[test]
fn other_words_end_all_stays_and_zones_are_about_them_by_name() {
    let mut stage = Stage::new(&format!("{YARD}words = [\"cat\"]\n"));
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), ["appeared", "entered yard"]);
    // What was a cat's place is a dog's now.
    stage.words = words(&["dog", "cat"]);
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), ["exited yard", "left", "appeared"]);
    assert_eq!(stage.now(), 0);
    stage.words = words(&["cat"]);
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), ["left", "appeared", "entered yard"]);
}

#[test]
fn other_zones_end_no_track_and_tell_of_no_stay_twice() {
    let mut stage = Stage::new(YARD);
    stage.told(Some([80.0, 50.0]), 3);
    let two = format!("{}{YARD}", YARD.replace("yard", "street"));
    stage.tracking.set_zones(zones(&two));
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), ["entered street"]);
    stage.tracking.set_zones(zones(&YARD.replace("[1, 0], [1, 1]", "[0.6, 0], [0.6, 1]")));
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), ["exited yard"], "it was moved away");
    stage.tracking.set_zones(ZoneSettings::default());
    assert_eq!(stage.told(Some([80.0, 50.0]), 3), [""; 0]);
    assert!(stage.show(&[]).0.zones.is_none());
}

#[test]
fn ids_of_events_are_never_the_same() {
    let mut stage = Stage::new(YARD);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        for x in [80.0, 20.0] {
            for event in (0..12).flat_map(|_| stage.show(&[[x, 50.0]]).1) {
                assert!(ids.insert(event.id()), "{}", event.id());
            }
        }
    }
    assert!(ids.len() >= 10, "{ids:?}");
}

#[test]
fn frames_without_events_allocate_nothing_for_zones() {
    let mut stage = Stage::new(YARD);
    stage.told(Some([80.0, 50.0]), 20);
    let (mut job, _) = stage.show(&[[80.0, 50.0]]);
    job.frame.captured_at += Duration::from_millis(100);
    let before = allocations::on_this_thread();
    assert!(stage.tracking.run(&mut job).iter().all(|event| event.kind != EventKind::Entered));
    assert_eq!(allocations::on_this_thread(), before);
}

#[test]
fn a_frame_in_which_many_things_appear_and_one_in_which_they_leave_allocate_nothing() {
    let mut stage = Stage::new("");
    stage.show(&[]);
    let crowd: Vec<[f32; 2]> =
        (0..64).map(|place| [6.0 + 12.0 * (place % 8) as f32, 11.0 + 11.0 * (place / 8) as f32]).collect();
    let (mut job, _) = stage.show(&crowd);
    let mut told = Vec::new();
    for frames in [1, 40] {
        job.frame.captured_at += Duration::from_millis(100) * frames;
        let before = allocations::on_this_thread();
        let events = stage.tracking.run(&mut job).len();
        assert_eq!(allocations::on_this_thread(), before, "in a frame with {events} events");
        told.push(events);
        job.detections.clear();
    }
    assert_eq!(told, [64, 64]);
}
