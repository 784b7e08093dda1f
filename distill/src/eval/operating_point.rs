//! Precision, recall and calibration at a threshold: whether what a user sees is right.
//!
//! [`judge`] takes the annotated objects and the detections of one image after the other; the result is a [`Point`]
//! for a threshold. Average precision asks how detections are ranked, whatever their scores. This asks whether scores
//! mean what they say: how many of the shown objects are there, and how many of those that are there are shown.
//!
//! A detection is right if it overlaps an object of its word with an IoU of at least 0.5 and no better detection has
//! taken that object. One on a small object ([`LEAST_SIDE`]) or in a crowd is neither right nor wrong, as in COCO's
//! rules.

use serde::Serialize;
use wordsight_detection::iou;

/// From this IoU on a detection is on an object.
const FOUND_IOU: f32 = 0.5;
/// From this share of a detection in a crowd's box on, it shows the crowd.
const IN_CROWD: f32 = 0.5;
/// An object counts whose box has at least the area of a square of this side,
pub const LEAST_SIDE: f32 = 32.0;
/// in pixels of the photograph with its longer side scaled to this.
pub const SCALED_SIDE: f32 = 640.0;
/// Bins of scores, from 0 to 1.
const BINS: usize = 10;

/// What is in an image.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its category's number.
    pub category: u64,
    /// Left, top, right, bottom in pixels of the image.
    pub box_in_image: [f32; 4],
    /// Whether finding it counts.
    pub kind: Kind,
}

/// What finding an object comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is to be found.
    Wanted,
    /// It needn't be found, and finding it once is no mistake.
    Small,
    /// A group in one box: it needn't be found, and nothing in it is a mistake.
    Crowd,
}

impl Kind {
    /// Of a box in an image of this size.
    pub fn of(box_in_image: [f32; 4], is_crowd: bool, image_size: [u32; 2]) -> Self {
        let scale = SCALED_SIDE / image_size[0].max(image_size[1]).max(1) as f32;
        match is_crowd {
            true => Self::Crowd,
            false if area(box_in_image) * scale * scale < LEAST_SIDE * LEAST_SIDE => Self::Small,
            false => Self::Wanted,
        }
    }
}

/// What is shown in an image.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The category's number.
    pub category: u64,
    /// 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the image.
    pub box_in_image: [f32; 4],
}

/// A detection that is right or wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// 0 to 1.
    pub score: f32,
    /// Whether there is what it says.
    pub is_right: bool,
}

/// Judges the detections of one image, the surest first; leaves out those that are neither right nor wrong.
pub fn judge(objects: &[Object], shown: &[Shown]) -> Vec<Judged> {
    let mut order: Vec<&Shown> = shown.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut is_taken = vec![false; objects.len()];
    let mut judged = Vec::with_capacity(shown.len());
    for detection in order {
        let mut take = |kind: Kind| {
            let free = objects.iter().enumerate().filter(|&(place, object)| {
                object.kind == kind && object.category == detection.category && !is_taken[place]
            });
            let overlap =
                free.map(|(place, object)| (iou(object.box_in_image, detection.box_in_image), place));
            let best =
                overlap.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(overlap, _)| *overlap >= FOUND_IOU);
            best.map(|(_, place)| is_taken[place] = true).is_some()
        };
        let is_right = take(Kind::Wanted);
        if is_right || !(take(Kind::Small) || is_in_crowd(objects, detection)) {
            judged.push(Judged { score: detection.score, is_right });
        }
    }
    judged
}

fn is_in_crowd(objects: &[Object], detection: &Shown) -> bool {
    let [left, top, right, bottom] = detection.box_in_image;
    let crowds =
        objects.iter().filter(|object| object.kind == Kind::Crowd && object.category == detection.category);
    crowds.map(|crowd| crowd.box_in_image).any(|crowd| {
        let shared = [left.max(crowd[0]), top.max(crowd[1]), right.min(crowd[2]), bottom.min(crowd[3])];
        area(shared) >= IN_CROWD * area(detection.box_in_image)
    })
}

fn area([left, top, right, bottom]: [f32; 4]) -> f32 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

/// What is shown at a threshold, over all images. Shares from 0 to 1; none where there is nothing to count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// The least score.
    pub threshold: f32,
    /// Detections that are right or wrong.
    pub detections: usize,
    /// Right ones.
    pub right: usize,
    /// How many of the detections are right.
    pub precision: Option<f64>,
    /// How many of the wanted objects are found.
    pub recall: Option<f64>,
    /// The harmonic mean of both; 0 where nothing is right.
    pub f1: Option<f64>,
    /// Expected calibration error: how far scores are from the share of right detections, in ten bins.
    pub ece: Option<f64>,
}

impl Point {
    /// Of judged detections, among so many wanted objects.
    pub fn of(threshold: f32, judged: &[Judged], objects: usize) -> Self {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let right = judged.iter().filter(|judged| judged.is_right).count();
        Self {
            threshold,
            detections: judged.len(),
            right,
            precision: share(right, judged.len()),
            recall: share(right, objects),
            f1: share(2 * right, judged.len() + objects),
            ece: expected_calibration_error(judged),
        }
    }
}

impl Point {
    /// The threshold with the best F1, and that F1.
    pub fn of_best_f1(judged: &[Judged], objects: usize) -> Option<Self> {
        let f1 = |right: usize, shown: usize| 2.0 * right as f64 / (shown + objects) as f64;
        let order = by_score(judged);
        let best = thresholds(&order).max_by(|a, b| f1(a.1, a.0).total_cmp(&f1(b.1, b.0)))?;
        Some(Self::of_first(&order, best.0, objects))
    }

    /// The lowest threshold above which at least this fraction of the detections is right, and that fraction.
    pub fn of_precision(least: f64, judged: &[Judged], objects: usize) -> Option<Self> {
        let order = by_score(judged);
        let lowest =
            thresholds(&order).filter(|&(shown, right)| right as f64 >= least * shown as f64).last()?;
        Some(Self::of_first(&order, lowest.0, objects))
    }

    fn of_first(order: &[Judged], shown: usize, objects: usize) -> Self {
        let kept = &order[..shown];
        Self::of(kept.last().map_or(0.0, |judged| judged.score), kept, objects)
    }
}

/// The surest first.
fn by_score(judged: &[Judged]) -> Vec<Judged> {
    let mut order = judged.to_vec();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    order
}

/// How many detections a threshold lets through, and how many right ones: from the highest threshold to the lowest. One
/// lets all of one score through, or none.
fn thresholds(order: &[Judged]) -> impl Iterator<Item = (usize, usize)> {
    let mut right = 0;
    order.iter().enumerate().filter_map(move |(place, judged)| {
        right += usize::from(judged.is_right);
        let is_last = order.get(place + 1).is_none_or(|next| next.score < judged.score);
        is_last.then_some((place + 1, right))
    })
}

/// The mean over ten bins of scores of |mean score - share of right ones|, weighted by their detections (Guo et al.,
/// arXiv 1706.04599).
fn expected_calibration_error(judged: &[Judged]) -> Option<f64> {
    let mut bins = [(0.0_f64, 0.0_f64); BINS];
    for Judged { score, is_right } in judged {
        let (scores, right) = &mut bins[((score * BINS as f32) as usize).min(BINS - 1)];
        *scores += f64::from(*score);
        *right += f64::from(u8::from(*is_right));
    }
    let sum: f64 = bins.iter().map(|(scores, right)| (scores - right).abs()).sum();
    (!judged.is_empty()).then(|| sum / judged.len() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CAT: u64 = 1;
    const DOG: u64 = 2;
    const PLACE: [f32; 4] = [0.0, 0.0, 100.0, 100.0];
    const ELSEWHERE: [f32; 4] = [300.0, 0.0, 400.0, 100.0];

    fn object(category: u64, box_in_image: [f32; 4], kind: Kind) -> Object {
        Object { category, box_in_image, kind }
    }

    fn shown(category: u64, score: f32, box_in_image: [f32; 4]) -> Shown {
        Shown { category, score, box_in_image }
    }

    fn right(score: f32) -> Judged {
        Judged { score, is_right: true }
    }

    fn wrong(score: f32) -> Judged {
        Judged { score, is_right: false }
    }

    #[test]
    fn a_detection_is_right_on_an_object_of_its_word_and_wrong_elsewhere() {
        let objects = [object(CAT, PLACE, Kind::Wanted)];
        let half = [0.0, 0.0, 100.0, 49.0];
        assert_eq!(judge(&objects, &[shown(CAT, 0.4, PLACE)]), [right(0.4)]);
        assert_eq!(judge(&objects, &[shown(DOG, 0.4, PLACE)]), [wrong(0.4)]);
        assert_eq!(judge(&objects, &[shown(CAT, 0.4, ELSEWHERE)]), [wrong(0.4)]);
        assert_eq!(judge(&objects, &[shown(CAT, 0.4, half)]), [wrong(0.4)]);
    }

    #[test]
    fn an_object_is_found_once_by_the_surest() {
        let objects = [object(CAT, PLACE, Kind::Wanted)];
        let judged = judge(&objects, &[shown(CAT, 0.4, PLACE), shown(CAT, 0.6, PLACE)]);
        assert_eq!(judged, [right(0.6), wrong(0.4)]);
    }

    #[test]
    fn a_small_object_is_neither_asked_for_nor_a_mistake_to_find_once() {
        let objects = [object(CAT, PLACE, Kind::Small)];
        assert_eq!(judge(&objects, &[shown(CAT, 0.6, PLACE)]), []);
        assert_eq!(judge(&objects, &[shown(CAT, 0.6, PLACE), shown(CAT, 0.4, PLACE)]), [wrong(0.4)]);
        assert_eq!(judge(&objects, &[shown(DOG, 0.6, PLACE)]), [wrong(0.6)]);
    }

    #[test]
    fn nothing_in_a_crowd_of_its_word_is_a_mistake() {
        let objects = [object(CAT, PLACE, Kind::Crowd)];
        let inside = [10.0, 10.0, 20.0, 20.0];
        let mostly_outside = [90.0, 0.0, 130.0, 40.0];
        assert_eq!(judge(&objects, &[shown(CAT, 0.6, inside), shown(CAT, 0.4, inside)]), []);
        assert_eq!(judge(&objects, &[shown(CAT, 0.6, mostly_outside)]), [wrong(0.6)]);
        assert_eq!(judge(&objects, &[shown(DOG, 0.6, inside)]), [wrong(0.6)]);
    }

    #[test]
    fn an_object_is_small_by_its_area_in_640_pixels() {
        let square = |side: f32| [5.0, 5.0, 5.0 + side, 5.0 + side];
        assert_eq!(Kind::of(square(32.0), false, [640, 480]), Kind::Wanted);
        assert_eq!(Kind::of(square(31.0), false, [640, 480]), Kind::Small);
        assert_eq!(Kind::of(square(31.0), false, [240, 320]), Kind::Wanted, "twice as large");
        assert_eq!(Kind::of(square(63.0), false, [1280, 1280]), Kind::Small);
        assert_eq!(Kind::of(square(9.0), true, [640, 480]), Kind::Crowd);
    }

    #[test]
    fn precision_recall_and_f1_are_shares_of_what_is_shown_and_of_what_is_there() {
        let point = Point::of(0.3, &[right(0.9), wrong(0.8), wrong(0.7), wrong(0.6)], 2);
        assert_eq!((point.precision, point.recall), (Some(0.25), Some(0.5)));
        assert!((point.f1.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        let nothing = Point::of(0.3, &[], 2);
        assert_eq!((nothing.precision, nothing.recall, nothing.ece), (None, Some(0.0), None));
        assert_eq!(Point::of(0.3, &[wrong(0.5)], 0).recall, None);
    }

    #[test]
    fn the_calibration_error_is_how_far_scores_are_from_the_share_that_is_right() {
        let calibrated: Vec<Judged> =
            (0..10).map(|number| Judged { score: 0.35, is_right: number < 4 }).collect();
        let ece = |judged: &[Judged]| expected_calibration_error(judged).unwrap();
        assert!((ece(&calibrated) - 0.05).abs() < 1e-6);
        // In two bins: 0.05 off over ten detections, 0.9 off over ten.
        let both: Vec<Judged> = calibrated.iter().copied().chain([wrong(0.9); 10]).collect();
        assert!((ece(&both) - 0.475).abs() < 1e-6, "{}", ece(&both));
        assert!((ece(&[right(1.0)])).abs() < 1e-6, "a score of 1 has a bin");
    }

    #[test]
    fn the_threshold_of_a_precision_is_the_lowest_that_has_it() {
        let judged = [right(0.5), wrong(0.6), right(0.7), wrong(0.4), wrong(0.3)];
        let point = Point::of_precision(0.5, &judged, 4).unwrap();
        assert_eq!((point.threshold, point.detections, point.right), (0.4, 4, 2));
        let alike = [right(0.5), wrong(0.5), wrong(0.5)];
        assert_eq!(Point::of_precision(0.5, &alike, 4), None, "no threshold is between equal scores");
        assert_eq!(Point::of_precision(0.5, &[], 4), None);
    }

    #[test]
    fn the_threshold_of_the_best_f1_leaves_out_what_is_mostly_wrong() {
        let judged = [right(0.9), wrong(0.8), right(0.7), wrong(0.4), wrong(0.3), wrong(0.2)];
        let point = Point::of_best_f1(&judged, 2).unwrap();
        assert_eq!((point.threshold, point.detections, point.right), (0.7, 3, 2));
        assert_eq!(Point::of_best_f1(&[], 2), None);
    }
}
