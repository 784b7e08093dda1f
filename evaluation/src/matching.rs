//! Whether each detection is right: greedy matching with the ground truths, best score first.
//!
//! Takes the cells of one class, and returns its detections with a [`Verdict`] at every IoU and the number of ground
//! truths that count. Ground truths that are ignored are tried last, and only where no other fits; of two that overlap
//! a detection equally, the later one is taken.

use crate::candidates::{Cell, Find, Truth};
use crate::{Area, IOUS, iou_thresholds};

/// The verdict on a detection at one IoU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It found an object that counts.
    Right,
    /// It found nothing.
    Wrong,
    /// It counts neither for nor against.
    Ignored,
}

/// One detection, judged.
pub(crate) struct Judged {
    pub score: f64,
    /// How many of its class in its image come before it.
    pub rank: usize,
    pub verdicts: [Verdict; IOUS],
}

/// All of one class and size.
#[derive(Default)]
pub(crate) struct Judgement {
    /// In the order of images, and in each best first.
    pub detections: Vec<Judged>,
    /// How many objects count.
    pub asked_for: usize,
}

/// Judges a class's detections for objects of one size.
pub(crate) fn judge<'a>(cells: impl Iterator<Item = &'a Cell>, area: Area) -> Judgement {
    let mut judgement = Judgement::default();
    for cell in cells {
        let targets = targets(&cell.truths, area);
        judgement.asked_for += targets.iter().filter(|target| !target.ignored).count();

        let mut verdicts = vec![[Verdict::Wrong; IOUS]; cell.finds.len()];
        let ious: Vec<f64> = cell
            .finds
            .iter()
            .flat_map(|find| targets.iter().map(|target| overlap(find, target.truth)))
            .collect();
        for (at, threshold) in iou_thresholds().into_iter().enumerate() {
            let mut taken = vec![false; targets.len()];
            for (rank, find) in cell.finds.iter().enumerate() {
                let ious = &ious[rank * targets.len()..][..targets.len()];
                verdicts[rank][at] = match best_match(ious, &targets, &taken, threshold) {
                    Some(found) => {
                        taken[found] = true;
                        if targets[found].ignored { Verdict::Ignored } else { Verdict::Right }
                    }
                    None if find.excused || !area.contains(find.area) => Verdict::Ignored,
                    None => Verdict::Wrong,
                };
            }
        }
        let judged = cell.finds.iter().zip(verdicts).enumerate();
        judgement.detections.extend(judged.map(|(rank, (find, verdicts))| Judged {
            score: find.score,
            rank,
            verdicts,
        }));
    }
    judgement
}

/// A ground truth for objects of one size.
struct Target<'a> {
    truth: &'a Truth,
    ignored: bool,
}

/// Those that count, then those that are ignored.
fn targets(truths: &[Truth], area: Area) -> Vec<Target<'_>> {
    let as_target = |truth| Target { truth, ignored: truth.ignored || !area.contains(truth.area) };
    let mut targets: Vec<Target> = truths.iter().map(as_target).collect();
    targets.sort_by_key(|target| target.ignored);
    targets
}

/// The target that a detection matches, if any: the one that it overlaps most of those that count, else
/// of the ignored ones.
fn best_match(ious: &[f64], targets: &[Target], taken: &[bool], threshold: f64) -> Option<usize> {
    let (mut best, mut best_iou) = (None, threshold);
    for (index, target) in targets.iter().enumerate() {
        if taken[index] && !target.truth.crowd {
            continue;
        }
        if target.ignored && best.is_some_and(|best: usize| !targets[best].ignored) {
            break;
        }
        // An overlap of two boxes too small for numbers is not a number, and passes here as it does in
        // the reference programs.
        if ious[index] < best_iou {
            continue;
        }
        (best, best_iou) = (Some(index), ious[index]);
    }
    best
}

/// Intersection over union; with a crowd, over the detection's own area.
fn overlap(find: &Find, truth: &Truth) -> f64 {
    let ([x, y, width, height], [truth_x, truth_y, truth_width, truth_height]) =
        (find.box_in_image, truth.box_in_image);
    let shared_width = (width + x).min(truth_width + truth_x) - x.max(truth_x);
    let shared_height = (height + y).min(truth_height + truth_y) - y.max(truth_y);
    if shared_width <= 0.0 || shared_height <= 0.0 {
        return 0.0;
    }
    let shared = shared_width * shared_height;
    let whole = if truth.crowd { find.area } else { find.area + truth_width * truth_height - shared };
    shared / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: [f64; 4] = [0.0, 0.0, 10.0, 10.0];

    fn truth(box_in_image: [f64; 4]) -> Truth {
        Truth { box_in_image, area: box_in_image[2] * box_in_image[3], crowd: false, ignored: false }
    }

    fn find(box_in_image: [f64; 4]) -> Find {
        Find { box_in_image, area: box_in_image[2] * box_in_image[3], score: 0.5, excused: false }
    }

    fn verdicts_at_half(truths: Vec<Truth>, finds: Vec<Find>, area: Area) -> Vec<Verdict> {
        let judgement = judge([Cell { truths, finds }].iter(), area);
        judgement.detections.iter().map(|judged| judged.verdicts[0]).collect()
    }

    #[test]
    fn overlaps_of_known_boxes() {
        assert_eq!(overlap(&find(BOX), &truth(BOX)), 1.0);
        assert_eq!(overlap(&find(BOX), &truth([5.0, 0.0, 10.0, 10.0])), 1.0 / 3.0);
        assert_eq!(overlap(&find(BOX), &truth([10.0, 0.0, 10.0, 10.0])), 0.0);
        assert_eq!(overlap(&find([0.0; 4]), &truth([0.0; 4])), 0.0);
        let crowd = Truth { crowd: true, ..truth([0.0, 0.0, 100.0, 100.0]) };
        assert_eq!(overlap(&find([-5.0, 0.0, 10.0, 10.0]), &crowd), 0.5);
    }

    #[test]
    fn a_thing_is_found_once_and_a_crowd_any_number_of_times() {
        use Verdict::*;
        let twice = || vec![find(BOX), find(BOX)];
        assert_eq!(verdicts_at_half(vec![truth(BOX)], twice(), Area::All), [Right, Wrong]);
        let crowd = Truth { crowd: true, ignored: true, ..truth(BOX) };
        assert_eq!(verdicts_at_half(vec![crowd], twice(), Area::All), [Ignored, Ignored]);
        let ignored = Truth { ignored: true, ..truth(BOX) };
        assert_eq!(verdicts_at_half(vec![ignored], twice(), Area::All), [Ignored, Wrong]);
    }

    #[test]
    fn a_thing_that_is_asked_for_is_preferred_to_a_better_fitting_one_that_is_not() {
        let ignored = Truth { ignored: true, ..truth(BOX) };
        let asked_for = truth([0.0, 0.0, 10.0, 6.0]);
        assert_eq!(verdicts_at_half(vec![ignored, asked_for], vec![find(BOX)], Area::All), [Verdict::Right]);
    }

    #[test]
    fn an_overlap_of_just_the_threshold_is_enough() {
        let half = vec![find([0.0, 0.0, 10.0, 5.0])];
        let judgement = judge([Cell { truths: vec![truth(BOX)], finds: half }].iter(), Area::All);
        assert_eq!(judgement.detections[0].verdicts[..2], [Verdict::Right, Verdict::Wrong]);
    }

    #[test]
    fn what_is_of_another_size_counts_neither_for_nor_against() {
        let elsewhere = find([50.0, 50.0, 10.0, 10.0]);
        let verdicts = verdicts_at_half(vec![truth(BOX)], vec![find(BOX), elsewhere], Area::Large);
        assert_eq!(verdicts, [Verdict::Ignored; 2]);
    }
}
