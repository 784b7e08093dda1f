//! Suppression: of cells' boxes that overlap, the best is proposed.
//!
//! Greedy non-maximum suppression as a few matrix products, so that a graph of ordinary operators computes it (Fast
//! NMS, Bolya et al., 2019, repeated: Cluster-NMS, Zheng et al., 2021). Of the [`candidates`] of highest objectness, a
//! box is removed if a box with a higher objectness overlaps it and stands itself. Which boxes stand is computed in
//! [`ROUNDS`] rounds, each from the one before. Three rounds give the same result as the greedy algorithm except for
//! chains of four and more.
//!
//! A 3x3 maximum of the objectness, as in CenterNet, would keep boxes of cells further away and the other strides'
//! boxes of the same object.

use wordsight_detection::iou;

use super::Box4;

/// Boxes that overlap by more are of one thing.
pub const OVERLAP: f32 = 0.7;
/// Rounds in which it is found what stands.
pub const ROUNDS: usize = 3;
/// Cells of highest objectness that are looked at, unless more proposals are asked for.
const CANDIDATES: usize = 256;

/// How many cells of highest objectness are looked at for so many proposals.
pub fn candidates(proposals: usize, cells: usize) -> usize {
    CANDIDATES.max(2 * proposals).min(cells)
}

/// The best `count` cells: those that stand, by their objectness, and where they are fewer the others behind. The head may
/// yet find a box of those to fit better, and they vote on where a thing is.
pub fn best(objectness: &[f32], boxes: &[Box4], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..objectness.len()).collect();
    order.sort_by(|&a, &b| objectness[b].total_cmp(&objectness[a]));
    order.truncate(candidates(count, objectness.len()));
    let better_and_close: Vec<Vec<usize>> = (0..order.len())
        .map(|place| {
            let close = |&better: &usize| iou(boxes[order[better]], boxes[order[place]]) > OVERLAP;
            (0..place).filter(close).collect()
        })
        .collect();
    let mut stands = vec![true; order.len()];
    for _ in 0..ROUNDS {
        stands = better_and_close.iter().map(|close| !close.iter().any(|&better| stands[better])).collect();
    }
    let (standing, others): (Vec<_>, Vec<_>) = order.into_iter().zip(stands).partition(|(_, stands)| *stands);
    standing.into_iter().chain(others).map(|(cell, _)| cell).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THING: Box4 = [0.0, 0.0, 10.0, 10.0];
    const ALMOST: Box4 = [0.0, 0.0, 10.0, 9.0];
    const OTHER: Box4 = [0.0, 0.0, 10.0, 6.0];

    #[test]
    fn of_boxes_of_one_thing_the_best_is_proposed_and_the_others_follow() {
        assert_eq!(best(&[0.5, 0.9, 0.3], &[ALMOST, THING, OTHER], 3), [1, 2, 0]);
        assert_eq!(best(&[0.5, 0.9, 0.3], &[ALMOST, THING, OTHER], 2), [1, 2]);
    }

    #[test]
    fn a_box_that_fell_lets_its_neighbours_stand() {
        // Each overlaps the next by 0.8 and the one behind it by less than 0.7.
        let boxes = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 6.4]];
        assert_eq!(best(&[0.9, 0.8, 0.7], &boxes, 3), [0, 2, 1]);
    }
}
