//! The tracking stage: joins detections to those of the frames before.
//!
//! Gives each named thing of a frame the track that it belongs to, and an [`Event`] for each track that appears or
//! leaves, enters, leaves or dwells in a zone, or crosses a line. How frames are joined and where zones are entered is
//! `wordsight-tracking`'s.
//!
//! All tracks end when the vocabulary, the source or the scene ([`Thumbnail`]) changes. A word's place in one
//! vocabulary means nothing in another; what is still there appears again by its new word.

mod scene;
mod settings;
mod zone_keys;
mod zones;

use std::sync::Arc;
use std::time::Instant;

use wordsight_tracking::{Observation, Track, Tracker, TrackingSettings};

use self::scene::{Moment, Scene};
use self::zones::WatchedZones;
use crate::job::{Event, EventKind, Job, Thumbnail, Tracked, WordList};
pub use settings::TrackingKeys;
pub use zone_keys::{CrossingLineKeys, MaskKeys, WrittenZones, ZoneKeys, ZoneSettings};

/// Room for the things of a frame.
const ROOM: usize = 128;

/// The stage's state, from one stream to the next.
pub struct Tracking {
    tracker: Option<Tracker>,
    /// What the tracker's time is counted from: the system's clock may be set, back and by years.
    since: Instant,
    observations: Vec<Observation>,
    events: Vec<Arc<Event>>,
    /// Events to be filled: they were told, and nobody reads them any more; or they are new.
    told: Vec<Arc<Event>>,
    zones: WatchedZones,
    /// What the tracks' words count.
    words: WordList,
    source: Arc<str>,
    /// Which of several cameras it is.
    camera: Option<Arc<str>>,
    /// The place and time of the last frame, and what it looked like.
    last: Moment,
    seen: Thumbnail,
}

impl Tracking {
    /// With these settings, or none: then nothing is joined.
    pub fn new(settings: Option<TrackingSettings>) -> Self {
        Self {
            tracker: settings.map(Tracker::new),
            since: Instant::now(),
            observations: Vec::with_capacity(ROOM),
            events: Vec::with_capacity(ROOM),
            told: room_for_events(settings.is_some()),
            zones: WatchedZones::default(),
            words: WordList::default(),
            source: Arc::default(),
            camera: None,
            last: Moment::default(),
            seen: Thumbnail::default(),
        }
    }

    /// The same for one of several cameras.
    pub fn of_camera(self, camera: Option<Arc<str>>) -> Self {
        Self { camera, ..self }
    }

    /// Goes on with other settings. What is tracked stays so where it can.
    pub fn set(&mut self, settings: Option<TrackingSettings>) {
        match (&mut self.tracker, settings) {
            (Some(tracker), Some(settings)) => tracker.set(settings),
            (tracker, settings) => {
                *tracker = settings.map(Tracker::new);
                self.told = room_for_events(tracker.is_some());
                self.zones.clear();
            }
        }
    }

    /// Watches other zones, lines and masks. What is tracked stays so, and what is in a zone stays in the one of that name.
    pub fn set_zones(&mut self, settings: ZoneSettings) {
        self.zones.set(settings, &self.words);
    }

    /// How many things are tracked now.
    pub fn present(&self) -> usize {
        let tracks = self.tracker.as_ref().map_or(&[][..], Tracker::tracks);
        tracks.iter().filter(|track| track.is_confirmed).count()
    }

    /// Writes to each thing of a job the track that it belongs to; returns what has happened. What lies in a mask is taken
    /// out before.
    pub fn run(&mut self, job: &mut Job) -> &[Arc<Event>] {
        self.events.clear();
        self.end_of_scene(job);
        let size = (job.frame.width, job.frame.height);
        self.zones.mask(&mut job.detections, size);
        job.zones = self.zones.shared().cloned();
        let Some(tracker) = &mut self.tracker else { return &self.events };
        let at = job.frame.captured_at.saturating_duration_since(self.since);
        self.last = Moment { frame: job.number, at, timestamp_ns: job.frame.timestamp_ns, size };
        self.observations.clear();
        self.observations.extend(job.detections.iter().map(|found| Observation {
            word: found.word,
            score: found.score,
            box_in_frame: found.box_in_frame,
            is_weak: found.is_weak,
        }));
        let update = tracker.update(at, &self.observations);
        for (found, place) in job.detections.iter_mut().zip(update.track_of) {
            let track = place.and_then(|place| update.tracks.get(place)).filter(|track| track.is_confirmed);
            found.track = track.map(|track| Tracked { id: track.id, word: track.word, score: track.score });
        }
        // They keep a track from being lost, and are not sure enough to be told.
        job.detections.retain(|found| !found.is_weak);
        let scene =
            Scene { words: &self.words, source: &self.source, camera: &self.camera, moment: self.last };
        let (events, told) = (&mut self.events, &mut self.told);
        let mut tell = |event| events.push(reused(told, event));
        // What leaves the picture leaves its zones first, and what appears in a zone enters it then.
        self.zones.end(&scene, update.ended, &mut tell);
        update.ended.iter().for_each(|track| tell(of_track(&scene, EventKind::Left, track)));
        let appeared = update.appeared.iter().filter_map(|place| update.tracks.get(*place));
        appeared.for_each(|track| tell(of_track(&scene, EventKind::Appeared, track)));
        self.zones.update(&scene, update.tracks, &mut tell);
        &self.events
    }

    /// Ends all tracks where a frame shows another scene, or its words are others.
    fn end_of_scene(&mut self, job: &Job) {
        let is_cut = self.tracker.is_some() && job.thumbnail.is_cut_from(&self.seen);
        self.seen.clone_from(&job.thumbnail);
        let has_new_words = !job.words.are(&self.words);
        if !is_cut && !has_new_words && same(&job.frame.source, &self.source) {
            return;
        }
        if let Some(tracker) = &mut self.tracker {
            let scene =
                Scene { words: &self.words, source: &self.source, camera: &self.camera, moment: self.last };
            let (events, told) = (&mut self.events, &mut self.told);
            let mut tell = |event| events.push(reused(told, event));
            let ended = tracker.end_all();
            self.zones.end(&scene, ended, &mut tell);
            ended.iter().for_each(|track| tell(of_track(&scene, EventKind::Left, track)));
        }
        if has_new_words {
            self.words = job.words.clone();
            self.zones.set_words(&self.words);
        }
        self.source = Arc::clone(&job.frame.source);
    }

    /// What happened in the last frame.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }
}

/// An event in the place of one that nobody reads any more, or in a new one where there is none.
fn reused(told: &mut [Arc<Event>], event: Event) -> Arc<Event> {
    for place in told.iter_mut() {
        if let Some(free) = Arc::get_mut(place) {
            *free = event;
            return Arc::clone(place);
        }
    }
    // Somebody holds on to all of them, and looking for a free one among more would cost more than making one.
    Arc::new(event)
}

/// Events to be filled, where things are tracked: so that a frame in which much happens needs none.
fn room_for_events(are_tracked: bool) -> Vec<Arc<Event>> {
    let room = if are_tracked { ROOM } else { 0 };
    (0..room).map(|_| Arc::default()).collect()
}

/// What has happened to a track, wherever it is.
fn of_track(scene: &Scene<'_>, kind: EventKind, track: &Track) -> Event {
    scene.event(kind, track, track.word, None)
}

fn same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests;
