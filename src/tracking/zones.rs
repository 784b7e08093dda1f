//! Zones, lines and masks in the tracking stage: what is masked is taken out, and changes become counts and events.

use std::sync::Arc;
use std::time::Duration;

use wordsight_tracking::Track;
use wordsight_tracking::zones::geometry::contains;
use wordsight_tracking::zones::{Anchor, Change, CrossingLine, Point, What, Zone, ZoneWatch};

use super::scene::Scene;
use super::zone_keys::{WrittenZones, ZoneSettings};
use crate::job::{AtSpot, Detection, Event, EventKind, LineOutline, Spot, WordList, ZoneOutline, Zones};

/// Where nothing is found.
struct Mask {
    points: Vec<Point>,
    words: Option<Vec<usize>>,
    anchor: Anchor,
}

/// What is watched of a stream.
#[derive(Default)]
pub(super) struct WatchedZones {
    settings: ZoneSettings,
    masks: Vec<Mask>,
    watch: ZoneWatch,
    /// What outputs see; none where there is nothing to see.
    shared: Option<Arc<Zones>>,
}

impl WatchedZones {
    /// What outputs see.
    pub(super) fn shared(&self) -> Option<&Arc<Zones>> {
        self.shared.as_ref()
    }

    /// Watches by other settings from now on: what is in a zone stays in the one of the same name, as far as it is in it.
    pub(super) fn set(&mut self, settings: ZoneSettings, words: &WordList) {
        let before = self.shared.take().unwrap_or_default();
        let written = settings.written();
        let (zones, lines) = outlines(written);
        let zone_before = |zone: usize| before.zone_named(&zones[zone].name);
        let line_before = |line: usize| before.line_named(&lines[line].name);
        self.watch.set(zones_of(written, words), lines_of(written, words), zone_before, line_before);
        let shared = Zones::new(zones, lines, &before);
        self.shared = (!shared.is_empty()).then(|| Arc::new(shared));
        self.masks = masks_of(written, words);
        self.settings = settings;
    }

    /// Goes on with other words. All tracks have ended.
    pub(super) fn set_words(&mut self, words: &WordList) {
        let written = self.settings.written();
        self.watch.set(zones_of(written, words), lines_of(written, words), Some, Some);
        self.masks = masks_of(written, words);
    }

    /// Nothing is followed any more.
    pub(super) fn clear(&mut self) {
        self.watch.clear();
        if let Some(shared) = &self.shared {
            shared.emptied();
        }
    }

    /// Takes out what lies in a mask.
    pub(super) fn mask(&self, detections: &mut Vec<Detection>, frame_size: (usize, usize)) {
        if self.masks.is_empty() {
            return;
        }
        let size = size_of(frame_size);
        let hides = |mask: &Mask, found: &Detection| {
            mask.words.as_ref().is_none_or(|words| words.contains(&found.word))
                && contains(&mask.points, mask.anchor.of(found.box_in_frame, size))
        };
        detections.retain(|found| !self.masks.iter().any(|mask| hides(mask, found)));
    }

    /// Takes in that tracks have ended.
    pub(super) fn end(&mut self, scene: &Scene<'_>, tracks: &[Track], mut tell: impl FnMut(Event)) {
        let Some(shared) = &self.shared else { return };
        self.watch.end(tracks).iter().filter_map(|change| counted(shared, scene, change)).for_each(&mut tell);
    }

    /// Takes in where the tracks of a frame are.
    pub(super) fn update(&mut self, scene: &Scene<'_>, tracks: &[Track], mut tell: impl FnMut(Event)) {
        let Some(shared) = &self.shared else { return };
        let changes = self.watch.update(size_of(scene.moment.size), tracks);
        changes.iter().filter_map(|change| counted(shared, scene, change)).for_each(&mut tell);
    }
}

/// Counts a change; returns the event that tells it, if it is one.
fn counted(shared: &Zones, scene: &Scene<'_>, change: &Change) -> Option<Event> {
    let (word, at) = (scene.words.get(change.word), scene.moment.timestamp_ns);
    let in_zone = |zone: usize, stayed| Spot::Zone { name: Arc::clone(&shared.zones[zone].name), stayed };
    let (kind, spot) = match change.what {
        What::Entered { zone } => {
            shared.entered(zone, word, at);
            (EventKind::Entered, in_zone(zone, Duration::ZERO))
        }
        What::Exited { zone, stayed } => {
            shared.exited(zone, word);
            (EventKind::Exited, in_zone(zone, stayed))
        }
        What::Dwelled { zone, stayed } => (EventKind::Dwelled, in_zone(zone, stayed)),
        What::Renamed { zone, from } => {
            shared.renamed(zone, scene.words.get(from), word);
            return None;
        }
        What::Crossed { line, to_right } => {
            shared.crossed(line, to_right, word, at);
            let LineOutline { name, directions, .. } = &shared.lines[line];
            let direction = Arc::clone(&directions[usize::from(to_right)]);
            (EventKind::Crossed, Spot::Line { name: Arc::clone(name), direction })
        }
    };
    Some(scene.event(kind, &change.track, change.word, Some(AtSpot::next(spot))))
}

fn size_of((width, height): (usize, usize)) -> [f64; 2] {
    // A frame without pixels has nothing in it.
    [width.max(1) as f64, height.max(1) as f64]
}

fn outlines(written: &WrittenZones) -> (Vec<ZoneOutline>, Vec<LineOutline>) {
    let zones = written.zone.iter().map(|zone| ZoneOutline {
        name: zone.name.as_str().into(),
        points: zone.points.clone(),
        words: zone.words.clone(),
    });
    let lines = written.crossing_line.iter().map(|line| LineOutline {
        name: line.name.as_str().into(),
        ends: [line.from, line.to],
        directions: line.directions().map(Arc::from),
        words: line.words.clone(),
    });
    (zones.collect(), lines.collect())
}

fn zones_of(written: &WrittenZones, words: &WordList) -> Vec<Zone> {
    let zones = written.zone.iter().map(|zone| Zone {
        points: zone.points.clone(),
        words: places_of(&zone.words, words),
        anchor: zone.anchor(),
        dwell: zone.dwell(),
    });
    zones.collect()
}

fn lines_of(written: &WrittenZones, words: &WordList) -> Vec<CrossingLine> {
    let lines = written.crossing_line.iter().map(|line| CrossingLine {
        ends: [line.from, line.to],
        words: places_of(&line.words, words),
        anchor: line.anchor(),
    });
    lines.collect()
}

fn masks_of(written: &WrittenZones, words: &WordList) -> Vec<Mask> {
    let masks = written.mask.iter().map(|mask| Mask {
        points: mask.points.clone(),
        words: places_of(&mask.words, words),
        anchor: mask.anchor(),
    });
    masks.collect()
}

/// The places of words in a vocabulary, as far as it has them; none where all are meant.
fn places_of(named: &[String], words: &WordList) -> Option<Vec<usize>> {
    let is_named = |word: &str| named.iter().any(|name| name == word);
    let places = words.iter().enumerate().filter(|(_, word)| is_named(word)).map(|(place, _)| place);
    (!named.is_empty()).then(|| places.collect())
}
