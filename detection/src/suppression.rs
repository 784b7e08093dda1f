//! Non-maximum suppression: one detection for one thing.
//!
//! Greedy, as every detector does it: the best stands, and whatever overlaps it by more than the
//! limit goes. The one surprising thing is who competes with whom, and the caller decides it by
//! handing in one word's detections or all of them.

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

/// Appends to `kept` those of `rivals` (best first) that overlap none already kept *of this call*
/// by more than `max_iou`.
pub(crate) fn suppress(rivals: &[Detection], max_iou: f32, kept: &mut Vec<Detection>) {
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
        Detection { word: 0, score, objectness: 1.0, box_in_input, region: 0 }
    }

    fn scores_kept(rivals: &[Detection], max_iou: f32) -> Vec<f32> {
        let mut kept = Vec::new();
        suppress(rivals, max_iou, &mut kept);
        kept.iter().map(|detection| detection.score).collect()
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
