//! The tracking stage: joins detections to those of the frames before.
//!
//! In flow the named things of a frame, out flow the same with the track that each belongs to, and an [`Event`] for each
//! track that appears or leaves. How frames are joined is `wordsight-tracking`'s.
//!
//! All tracks end when the vocabulary changes, or when the scene does ([`Thumbnail`]). A word's place in one vocabulary
//! means nothing in another; what is still there appears again by its new word.

mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wordsight_tracking::{Observation, Track, Tracker, TrackingSettings};

use crate::job::{Event, EventKind, Job, Thumbnail, Tracked, WordList};
pub use settings::TrackingKeys;

/// Room for the things of a frame.
const ROOM: usize = 128;

/// The stage's state, from one stream to the next.
pub struct Tracking {
    tracker: Option<Tracker>,
    /// What the tracker's time is counted from: the system's clock may be set, back and by years.
    since: Instant,
    observations: Vec<Observation>,
    events: Vec<Arc<Event>>,
    /// Events that were told, to be used again when nobody reads them any more.
    told: Vec<Arc<Event>>,
    /// What the tracks' words count.
    words: WordList,
    source: Arc<str>,
    /// The place and time of the last frame, and what it looked like.
    last: Moment,
    seen: Thumbnail,
}

#[derive(Clone, Copy, Default)]
struct Moment {
    frame: u64,
    /// By the tracker's time.
    at: Duration,
    timestamp_ns: u64,
    size: (usize, usize),
}

impl Tracking {
    /// With these settings, or none: then nothing is joined.
    pub fn new(settings: Option<TrackingSettings>) -> Self {
        Self {
            tracker: settings.map(Tracker::new),
            since: Instant::now(),
            observations: Vec::with_capacity(ROOM),
            events: Vec::with_capacity(ROOM),
            told: Vec::with_capacity(ROOM),
            words: WordList::default(),
            source: Arc::default(),
            last: Moment::default(),
            seen: Thumbnail::default(),
        }
    }

    /// Goes on with other settings. What is tracked stays so where it can.
    pub fn set(&mut self, settings: Option<TrackingSettings>) {
        match (&mut self.tracker, settings) {
            (Some(tracker), Some(settings)) => tracker.set(settings),
            (tracker, settings) => *tracker = settings.map(Tracker::new),
        }
    }

    /// How many things are tracked now.
    pub fn present(&self) -> usize {
        let tracks = self.tracker.as_ref().map_or(&[][..], Tracker::tracks);
        tracks.iter().filter(|track| track.is_confirmed).count()
    }

    /// Writes to each thing of a job the track that it belongs to; returns what has happened.
    pub fn run(&mut self, job: &mut Job) -> &[Arc<Event>] {
        self.events.clear();
        let Some(tracker) = &mut self.tracker else { return &self.events };
        let is_cut = job.thumbnail.is_cut_from(&self.seen);
        self.seen.clone_from(&job.thumbnail);
        if is_cut || !job.words.are(&self.words) || !same(&job.frame.source, &self.source) {
            let scene = Scene { words: &self.words, source: &self.source, moment: self.last };
            let ended = tracker.end_all().iter().map(|track| scene.event(EventKind::Left, track));
            self.events.extend(ended.map(|event| reused(&mut self.told, event)));
            self.words = job.words.clone();
            self.source = Arc::clone(&job.frame.source);
        }
        let size = (job.frame.width, job.frame.height);
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
        let scene = Scene { words: &self.words, source: &self.source, moment: self.last };
        let appeared = update.appeared.iter().filter_map(|place| update.tracks.get(*place));
        let appeared = appeared.map(|track| scene.event(EventKind::Appeared, track));
        let left = update.ended.iter().map(|track| scene.event(EventKind::Left, track));
        self.events.extend(left.chain(appeared).map(|event| reused(&mut self.told, event)));
        &self.events
    }

    /// What happened in the last frame.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }
}

/// An event in the place of one that nobody reads any more, or in a new one where there is none.
fn reused(told: &mut Vec<Arc<Event>>, event: Event) -> Arc<Event> {
    for place in told.iter_mut() {
        if let Some(free) = Arc::get_mut(place) {
            *free = event;
            return Arc::clone(place);
        }
    }
    let event = Arc::new(event);
    // Beyond that somebody holds on to them, and looking for a free one costs more than making one.
    if told.len() < ROOM {
        told.push(Arc::clone(&event));
    }
    event
}

fn same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Where and when a track is told of.
struct Scene<'a> {
    words: &'a WordList,
    source: &'a Arc<str>,
    moment: Moment,
}

impl Scene<'_> {
    /// Nanoseconds since 1970, by the clock as it is now.
    fn timestamp_of(&self, at: Duration) -> u64 {
        self.moment.timestamp_ns.saturating_sub(self.moment.at.saturating_sub(at).as_nanos() as u64)
    }

    fn event(&self, kind: EventKind, track: &Track) -> Event {
        Event {
            kind,
            track: track.id,
            words: self.words.clone(),
            word: track.word,
            score: track.score,
            best_score: track.best_score,
            box_in_frame: track.box_in_frame,
            frame_size: self.moment.size,
            first_seen_ns: self.timestamp_of(track.first_seen),
            last_seen_ns: self.timestamp_of(track.last_seen),
            timestamp_ns: self.moment.timestamp_ns,
            frame: self.moment.frame,
            source: Arc::clone(self.source),
        }
    }
}
