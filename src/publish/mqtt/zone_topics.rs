//! The retained topics of zones and lines: how many things are in a zone now, have entered, have crossed.
//!
//! Writes the zones that a frame carries as topics with their values, all of them whenever something was counted; the
//! outbox sends those that have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::home_assistant::Discovery;
use super::topics::distinct;
use crate::job::{ZoneCount, Zones};

/// Levels below a zone's beside those of words.
const OF_ZONE: [&str; 2] = ["count", "entered"];
/// For so many zones, words in zones and directions of lines at most there are entities in Home Assistant.
const MOST_SENSORS: usize = 50;

/// What the broker is to keep of zones and lines.
#[derive(Default)]
pub(super) struct ZoneTopics {
    zones: Option<Arc<Zones>>,
    version: u64,
    /// Levels of the zones and of the lines, and of each line's directions.
    zone_levels: Vec<String>,
    line_levels: Vec<(String, Vec<String>)>,
    /// All topics of theirs.
    topics: BTreeSet<String>,
}

/// Topics with what they hold.
#[derive(Default)]
pub(super) struct Told {
    /// Home Assistant's configurations.
    pub configurations: Vec<(String, Vec<u8>)>,
    /// Numbers, and all numbers of a zone or line as JSON.
    pub counts: Vec<(String, Vec<u8>)>,
    /// What isn't there any more.
    pub gone: Vec<String>,
}

impl ZoneTopics {
    /// Whether a topic is one of a zone or line.
    pub(super) fn have(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// Takes in the zones of a frame; returns what is to be told, if something has changed.
    pub(super) fn take(
        &mut self,
        zones: Option<&Arc<Zones>>,
        base: &str,
        discovery: Option<&Discovery>,
    ) -> Option<Told> {
        let is_same = match (zones, &self.zones) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before) && now.version() == self.version,
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return None;
        }
        self.zones = zones.cloned();
        // Before the counts: what is counted meanwhile is told next time.
        self.version = zones.map_or(0, |zones| zones.version());
        let none = Zones::default();
        let zones = zones.map_or(&none, |zones| &**zones);
        let names = zones.zones.iter().map(|zone| &*zone.name);
        self.zone_levels = distinct(names, &[]);
        let lines = distinct(zones.lines.iter().map(|line| &*line.name), &[]);
        let directions =
            zones.lines.iter().map(|line| distinct(line.directions.iter().map(|name| &**name), &[]));
        self.line_levels = lines.into_iter().zip(directions).collect();
        let mut told = Told::default();
        self.tell_zones(zones, base, discovery, &mut told);
        self.tell_lines(zones, base, discovery, &mut told);
        told.configurations.truncate(MOST_SENSORS);
        let topics = told.configurations.iter().chain(&told.counts).map(|(topic, _)| topic.clone());
        let topics: BTreeSet<String> = topics.collect();
        told.gone = self.topics.difference(&topics).cloned().collect();
        self.topics = topics;
        Some(told)
    }

    fn tell_zones(&self, zones: &Zones, base: &str, discovery: Option<&Discovery>, told: &mut Told) {
        let counts = zones.counts();
        for ((zone, level), words) in zones.zones.iter().zip(&self.zone_levels).zip(&counts.zones) {
            let at = format!("zones/{level}");
            let now: u32 = words.values().map(|count| count.now).sum();
            let entered: u64 = words.values().map(|count| count.entered.total).sum();
            let of_words: Map<String, Value> = words
                .iter()
                .map(|(word, count)| {
                    (word.clone(), json!({ "now": count.now, "entered": count.entered.total }))
                })
                .collect();
            let all = json!({ "zone": &*zone.name, "now": now, "entered": entered, "words": of_words });
            told.count(format!("{base}/{at}"), all);
            told.count(format!("{base}/{at}/count"), now);
            told.count(format!("{base}/{at}/entered"), entered);
            let levels = word_levels(words);
            for ((_, count), level) in words.iter().zip(&levels) {
                told.count(format!("{base}/{at}/{level}"), count.now);
            }
            let Some(discovery) = discovery else { continue };
            told.configurations.push(discovery.zone_sensor(&zone.name, &format!("{at}/count"), &at));
            // One of a zone that is about one word says the same as the zone's own.
            let listed = zone.words.len() > 1;
            for ((word, _), level) in words.iter().zip(&levels).filter(|_| listed) {
                let name = format!("{} {word}", zone.name);
                told.configurations.push(discovery.zone_sensor(&name, &format!("{at}/{level}"), &at));
            }
        }
    }

    fn tell_lines(&self, zones: &Zones, base: &str, discovery: Option<&Discovery>, told: &mut Told) {
        let counts = zones.counts();
        for ((line, (level, directions)), sides) in
            zones.lines.iter().zip(&self.line_levels).zip(&counts.lines)
        {
            let at = format!("lines/{level}");
            let mut of_directions = Map::new();
            for ((direction, level), words) in line.directions.iter().zip(directions).zip(sides) {
                let crossed: u64 = words.values().map(|count| count.total).sum();
                let of_words: Map<String, Value> =
                    words.iter().map(|(word, count)| (word.clone(), count.total.into())).collect();
                let all = json!({ "crossed": crossed, "words": of_words });
                of_directions.insert(direction.to_string(), all);
                told.count(format!("{base}/{at}/{level}"), crossed);
                if let Some(discovery) = discovery {
                    let name = format!("{} {direction}", line.name);
                    told.configurations.push(discovery.crossing_sensor(&name, &format!("{at}/{level}")));
                }
            }
            told.count(format!("{base}/{at}"), json!({ "line": &*line.name, "directions": of_directions }));
        }
    }
}

impl Told {
    fn count(&mut self, topic: String, payload: impl ToString) {
        self.counts.push((topic, payload.to_string().into_bytes()));
    }
}

fn word_levels(words: &BTreeMap<String, ZoneCount>) -> Vec<String> {
    distinct(words.keys().map(String::as_str), &OF_ZONE)
}
