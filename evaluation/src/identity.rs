//! Whether a track keeps its number: IDF1 and identity switches.
//!
//! A [`Clip`] takes the true and the predicted trajectories of a clip frame by frame and gives [`Identity`] counts, which
//! add up over clips. IDF1, IDP and IDR are those of Ristani et al. ("Performance Measures and a Data Set for Multi-Target,
//! Multi-Camera Tracking", 2016, arXiv 1609.01775): true and predicted trajectories are assigned to each other once for
//! the whole clip, so that as many boxes as possible agree. Switches are CLEAR MOT's (Bernardin and Stiefelhagen, 2008)
//! as TrackEval counts them for MOTChallenge: frame by frame, and a pair of the frame before stays a pair where it can.
//! Words play no part.
//!
//! The two measure different errors. An object whose number changes in the middle loses half of its boxes in IDF1 and
//! counts one switch; one whose number changes for a single frame loses one box in IDF1 and counts two switches.
//!
//! ```
//! use wordsight_evaluation::identity::{Clip, Identity, Sighting};
//!
//! let at = |id| Sighting { id, box_in_frame: [0.0, 0.0, 10.0, 10.0] };
//! let mut clip = Clip::new(0.5);
//! for told in [1, 1, 1, 2] {
//!     clip.add(&[at(7)], &[at(told)]);
//! }
//! let identity = clip.finish();
//! assert_eq!((identity.idf1(), identity.switches), (Some(0.75), 1));
//! ```

use std::collections::HashMap;
use std::ops::AddAssign;

use serde::Serialize;
use wordsight_tracking::assignment::Assigner;

/// An object in a frame, true or reported by a tracker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// The number of the object or of the track; in a frame each comes once.
    pub id: u64,
    /// Left, top, right, bottom, in pixels.
    pub box_in_frame: [f64; 4],
}

/// Counts of identity. Boxes are counted over all frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// True boxes.
    pub truth: u64,
    /// Told boxes.
    pub told: u64,
    /// Boxes that agree under the best assignment of whole trajectories: IDTP.
    pub agreed: u64,
    /// How often an object was matched with another track than the time before.
    pub switches: u64,
}

impl Identity {
    /// IDF1: how many of the true and the reported boxes agree, 0 to 1; none if there are neither.
    pub fn idf1(&self) -> Option<f64> {
        share(2 * self.agreed, self.truth + self.told)
    }

    /// IDP: how many of the reported boxes agree, 0 to 1.
    pub fn idp(&self) -> Option<f64> {
        share(self.agreed, self.told)
    }

    /// IDR: how many of the true boxes agree, 0 to 1.
    pub fn idr(&self) -> Option<f64> {
        share(self.agreed, self.truth)
    }
}

impl AddAssign for Identity {
    fn add_assign(&mut self, other: Self) {
        self.truth += other.truth;
        self.told += other.told;
        self.agreed += other.agreed;
        self.switches += other.switches;
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// One clip, as far as it has been seen.
#[derive(Clone, Debug)]
pub struct Clip {
    least_iou: f64,
    identity: Identity,
    /// In how many frames an object and a track overlap enough.
    together: HashMap<(u64, u64), u64>,
    /// The track that an object was matched with last, and those of the last frame that had both.
    last: HashMap<u64, u64>,
    before: HashMap<u64, u64>,
    assigner: Assigner,
}

impl Clip {
    /// A clip of which nothing is seen. `least_iou`: how much an object and a track must overlap, 0.5 by custom.
    pub fn new(least_iou: f64) -> Self {
        Self {
            least_iou,
            identity: Identity::default(),
            together: HashMap::new(),
            last: HashMap::new(),
            before: HashMap::new(),
            assigner: Assigner::default(),
        }
    }

    /// Takes in the next frame.
    pub fn add(&mut self, truth: &[Sighting], told: &[Sighting]) {
        self.identity.truth += truth.len() as u64;
        self.identity.told += told.len() as u64;
        // So TrackEval does: a frame without the one or the other is none that anybody went together in.
        if truth.is_empty() || told.is_empty() {
            return;
        }
        // A pair of the frame before goes before any overlap.
        let mut gains = Vec::with_capacity(truth.len() * told.len());
        for thing in truth {
            for track in told {
                let overlap = iou(thing.box_in_frame, track.box_in_frame);
                let overlaps = overlap >= self.least_iou;
                if overlaps {
                    *self.together.entry((thing.id, track.id)).or_default() += 1;
                }
                let goes_on = self.before.get(&thing.id) == Some(&track.id);
                gains.push(if overlaps { overlap + if goes_on { 1000.0 } else { 0.0 } } else { 0.0 });
            }
        }
        self.before.clear();
        let pairs =
            self.assigner.assign(truth.len(), told.len(), |row, column| gains[row * told.len() + column]);
        for (thing, track) in truth.iter().zip(pairs) {
            let Some(track) = track.map(|place| told[place].id) else { continue };
            self.before.insert(thing.id, track);
            let last = self.last.insert(thing.id, track);
            self.identity.switches += u64::from(last.is_some_and(|last| last != track));
        }
    }

    /// Assigns whole trajectories.
    pub fn finish(mut self) -> Identity {
        // Every true and told box that doesn't agree costs the same, so the least cost is the most agreement.
        let numbers = |of: fn(&(u64, u64)) -> u64| {
            let mut numbers: Vec<u64> = self.together.keys().map(of).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        let (things, tracks) = (numbers(|pair| pair.0), numbers(|pair| pair.1));
        let frames = |thing: usize, track: usize| {
            self.together.get(&(things[thing], tracks[track])).copied().unwrap_or_default()
        };
        let pairs =
            self.assigner.assign(things.len(), tracks.len(), |thing, track| frames(thing, track) as f64);
        let agreed = pairs.iter().enumerate().filter_map(|(thing, track)| Some(frames(thing, (*track)?)));
        self.identity.agreed = agreed.sum();
        self.identity
    }
}

/// Intersection over union of two boxes of corners; 0 where both are empty.
fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |[left, top, right, bottom]: [f64; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let union = area(a) + area(b) - width * height;
    if union > 0.0 { width * height / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A box of 10 pixels at a place.
    fn at(id: u64, x: f64) -> Sighting {
        Sighting { id, box_in_frame: [x, 0.0, x + 10.0, 10.0] }
    }

    /// Of frames with their true and reported sightings.
    fn identity(frames: &[(&[Sighting], &[Sighting])]) -> Identity {
        let mut clip = Clip::new(0.5);
        frames.iter().for_each(|(truth, told)| clip.add(truth, told));
        clip.finish()
    }

    #[test]
    fn all_right_is_one_and_nothing_at_all_is_none() {
        let right = identity(&[(&[at(1, 0.0)], &[at(9, 0.0)]), (&[at(1, 3.0)], &[at(9, 2.0)])]);
        assert_eq!(
            (right.idf1(), right.idp(), right.idr(), right.switches),
            (Some(1.0), Some(1.0), Some(1.0), 0)
        );
        let nothing = identity(&[(&[], &[])]);
        assert_eq!((nothing.idf1(), nothing.idp(), nothing.idr()), (None, None, None));
    }

    #[test]
    fn a_number_that_changes_in_the_middle_costs_the_shorter_part_and_one_switch() {
        let truth = [at(1, 0.0)];
        let [first, then] = [[at(5, 0.0)], [at(6, 0.0)]];
        let told = [&first, &first, &first, &then, &then];
        let frames = told.map(|told| (&truth[..], &told[..]));
        // IDTP 3, IDFP 2, IDFN 2.
        let found = identity(&frames);
        assert_eq!(
            (found.idf1(), found.idp(), found.idr(), found.switches),
            (Some(0.6), Some(0.6), Some(0.6), 1)
        );
    }

    #[test]
    fn misses_cost_recall_false_alarms_cost_precision_and_neither_is_a_switch() {
        let truth = [at(1, 0.0)];
        let found = identity(&[
            (&truth, &[at(5, 0.0), at(8, 100.0)]),
            (&truth, &[]),
            (&truth, &[at(5, 0.0), at(9, 100.0)]),
            (&truth, &[at(5, 9.0)]), // overlaps too little
        ]);
        // IDTP 2 of 4 true and 5 told boxes.
        assert_eq!((found.idr(), found.idp(), found.switches), (Some(0.5), Some(0.4), 0));
        assert_eq!(found.idf1(), Some(4.0 / 9.0));
    }

    #[test]
    fn two_that_swap_numbers_are_two_switches_and_half_of_the_boxes() {
        let truth = [at(1, 0.0), at(2, 50.0)];
        let found = identity(&[(&truth, &[at(5, 0.0), at(6, 50.0)]), (&truth, &[at(6, 0.0), at(5, 50.0)])]);
        assert_eq!((found.agreed, found.switches, found.idf1()), (2, 2, Some(0.5)));
    }

    #[test]
    fn a_switch_is_counted_across_a_gap() {
        let truth = [at(1, 0.0)];
        let found = identity(&[(&truth, &[at(5, 0.0)]), (&truth, &[]), (&truth, &[at(6, 0.0)]), (&[], &[])]);
        assert_eq!((found.switches, found.agreed, found.truth, found.told), (1, 1, 3, 2));
    }

    #[test]
    fn a_track_is_assigned_to_one_thing_for_the_whole_clip() {
        // One track jumps from a thing to another: only one of the two can have it.
        let truth = [at(1, 0.0), at(2, 50.0)];
        let found = identity(&[(&truth, &[at(5, 0.0)]), (&truth, &[at(5, 0.0)]), (&truth, &[at(5, 50.0)])]);
        // IDTP 2 of 6 true and 3 told boxes; each thing had only one track, so nothing was switched.
        assert_eq!((found.idf1(), found.switches), (Some(4.0 / 9.0), 0));
    }

    #[test]
    fn the_best_assignment_of_trajectories_goes_before_the_longest_pair() {
        // Thing 1 is with track 5 for 3 frames and with 6 for 2; thing 2 with 5 for 2. Together 4 agree, not 3.
        let (one, two) = (at(1, 0.0), at(2, 50.0));
        let found = identity(&[
            (&[one], &[at(5, 0.0)]),
            (&[one], &[at(5, 0.0)]),
            (&[one], &[at(5, 0.0)]),
            (&[one, two], &[at(6, 0.0), at(5, 50.0)]),
            (&[one, two], &[at(6, 0.0), at(5, 50.0)]),
        ]);
        assert_eq!(found.agreed, 4);
    }

    #[test]
    fn who_went_together_goes_together_though_another_overlaps_more() {
        let found = identity(&[(&[at(1, 0.0)], &[at(5, 0.0)]), (&[at(1, 0.0)], &[at(5, 2.0), at(6, 0.0)])]);
        assert_eq!(found.switches, 0);
    }

    #[test]
    fn an_empty_frame_does_not_part_who_went_together() {
        let one = [at(1, 0.0)];
        let found = identity(&[(&one, &[at(5, 0.0)]), (&one, &[]), (&one, &[at(5, 2.0), at(6, 0.0)])]);
        assert_eq!(found.switches, 0);
        let other = [at(9, 90.0)];
        let found = identity(&[(&one, &[at(5, 0.0)]), (&one, &other), (&one, &[at(5, 2.0), at(6, 0.0)])]);
        assert_eq!(found.switches, 1, "one without the track does");
    }

    #[test]
    fn clips_add_up() {
        let mut sum = identity(&[(&[at(1, 0.0)], &[at(1, 0.0)])]);
        sum += identity(&[(&[at(1, 0.0)], &[])]);
        assert_eq!(sum, Identity { truth: 2, told: 1, agreed: 1, switches: 0 });
    }
}
