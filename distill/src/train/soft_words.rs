//! A detector's scores of its words as soft targets of the text embedding.
//!
//! An annotation gives one word an object; the detector also says what else it might be and how sure it is that
//! anything is there (Hinton et al., 2015), and finds objects that nobody annotated. The annotations of two thousand
//! photographs are soon known by heart; for mosaics and crops of them, each seen once, the detector's scores are new
//! each time (Beyer et al., 2022).

use wordsight_detection::iou;

use super::assign::{Label, Region};
use super::box_teacher::LEAST_TEACHING_SCORE;
use crate::label::yolox::Dense;
use crate::sets::{Sets, TrainingImage};

/// A cell's box that overlaps a region by at least this IoU speaks of the same thing.
const SAME_THING_IOU: f32 = 0.6;
/// Where the detector speaks, the annotation counts this much.
pub const ANNOTATED_SHARE: f32 = 0.5;
/// Scores are kept this far from 0 and 1 when they become odds.
const SCORE_MARGIN: f32 = 1e-4;

/// The detector's words that are also the sets'.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedWords {
    /// Their places among the detector's.
    of_detector: Vec<usize>,
    /// Their places among the sets'.
    pub of_sets: Vec<usize>,
}

/// What the words of regions should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoftTargets {
    /// `[regions, 1 + shared words]`, the background first; rows sum to 1, or are 0 where the detector says nothing.
    pub shares: Vec<f32>,
    /// 1 where the detector says something.
    pub weights: Vec<f32>,
}

impl SharedWords {
    /// Looks up the detector's `names` among the sets'.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, sets: &Sets) -> Self {
        let place = |name| sets.words.iter().position(|word| word == name);
        let (of_detector, of_sets) =
            names.enumerate().filter_map(|(own, name)| Some((own, place(name)?))).unzip();
        Self { of_detector, of_sets }
    }

    /// What regions of some pictures should be called. A region where the detector contradicts an annotation counts
    /// nothing.
    pub fn targets(
        &self,
        images: &[TrainingImage],
        regions: &[Vec<Region>],
        answers: &[Dense],
    ) -> SoftTargets {
        let mut targets = SoftTargets::default();
        for ((image, regions), answer) in images.iter().zip(regions).zip(answers) {
            let sure = answer.sure_cells(LEAST_TEACHING_SCORE);
            for region in regions {
                let shares = closest(answer, &sure, region.box_in_input)
                    .map(|cell| self.shares(answer.scores[cell], answer.word_scores_of(cell)))
                    .filter(|shares| !self.contradicts(&shares[1..], image, region.label));
                targets.weights.push(f32::from(u8::from(shares.is_some())));
                targets.shares.extend(shares.unwrap_or_else(|| vec![0.0; 1 + self.of_sets.len()]));
            }
        }
        targets
    }

    /// A cell's score and those of its words, which are independent of each other, as shares of one: the root of the score,
    /// which is a product of two, for all words, each in proportion to its odds; the rest for the background.
    fn shares(&self, score: f32, scores: &[f32]) -> Vec<f32> {
        let object = score.clamp(0.0, 1.0).sqrt();
        let odds = |score: f32| {
            let score = score.clamp(SCORE_MARGIN, 1.0 - SCORE_MARGIN);
            score / (1.0 - score)
        };
        let odds: Vec<f32> = self.of_detector.iter().map(|&word| odds(scores[word])).collect();
        let sum: f32 = odds.iter().sum();
        std::iter::once(1.0 - object).chain(odds.into_iter().map(|odds| object * odds / sum)).collect()
    }

    fn contradicts(&self, shares: &[f32], image: &TrainingImage, label: Label) -> bool {
        let Label::Object(object) = label else { return false };
        let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]));
        image.objects[object].word.is_some_and(|word| best.map(|best| self.of_sets[best]) != Some(word))
    }
}

/// Of `cells` the one with the highest score whose box is the region's.
fn closest(answer: &Dense, cells: &[usize], region: [f32; 4]) -> Option<usize> {
    let is_same = |cell: &usize| iou(answer.boxes_in_input[*cell], region) >= SAME_THING_IOU;
    let cells = cells.iter().copied().filter(is_same);
    cells.max_by(|&a, &b| answer.scores[a].total_cmp(&answer.scores[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: [f32; 4] = [10.0, 10.0, 50.0, 50.0];

    fn region(label: Label, box_in_input: [f32; 4]) -> Region {
        Region { box_in_input, label, overlap: None, teacher_row: None }
    }

    #[test]
    fn a_region_is_called_what_the_surest_cell_over_it_says_in_shares_of_its_odds() {
        let sets = Sets::without_photographs(&["bird", "cup", "dog"], &[(&[0, 1, 2], true)]);
        let words = SharedWords::new(["dog", "kite", "cup"].into_iter(), &sets);
        assert_eq!(words.of_sets, [2, 1]);
        let answer = Dense {
            scores: vec![0.4, 0.64, 0.05],
            word_scores: vec![0.5, 0.1, 0.5, 0.8, 0.9, 0.5, 0.9, 0.1, 0.1],
            boxes_in_input: vec![BOX, [12.0, 10.0, 50.0, 50.0], [200.0, 200.0, 220.0, 220.0]],
            features: Vec::new(),
        };
        let object = |word| crate::sets::TrainingObject { box_in_input: BOX, word: Some(word), weight: 1.0 };
        let image = TrainingImage {
            pixels: Vec::new(),
            side: 256,
            objects: vec![object(2), object(0)],
            ignored: Vec::new(),
            tiles: Vec::new(),
            teacher_regions: Vec::new(),
        };
        let regions = vec![
            region(Label::Background, BOX),
            region(Label::Object(0), BOX),
            region(Label::Object(1), BOX),
            region(Label::Background, [200.0, 200.0, 220.0, 220.0]),
            region(Label::Background, [10.0, 10.0, 50.0, 20.0]),
        ];
        let targets = words.targets(&[image], &[regions], &[answer]);
        assert_eq!(targets.weights, [1.0, 1.0, 0.0, 0.0, 0.0], "contradicted, unsure, elsewhere");
        let expected = [0.2, 0.8 * 0.8, 0.8 * 0.2];
        for (share, expected) in targets.shares.iter().zip(expected.iter().chain(&expected)) {
            assert!((share - expected).abs() < 1e-5, "{:?}", targets.shares);
        }
        assert!(targets.shares[6..].iter().all(|&share| share == 0.0));
    }
}
