//! Whether objects keep their numbers and words through a clip.
//!
//! Takes made-up clips ([`crate::scenes::clips`]) whose true tracks are known. Returns IDF1, identity switches and how
//! often labels change, for detections linked in the simplest way and for the device's tracker, at several frame
//! rates. Every frame goes once through engine, scoring and tracker as on a device; the ways to link detections are
//! then compared on the same detections.
//!
//! No figure here measures the tracker alone: it can't follow what the student doesn't find, and an object that comes
//! back after the tracker has forgotten it gets a new number from any tracker that only knows boxes.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use wordsight_detection::{DetectionSettings, iou};
use wordsight_evaluation::identity::{self, Identity};
use wordsight_tracking::{Observation, Tracker, TrackingSettings};

use super::Detector;
use super::annotated::aligned;
use crate::progress;
use crate::scenes::clips::{Clip, Props};

/// How much a true and a reported box must overlap, as in MOTChallenge.
const LEAST_IOU: f64 = 0.5;
/// The same for detections of two frames that are linked without a tracker.
const LINKED_IOU: f32 = 0.2;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many clips.
    pub clips: usize,
    /// The seed that fixes every byte of them.
    pub seed: u64,
    /// Seconds of each.
    pub length_s: f32,
    /// Frames per second that are detected on.
    pub rate: u32,
    /// Of how many frames one is looked at; each is a part of the table.
    pub every: Vec<u32>,
    /// As the device detects, weak ones too.
    pub detection: DetectionSettings,
    /// As the device tracks.
    pub tracking: TrackingSettings,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// How detections were followed.
    pub who: String,
    /// Frames per second.
    pub rate: f64,
    /// Fraction of the true boxes that a detection overlaps, 0 to 1: the upper limit of IDR.
    pub found: Option<f64>,
    /// The counts.
    pub identity: Identity,
    /// IDF1, 0 to 1; none where there was nothing.
    pub idf1: Option<f64>,
    /// IDP, 0 to 1.
    pub idp: Option<f64>,
    /// IDR, 0 to 1.
    pub idr: Option<f64>,
    /// How often a track's detections change their word, in 100 frames of a track.
    pub flips_raw: f64,
    /// How often the track's own word changes.
    pub flips_voted: f64,
}

/// One frame: what is there and what was found.
struct Frame {
    truth: Vec<identity::Sighting>,
    found: Vec<Observation>,
}

/// Makes the clips, detects on them, and follows what was found in every way.
pub fn rows(detector: &mut Detector, props: &Props<'_>, settings: &Settings) -> Result<Vec<Row>> {
    let frames = (settings.length_s * settings.rate as f32).round() as u64;
    let bar = progress::bar(settings.clips as u64 * frames, "frames");
    let mut clips = Vec::with_capacity(settings.clips);
    for number in 0..settings.clips as u64 {
        let clip = Clip::new(props, settings.seed, number, settings.length_s)?;
        let mut detected = Vec::with_capacity(frames as usize);
        for frame in 0..frames {
            let seconds = frame as f32 / settings.rate as f32;
            detected.push(detect(detector, &clip, seconds, settings)?);
            bar.inc(1);
        }
        clips.push(detected);
    }
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for &every in &settings.every {
        let step = Duration::from_secs(1) * every / settings.rate;
        let mut row = |who: &str, weak: bool, follower: &dyn Fn() -> Box<dyn TrackingMethod>| {
            let mut tally = Tally::default();
            for clip in &clips {
                tally.add(clip.iter().step_by(every as usize), step, weak, &mut *follower());
            }
            rows.push(tally.row(who, step));
        };
        let tracking = settings.tracking;
        row("detections, linked", false, &|| Box::new(Linked::default()));
        row("tracker", false, &|| Box::new(Tracked(Tracker::new(tracking))));
        row("tracker, weak ones too", true, &|| Box::new(Tracked(Tracker::new(tracking))));
    }
    Ok(rows)
}

fn detect(detector: &mut Detector, clip: &Clip, seconds: f32, settings: &Settings) -> Result<Frame> {
    let (picture, sightings) = clip.frame(seconds);
    let letterbox = detector.infer(&picture)?;
    let found = detector.detect(&settings.detection).into_iter().map(|detection| Observation {
        word: detection.word,
        score: detection.score,
        box_in_frame: letterbox.box_in_frame_from_input(detection.box_in_input),
        is_weak: detection.is_weak,
    });
    let truth = sightings.iter().map(|seen| sighting(seen.id, seen.box_in_frame));
    Ok(Frame { truth: truth.collect(), found: found.collect() })
}

fn sighting(id: u64, box_in_frame: [f32; 4]) -> identity::Sighting {
    identity::Sighting { id, box_in_frame: box_in_frame.map(f64::from) }
}

/// A track as it is reported in a frame: the detection's word, and the track's.
struct Reported {
    id: u64,
    box_in_frame: [f32; 4],
    raw: usize,
    voted: usize,
}

/// A method to link detections through a clip.
trait TrackingMethod {
    /// The tracks reported for the next frame.
    fn follow(&mut self, at: Duration, found: &[Observation]) -> Vec<Reported>;
}

/// The device's tracker: of confirmed tracks, those that the frame shows.
struct Tracked(Tracker);

impl TrackingMethod for Tracked {
    fn follow(&mut self, at: Duration, found: &[Observation]) -> Vec<Reported> {
        let update = self.0.update(at, found);
        let pairs = found.iter().zip(update.track_of);
        let told = pairs.filter_map(|(observation, place)| {
            let track = &update.tracks[(*place)?];
            let (id, box_in_frame) = (track.id, track.box_in_frame);
            track.is_confirmed.then_some(Reported {
                id,
                box_in_frame,
                raw: observation.word,
                voted: track.word,
            })
        });
        told.collect()
    }
}

/// No tracker: each detection goes on with the number of the one of the frame before that it overlaps most, the largest
/// overlap first.
#[derive(Default)]
struct Linked {
    before: Vec<Reported>,
    last_id: u64,
}

impl TrackingMethod for Linked {
    fn follow(&mut self, _: Duration, found: &[Observation]) -> Vec<Reported> {
        let mut overlaps: Vec<(f32, usize, usize)> = Vec::new();
        for (now, observation) in found.iter().enumerate() {
            for (then, told) in self.before.iter().enumerate() {
                overlaps.push((iou(observation.box_in_frame, told.box_in_frame), now, then));
            }
        }
        overlaps.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut ids = vec![None; found.len()];
        let mut is_taken = vec![false; self.before.len()];
        for (_, now, then) in overlaps.into_iter().take_while(|(overlap, ..)| *overlap >= LINKED_IOU) {
            if ids[now].is_none() && !is_taken[then] {
                ids[now] = Some(self.before[then].id);
                is_taken[then] = true;
            }
        }
        let mut number = |id: Option<u64>| {
            self.last_id += u64::from(id.is_none());
            id.unwrap_or(self.last_id)
        };
        let told = |(observation, id): (&Observation, Option<u64>)| {
            let Observation { word, box_in_frame, .. } = *observation;
            Reported { id: number(id), box_in_frame, raw: word, voted: word }
        };
        let told: Vec<Reported> = found.iter().zip(ids).map(told).collect();
        self.before = told.iter().map(|told| Reported { ..*told }).collect();
        told
    }
}

/// What adds up over clips.
#[derive(Default)]
struct Tally {
    identity: Identity,
    /// True boxes that a detection lies on.
    found: u64,
    /// Frames of a track that has one before, and in how many of them the words changed.
    frames: u64,
    raw: u64,
    voted: u64,
}

impl Tally {
    fn add<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Frame>,
        step: Duration,
        weak: bool,
        follower: &mut dyn TrackingMethod,
    ) {
        let mut clip = identity::Clip::new(LEAST_IOU);
        let mut words: HashMap<u64, (usize, usize)> = HashMap::new();
        for (frame, at) in frames.zip((0_u32..).map(|number| step * number)) {
            let found: Vec<Observation> =
                frame.found.iter().filter(|observation| weak || !observation.is_weak).copied().collect();
            let is_found = |thing: &&identity::Sighting| {
                let place = thing.box_in_frame.map(|side| side as f32);
                found.iter().any(|observation| f64::from(iou(observation.box_in_frame, place)) >= LEAST_IOU)
            };
            self.found += frame.truth.iter().filter(is_found).count() as u64;
            let told = follower.follow(at, &found);
            let sightings: Vec<identity::Sighting> =
                told.iter().map(|told| sighting(told.id, told.box_in_frame)).collect();
            clip.add(&frame.truth, &sightings);
            for Reported { id, raw, voted, .. } in told {
                if let Some((raw_before, voted_before)) = words.insert(id, (raw, voted)) {
                    self.frames += 1;
                    self.raw += u64::from(raw != raw_before);
                    self.voted += u64::from(voted != voted_before);
                }
            }
        }
        self.identity += clip.finish();
    }

    fn row(&self, who: &str, step: Duration) -> Row {
        let Self { identity, found, frames, raw, voted } = *self;
        let in_100 = |flips: u64| 100.0 * flips as f64 / frames.max(1) as f64;
        Row {
            who: who.to_owned(),
            rate: step.as_secs_f64().recip(),
            found: (identity.truth > 0).then(|| found as f64 / identity.truth as f64),
            identity,
            idf1: identity.idf1(),
            idp: identity.idp(),
            idr: identity.idr(),
            flips_raw: in_100(raw),
            flips_voted: in_100(voted),
        }
    }
}

/// The rows as a table for people, shares in percent.
pub fn table(rows: &[Row]) -> String {
    let heading = ["", "fps", "found", "IDF1", "IDP", "IDR", "switches", "flips raw", "flips voted"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        let percent =
            |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1}", 100.0 * share));
        lines.push(vec![
            row.who.clone(),
            format!("{:.0}", row.rate),
            percent(row.found),
            percent(row.idf1),
            percent(row.idp),
            percent(row.idr),
            row.identity.switches.to_string(),
            format!("{:.2}", row.flips_raw),
            format!("{:.2}", row.flips_voted),
        ]);
    }
    aligned(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(word: usize, x: f32) -> Observation {
        Observation { word, score: 0.5, box_in_frame: [x, 0.0, x + 40.0, 40.0], is_weak: false }
    }

    fn ids(told: &[Reported]) -> Vec<u64> {
        told.iter().map(|told| told.id).collect()
    }

    #[test]
    fn linked_detections_go_on_with_the_number_that_they_overlap_most_and_begin_anew_after_a_miss() {
        let mut linked = Linked::default();
        let mut follow = |found: &[Observation]| ids(&linked.follow(Duration::ZERO, found));
        assert_eq!(follow(&[seen(1, 0.0), seen(1, 30.0)]), [1, 2]);
        assert_eq!(follow(&[seen(1, 26.0), seen(2, 4.0)]), [2, 1]);
        assert_eq!(follow(&[seen(1, 26.0)]), [2]);
        assert_eq!(follow(&[seen(1, 26.0), seen(1, 4.0)]), [2, 3]);
    }

    #[test]
    fn flips_are_counted_in_a_track_and_not_between_tracks() {
        // One thing whose detections are called otherwise in every fourth frame, and one that begins with frame 6.
        let frames: Vec<Frame> = (0..12)
            .map(|number| {
                let mut found = vec![seen(if number % 4 == 3 { 8 } else { 7 }, 0.0)];
                found.extend((number >= 6).then_some(seen(3, 200.0)));
                let truth = vec![sighting(1, [0.0, 0.0, 40.0, 40.0])];
                Frame { truth, found }
            })
            .collect();
        let step = Duration::from_millis(66);
        let mut tally = Tally::default();
        tally.add(frames.iter(), step, false, &mut Linked::default());
        let row = tally.row("linked", step);
        // 11 and 5 frames with one before; there and back twice, there once.
        assert_eq!((tally.frames, tally.raw, tally.voted), (16, 5, 5));
        assert_eq!((row.found, row.idr, row.idp), (Some(1.0), Some(1.0), Some(12.0 / 18.0)));

        let mut tally = Tally::default();
        tally.add(frames.iter(), step, false, &mut Tracked(Tracker::new(TrackingSettings::default())));
        assert_eq!((tally.voted, tally.identity.switches), (0, 0));
        assert!(tally.raw > 0 && tally.identity.told < 18, "it tells of a thing from the third hit on");
    }
}
