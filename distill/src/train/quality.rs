//! Targets for the quality that the region head predicts: how well a box fits.
//!
//! Annotations give a box's overlap, but a training soon knows its annotations by heart: which objects of a photograph
//! were annotated, and which were not. A detector's confidence is new for each mosaic and crop (Hinton et al., 2015),
//! so it is part of the target.

use wordsight_detection::iou;

use super::assign::{Label, Region};
use super::soft_words::SharedWords;
use super::words::set_at;
use crate::label::yolox::Dense;
use crate::sets::{Sets, TrainingImage};

/// Detections with a lower score are ignored.
const LEAST_DETECTOR_SCORE: f32 = 0.01;
/// A region that overlaps an object by less than this has no target from it.
const TOUCHING_IOU: f32 = 0.3;

/// A detector's outputs for some pictures.
pub struct DetectorAnswers<'a> {
    /// The outputs, one a picture.
    pub answers: &'a [Dense],
    /// Its words.
    pub words: &'a SharedWords,
    /// Its weight for objects whose word it knows, against the annotation's; 0 to 1.
    pub share: f32,
}

/// Targets for the qualities of regions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Qualities {
    /// One a region, 0 to 1.
    pub targets: Vec<f32>,
    /// How much each counts, 0 to 1.
    pub weights: Vec<f32>,
}

impl Qualities {
    /// Of the regions of some pictures. `doubtful`: the weight of background that nobody annotated as such.
    pub fn new(
        images: &[TrainingImage],
        regions: &[Vec<Region>],
        sets: &Sets,
        doubtful: f32,
        heard: Option<&DetectorAnswers<'_>>,
    ) -> Self {
        let mut qualities = Self::default();
        for (place, (image, regions)) in images.iter().zip(regions).enumerate() {
            let answer = heard.map(|heard| (heard, &heard.answers[place]));
            let cells = answer.map_or_else(Vec::new, |(_, answer)| answer.sure_cells(LEAST_DETECTOR_SCORE));
            for region in regions {
                let said = answer
                    .filter(|(heard, _)| heard.knows(image, region))
                    .map(|(heard, answer)| (heard.share, quality(answer, &cells, region.box_in_input)));
                let (share, said) = said.unwrap_or((0.0, 0.0));
                let annotated = region.overlap.unwrap_or(0.0);
                qualities.targets.push(share.mul_add(said - annotated, annotated));
                let is_exhaustive =
                    set_at(image, region.box_in_input).is_some_and(|set| sets.sets[set].exhaustive);
                qualities.weights.push(match (region.overlap, region.label) {
                    (None, _) => 0.0,
                    (_, Label::Background) if !is_exhaustive => (1.0 - doubtful).mul_add(said, doubtful),
                    _ => 1.0,
                });
            }
        }
        qualities
    }
}

impl DetectorAnswers<'_> {
    /// Whether the detector has a word for what a region shows, or nothing is known to be there.
    fn knows(&self, image: &TrainingImage, region: &Region) -> bool {
        let overlap = |box_in_input| iou(box_in_input, region.box_in_input);
        image
            .objects
            .iter()
            .map(|object| (overlap(object.box_in_input), object.word))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .is_none_or(|(overlap, word)| {
                overlap < TOUCHING_IOU || word.is_some_and(|word| self.words.of_sets.contains(&word))
            })
    }
}

/// The overlap with what the detector sees that a box should expect: a score is a product of two, so its root stands for
/// one, times the IoU.
fn quality(answer: &Dense, cells: &[usize], region: [f32; 4]) -> f32 {
    let of_cell =
        |&cell: &usize| answer.scores[cell].clamp(0.0, 1.0).sqrt() * iou(answer.boxes_in_input[cell], region);
    cells.iter().map(of_cell).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::{Tile, TrainingObject};

    const CUP: [f32; 4] = [10.0, 10.0, 50.0, 50.0];
    const SUNDIAL: [f32; 4] = [100.0, 10.0, 150.0, 60.0];
    const EMPTY: [f32; 4] = [200.0, 200.0, 240.0, 240.0];

    fn image(set: usize) -> TrainingImage {
        let object = |box_in_input, word| TrainingObject { box_in_input, word: Some(word), weight: 1.0 };
        TrainingImage {
            pixels: Vec::new(),
            side: 256,
            objects: vec![object(CUP, 0), object(SUNDIAL, 1)],
            ignored: Vec::new(),
            tiles: vec![Tile { box_in_input: [0.0, 0.0, 256.0, 256.0], set }],
            teacher_regions: Vec::new(),
        }
    }

    fn regions() -> Vec<Region> {
        let region =
            |label, box_in_input, overlap| Region { box_in_input, label, overlap, teacher_row: None };
        vec![
            region(Label::Object(0), CUP, Some(1.0)),
            region(Label::Object(1), SUNDIAL, Some(1.0)),
            region(Label::Background, EMPTY, Some(0.0)),
            region(Label::Unclear, EMPTY, None),
        ]
    }

    fn qualities(set: usize, share: Option<f32>) -> Qualities {
        let sets = Sets::without_photographs(&["cup", "sundial"], &[(&[0, 1], true), (&[0], false)]);
        let words = SharedWords::new(["cup"].into_iter(), &sets);
        let answers = [Dense {
            scores: vec![0.25, 0.64, 0.005],
            word_scores: vec![0.5, 0.8, 0.1],
            boxes_in_input: vec![CUP, EMPTY, SUNDIAL],
            features: Vec::new(),
        }];
        let heard = share.map(|share| DetectorAnswers { answers: &answers, words: &words, share });
        Qualities::new(&[image(set)], &[regions()], &sets, 0.4, heard.as_ref())
    }

    #[test]
    fn annotations_alone_say_how_far_a_region_overlaps() {
        assert_eq!(
            qualities(1, None),
            Qualities { targets: vec![1.0, 1.0, 0.0, 0.0], weights: vec![1.0, 1.0, 0.4, 0.0] }
        );
    }

    #[test]
    fn a_detector_is_heard_as_far_as_it_knows_the_thing() {
        let said = qualities(0, Some(0.5));
        let expected = [0.5 * 1.0 + 0.5 * 0.5, 1.0, 0.5 * 0.8];
        for (target, expected) in said.targets.iter().zip(expected) {
            assert!((target - expected).abs() < 1e-6, "{said:?}");
        }
        assert_eq!(said.weights, [1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn background_that_nobody_annotated_counts_as_far_as_the_detector_sees_something() {
        let said = qualities(1, Some(1.0));
        assert!((said.weights[2] - (0.4 + 0.6 * 0.8)).abs() < 1e-6, "{said:?}");
        assert_eq!(said.weights[3], 0.0, "what is ignored");
    }
}
