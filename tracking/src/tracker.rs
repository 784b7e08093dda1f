//! The tracker's update for one frame: predict, match, vote, forget, begin.
//!
//! Takes a frame's observations and returns what they changed. Matching runs in passes, each over what the ones before
//! left unmatched:
//!
//! 1. confirmed tracks with strong observations, by the predicted place;
//! 2. the same by the place where the track was last seen, for what stopped or turned while it was hidden (the
//!    observation-centric recovery of OC-SORT, arXiv 2203.14360, section 4.3);
//! 3. unconfirmed tracks with strong observations;
//! 4. for a while all tracks with weak observations, within a smaller distance (ByteTrack, arXiv 2110.06864, section
//!    3).
//!
//! A track ends after a frame that doesn't show it, never between frames: so tracks survive a rate of one frame in two
//! seconds, even if the time after which they are forgotten is shorter.

use std::time::Duration;

use crate::assignment::Assigner;
use crate::motion::Motion;
use crate::votes::Votes;
use crate::{Observation, Track, TrackingSettings, Update};

/// The least overlap (IoU) of a track with an observation of its word: strong and weak ones.
const LEAST_IOU: f32 = 0.15;
const LEAST_IOU_WEAK: f32 = 0.4;
/// How much more overlap it takes with an observation of a word that the track was never called by.
const OTHER_WORD_IOU: f32 = 0.2;
/// Weak observations alone keep a track for so many times the time after which it is forgotten: whatever looks a little
/// like an object would be followed for ever.
const WEAK_TIMES: u32 = 2;
/// After so long without a frame all tracks end.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// A side of a box that lies further out than so many pixels is a mistake, and its square a risk.
const FURTHEST_PX: f32 = 1e6;
/// So many tracks and observations find room that was made before they came.
const ROOM: usize = 64;

/// Follows objects through frames. Keeps its buffers, and allocates nothing once it has met a frame with as much in it.
#[derive(Debug, Clone)]
pub struct Tracker {
    settings: TrackingSettings,
    /// The last frame's timestamp; none before the first.
    now: Option<Duration>,
    last_id: u64,
    tracks: Vec<Track>,
    /// What is behind each of the tracks.
    inner: Vec<Inner>,
    track_of: Vec<Option<usize>>,
    appeared: Vec<usize>,
    ended: Vec<Track>,
    matching: Matching,
}

/// A track's internal state.
#[derive(Debug, Clone, Copy)]
struct Inner {
    motion: Motion,
    votes: Votes,
    strong_hits: u32,
    last_strong: Duration,
    misses: u32,
    /// The place of the observation that this frame has of it.
    observation: Option<usize>,
}

/// The room that matching works in.
#[derive(Debug, Clone, Default)]
struct Matching {
    assigner: Assigner,
    /// Places of the tracks and observations of a pass.
    rows: Vec<usize>,
    columns: Vec<usize>,
    gains: Vec<f64>,
}

impl Matching {
    /// For so many tracks and observations.
    fn with_room_for(most: usize) -> Self {
        Self {
            assigner: Assigner::with_room_for(most),
            rows: Vec::with_capacity(most),
            columns: Vec::with_capacity(most),
            gains: Vec::with_capacity(most * most),
        }
    }
}

impl Tracker {
    /// A tracker that has seen nothing yet.
    pub fn new(settings: TrackingSettings) -> Self {
        Self {
            settings,
            now: None,
            last_id: 0,
            tracks: Vec::with_capacity(2 * ROOM),
            inner: Vec::with_capacity(2 * ROOM),
            track_of: Vec::with_capacity(ROOM),
            appeared: Vec::with_capacity(2 * ROOM),
            ended: Vec::with_capacity(2 * ROOM),
            matching: Matching::with_room_for(ROOM),
        }
    }

    /// Takes other settings, and goes on with the tracks there are.
    pub fn set(&mut self, settings: TrackingSettings) {
        self.settings = settings;
    }

    /// All tracks, the oldest first, confirmed or not, seen or not.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Takes in the next frame's observations.
    ///
    /// `at`: the frame's timestamp, on a clock that doesn't run backwards. A frame that is not later than the one before
    /// is taken as of the same time.
    pub fn update(&mut self, at: Duration, observations: &[Observation]) -> Update<'_> {
        self.begin(at, observations.len());
        let is_strong = |observation: &Observation| !observation.is_weak;
        let is_confirmed = |track: &Track, _: &Inner| track.is_confirmed;
        let is_not_confirmed = |track: &Track, _: &Inner| !track.is_confirmed;
        self.pair(observations, is_confirmed, is_strong, Motion::box_in_frame, LEAST_IOU);
        self.pair(observations, is_confirmed, is_strong, Motion::seen_in_frame, LEAST_IOU);
        self.pair(observations, is_not_confirmed, is_strong, Motion::box_in_frame, LEAST_IOU);
        let (now, longest) =
            (self.now.unwrap_or_default(), self.settings.forget_after.saturating_mul(WEAK_TIMES));
        let was_strong = |_: &Track, inner: &Inner| now.saturating_sub(inner.last_strong) < longest;
        self.pair(observations, was_strong, |weak| weak.is_weak, Motion::box_in_frame, LEAST_IOU_WEAK);
        self.go_on(observations);
        self.forget();
        self.start(observations);
        Update {
            track_of: &self.track_of,
            tracks: &self.tracks,
            appeared: &self.appeared,
            ended: &self.ended,
        }
    }

    /// Ends all tracks, when the words change or the source does; returns the confirmed ones, as they were last.
    pub fn end_all(&mut self) -> &[Track] {
        self.ended.clear();
        self.end_tracks();
        &self.ended
    }

    fn end_tracks(&mut self) {
        self.ended.extend(self.tracks.drain(..).filter(|track| track.is_confirmed));
        self.inner.clear();
    }

    /// Makes ready for a frame: every track is where it should be by now, and unseen.
    fn begin(&mut self, at: Duration, observations: usize) {
        self.track_of.clear();
        self.track_of.resize(observations, None);
        self.appeared.clear();
        self.ended.clear();
        let before = self.now.unwrap_or(at);
        let gap = at.saturating_sub(before);
        self.now = Some(before.max(at));
        if gap > LONGEST_GAP {
            self.end_tracks();
        }
        for (track, inner) in self.tracks.iter_mut().zip(&mut self.inner) {
            inner.motion.predict(gap.as_secs_f32());
            inner.observation = None;
            track.box_in_frame = inner.motion.box_in_frame();
            track.is_seen = false;
        }
        // As many may begin, and all that there are may end: what a later frame needs more of is no allocation then.
        let most = self.tracks.len() + observations;
        for tracks in [&mut self.tracks, &mut self.ended] {
            tracks.reserve(most.saturating_sub(tracks.len()));
        }
        self.inner.reserve(observations);
        self.appeared.reserve(most);
    }

    /// One pass: the tracks and observations among these that have no other yet, by the overlap of `place_of` a track.
    fn pair(
        &mut self,
        observations: &[Observation],
        of_tracks: impl Fn(&Track, &Inner) -> bool,
        of_observations: impl Fn(&Observation) -> bool,
        place_of: impl Fn(&Motion) -> [f32; 4],
        least_iou: f32,
    ) {
        let Matching { assigner, rows, columns, gains } = &mut self.matching;
        rows.clear();
        columns.clear();
        gains.clear();
        let free_tracks = self.tracks.iter().zip(&self.inner).enumerate();
        rows.extend(free_tracks.filter_map(|(place, (track, inner))| {
            (inner.observation.is_none() && of_tracks(track, inner)).then_some(place)
        }));
        let free_observations = observations.iter().zip(&self.track_of).enumerate();
        columns.extend(free_observations.filter_map(|(place, (observation, track))| {
            (track.is_none() && of_observations(observation) && can_be(observation)).then_some(place)
        }));
        for &row in rows.iter() {
            let (place, votes) = (place_of(&self.inner[row].motion), &self.inner[row].votes);
            gains.extend(columns.iter().map(|&column| {
                let Observation { word, box_in_frame, .. } = observations[column];
                let likeness = iou(place, box_in_frame) - OTHER_WORD_IOU * (1.0 - votes.share(word));
                if likeness >= least_iou { f64::from(likeness) } else { 0.0 }
            }));
        }
        let width = columns.len();
        let pairs = assigner.assign(rows.len(), width, |row, column| gains[row * width + column]);
        for (&row, column) in rows.iter().zip(pairs) {
            if let Some(column) = column.map(|column| columns[column]) {
                self.inner[row].observation = Some(column);
                self.track_of[column] = Some(row);
            }
        }
    }

    /// Every track takes in its observation, or that there is none.
    fn go_on(&mut self, observations: &[Observation]) {
        let now = self.now.unwrap_or_default();
        for (place, (track, inner)) in self.tracks.iter_mut().zip(&mut self.inner).enumerate() {
            let Some(observation) = inner.observation.map(|place| &observations[place]) else {
                inner.misses += 1;
                continue;
            };
            let elapsed = now.saturating_sub(track.last_seen);
            inner.motion.correct(observation.box_in_frame);
            let score = observation.score.clamp(0.0, 1.0);
            inner.votes.cast(observation.word, score, kept(elapsed, self.settings.vote_half_life));
            if !observation.is_weak {
                inner.strong_hits += 1;
                inner.last_strong = now;
            }
            track.word = inner.votes.word();
            track.score = inner.votes.score();
            track.box_in_frame = inner.motion.box_in_frame();
            track.is_seen = true;
            track.last_seen = now;
            track.hits += 1;
            track.best_score = track.best_score.max(score);
            if !track.is_confirmed && inner.strong_hits >= self.settings.confirm_after {
                track.is_confirmed = true;
                self.appeared.push(place);
            }
        }
    }

    /// Ends what wasn't seen for too long; places of the others close up, in the order that they have.
    fn forget(&mut self) {
        let now = self.now.unwrap_or_default();
        let mut kept = 0;
        for place in 0..self.tracks.len() {
            let (track, inner) = (self.tracks[place], self.inner[place]);
            let is_late = now.saturating_sub(track.last_seen) >= self.settings.forget_after;
            // What is missed more often than it is found is a false alarm.
            let is_false = !track.is_confirmed && inner.misses > track.hits;
            if !track.is_seen && (is_late || is_false) {
                self.ended.extend(track.is_confirmed.then_some(track));
                continue;
            }
            if let Some(observation) = inner.observation {
                self.track_of[observation] = Some(kept);
            }
            self.appeared
                .iter_mut()
                .filter(|appeared| **appeared == place)
                .for_each(|appeared| *appeared = kept);
            (self.tracks[kept], self.inner[kept]) = (track, inner);
            kept += 1;
        }
        self.tracks.truncate(kept);
        self.inner.truncate(kept);
    }

    /// A track begins with every strong observation that belongs to none.
    fn start(&mut self, observations: &[Observation]) {
        let now = self.now.unwrap_or_default();
        for (place, observation) in observations.iter().enumerate() {
            if self.track_of[place].is_some() || observation.is_weak || !can_be(observation) {
                continue;
            }
            let Observation { word, box_in_frame, .. } = *observation;
            let score = observation.score.clamp(0.0, 1.0);
            let is_confirmed = self.settings.confirm_after <= 1;
            let track = self.tracks.len();
            self.last_id += 1;
            self.track_of[place] = Some(track);
            self.appeared.extend(is_confirmed.then_some(track));
            self.inner.push(Inner {
                motion: Motion::new(box_in_frame),
                votes: Votes::new(word, score),
                strong_hits: 1,
                last_strong: now,
                misses: 0,
                observation: Some(place),
            });
            self.tracks.push(Track {
                id: self.last_id,
                word,
                score,
                box_in_frame,
                is_confirmed,
                is_seen: true,
                first_seen: now,
                last_seen: now,
                hits: 1,
                best_score: score,
            });
        }
    }
}

/// The share of its weight that a vote keeps after a while.
fn kept(elapsed: Duration, half_life: Duration) -> f32 {
    if half_life.is_zero() { 0.0 } else { (-elapsed.as_secs_f32() / half_life.as_secs_f32()).exp2() }
}

/// Whether an observation can be one of an object: a box with an area that is nowhere beyond all frames, and a score.
fn can_be(observation: &Observation) -> bool {
    let [left, top, right, bottom] = observation.box_in_frame;
    observation.box_in_frame.iter().all(|side| side.abs() <= FURTHEST_PX)
        && right > left
        && bottom > top
        && observation.score.is_finite()
}

/// Intersection over union of two boxes with an area.
fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |[left, top, right, bottom]: [f32; 4]| (right - left) * (bottom - top);
    let union = area(a) + area(b) - width * height;
    if union > 0.0 { width * height / union } else { 0.0 }
}
