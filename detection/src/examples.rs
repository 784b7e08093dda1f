//! Words by example: rows of a vocabulary from regions in which a student saw the thing.
//!
//! Takes a vocabulary, region embeddings of things that were shown, and what a student's regions are like on average,
//! and gives the vocabulary with one row for each word, which costs nothing more to score than a word of text alone.
//!
//! A student's regions lie close together: their mean has a length of 0.96. What tells them apart is the difference
//! from that mean, and less so along the few directions in which all regions differ most. With W, which keeps a share
//! of a difference along those and all of it along others, and d the difference of the mean of a word's examples, a
//! region x of the text head resembles them by
//!
//! ```text
//! resemblance(x) = d · W (x - mean) / (sqrt(d · W d) spread)
//! ```
//!
//! which is 0 for regions on average and about 0.5 for those of the word. It is added to the word's logit as
//! gain · (resemblance - threshold). Both are linear in x, so that they are one row: the constant becomes a vector v
//! with v · x constant on average. The image head meets the same row, and v is such that its logits change by
//! -gain · threshold on average, as for a region that resembles nothing.
//!
//! Gain and threshold are fitted on photographs, for words that have a text beside their examples and for those that
//! have none: `wordsight-distill eval-examples` prints what they give.

use serde::{Deserialize, Serialize};

use crate::vocabulary::{Vocabulary, VocabularyError, VocabularyProblem, Word};

/// What is added to the logit of a word with a text for n examples, for each unit of resemblance: as n grows, this.
const GAIN_BESIDE_TEXT: f32 = 5.0;
/// From where on resemblance speaks for a word that has a text.
const THRESHOLD_BESIDE_TEXT: f32 = 0.6;
/// A text says something of a word's examples where their logit is so far above the mean of the vocabulary's words: half
/// of all photographs' objects are 5.8 above it by their words, and a twentieth of the objects is 2.8 by any other word.
/// One or two examples may be of no ordinary sight, and a text is rather kept.
const LEAST_TEXT_LOGIT: f32 = 2.5;
const LEAST_TEXT_LOGIT_OF_FEW: f32 = 1.0;
/// The same of a word of examples alone, over the mean logit of the vocabulary's words.
const GAIN_ALONE: f32 = 9.0;
const THRESHOLD_ALONE: f32 = 0.15;

/// What the regions of a student are like on ordinary photographs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionStatistics {
    /// Mean of the text head's embeddings, `[D]`.
    pub text_mean: Vec<f32>,
    /// Mean of the image head's embeddings, `[D]`.
    pub image_mean: Vec<f32>,
    /// Mean distance of the text head's embeddings from their mean: sqrt(d · W d) of the module.
    pub spread: f32,
    /// Where they differ most; along all other directions differences count as they are.
    #[serde(default)]
    pub components: Vec<Component>,
}

/// A direction in which regions differ much, whatever they show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The direction, `[D]` and of length 1; those of one student stand at right angles.
    pub direction: Vec<f32>,
    /// The share of a difference along it that counts, from 0 to 1.
    pub share: f32,
}

impl RegionStatistics {
    /// Whether they can be those of a student with embeddings of so many numbers.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, embedding_size: usize) -> Result<(), String> {
        for (name, mean) in [("text_mean", &self.text_mean), ("image_mean", &self.image_mean)] {
            if mean.len() != embedding_size {
                let found = mean.len();
                return Err(format!(
                    "`{name}` has {found} numbers, and its embeddings have {embedding_size}"
                ));
            }
            if !length(mean).is_finite() {
                return Err(format!("`{name}` is not finite"));
            }
        }
        for Component { direction, share } in &self.components {
            if direction.len() != embedding_size || (length(direction) - 1.0).abs() > 0.01 {
                return Err(format!(
                    "a direction of `components` is not {embedding_size} numbers of length 1"
                ));
            }
            if !(0.0..=1.0).contains(share) {
                return Err(format!("a share of `components` is {share}, and must be from 0 to 1"));
            }
        }
        if self.spread.is_finite() && self.spread > 1e-6 {
            Ok(())
        } else {
            Err(format!("`spread` is {}, and must be above 0", self.spread))
        }
    }

    /// W of the module, times a difference.
    pub fn weighted(&self, difference: &[f32]) -> Vec<f32> {
        let mut weighted = difference.to_vec();
        for Component { direction, share } in &self.components {
            let taken = (1.0 - share) * dot(difference, direction);
            weighted.iter_mut().zip(direction).for_each(|(value, along)| *value -= taken * along);
        }
        weighted
    }

    /// What is added to a row for the mean of a word's examples: see the module.
    fn row(
        &self,
        example: &[f32],
        Evidence { gain, threshold }: Evidence,
        temperature: f32,
    ) -> Option<Vec<f32>> {
        let Self { text_mean, image_mean, spread, .. } = self;
        let from_mean = difference(example, text_mean);
        let direction = self.weighted(&from_mean);
        let away = dot(&from_mean, &direction).max(0.0).sqrt();
        if away < 1e-6 {
            return None;
        }
        let scale = temperature * gain / (spread * away);
        let constant = -temperature * gain * threshold;
        // Two equations for v = a · text_mean + b · image_mean, one for each head.
        let wanted = [text_mean, image_mean].map(|mean| constant - scale * dot(&direction, mean));
        let [tt, ti, ii] =
            [dot(text_mean, text_mean), dot(text_mean, image_mean), dot(image_mean, image_mean)];
        let determinant = tt * ii - ti * ti;
        // Where the means point the same way, or one head has both embeddings, the text head's alone decides.
        let (a, b) = if determinant > 1e-3 * tt * ii {
            ((wanted[0] * ii - wanted[1] * ti) / determinant, (wanted[1] * tt - wanted[0] * ti) / determinant)
        } else {
            (wanted[0] / tt.max(1e-12), 0.0)
        };
        let means = text_mean.iter().zip(image_mean);
        Some(direction.iter().zip(means).map(|(d, (text, image))| scale * d + a * text + b * image).collect())
    }
}

/// How much resemblance adds to a logit, and from where on.
#[derive(Clone, Copy)]
struct Evidence {
    gain: f32,
    threshold: f32,
}

impl Evidence {
    fn beside_text(examples: usize) -> Self {
        let count = examples as f32;
        Self { gain: GAIN_BESIDE_TEXT * count / (count + 1.0), threshold: THRESHOLD_BESIDE_TEXT }
    }
}

/// Examples of one word, as a student saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordExamples {
    /// The word. One that the vocabulary has already gets better by them; another is appended.
    pub word: String,
    /// The text head's embeddings of their regions, each `[D]` and of length 1.
    pub regions: Vec<Vec<f32>>,
    /// Whether they show what the word is not: then they are a hidden word, "not" and this one, that takes such regions from
    /// the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_negative: bool,
}

/// A student to which things were shown.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Its id, which the vocabulary names from then on.
    pub student: &'a str,
    /// What its cosines are divided by.
    pub temperature: f32,
    /// What its regions are like; none where its file doesn't say.
    pub statistics: Option<&'a RegionStatistics>,
}

impl Vocabulary {
    /// Adds examples to words, and words that have only examples. The text of a word that says nothing of its examples, a
    /// made-up name for instance, is left out.
    ///
    /// # Errors
    /// When examples don't fit the embeddings, the student says nothing of its regions, or the vocabulary holds examples of
    /// another student already.
    pub fn add_examples(&mut self, shown: Shown<'_>, words: &[WordExamples]) -> Result<(), VocabularyError> {
        if words.iter().all(|word| word.regions.is_empty()) {
            return Ok(());
        }
        self.check_student(shown.student)?;
        let statistics = shown.statistics.ok_or(VocabularyError::NoRegionStatistics)?;
        // Of the words as they were: what the first word adds is not to change the second.
        let mean = self.mean_row();
        // What words are not comes last, so that it is called like none that is looked for.
        for is_negative in [false, true] {
            let of_kind = |word: &&WordExamples| word.is_negative == is_negative && !word.regions.is_empty();
            for word in words.iter().filter(of_kind) {
                self.add_word(word, &mean, statistics, shown.temperature)?;
            }
        }
        self.student = Some(shown.student.to_owned());
        Ok(())
    }

    /// Shows the words of another vocabulary of the same teacher, too.
    ///
    /// # Panics
    /// When its embeddings have another size: a mistake in the calling code.
    pub fn show_too(&mut self, other: Vocabulary) {
        assert_eq!(self.embedding_size, other.embedding_size, "embeddings of one teacher");
        let rows = other.embeddings.chunks_exact(other.embedding_size).map(<[f32]>::to_vec);
        for (word, row) in other.words.into_iter().zip(rows) {
            self.insert(word, row);
        }
    }

    fn add_word(
        &mut self,
        WordExamples { word, regions, is_negative }: &WordExamples,
        mean: &[f32],
        statistics: &RegionStatistics,
        temperature: f32,
    ) -> Result<(), VocabularyError> {
        let size = self.embedding_size;
        let fits = |region: &Vec<f32>| region.len() == size && (length(region) - 1.0).abs() < 0.1;
        if statistics.text_mean.len() != size || !regions.iter().all(fits) {
            return Err(problem(format!("an example of `{word}` is no region of this student")));
        }
        let example = mean_of(regions, size);
        let name = if *is_negative { self.name_of_negative(word) } else { word.clone() };
        let place = self.place_of(&name, *is_negative);
        let own = place.map(|place| &self.embeddings[place * size..][..size]);
        let least = if regions.len() < 3 { LEAST_TEXT_LOGIT_OF_FEW } else { LEAST_TEXT_LOGIT };
        let text = own.filter(|own| dot(&difference(own, mean), &example) >= least * temperature);
        let evidence = match text {
            Some(_) => Evidence::beside_text(regions.len()),
            None => Evidence { gain: GAIN_ALONE, threshold: THRESHOLD_ALONE },
        };
        let added = statistics
            .row(&example, evidence, temperature)
            .ok_or_else(|| problem(format!("the examples of `{word}` show nothing in particular")))?;
        let row: Vec<f32> =
            text.unwrap_or(mean).iter().zip(added).map(|(before, added)| before + added).collect();
        match place {
            Some(place) => {
                self.embeddings[place * size..][..size].copy_from_slice(&row);
                self.words[place].examples += regions.len();
            }
            None => {
                let word = Word { examples: regions.len(), hidden: *is_negative, ..Word::new(name) };
                self.insert(word, row);
            }
        }
        Ok(())
    }

    /// What a word is not is a hidden word, of a name that no shown word has.
    fn name_of_negative(&self, word: &str) -> String {
        let mut name = format!("not {word}");
        while self.shown().iter().any(|known| known.word == name) {
            name = format!("({name})");
        }
        name
    }

    fn mean_row(&self) -> Vec<f32> {
        mean_of(self.embeddings.chunks_exact(self.embedding_size), self.embedding_size)
    }

    /// Where a word stands, if it does. A competitor that is looked for from now on becomes a shown word.
    fn place_of(&mut self, name: &str, is_hidden: bool) -> Option<usize> {
        let place = self.words.iter().position(|known| known.word == name)?;
        if self.words[place].hidden == is_hidden {
            return Some(place);
        }
        let (size, word) = (self.embedding_size, self.words.remove(place));
        let row = self.embeddings.drain(place * size..(place + 1) * size).collect();
        Some(self.insert(Word { hidden: is_hidden, threshold: None, ..word }, row))
    }

    /// Puts a word behind those of its kind, and says where.
    fn insert(&mut self, word: Word, row: Vec<f32>) -> usize {
        let place = if word.hidden { self.words.len() } else { self.shown().len() };
        let at = place * self.embedding_size;
        self.embeddings.splice(at..at, row);
        self.words.insert(place, word);
        place
    }
}

fn problem(text: String) -> VocabularyError {
    VocabularyError::Examples(VocabularyProblem::new(text))
}

/// The mean of rows; 0 where there are none.
fn mean_of<R: AsRef<[f32]>>(rows: impl IntoIterator<Item = R>, size: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0.0_f64; size], 0.0);
    for row in rows {
        sums.iter_mut().zip(row.as_ref()).for_each(|(sum, value)| *sum += f64::from(*value));
        count += 1.0;
    }
    sums.into_iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(row: &[f32]) -> f32 {
    dot(row, row).sqrt()
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    const TEMPERATURE: f32 = 0.02;

    /// Regions lie around the third number, words around the fourth.
    fn statistics() -> RegionStatistics {
        RegionStatistics {
            // As much of it as the examples have, so that they differ from the mean in their direction alone.
            text_mean: vec![0.0, 0.0, 0.9 / 0.9_f32.hypot(0.25), 0.0],
            image_mean: vec![0.0, 0.0, 0.0, 0.9],
            spread: 0.25,
            components: vec![],
        }
    }

    fn unit(row: [f32; 4]) -> Vec<f32> {
        let length = length(&row);
        row.iter().map(|value| value / length).collect()
    }

    fn vocabulary() -> Vocabulary {
        Vocabulary {
            teacher: "a teacher".into(),
            student: None,
            words: vec![Word::new("cat"), Word::new("dog"), Word::competitor("wall")],
            prompts: vec!["{}".into()],
            embeddings: [[0.4, 0.0, 0.0, 1.0], [-0.4, 0.0, 0.0, 1.0], [0.0, 0.4, 0.0, 1.0]]
                .map(unit)
                .concat(),
            embedding_size: 4,
        }
    }

    fn shown(statistics: &RegionStatistics) -> Shown<'_> {
        Shown { student: "a student", temperature: TEMPERATURE, statistics: Some(statistics) }
    }

    fn examples(word: &str, regions: &[[f32; 4]]) -> WordExamples {
        WordExamples {
            word: word.into(),
            regions: regions.iter().copied().map(unit).collect(),
            is_negative: false,
        }
    }

    fn row<'a>(vocabulary: &'a Vocabulary, word: &str) -> &'a [f32] {
        let place = vocabulary.words.iter().position(|known| known.word == word).unwrap();
        &vocabulary.embeddings[place * 4..][..4]
    }

    fn names(vocabulary: &Vocabulary) -> Vec<&str> {
        vocabulary.words.iter().map(|word| word.word.as_str()).collect()
    }

    #[test]
    fn an_unknown_word_is_as_any_other_to_the_mean_region_but_for_its_threshold() {
        let (before, statistics) = (vocabulary(), statistics());
        let mut taught = before.clone();
        taught.add_examples(shown(&statistics), &[examples("mug", &[[0.0, -0.25, 0.9, 0.0]])]).unwrap();
        assert_eq!(names(&taught), ["cat", "dog", "mug", "wall"]);
        assert_eq!((taught.shown()[2].examples, taught.student.as_deref()), (1, Some("a student")));
        let (mug, mean) = (row(&taught, "mug"), before.mean_row());
        for region in [&statistics.text_mean, &statistics.image_mean] {
            let above = (dot(mug, region) - dot(&mean, region)) / TEMPERATURE;
            assert!((above + GAIN_ALONE * THRESHOLD_ALONE).abs() < 1e-3, "{above}");
        }
        let example = unit([0.0, -0.25, 0.9, 0.0]);
        let resemblance = length(&difference(&example, &statistics.text_mean)) / statistics.spread;
        let above = (dot(mug, &example) - dot(&mean, &example)) / TEMPERATURE;
        assert!((above - GAIN_ALONE * (resemblance - THRESHOLD_ALONE)).abs() < 1e-2, "{above}");
        assert_eq!(row(&taught, "dog"), row(&before, "dog"));
    }

    #[test]
    fn a_text_that_says_something_of_its_examples_stays_and_another_is_left_out() {
        let (before, statistics) = (vocabulary(), statistics());
        let of_cats = [[0.3, 0.0, 0.9, 0.0]];
        let mut taught = before.clone();
        taught.add_examples(shown(&statistics), &[examples("cat", &of_cats)]).unwrap();
        let added = difference(row(&taught, "cat"), row(&before, "cat"));
        let direction = difference(&unit(of_cats[0]), &statistics.text_mean);
        let along = dot(&added, &direction) / length(&direction);
        let evidence = Evidence::beside_text(1);
        assert!(along > 0.5 * TEMPERATURE * evidence.gain / statistics.spread, "{along}");
        // A "dog" that looks like a cat is none by its text.
        let [mut named, mut unnamed] = [before.clone(), before.clone()];
        named.add_examples(shown(&statistics), &[examples("dog", &of_cats)]).unwrap();
        unnamed.add_examples(shown(&statistics), &[examples("Rex", &of_cats)]).unwrap();
        assert_eq!(row(&named, "dog"), row(&unnamed, "Rex"));
        assert_eq!(names(&named), names(&before));
    }

    #[test]
    fn a_competitor_with_examples_is_shown_and_what_a_word_is_not_is_hidden() {
        let (mut taught, statistics) = (vocabulary(), statistics());
        let not_a_cat = WordExamples { is_negative: true, ..examples("cat", &[[0.3, -0.3, 0.9, 0.0]]) };
        let words = [examples("wall", &[[0.0, 0.3, 0.9, 0.0]]), not_a_cat];
        taught.add_examples(shown(&statistics), &words).unwrap();
        assert_eq!(names(&taught), ["cat", "dog", "wall", "not cat"]);
        assert_eq!(taught.shown().len(), 3);
    }

    #[test]
    fn a_file_with_examples_names_its_student_and_is_of_another_format() {
        let (mut taught, statistics) = (vocabulary(), statistics());
        taught.add_examples(shown(&statistics), &[]).unwrap();
        assert_eq!(taught, vocabulary(), "nothing was shown");
        taught.add_examples(shown(&statistics), &[examples("mug", &[[0.0, -0.25, 0.9, 0.0]; 3])]).unwrap();
        let bytes = taught.to_bytes().unwrap();
        let read = Vocabulary::of_bytes(&bytes, Path::new("mine.safetensors")).unwrap();
        assert_eq!(read, taught);
        read.check_student("a student").unwrap();
        let error = read.check_student("another").unwrap_err().to_string();
        assert!(error.contains("a student") && error.contains("another"), "{error}");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("wordsight-vocabulary-2"), "{text}");
        let plain = vocabulary().to_bytes().unwrap();
        assert!(String::from_utf8_lossy(&plain).contains("wordsight-vocabulary-1"));
        let other = Shown { student: "another", ..shown(&statistics) };
        assert!(taught.add_examples(other, &[examples("cat", &[[0.3, 0.0, 0.9, 0.0]])]).is_err());
        let mut nameless = taught.clone();
        nameless.student = None;
        assert!(nameless.to_bytes().unwrap_err().to_string().contains("of which student"));
    }

    #[test]
    fn what_can_be_no_example_is_refused() {
        let (mut taught, statistics) = (vocabulary(), statistics());
        let silent = Shown { statistics: None, ..shown(&statistics) };
        let mug = examples("mug", &[[0.0, -0.25, 0.9, 0.0]]);
        let error = taught.add_examples(silent, std::slice::from_ref(&mug)).unwrap_err().to_string();
        assert!(error.contains("measure-regions"), "{error}");
        let short = WordExamples { regions: vec![vec![1.0, 0.0]], ..mug.clone() };
        let long = WordExamples { regions: vec![vec![3.0, 0.0, 0.0, 0.0]], ..mug };
        for wrong in [short, long] {
            let error = taught.add_examples(shown(&statistics), &[wrong]).unwrap_err().to_string();
            assert!(error.contains("`mug` is no region"), "{error}");
        }
        assert_eq!(taught, vocabulary());
    }

    #[test]
    fn a_word_that_is_called_like_what_another_is_not_stays() {
        let statistics = statistics();
        let mut taught = vocabulary();
        taught.words[1] = Word::new("not cat");
        let negative = WordExamples { is_negative: true, ..examples("cat", &[[0.8, 0.6, 0.0, 0.0]]) };
        taught
            .add_examples(shown(&statistics), &[negative, examples("not cat", &[[0.0, 1.0, 0.0, 0.0]])])
            .unwrap();
        let names = |words: &[Word]| words.iter().map(|word| word.word.clone()).collect::<Vec<_>>();
        assert_eq!(names(taught.shown()), ["cat", "not cat"]);
        assert_eq!(names(taught.hidden()), ["wall", "(not cat)"]);
    }

    #[test]
    fn a_difference_along_a_component_counts_by_its_share() {
        let mut damped = statistics();
        let plain = damped.row(&unit([0.6, 0.8, 0.0, 0.0]), Evidence::beside_text(1), TEMPERATURE).unwrap();
        damped.components = vec![Component { direction: vec![1.0, 0.0, 0.0, 0.0], share: 0.25 }];
        assert_eq!(damped.check(4), Ok(()));
        let row = damped.row(&unit([0.6, 0.8, 0.0, 0.0]), Evidence::beside_text(1), TEMPERATURE).unwrap();
        assert!((plain[0] / plain[1] - 0.75).abs() < 1e-6);
        assert!((row[0] / row[1] - 0.25 * 0.75).abs() < 1e-6);
        for (direction, share) in
            [(vec![1.0], 0.5), (vec![0.5, 0.0, 0.0, 0.0], 0.5), (vec![1.0, 0.0, 0.0, 0.0], 1.5)]
        {
            damped.components = vec![Component { direction, share }];
            assert!(damped.check(4).unwrap_err().contains("components"));
        }
    }
}
