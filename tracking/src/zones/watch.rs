//! The state of each track at each zone and line.

use std::time::Duration;

use super::geometry::{Crossing, Point, contains, crossing, distance, distance_to_border, sides};
use super::{Anchor, Change, CrossingLine, What, Zone};
use crate::Track;

/// How far behind a border an object has changed sides for sure, of its own size.
const BORDER: f64 = 0.1;
/// An object that stays closer to a zone's border than that has changed sides after so long.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
/// So many tracks find room that was made before they came.
const ROOM: usize = 64;

/// Watches zones and lines. Allocates nothing once it has met a frame with as many tracks.
#[derive(Debug, Clone, Default)]
pub struct ZoneWatch {
    zones: Vec<Zone>,
    lines: Vec<CrossingLine>,
    rows: Vec<Row>,
    /// Of each row one for each zone, and one for each line.
    stays: Vec<Stay>,
    crossed: Vec<Net>,
    changes: Vec<Change>,
}

/// What is known of a track, whatever the zone.
#[derive(Debug, Clone, Copy)]
struct Row {
    track: u64,
    /// Whether it is among the tracks of this frame.
    is_there: bool,
    /// When it was seen last, and where its anchors were.
    last: Option<(Duration, [Point; 2])>,
}

/// A track at a zone.
#[derive(Debug, Clone, Copy, Default)]
struct Stay {
    /// Whether it was looked at with the zone as it is.
    is_known: bool,
    is_inside: bool,
    /// When that began.
    since: Duration,
    /// When it began to be the other way round, if it is for now.
    differs_since: Option<Duration>,
    /// What was told, as long as it is told to be in the zone: by which word, and since when.
    told: Option<(usize, Duration)>,
    has_dwelled: bool,
}

/// A track at a line: crossings to the right less those to the left that are not told yet.
type Net = i8;

/// The anchors, in the order of [`Row::last`].
const ANCHORS: [Anchor; 2] = [Anchor::Bottom, Anchor::Centre];

/// A step of a track, from one frame that shows it to the next; of one that is new, from where it is.
#[derive(Clone, Copy)]
struct Step {
    from: (Duration, Point),
    to: (Duration, Point),
    /// How far behind a border it has changed sides for sure, in heights of the picture.
    border: f64,
    /// The picture's width, in heights.
    aspect: f64,
}

impl Step {
    /// When the border of a polygon was crossed last, on the way in, or first, on the way out.
    fn time_at_border(&self, polygon: &[Point], is_way_in: bool) -> Duration {
        let way = [self.from.1, self.to.1];
        let fractions = sides(polygon).filter_map(|side| crossing(side, way)).map(|met| met.fraction);
        let fraction = if is_way_in { fractions.reduce(f64::max) } else { fractions.reduce(f64::min) };
        // None where the zone has moved, and not the object.
        self.from.0 + self.to.0.saturating_sub(self.from.0).mul_f64(fraction.unwrap_or(1.0))
    }
}

impl Stay {
    /// Takes in where the track is now.
    fn take(&mut self, zone: &Zone, step: &Step) {
        let (now, place) = step.to;
        let is_inside = contains(&zone.points, place);
        if !self.is_known {
            (self.is_known, self.is_inside, self.since) = (true, is_inside, now);
        }
        if is_inside == self.is_inside {
            self.differs_since = None;
            return;
        }
        let at_border = || step.time_at_border(&zone.points, is_inside);
        let since = *self.differs_since.get_or_insert_with(at_border);
        let has_settled = now.saturating_sub(since) >= SETTLED_AFTER;
        if has_settled || distance_to_border(&zone.points, place, step.aspect) > step.border {
            (self.is_inside, self.since, self.differs_since) = (is_inside, since, None);
        }
    }

    /// What is to be told of the track now: whether it is in the zone, or has another word.
    fn tell(&mut self, zone: usize, is_about: bool, track: &Track) -> Option<Change> {
        let change = |word, what| Some(Change { track: *track, word, what });
        match (self.told, self.is_inside && is_about) {
            (None, true) => {
                (self.told, self.has_dwelled) = (Some((track.word, self.since)), false);
                change(track.word, What::Entered { zone })
            }
            (Some((word, since)), false) => {
                self.told = None;
                let until = if self.is_inside { track.last_seen } else { self.since };
                change(word, What::Exited { zone, stayed: until.saturating_sub(since) })
            }
            (Some((from, since)), true) if from != track.word => {
                self.told = Some((track.word, since));
                change(track.word, What::Renamed { zone, from })
            }
            _ => None,
        }
    }

    /// The same of how long it is in the zone by now.
    fn tell_dwelling(&mut self, zone: usize, dwell: Option<Duration>, track: &Track) -> Option<Change> {
        let (word, since) = self.told.filter(|_| !self.has_dwelled && self.differs_since.is_none())?;
        let stayed = track.last_seen.saturating_sub(since);
        self.has_dwelled = stayed >= dwell?;
        let what = What::Dwelled { zone, stayed };
        self.has_dwelled.then_some(Change { track: *track, word, what })
    }
}

impl ZoneWatch {
    /// Watches these.
    pub fn new(zones: Vec<Zone>, lines: Vec<CrossingLine>) -> Self {
        let mut watch = Self { rows: Vec::with_capacity(ROOM), ..Self::default() };
        watch.set(zones, lines, |_| None, |_| None);
        watch
    }

    /// Watches others from now on. `zone_before` and `line_before` tell which of those before one is: what is in it stays
    /// in it, if it still is.
    pub fn set(
        &mut self,
        zones: Vec<Zone>,
        lines: Vec<CrossingLine>,
        zone_before: impl Fn(usize) -> Option<usize>,
        line_before: impl Fn(usize) -> Option<usize>,
    ) {
        let (zones_before, lines_before) = (self.zones.len(), self.lines.len());
        let mut stays = Vec::with_capacity(ROOM * zones.len());
        let mut crossed = Vec::with_capacity(ROOM * lines.len());
        for row in 0..self.rows.len() {
            let stay = |before: Option<usize>| before.map(|zone| self.stays[row * zones_before + zone]);
            // One that is new here is looked at with the next frame, from nowhere.
            stays.extend((0..zones.len()).map(|zone| stay(zone_before(zone)).unwrap_or_default()));
            let net = |before: Option<usize>| before.map(|line| self.crossed[row * lines_before + line]);
            crossed.extend((0..lines.len()).map(|line| net(line_before(line)).unwrap_or_default()));
        }
        (self.zones, self.lines, self.stays, self.crossed) = (zones, lines, stays, crossed);
        self.changes = Vec::with_capacity(ROOM);
    }

    /// Forgets all tracks, untold.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.stays.clear();
        self.crossed.clear();
    }

    /// Takes in the tracks of a frame of this width and height, and returns what has changed. Tracks that are not seen in
    /// it stay where they were, and unconfirmed ones are told when they are confirmed.
    pub fn update(&mut self, frame_size: [f64; 2], tracks: &[Track]) -> &[Change] {
        self.changes.clear();
        self.rows.iter_mut().for_each(|row| row.is_there = false);
        for track in tracks {
            let row = self.row_of(track.id);
            self.rows[row].is_there = true;
            if track.is_seen {
                self.see(row, track, frame_size);
            }
        }
        // What was never confirmed ends untold.
        let mut row = 0;
        while row < self.rows.len() {
            if self.rows[row].is_there { row += 1 } else { self.remove(row) }
        }
        &self.changes
    }

    /// Ends tracks, and returns what has changed by that.
    pub fn end(&mut self, tracks: &[Track]) -> &[Change] {
        self.changes.clear();
        for track in tracks {
            let Some(row) = self.rows.iter().position(|row| row.track == track.id) else { continue };
            for zone in 0..self.zones.len() {
                let Stay { differs_since, told, .. } = self.stays[row * self.zones.len() + zone];
                if let Some((word, entered_at)) = told {
                    let stayed = differs_since.unwrap_or(track.last_seen).saturating_sub(entered_at);
                    self.changes.push(Change { track: *track, word, what: What::Exited { zone, stayed } });
                }
            }
            for line in 0..self.lines.len() {
                let net = self.crossed[row * self.lines.len() + line];
                self.tell_crossing(net, line, track);
            }
            self.remove(row);
        }
        &self.changes
    }

    /// Takes in where a track is.
    fn see(&mut self, row: usize, track: &Track, frame_size: [f64; 2]) {
        let now = track.last_seen;
        let places = ANCHORS.map(|anchor| anchor.of(track.box_in_frame, frame_size));
        let before = self.rows[row].last.replace((now, places));
        let [left, top, right, bottom] = track.box_in_frame.map(f64::from);
        let size = ((right - left).max(0.0) * (bottom - top).max(0.0)).sqrt() / frame_size[1];
        let step = |anchor: Anchor| {
            let place = |places: [Point; 2]| places[usize::from(anchor == ANCHORS[1])];
            let to = (now, place(places));
            let from = before.map_or(to, |(at, places)| (at, place(places)));
            Step { from, to, border: BORDER * size, aspect: frame_size[0] / frame_size[1] }
        };
        for (number, zone) in self.zones.iter().enumerate() {
            let stay = &mut self.stays[row * self.zones.len() + number];
            stay.take(zone, &step(zone.anchor));
            if track.is_confirmed {
                self.changes.extend(stay.tell(number, is_about(&zone.words, track), track));
                self.changes.extend(stay.tell_dwelling(number, zone.dwell, track));
            }
        }
        for number in 0..self.lines.len() {
            let (ends, anchor) = (self.lines[number].ends, self.lines[number].anchor);
            let (step, cell) = (step(anchor), row * self.lines.len() + number);
            if let Some(Crossing { to_right, .. }) = crossing(ends, [step.from.1, step.to.1]) {
                // One that goes around the line's end comes back without crossing it.
                self.crossed[cell] = (self.crossed[cell] + if to_right { 1 } else { -1 }).clamp(-1, 1);
            }
            if track.is_confirmed && distance(ends, step.to.1, step.aspect) > step.border {
                let net = std::mem::take(&mut self.crossed[cell]);
                self.tell_crossing(net, number, track);
            }
        }
    }

    fn tell_crossing(&mut self, net: Net, line: usize, track: &Track) {
        if net != 0 && is_about(&self.lines[line].words, track) {
            let what = What::Crossed { line, to_right: net > 0 };
            self.changes.push(Change { track: *track, word: track.word, what });
        }
    }

    fn row_of(&mut self, track: u64) -> usize {
        if let Some(row) = self.rows.iter().position(|row| row.track == track) {
            return row;
        }
        self.rows.push(Row { track, is_there: true, last: None });
        self.stays.resize(self.rows.len() * self.zones.len(), Stay::default());
        self.crossed.resize(self.rows.len() * self.lines.len(), 0);
        self.rows.len() - 1
    }

    /// Puts the last row into the place of one.
    fn remove(&mut self, row: usize) {
        let last = self.rows.len() - 1;
        let (zones, lines) = (self.zones.len(), self.lines.len());
        self.rows.swap_remove(row);
        self.stays.copy_within(last * zones.., row * zones);
        self.stays.truncate(last * zones);
        self.crossed.copy_within(last * lines.., row * lines);
        self.crossed.truncate(last * lines);
    }
}

/// Whether a zone or line of these words is about a track.
fn is_about(words: &Option<Vec<usize>>, track: &Track) -> bool {
    words.as_ref().is_none_or(|words| words.contains(&track.word))
}
