//! Non-maximum suppression and box voting: one detection for one thing, at the right place.
//!
//! Greedy, as usual: the best detection stands, and all that overlap it by more than the limit are removed. The caller
//! decides which detections compete by passing those of one word or all of them. Detections that are removed vote on
//! the box of the one that stands (Gidaris and Komodakis, 2015, arXiv 1505.01749, section 5), because the box with the
//! best score is often not the best-placed one of a small student.

use crate::Detection;

/// Intersection over union of two boxes (left, top, right, bottom); 0 when they don't touch.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = width * height;
    let union = area(a) + area(b) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

fn area([left, top, right, bottom]: [f32; 4]) -> f32 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

/// Appends to `kept` one detection for each thing among `rivals` (best first), as [`suppress`] does,
/// each with the box that its word's detections around it vote for; then suppresses once more, since
/// votes can move two boxes onto each other.
pub(crate) fn suppress_and_vote(
    rivals: &[Detection],
    max_iou: f32,
    voting_iou: f32,
    standing: &mut Vec<Detection>,
    kept: &mut Vec<Detection>,
) {
    standing.clear();
    suppress(rivals, max_iou, standing);
    // Where none goes there is none to vote.
    let voted = if max_iou < 1.0 { standing.as_mut_slice() } else { &mut [] };
    for detection in voted {
        detection.box_in_input = voted_box(detection, rivals, voting_iou);
    }
    suppress(standing, max_iou, kept);
}

/// The mean box of all that have the detection's word and overlap it by at least `voting_iou`,
/// weighted by the square of their scores. Weak ones have no say about others.
fn voted_box(detection: &Detection, voters: &[Detection], voting_iou: f32) -> [f32; 4] {
    let (mut sums, mut weights) = ([0.0; 4], 0.0);
    let may_vote = |voter: &&Detection| voter.word == detection.word && voter.is_weak <= detection.is_weak;
    for voter in voters.iter().filter(may_vote) {
        if voter.region == detection.region || iou(voter.box_in_input, detection.box_in_input) >= voting_iou {
            let weight = voter.score * voter.score;
            weights += weight;
            for (sum, side) in sums.iter_mut().zip(voter.box_in_input) {
                *sum += weight * side;
            }
        }
    }
    // A score of 0 weighs nothing, even for its own box.
    if weights > 0.0 { sums.map(|sum| sum / weights) } else { detection.box_in_input }
}

/// Appends to `kept` those of `rivals` (best first) that overlap none already kept *of this call*
/// by more than `max_iou`.
fn suppress(rivals: &[Detection], max_iou: f32, kept: &mut Vec<Detection>) {
    let first = kept.len();
    for rival in rivals {
        let stands =
            kept[first..].iter().all(|better| iou(better.box_in_input, rival.box_in_input) <= max_iou);
        if stands {
            kept.push(*rival);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(score: f32, box_in_input: [f32; 4]) -> Detection {
        Detection { word: 0, score, objectness: 1.0, box_in_input, region: 0, is_weak: false }
    }

    fn scores_kept(rivals: &[Detection], max_iou: f32) -> Vec<f32> {
        let mut kept = Vec::new();
        suppress(rivals, max_iou, &mut kept);
        kept.iter().map(|detection| detection.score).collect()
    }

    #[test]
    fn without_suppression_every_box_stays_where_it_is() {
        let near = |region, bottom| Detection { region, ..detection(0.5, [0.0, 0.0, 10.0, bottom]) };
        let rivals = [near(0, 10.0), near(1, 11.0), near(2, 12.0)];
        let (mut standing, mut kept) = (Vec::new(), Vec::new());
        suppress_and_vote(&rivals, 1.0, 0.5, &mut standing, &mut kept);
        assert_eq!(kept, rivals);
    }

    #[test]
    fn boxes_around_a_thing_vote_on_where_it_is_and_others_do_not() {
        let strong = Detection { region: 0, ..detection(0.8, [0.0, 0.0, 10.0, 10.0]) };
        let near = Detection { region: 1, ..detection(0.4, [0.0, 0.0, 10.0, 15.0]) };
        let far = Detection { region: 2, ..detection(0.4, [0.0, 0.0, 10.0, 40.0]) };
        let other_word = Detection { region: 3, word: 1, ..near };
        let (mut standing, mut kept) = (Vec::new(), Vec::new());
        suppress_and_vote(&[strong, near, far, other_word], 0.2, 0.5, &mut standing, &mut kept);
        assert_eq!(kept.len(), 1);
        // Weights 0.64 and 0.16: a fifth of the way from 10 to 15.
        let [left, top, right, bottom] = kept[0].box_in_input;
        assert_eq!((left, top, right), (0.0, 0.0, 10.0));
        assert!((bottom - 11.0).abs() < 1e-5, "{bottom}");
        assert_eq!(kept[0].score, 0.8, "the score stays the best one's");
    }

    #[test]
    fn votes_that_move_two_boxes_onto_each_other_leave_one() {
        // Apart they overlap too little to compete; the third pulls both to the middle.
        let left = Detection { region: 0, ..detection(0.5, [0.0, 0.0, 10.0, 10.0]) };
        let right = Detection { region: 1, ..detection(0.49, [4.0, 0.0, 14.0, 10.0]) };
        let middle = Detection { region: 2, ..detection(0.48, [2.0, 0.0, 12.0, 10.0]) };
        let (mut standing, mut kept) = (Vec::new(), Vec::new());
        suppress_and_vote(&[left, right, middle], 0.5, 0.4, &mut standing, &mut kept);
        assert_eq!((standing.len(), kept.len()), (2, 1));
    }

    #[test]
    fn iou_of_known_boxes() {
        let square = [0.0, 0.0, 10.0, 10.0];
        assert_eq!(iou(square, square), 1.0);
        assert_eq!(iou(square, [5.0, 0.0, 15.0, 10.0]), 1.0 / 3.0);
        assert_eq!(iou(square, [10.0, 0.0, 20.0, 10.0]), 0.0);
        assert_eq!(iou(square, [20.0, 20.0, 30.0, 30.0]), 0.0);
        assert_eq!(iou([1.0; 4], [1.0; 4]), 0.0);
    }

    #[test]
    fn a_weaker_box_on_the_same_thing_goes_and_one_elsewhere_stays() {
        let rivals = [
            detection(0.9, [0.0, 0.0, 10.0, 10.0]),
            detection(0.8, [1.0, 0.0, 11.0, 10.0]),
            detection(0.7, [20.0, 0.0, 30.0, 10.0]),
        ];
        assert_eq!(scores_kept(&rivals, 0.5), [0.9, 0.7]);
    }

    #[test]
    fn a_box_exactly_at_the_limit_stays() {
        let rivals = [detection(0.9, [0.0, 0.0, 2.0, 1.0]), detection(0.8, [0.0, 0.0, 1.0, 1.0])];
        assert_eq!(scores_kept(&rivals, 0.5), [0.9, 0.8]);
    }

    #[test]
    fn a_suppressed_box_suppresses_nothing() {
        let rivals = [
            detection(0.9, [0.0, 0.0, 10.0, 10.0]),
            detection(0.8, [3.0, 0.0, 13.0, 10.0]),
            detection(0.7, [6.0, 0.0, 16.0, 10.0]),
        ];
        assert_eq!(scores_kept(&rivals, 0.5), [0.9, 0.7]);
    }
}
