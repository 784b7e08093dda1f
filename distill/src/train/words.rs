//! The words that a region is compared with in training.
//!
//! A set is annotated for its own words: nothing is known about others in its photographs, so a region without an
//! object is compared with those alone (federated, as LVIS is scored). An object with a word is that word and no
//! other, except for words that mean nearly the same: a beagle is also a dog.

use burn::tensor::{Device, Tensor, TensorData};

use super::assign::{Label, Region};
use crate::sets::{Set, Sets, TrainingImage};

/// Words whose text embeddings have at least this cosine may both be right of one thing.
const SAME_THING_COSINE: f32 = 0.6;
/// Added to a logit that takes no part.
const EXCLUDED: f32 = -1e4;

/// The words of all sets, and which of them exclude each other.
pub struct Words {
    /// Text embeddings `[words, D]`, L2-normalised.
    pub embeddings: Tensor<2>,
    /// For every word, which others may be right beside it.
    alike: Vec<Vec<bool>>,
    /// For every set, which words are annotated completely.
    complete: Vec<Vec<bool>>,
}

/// Targets of a text loss, a row a region.
pub struct TextTargets {
    /// The right class of each: 0 is the background, then the words.
    pub labels: Vec<i64>,
    /// How much each counts.
    pub weights: Vec<f32>,
    /// Added to the logits, `[regions, 1 + words]`.
    pub mask: Tensor<2>,
}

impl Words {
    /// From the sets and their words' text embeddings.
    pub fn new(sets: &Sets, embeddings: &[Vec<f32>], device: &Device) -> Self {
        let size = embeddings.first().map_or(0, Vec::len);
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let alike = embeddings
            .iter()
            .map(|a| embeddings.iter().map(|b| cosine(a, b) >= SAME_THING_COSINE).collect())
            .collect();
        let complete_for = |set: &Set| {
            let mut known = vec![false; embeddings.len()];
            for &word in &set.complete_for {
                known[word] = true;
            }
            known
        };
        let data = TensorData::new(embeddings.concat(), [embeddings.len(), size]);
        Self {
            embeddings: Tensor::from_data(data, device),
            alike,
            complete: sets.sets.iter().map(complete_for).collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.alike.len()
    }

    /// The words annotated completely in a set.
    pub fn complete_for(&self, set: usize) -> &[bool] {
        &self.complete[set]
    }

    /// What the regions of some pictures should say. `doubtful_weight`: of background in photographs that are not
    /// exhaustively annotated.
    pub fn targets(
        &self,
        images: &[TrainingImage],
        regions: &[Vec<Region>],
        sets: &Sets,
        doubtful_weight: f32,
        device: &Device,
    ) -> TextTargets {
        let classes = 1 + self.len();
        let count = regions.iter().map(Vec::len).sum::<usize>();
        let (mut labels, mut weights) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut mask = vec![0.0; count * classes];
        let all = images.iter().zip(regions).flat_map(|(image, of)| of.iter().map(move |r| (image, r)));
        for ((image, region), mask) in all.zip(mask.chunks_exact_mut(classes)) {
            let set = set_at(image, region.box_in_input);
            let complete = set.map(|set| self.complete[set].as_slice());
            let (label, weight) = match region.label {
                Label::Object(object) => match image.objects[object].word {
                    Some(word) => (word as i64 + 1, image.objects[object].weight),
                    None => (0, 0.0),
                },
                Label::Background => {
                    let is_sure = set.is_some_and(|set| sets.sets[set].exhaustive);
                    (0, if is_sure { 1.0 } else { doubtful_weight })
                }
                Label::Unclear => (0, 0.0),
            };
            let takes_part = |word: usize| {
                let is_complete = complete.is_some_and(|complete| complete[word]);
                match usize::try_from(label - 1) {
                    Ok(right) => word == right || is_complete || !self.alike[right][word],
                    Err(_) => is_complete,
                }
            };
            for (word, mask) in mask[1..].iter_mut().enumerate() {
                if !takes_part(word) {
                    *mask = EXCLUDED;
                }
            }
            // Held against nothing but the background, there is nothing to learn.
            let is_alone = label == 0 && mask[1..].iter().all(|mask| *mask == EXCLUDED);
            labels.push(label);
            weights.push(if is_alone { 0.0 } else { weight });
        }
        TextTargets {
            labels,
            weights,
            mask: Tensor::from_data(TensorData::new(mask, [count, classes]), device),
        }
    }
}

/// The set whose photograph shows the middle of a box.
pub fn set_at(image: &TrainingImage, [x1, y1, x2, y2]: [f32; 4]) -> Option<usize> {
    let (x, y) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
    let covers = |[left, top, right, bottom]: [f32; 4]| x >= left && x <= right && y >= top && y <= bottom;
    image.tiles.iter().find(|tile| covers(tile.box_in_input)).map(|tile| tile.set)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::sets::{Tile, TrainingObject};

    /// Where the first set's photograph lies, and the second's: side by side.
    const TILES: [[f32; 4]; 2] = [[0.0, 0.0, 100.0, 100.0], [100.0, 0.0, 200.0, 100.0]];
    const DOG: [f32; 4] = [10.0, 10.0, 60.0, 60.0];
    const NAMELESS: [f32; 4] = [110.0, 10.0, 160.0, 60.0];

    /// Dog and cup are complete in the first set, which is exhaustive; fork in the second, which is not. A beagle is
    /// also a dog.
    fn sets() -> Sets {
        Sets::without_photographs(&["dog", "beagle", "cup", "fork"], &[(&[0, 2], true), (&[3], false)])
    }

    fn words(sets: &Sets) -> Words {
        let embeddings =
            [[1.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        Words::new(sets, &embeddings.map(Vec::from), &Device::flex())
    }

    fn image() -> TrainingImage {
        let object = |box_in_input, word| TrainingObject {
            box_in_input,
            word,
            weight: if word.is_some() { 0.7 } else { 1.0 },
        };
        TrainingImage {
            pixels: Vec::new(),
            side: 200,
            objects: vec![object(DOG, Some(1)), object(NAMELESS, None)],
            ignored: Vec::new(),
            tiles: TILES.iter().zip(0..).map(|(&box_in_input, set)| Tile { box_in_input, set }).collect(),
            teacher_regions: Vec::new(),
        }
    }

    /// The targets of regions, and for each the words that it is compared with.
    fn targets(regions: &[([f32; 4], Label)]) -> (TextTargets, Vec<Vec<usize>>) {
        let sets = sets();
        let regions: Vec<Region> = regions
            .iter()
            .map(|&(box_in_input, label)| Region { box_in_input, label, overlap: None, teacher_row: None })
            .collect();
        let targets = words(&sets).targets(&[image()], &[regions], &sets, 0.4, &Device::flex());
        let mask: Vec<f32> = targets.mask.clone().into_data().iter().collect();
        assert!(mask.chunks_exact(5).all(|row| row[0] == 0.0), "the background always takes part");
        let against = |row: &[f32]| (0..4).filter(|&word| row[1 + word] == 0.0).collect();
        let against = mask.chunks_exact(5).map(against).collect();
        (targets, against)
    }

    #[test]
    fn a_region_without_an_object_is_held_against_the_words_that_its_set_is_complete_for() {
        let empty = |[x1, ..]: [f32; 4]| ([x1 + 70.0, 70.0, x1 + 90.0, 90.0], Label::Background);
        let (targets, against) = targets(&TILES.map(empty));
        assert_eq!(against, [vec![0, 2], vec![3]]);
        assert_eq!(targets.labels, [0, 0]);
        assert_eq!(targets.weights, [1.0, 0.4], "where not everything is annotated, it counts less");
    }

    #[test]
    fn an_object_is_held_against_all_words_but_those_that_may_be_right_of_it_too() {
        let (targets, against) = targets(&[(DOG, Label::Object(0))]);
        // Its set is complete for dogs: whoever annotated the beagle said that it is none of the set's dogs.
        assert_eq!(against, [[0, 1, 2, 3]]);
        assert_eq!((targets.labels, targets.weights), (vec![2], vec![0.7]));

        let sets =
            Sets::without_photographs(&["dog", "beagle", "cup", "fork"], &[(&[], false), (&[], false)]);
        let region = Region { box_in_input: DOG, label: Label::Object(0), overlap: None, teacher_row: None };
        let federated = words(&sets).targets(&[image()], &[vec![region]], &sets, 0.4, &Device::flex());
        let mask: Vec<f32> = federated.mask.into_data().iter().collect();
        assert_eq!(mask, [0.0, EXCLUDED, 0.0, 0.0, 0.0], "where nobody looked for dogs, a beagle may be one");
    }

    #[test]
    fn what_is_unclear_or_has_no_name_teaches_no_word() {
        let (targets, _) = targets(&[(DOG, Label::Unclear), (NAMELESS, Label::Object(1))]);
        assert_eq!((targets.labels, targets.weights), (vec![0, 0], vec![0.0, 0.0]));
    }

    #[test]
    fn background_that_is_held_against_no_word_teaches_nothing() {
        let sets =
            Sets::without_photographs(&["dog", "beagle", "cup", "fork"], &[(&[], false), (&[], false)]);
        let region = Region {
            box_in_input: [70.0, 70.0, 90.0, 90.0],
            label: Label::Background,
            overlap: None,
            teacher_row: None,
        };
        let targets = words(&sets).targets(&[image()], &[vec![region]], &sets, 0.4, &Device::flex());
        assert_eq!(targets.weights, [0.0]);
    }

    #[test]
    fn a_box_belongs_to_the_set_whose_photograph_shows_its_middle() {
        let image = image();
        assert_eq!(set_at(&image, [90.0, 0.0, 120.0, 50.0]), Some(1));
        assert_eq!(set_at(&image, [0.0, 150.0, 50.0, 190.0]), None, "padding is no set's");
    }
}
