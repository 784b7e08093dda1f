//! Which words a region is held against.
//!
//! A set is annotated for its own words: of others nothing is known in its photographs, so a region without an
//! object is held against those alone (federated, as LVIS is scored). An object with a word is that word and no
//! other, but for words that mean nearly the same: a beagle is also a dog.

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

/// What a text loss is held against, a row a region.
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
