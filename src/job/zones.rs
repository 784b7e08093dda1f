//! The zones and lines of a stream as outputs know them: their names and places, and what is counted at them.
//!
//! Shared by the frames of a stream, which carry them to whoever draws or tells them. The tracking stage alone counts; the
//! numbers are looked up when they have changed ([`Zones::version`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use wordsight_tracking::zones::Point;

use crate::threads::clock::rfc_3339;
use crate::threads::locked;

/// So many hours are kept.
const HOURS: usize = 24;
/// So many words are counted by name at a zone or line; what else comes there is counted together.
const MOST_WORDS: usize = 100;
/// What these are called.
const OTHERS: &str = "other words";

/// A zone, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneOutline {
    /// What it is called.
    pub name: Arc<str>,
    /// Its corners.
    pub points: Vec<Point>,
    /// The words that the configuration names for it; none: all.
    pub words: Vec<String>,
}

/// A line, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct LineOutline {
    /// What it is called.
    pub name: Arc<str>,
    /// Its ends.
    pub ends: [Point; 2],
    /// What a crossing is called: to the left-hand side of someone who goes along the line, and to the right-hand side.
    pub directions: [Arc<str>; 2],
    /// The words that the configuration names for it; none: all.
    pub words: Vec<String>,
}

/// All zones and lines of a stream.
#[derive(Debug, Default)]
pub struct Zones {
    /// The zones, in the order of the configuration.
    pub zones: Vec<ZoneOutline>,
    /// The lines.
    pub lines: Vec<LineOutline>,
    counts: Mutex<Counts>,
    version: AtomicU64,
}

/// What is counted: of each zone and of each line's two directions, by word.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Of each zone.
    pub zones: Vec<BTreeMap<String, ZoneCount>>,
    /// Of each line, to its left and to its right.
    pub lines: Vec<[BTreeMap<String, Count>; 2]>,
}

/// Of one word in a zone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ZoneCount {
    /// How many are in it.
    pub now: u32,
    /// How many have entered it.
    pub entered: Count,
}

/// How often something has happened since the program started, and in each of the last hours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Count {
    /// In all.
    pub total: u64,
    /// The newest hour that was counted in, since 1970, and what was counted in it and those before, by the hour of the day.
    newest_hour: u64,
    hours: [u32; HOURS],
}

/// The hour of a time, since 1970 and in UTC.
fn hour_of(timestamp_ns: u64) -> u64 {
    timestamp_ns / 3_600_000_000_000
}

/// The beginning of a time's hour, as RFC 3339 writes it.
pub fn hour_text(timestamp_ns: u64) -> String {
    rfc_3339(UNIX_EPOCH + Duration::from_secs(3600 * hour_of(timestamp_ns)))
}

impl Count {
    fn add(&mut self, timestamp_ns: u64) {
        let hour = hour_of(timestamp_ns);
        self.total += 1;
        // A clock that was put back by a day or more begins anew.
        if hour + (HOURS as u64) <= self.newest_hour || hour >= self.newest_hour + HOURS as u64 {
            self.hours = [0; HOURS];
            self.newest_hour = hour;
        }
        for between in self.newest_hour + 1..=hour {
            self.hours[between as usize % HOURS] = 0;
        }
        self.newest_hour = self.newest_hour.max(hour);
        self.hours[hour as usize % HOURS] += 1;
    }

    /// What was counted in each of the last 24 hours, that of `timestamp_ns` last.
    pub fn by_hour(&self, timestamp_ns: u64) -> [u32; HOURS] {
        let last = hour_of(timestamp_ns);
        std::array::from_fn(|place| {
            let hour = (last + 1 + place as u64).saturating_sub(HOURS as u64);
            let is_kept = hour <= self.newest_hour && hour + HOURS as u64 > self.newest_hour;
            if is_kept { self.hours[hour as usize % HOURS] } else { 0 }
        })
    }
}

impl Zones {
    /// Zones and lines at which nothing is counted yet, but what was at those of the same name before.
    pub fn new(zones: Vec<ZoneOutline>, lines: Vec<LineOutline>, before: &Self) -> Self {
        let known = before.counts();
        let of_zone = |zone: &ZoneOutline| {
            let place = before.zone_named(&zone.name);
            let mut counts = place.map(|place| known.zones[place].clone()).unwrap_or_default();
            // What is named is told from the start, as none.
            for word in &zone.words {
                counted(&mut counts, word);
            }
            counts
        };
        let of_line = |line: &LineOutline| {
            let place = before.line_named(&line.name);
            let mut counts = place.map(|place| known.lines[place].clone()).unwrap_or_default();
            for side in &mut counts {
                for word in &line.words {
                    counted(side, word);
                }
            }
            counts
        };
        let counts =
            Counts { zones: zones.iter().map(of_zone).collect(), lines: lines.iter().map(of_line).collect() };
        // Never one that was told: a reader looks again.
        let version = AtomicU64::new(before.version() + 1);
        Self { zones, lines, counts: Mutex::new(counts), version }
    }

    /// Whether there is nothing to show or count.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.lines.is_empty()
    }

    /// The place of the zone of a name.
    pub fn zone_named(&self, name: &str) -> Option<usize> {
        self.zones.iter().position(|zone| &*zone.name == name)
    }

    /// The place of the line of a name.
    pub fn line_named(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| &*line.name == name)
    }

    /// Another number whenever something was counted.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What is counted by now.
    pub fn counts(&self) -> Counts {
        locked(&self.counts).clone()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut locked(&self.counts));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// One more thing of a word is in a zone, and came there at a time.
    pub fn entered(&self, zone: usize, word: &str, timestamp_ns: u64) {
        self.count(|counts| {
            let count = counted(&mut counts.zones[zone], word);
            count.now += 1;
            count.entered.add(timestamp_ns);
        });
    }

    /// One thing of a word less is in a zone.
    pub fn exited(&self, zone: usize, word: &str) {
        self.count(|counts| {
            let count = counted(&mut counts.zones[zone], word);
            count.now = count.now.saturating_sub(1);
        });
    }

    /// A thing in a zone has another word now.
    pub fn renamed(&self, zone: usize, from: &str, to: &str) {
        self.count(|counts| {
            let before = counted(&mut counts.zones[zone], from);
            before.now = before.now.saturating_sub(1);
            counted(&mut counts.zones[zone], to).now += 1;
        });
    }

    /// A thing of a word has crossed a line at a time.
    pub fn crossed(&self, line: usize, to_right: bool, word: &str, timestamp_ns: u64) {
        self.count(|counts| counted(&mut counts.lines[line][usize::from(to_right)], word).add(timestamp_ns));
    }

    /// Nothing is in any zone any more.
    pub fn emptied(&self) {
        self.count(|counts| {
            counts.zones.iter_mut().flat_map(BTreeMap::values_mut).for_each(|count| count.now = 0)
        });
    }
}

/// What is counted of a word, or of the others.
fn counted<'a, C: Default>(words: &'a mut BTreeMap<String, C>, word: &str) -> &'a mut C {
    let is_by_name = words.len() < MOST_WORDS || words.contains_key(word);
    words.entry(if is_by_name { word } else { OTHERS }.to_owned()).or_default()
}

#[cfg(test)]
impl Zones {
    /// A zone "yard" and a line "gate", whose directions are "out" and "in".
    pub fn made_up() -> Self {
        let zone = ZoneOutline {
            name: "yard".into(),
            points: vec![[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]],
            words: Vec::new(),
        };
        let line = LineOutline {
            name: "gate".into(),
            ends: [[0.5, 0.1], [0.5, 0.9]],
            directions: ["out".into(), "in".into()],
            words: Vec::new(),
        };
        Self::new(vec![zone], vec![line], &Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;
    /// In November 2026.
    const THEN_NS: u64 = 498_830 * HOUR_NS + HOUR_NS / 3;

    #[test]
    fn hours_are_counted_for_a_day_and_forgotten_then() {
        let mut count = Count::default();
        for (hour, times) in [(0, 2), (1, 3), (23, 1)] {
            (0..times).for_each(|_| count.add(THEN_NS + hour * HOUR_NS));
        }
        let by_hour = count.by_hour(THEN_NS + 23 * HOUR_NS);
        assert_eq!((by_hour[0], by_hour[1], by_hour[2], by_hour[23]), (2, 3, 0, 1));
        // Nobody counts, and time goes on.
        let later = count.by_hour(THEN_NS + 24 * HOUR_NS);
        assert_eq!((later[0], later[22], later[23]), (3, 1, 0));
        assert_eq!(count.by_hour(THEN_NS + 99 * HOUR_NS), [0; HOURS]);
        count.add(THEN_NS + 24 * HOUR_NS);
        assert_eq!(count.by_hour(THEN_NS + 24 * HOUR_NS).iter().sum::<u32>(), 5, "the oldest hour is gone");
        assert_eq!(count.total, 7);
        count.add(THEN_NS + 500 * HOUR_NS);
        assert_eq!(count.by_hour(THEN_NS + 500 * HOUR_NS).iter().sum::<u32>(), 1);
    }

    #[test]
    fn a_clock_that_is_put_back_counts_in_its_own_hours() {
        let mut count = Count::default();
        count.add(THEN_NS);
        count.add(THEN_NS - HOUR_NS);
        assert_eq!(count.by_hour(THEN_NS)[22..], [1, 1]);
        count.add(5 * HOUR_NS);
        assert_eq!(count.by_hour(5 * HOUR_NS).iter().sum::<u32>(), 1, "from before the clock was set");
        count.add(THEN_NS);
        assert_eq!((count.by_hour(THEN_NS).iter().sum::<u32>(), count.total), (1, 4));
    }

    #[test]
    fn counts_follow_what_enters_leaves_and_is_called_something_else() {
        let zones = Zones::made_up();
        let first = zones.version();
        zones.entered(0, "cat", THEN_NS);
        zones.entered(0, "cat", THEN_NS);
        zones.renamed(0, "cat", "dog");
        zones.exited(0, "dog");
        zones.crossed(0, true, "cat", THEN_NS);
        let counts = zones.counts();
        let of = |word: &str| counts.zones[0].get(word).map(|count| (count.now, count.entered.total));
        assert_eq!((of("cat"), of("dog")), (Some((1, 2)), Some((0, 0))));
        assert_eq!((counts.lines[0][0].len(), counts.lines[0][1]["cat"].total), (0, 1));
        assert!(zones.version() > first);
        zones.emptied();
        assert_eq!(zones.counts().zones[0]["cat"].now, 0);
    }

    #[test]
    fn counts_stay_with_a_zones_name_when_the_zones_are_others() {
        let before = Zones::made_up();
        before.entered(0, "cat", THEN_NS);
        before.crossed(0, false, "cat", THEN_NS);
        let other = ZoneOutline { name: "other".into(), points: Vec::new(), words: Vec::new() };
        let after = Zones::new(vec![other, before.zones[0].clone()], before.lines.clone(), &before);
        assert_eq!(after.counts().zones[1]["cat"].entered.total, 1);
        assert_eq!((after.counts().zones[0].len(), after.counts().lines[0][0]["cat"].total), (0, 1));
        assert!(after.version() > before.version());
    }

    #[test]
    fn words_beyond_a_number_of_them_are_counted_together() {
        let zones = Zones::made_up();
        for word in 0..150 {
            zones.entered(0, &word.to_string(), THEN_NS);
        }
        for word in 0..149 {
            zones.exited(0, &word.to_string());
        }
        let counts = zones.counts();
        assert_eq!((counts.zones[0].len(), counts.zones[0][OTHERS].now), (MOST_WORDS + 1, 1));
        assert_eq!(counts.zones[0][OTHERS].entered.total, 50);
    }
}
