//! What is counted at zones and lines as the status tells it: now, since the start, and by hour.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::job::{Count, ZoneCount, Zones, hour_text};

/// What is counted at all zones and lines.
#[derive(Serialize)]
pub(super) struct ZoneCounts {
    zones: Vec<AtZone>,
    lines: Vec<AtLine>,
    /// When the last of the hours began that are counted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
}

#[derive(Serialize)]
struct AtZone {
    name: String,
    now: u32,
    entered: Number,
    words: Vec<WordInZone>,
}

#[derive(Serialize)]
struct WordInZone {
    word: String,
    now: u32,
    entered: Number,
}

#[derive(Serialize)]
struct AtLine {
    name: String,
    directions: [InDirection; 2],
}

#[derive(Serialize)]
struct InDirection {
    direction: String,
    crossed: Number,
    words: Vec<WordAcross>,
}

#[derive(Serialize)]
struct WordAcross {
    word: String,
    crossed: Number,
}

/// How often something has happened since the program started, and in each of the last 24 hours where that is asked for.
#[derive(Serialize)]
struct Number {
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_hour: Option<Vec<u32>>,
}

impl Number {
    fn of<'a>(counts: impl Iterator<Item = &'a Count> + Clone, now_ns: Option<u64>) -> Self {
        let by_hour = |now_ns| {
            let mut sums = vec![0; 24];
            for count in counts.clone() {
                sums.iter_mut().zip(count.by_hour(now_ns)).for_each(|(sum, number)| *sum += number);
            }
            sums
        };
        Self { total: counts.clone().map(|count| count.total).sum(), by_hour: now_ns.map(by_hour) }
    }
}

impl ZoneCounts {
    /// What is counted by now; `now_ns`: the time, nanoseconds since 1970, where hours are told too.
    pub fn of(zones: &Zones, now_ns: Option<u64>) -> Self {
        let counts = zones.counts();
        let at_zone = |(zone, words): (usize, &BTreeMap<String, ZoneCount>)| AtZone {
            name: zones.zones[zone].name.to_string(),
            now: words.values().map(|count| count.now).sum(),
            entered: Number::of(words.values().map(|count| &count.entered), now_ns),
            words: words.iter().map(|(word, count)| WordInZone::of(word, count, now_ns)).collect(),
        };
        let at_line = |(line, sides): (usize, &[BTreeMap<String, Count>; 2])| AtLine {
            name: zones.lines[line].name.to_string(),
            directions: std::array::from_fn(|side| {
                let direction = zones.lines[line].directions[side].to_string();
                InDirection::of(direction, &sides[side], now_ns)
            }),
        };
        Self {
            zones: counts.zones.iter().enumerate().map(at_zone).collect(),
            lines: counts.lines.iter().enumerate().map(at_line).collect(),
            hour: now_ns.map(hour_text),
        }
    }
}

impl WordInZone {
    fn of(word: &str, count: &ZoneCount, now_ns: Option<u64>) -> Self {
        let entered = Number::of(std::iter::once(&count.entered), now_ns);
        Self { word: word.to_owned(), now: count.now, entered }
    }
}

impl InDirection {
    fn of(direction: String, words: &BTreeMap<String, Count>, now_ns: Option<u64>) -> Self {
        let of_word = |(word, count): (&String, &Count)| {
            let crossed = Number::of(std::iter::once(count), now_ns);
            WordAcross { word: word.clone(), crossed }
        };
        Self {
            direction,
            crossed: Number::of(words.values(), now_ns),
            words: words.iter().map(of_word).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn counts_are_told_by_word_and_in_all_and_hours_where_they_are_asked_for() {
        let zones = Zones::made_up();
        let now = 400_000 * HOUR_NS;
        zones.entered(0, "cat", now - HOUR_NS);
        zones.entered(0, "dog", now);
        zones.exited(0, "cat");
        zones.crossed(0, true, "cat", now);
        let told = serde_json::to_value(ZoneCounts::of(&zones, Some(now))).unwrap();
        let zone = &told["zones"][0];
        assert_eq!(
            (&zone["name"], &zone["now"], &zone["entered"]["total"]),
            (&"yard".into(), &1.into(), &2.into())
        );
        assert_eq!(
            (&zone["entered"]["by_hour"][22], &zone["entered"]["by_hour"][23]),
            (&1.into(), &1.into())
        );
        assert_eq!((&zone["words"][0]["word"], &zone["words"][0]["now"]), (&"cat".into(), &0.into()));
        let into = &told["lines"][0]["directions"][1];
        assert_eq!((&into["direction"], &into["crossed"]["total"]), (&"in".into(), &1.into()));
        assert_eq!(into["words"][0]["word"], "cat");
        assert_eq!(told["hour"], "2015-08-19T16:00:00Z");
        let without = serde_json::to_value(ZoneCounts::of(&zones, None)).unwrap();
        assert!(without.get("hour").is_none() && without["zones"][0]["entered"].get("by_hour").is_none());
    }
}
