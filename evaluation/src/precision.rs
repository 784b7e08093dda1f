//! Precision and recall of one class.
//!
//! Takes judged detections, and returns their average precision and recall at every IoU. A perfect detector's average
//! precision may come out slightly below 1: the reference programs divide by a sum that contains [`f64::EPSILON`].

use crate::candidates::best_first;
use crate::matching::{Judged, Judgement, Verdict};
use crate::{IOUS, linspace};

/// At how many recalls precision is read off.
const RECALLS: usize = 101;

/// How well a class was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Accuracy {
    /// Mean of the precisions at 101 recalls, at every IoU.
    pub average_precision: [f64; IOUS],
    /// The recall of all detections, at every IoU.
    pub recall: [f64; IOUS],
}

impl Accuracy {
    /// Of the best `cutoff` detections of each image; `None` where there was nothing to find.
    pub fn of(judgement: &Judgement, cutoff: usize) -> Option<Self> {
        if judgement.asked_for == 0 {
            return None;
        }
        let mut ranked: Vec<&Judged> =
            judgement.detections.iter().filter(|judged| judged.rank < cutoff).collect();
        ranked.sort_by(|a, b| best_first(a.score, b.score));

        let mut accuracy = Self { average_precision: [0.0; IOUS], recall: [0.0; IOUS] };
        for at in 0..IOUS {
            let verdicts = ranked.iter().map(|judged| judged.verdicts[at]);
            let (mut precisions, recalls) = curve(verdicts, judgement.asked_for);
            make_falling(&mut precisions);
            accuracy.average_precision[at] = mean_over_recalls(&precisions, &recalls);
            accuracy.recall[at] = recalls.last().copied().unwrap_or(0.0);
        }
        Some(accuracy)
    }
}

/// Precision and recall after each detection.
fn curve(verdicts: impl Iterator<Item = Verdict>, asked_for: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut right, mut wrong) = (0.0, 0.0);
    verdicts
        .map(|verdict| {
            match verdict {
                Verdict::Right => right += 1.0,
                Verdict::Wrong => wrong += 1.0,
                Verdict::Ignored => {}
            }
            (right / (wrong + right + f64::EPSILON), right / asked_for as f64)
        })
        .unzip()
}

/// Raises each precision to the best that follows it.
fn make_falling(precisions: &mut [f64]) {
    let mut best = 0.0;
    for precision in precisions.iter_mut().rev() {
        best = precision.max(best);
        *precision = best;
    }
}

/// Mean of the precisions where each of the 101 recalls is first reached; 0 for one that never is.
fn mean_over_recalls(precisions: &[f64], recalls: &[f64]) -> f64 {
    let thresholds: [f64; RECALLS] = linspace(0.0, 1.0);
    let reached = thresholds.map(|threshold| {
        let first = recalls.partition_point(|&recall| recall < threshold);
        precisions.get(first).copied().unwrap_or(0.0)
    });
    reached.iter().sum::<f64>() / RECALLS as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Verdict::*;
    use super::*;

    fn judgement(scores_and_verdicts: &[(f64, Verdict)], asked_for: usize) -> Judgement {
        let detections = scores_and_verdicts
            .iter()
            .enumerate()
            .map(|(rank, &(score, verdict))| Judged { score, rank, verdicts: [verdict; IOUS] })
            .collect();
        Judgement { detections, asked_for }
    }

    fn average_precision(scores_and_verdicts: &[(f64, Verdict)], asked_for: usize) -> f64 {
        Accuracy::of(&judgement(scores_and_verdicts, asked_for), 100).unwrap().average_precision[0]
    }

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
    }

    #[test]
    fn one_of_two_found_reaches_51_of_the_101_recalls() {
        assert_near(average_precision(&[(0.9, Right)], 2), 51.0 / 101.0);
    }

    #[test]
    fn a_perfect_precision_is_a_hair_below_1() {
        assert_eq!(curve([Right].into_iter(), 1), (vec![1.0 - f64::EPSILON], vec![1.0]));
    }

    #[test]
    fn a_false_detection_costs_only_what_comes_after_it() {
        assert_near(average_precision(&[(0.9, Right), (0.1, Wrong)], 1), 1.0);
        assert_near(average_precision(&[(0.9, Wrong), (0.1, Right)], 1), 0.5);
        // Precisions 1, 1/2, 2/3: recalls up to a half at 1, the rest at 2/3.
        let found = [(0.9, Right), (0.8, Wrong), (0.7, Right)];
        assert_near(average_precision(&found, 2), (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
    }

    #[test]
    fn a_late_rise_in_precision_counts_for_earlier_recalls() {
        // Precisions 0, 1/2, 2/3, read off as 2/3 everywhere.
        assert_near(average_precision(&[(0.9, Wrong), (0.8, Right), (0.7, Right)], 2), 2.0 / 3.0);
    }

    #[test]
    fn an_ignored_detection_changes_nothing() {
        assert_near(average_precision(&[(0.9, Ignored), (0.1, Right)], 1), 1.0);
    }

    #[test]
    fn of_equal_scores_the_earlier_comes_first() {
        assert_near(average_precision(&[(0.5, Wrong), (0.5, Right)], 1), 0.5);
        assert_near(average_precision(&[(0.5, Right), (0.5, Wrong)], 1), 1.0);
    }

    #[test]
    fn nothing_found_is_zero_and_nothing_to_find_is_nothing() {
        assert_eq!(average_precision(&[], 1), 0.0);
        assert_eq!(Accuracy::of(&judgement(&[(0.5, Wrong)], 0), 100), None);
    }

    #[test]
    fn detections_beyond_the_cutoff_do_not_count() {
        let two = judgement(&[(0.9, Wrong), (0.8, Right)], 1);
        assert_eq!(Accuracy::of(&two, 1).unwrap().recall, [0.0; IOUS]);
        assert_eq!(Accuracy::of(&two, 2).unwrap().recall, [1.0; IOUS]);
    }
}
