//! Which words of a vocabulary are near one another, so near that a student could hardly tell them apart.

use wordsight_detection::{Vocabulary, Word};

use crate::competitors::MOST_ALIKE;

/// The cosine from which on two words are one to a student.
pub const ALIKE: f32 = 0.98;
/// From so many words on, what they all have in common is known well enough to leave it out.
const ENOUGH_FOR_COMMON: usize = 100;
/// Among more words near-duplicates aren't looked for.
const MOST_COMPARED: usize = 3000;

/// A word that is near another.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour<'a> {
    /// The other word, which may be a hidden one.
    pub word: &'a Word,
    /// The cosine of the two embeddings.
    pub cosine: f32,
}

/// Pairs of shown words that a student could hardly tell apart, the most alike first.
///
/// Among more than `MOST_COMPARED` words none are looked for: it takes the square of their number.
pub fn near_duplicates(vocabulary: &Vocabulary) -> Vec<(&str, &str, f32)> {
    let words = vocabulary.shown();
    if words.len() > MOST_COMPARED {
        return Vec::new();
    }
    let rows: Vec<&[f32]> = rows(vocabulary).take(words.len()).collect();
    let mut pairs = Vec::new();
    for (place, a) in rows.iter().enumerate() {
        for (other, b) in rows.iter().enumerate().skip(place + 1) {
            let cosine = dot(a, b);
            // Words with examples are no texts, and of any length.
            if cosine > ALIKE && words[place].examples + words[other].examples == 0 {
                pairs.push((words[place].word.as_str(), words[other].word.as_str(), cosine));
            }
        }
    }
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    pairs
}

/// The `most` words, hidden ones among them, that are nearest to the one at `place`, the nearest first.
pub fn neighbours(vocabulary: &Vocabulary, place: usize, most: usize) -> Vec<Neighbour<'_>> {
    let Some(row) = rows(vocabulary).nth(place) else { return Vec::new() };
    let mut others: Vec<Neighbour> = vocabulary
        .words
        .iter()
        .zip(rows(vocabulary))
        .enumerate()
        .filter(|(other, _)| *other != place)
        .map(|(_, (word, other))| Neighbour { word, cosine: cosine(row, other) })
        .collect();
    others.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    others.truncate(most);
    others
}

/// Pairs of a shown word and another, shown or hidden, that are no near-duplicates and yet mean nearly the same by
/// [`MOST_ALIKE`], which compares embeddings without what all words have in common; the most alike first.
///
/// None are looked for in a vocabulary of fewer than a hundred words, which has too little in common with language, or
/// where more than `MOST_COMPARED` are shown.
pub fn too_near(vocabulary: &Vocabulary) -> Vec<(&str, &Word, f32)> {
    let shown = vocabulary.shown();
    if vocabulary.words.len() < ENOUGH_FOR_COMMON || shown.len() > MOST_COMPARED {
        return Vec::new();
    }
    let mut common = vec![0.0; vocabulary.embedding_size];
    for row in rows(vocabulary) {
        let share = 1.0 / vocabulary.words.len() as f32;
        common.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * share);
    }
    let own = |row: &[f32]| -> Vec<f32> {
        let own: Vec<f32> = row.iter().zip(&common).map(|(value, common)| value - common).collect();
        let length = dot(&own, &own).sqrt().max(f32::MIN_POSITIVE);
        own.into_iter().map(|value| value / length).collect()
    };
    let (whole, own): (Vec<&[f32]>, Vec<Vec<f32>>) = rows(vocabulary).map(|row| (row, own(row))).unzip();
    let mut pairs = Vec::new();
    for (place, word) in shown.iter().enumerate() {
        for other in place + 1..own.len() {
            let near = dot(&own[place], &own[other]);
            let is_duplicate = other < shown.len() && dot(whole[place], whole[other]) > ALIKE;
            if near > MOST_ALIKE && !is_duplicate {
                pairs.push((word.word.as_str(), &vocabulary.words[other], near));
            }
        }
    }
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    pairs
}

fn rows(vocabulary: &Vocabulary) -> impl Iterator<Item = &[f32]> {
    vocabulary.embeddings.chunks_exact(vocabulary.embedding_size.max(1))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vocabulary() -> Vocabulary {
        let mut words = ["cup", "mug", "cat"].map(Word::new).to_vec();
        words.push(Word::competitor("dog"));
        let embeddings = [[1.0, 0.0], [0.995, 0.1], [0.0, 1.0], [0.1, 0.995]].concat();
        Vocabulary {
            teacher: "t".into(),
            student: None,
            embedding_size: 2,
            words,
            prompts: Vec::new(),
            embeddings,
        }
    }

    #[test]
    fn words_that_mean_the_same_to_a_student_are_named() {
        let vocabulary = vocabulary();
        let pairs: Vec<_> = near_duplicates(&vocabulary).iter().map(|(a, b, _)| (*a, *b)).collect();
        assert_eq!(pairs, [("cup", "mug")], "hidden ones are never told");
    }

    #[test]
    fn words_that_mean_nearly_the_same_are_told_where_enough_is_known_of_language() {
        let mut vocabulary = vocabulary();
        assert!(too_near(&vocabulary).is_empty());
        for place in 0..120 {
            let angle = place as f32 * 0.05;
            vocabulary.words.push(Word::competitor(format!("hidden {place}")));
            vocabulary.embeddings.extend([angle.cos(), angle.sin()]);
        }
        let near = too_near(&vocabulary);
        let has = |a: &str, b: &str| near.iter().any(|(word, other, _)| *word == a && other.word == b);
        assert!(has("cat", "dog") && !has("cup", "mug") && !has("cup", "dog"), "{near:?}");
    }

    #[test]
    fn a_words_neighbours_are_the_others_the_nearest_first_hidden_ones_among_them() {
        let vocabulary = vocabulary();
        let near: Vec<&str> =
            neighbours(&vocabulary, 2, 2).iter().map(|near| near.word.word.as_str()).collect();
        assert_eq!(near, ["dog", "mug"]);
        assert!(neighbours(&vocabulary, 9, 2).is_empty());
    }
}
