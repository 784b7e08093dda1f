//! Competitors: hidden words of a vocabulary, so that a region need not be one of the few words that were asked for.
//!
//! Takes a vocabulary's words and either the built-in list (`competitors.txt`) or the user's own. Words of the list
//! that mean something else than the vocabulary's are embedded with the same prompts, marked as hidden
//! ([`wordsight_detection::Word::hidden`]) and appended.
//!
//! A word that means the same as a shown word must not compete with it: a hidden "puppy" would win every second dog.
//! So a built-in competitor is left out when one of the two names contains the other ("sports car", "car"), in the
//! singular or the plural; when the list gives one as a synonym or a kind of the other ("lorry", "truck"; "owl",
//! "bird"); and when their embeddings are too similar ([`MOST_ALIKE`]). A list of the user's own is taken as it is,
//! except for the shown words themselves.

use std::str::FromStr;

use wordsight_detection::{Vocabulary, Word};

use crate::captions::{Caption, EmbedCaptions, Names, embed_names};
use crate::error::TeacherError;
use crate::prompts::{DEFAULT_PROMPTS, caption, clean};

/// The cosine from which on a built-in competitor means the same as a shown word. It is that of embeddings without what
/// the whole list has in common, so that it holds for teachers whose captions are all alike, as CLIP's are.
///
/// Measured with the stand-in teacher, above it lie couch and sofa 0.82, dog and puppy 0.72, cat and kitten 0.71, car and
/// sedan 0.64, cup and mug 0.63, dog and labrador 0.57; below it bicycle and motorcycle 0.52, car and truck 0.48, dog and
/// cat 0.41, knife and scissors 0.44. Some names of one thing lie below it too (lorry and truck 0.34, person and man
/// 0.38): for these the list has synonyms. On COCO's photographs limits from 0.5 to 0.7 give the same result.
pub const MOST_ALIKE: f32 = 0.55;

/// Which words compete with those of a vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Competitors {
    /// Those of the built-in list that mean something else than the vocabulary's words.
    #[default]
    Default,
    /// None.
    None,
    /// These, whatever they mean.
    These(Vec<String>),
}

impl FromStr for Competitors {
    type Err = String;

    /// `default`, `none`, or words with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            words => {
                let words: Vec<String> = words.split(',').map(|word| word.trim().to_owned()).collect();
                if words.iter().any(|word| clean(word).is_empty()) {
                    return Err("one of the words is empty; `none` means no competitors".to_owned());
                }
                Ok(Self::These(words))
            }
        }
    }
}

/// A competitor of the built-in list.
#[derive(Clone, Debug)]
pub struct Competitor {
    /// What is embedded.
    pub name: &'static str,
    /// Other names of the thing, and kinds that it is of.
    pub also: Vec<&'static str>,
}

/// The built-in list.
pub fn built_in() -> Vec<Competitor> {
    let names = |text: &'static str| text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut kinds: Vec<&str> = Vec::new();
    let mut competitors = Vec::new();
    for line in include_str!("competitors.txt").lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            kinds = names(section).collect();
        } else if !line.is_empty() && !line.starts_with('#') {
            let (name, also) = line.split_once(':').unwrap_or((line, ""));
            competitors.push(Competitor { name, also: names(also).chain(kinds.iter().copied()).collect() });
        }
    }
    competitors
}

/// Every caption of the built-in list by the default prompts.
pub fn built_in_captions() -> Vec<Caption> {
    let of_name = |Competitor { name, .. }: &Competitor| {
        let texts: Vec<String> =
            DEFAULT_PROMPTS.iter().filter_map(|prompt| caption(prompt, name).ok()).collect();
        let name = (*name).to_owned();
        texts.into_iter().map(move |text| Caption { text, name: name.clone(), must_be_known: false })
    };
    built_in().iter().flat_map(of_name).collect()
}

impl Competitors {
    /// Appends them to a vocabulary, hidden, embedded by its prompts.
    ///
    /// # Errors
    /// When the teacher fails.
    pub fn append_to(
        &self,
        vocabulary: &mut Vocabulary,
        teacher: &mut impl EmbedCaptions,
    ) -> Result<(), TeacherError> {
        let names = self.names_beside(&vocabulary.words);
        let embeddings = embed_names(teacher, &vocabulary.prompts, &self.to_embed(&names))?;
        self.append(names, embeddings, vocabulary);
        Ok(())
    }

    /// What is to be embedded of names that [`Self::names_beside`] gave. Of the user's own the teacher must know something.
    pub(crate) fn to_embed<'a>(&self, names: &'a [String]) -> Vec<Names<'a>> {
        let must_be_known = matches!(self, Self::These(_));
        names.iter().map(|word| Names { word, synonyms: &[], must_be_known }).collect()
    }

    /// Appends those that mean something else than the shown words.
    pub(crate) fn append(&self, names: Vec<String>, embeddings: Vec<Vec<f32>>, vocabulary: &mut Vocabulary) {
        let shown_values = vocabulary.shown().len() * vocabulary.embedding_size;
        let is_alike = match self {
            Self::Default => are_alike(&embeddings, &vocabulary.embeddings[..shown_values]),
            _ => vec![false; names.len()],
        };
        for ((name, embedding), is_alike) in names.into_iter().zip(embeddings).zip(is_alike) {
            if !is_alike {
                vocabulary.words.push(Word::competitor(name));
                vocabulary.embeddings.extend(embedding);
            }
        }
    }

    /// Those that don't mean the same as a word, judged by the names alone.
    pub(crate) fn names_beside(&self, words: &[Word]) -> Vec<String> {
        let taken: Vec<Name> = words.iter().flat_map(names_of).map(Name::of).collect();
        let names = match self {
            Self::None => Vec::new(),
            Self::Default => built_in_beside(&taken).into_iter().map(str::to_owned).collect(),
            Self::These(names) => names.clone(),
        };
        let mut seen = taken;
        names
            .into_iter()
            .filter(|name| {
                let name = Name::of(name);
                let is_new = !seen.contains(&name);
                seen.push(name);
                is_new
            })
            .collect()
    }
}

/// Those of the built-in list that name something else.
fn built_in_beside(taken: &[Name]) -> Vec<&'static str> {
    let list = built_in();
    // What the list knows of the taken names.
    let is_taken = |name: &Name| taken.contains(name);
    let known = list.iter().filter(|competitor| is_taken(&Name::of(competitor.name)));
    let kinds: Vec<Name> = known.flat_map(|known| &known.also).map(|name| Name::of(name)).collect();
    let names_the_same = |competitor: &Competitor| {
        let name = Name::of(competitor.name);
        let also = |other: &Name| competitor.also.iter().any(|also| other.ends_with(&Name::of(also)));
        kinds.contains(&name)
            || taken.iter().any(|taken| taken.is_in(&name) || name.is_in(taken) || also(taken))
    };
    list.iter().filter(|competitor| !names_the_same(competitor)).map(|competitor| competitor.name).collect()
}

fn names_of(word: &Word) -> impl Iterator<Item = &str> {
    std::iter::once(word.word.as_str()).chain(word.synonyms.iter().map(String::as_str))
}

/// A name by its words, lower case and in the singular.
#[derive(PartialEq, Eq)]
struct Name(Vec<String>);

impl Name {
    fn of(name: &str) -> Self {
        let name = clean(name);
        let words =
            name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
        Self(words.map(singular).collect())
    }

    /// Whether this is the other name or a longer one of its kind: "hunting dog", "dog".
    fn ends_with(&self, other: &Self) -> bool {
        !other.0.is_empty() && self.0.ends_with(&other.0)
    }

    /// Whether the other name has all words of this one, in this order and side by side.
    fn is_in(&self, other: &Self) -> bool {
        !self.0.is_empty() && other.0.windows(self.0.len()).any(|words| words == self.0)
    }
}

/// An English plural without its ending, roughly: it is only ever compared with others.
fn singular(word: &str) -> String {
    let stem = |ending: &str| word.strip_suffix(ending).filter(|stem| stem.len() > 1);
    if let Some(stem) = stem("ies") {
        return format!("{stem}y");
    }
    let of_es = ["sses", "xes", "ches", "shes"].iter().any(|ending| word.ends_with(ending));
    let shorter = if of_es { stem("es") } else { stem("s").filter(|stem| !stem.ends_with(['s', 'u', 'i'])) };
    shorter.unwrap_or(word).to_owned()
}

/// For each competitor whether it is too much like one of the shown words (`[words, D]`).
fn are_alike(competitors: &[Vec<f32>], shown: &[f32]) -> Vec<bool> {
    let size = competitors.first().map_or(1, Vec::len);
    let mut mean = vec![0.0; size];
    for embedding in competitors {
        mean.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += value / competitors.len() as f32);
    }
    let direction = |embedding: &[f32]| -> Vec<f32> {
        let rest: Vec<f32> = embedding.iter().zip(&mean).map(|(value, mean)| value - mean).collect();
        let length = dot(&rest, &rest).sqrt().max(f32::MIN_POSITIVE);
        rest.into_iter().map(|value| value / length).collect()
    };
    let shown: Vec<Vec<f32>> = shown.chunks_exact(size).map(direction).collect();
    let is_alike = |embedding: &Vec<f32>| {
        let competitor = direction(embedding);
        shown.iter().any(|shown| dot(shown, &competitor) > MOST_ALIKE)
    };
    competitors.iter().map(is_alike).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn beside(words: &[Word]) -> Vec<String> {
        Competitors::Default.names_beside(words)
    }

    fn has(names: &[String], name: &str) -> bool {
        names.iter().any(|other| other == name)
    }

    #[test]
    fn the_built_in_list_is_a_few_hundred_clean_words_none_twice() {
        let names: Vec<&str> = built_in().iter().map(|competitor| competitor.name).collect();
        assert!((300..600).contains(&names.len()), "{}", names.len());
        assert!(names.iter().all(|name| clean(name) == *name));
        assert_eq!(beside(&[]).len(), names.len(), "none twice, in the plural neither");
        for name in ["person", "sky", "wall", "hand", "shadow"] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_shown_word_does_not_compete_with_itself_however_it_is_spelt() {
        for word in ["Traffic_Light", "traffic-lights", "TRAFFIC LIGHT"] {
            assert!(!has(&beside(&[Word::new(word)]), "traffic light"), "{word}");
        }
        let left =
            beside(&[Word::new("glasses"), Word::new("bus"), Word::new("benches"), Word::new("cherry")]);
        for name in ["wine glass", "glass", "bus", "bench"] {
            assert!(!has(&left, name), "{name}");
        }
        assert!(has(&left, "bush") && has(&left, "eyeglasses"));
    }

    #[test]
    fn what_contains_a_shown_word_or_is_in_one_does_not_compete() {
        let left = beside(&[Word::new("ball"), Word::new("red fire truck")]);
        for name in ["ball", "sports ball", "truck", "fire"] {
            assert!(!has(&left, name), "{name}");
        }
        assert!(has(&left, "balloon") && has(&left, "fire hydrant"), "only whole words, side by side");
    }

    #[test]
    fn what_the_list_knows_by_another_name_or_as_a_kind_does_not_compete() {
        let left = |word: &str| beside(&[Word::new(word)]);
        assert!(!has(&left("lorries"), "truck") && has(&left("lorries"), "bus"));
        assert!(!has(&left("bird"), "owl") && has(&left("bird"), "cat"));
        assert!(!has(&left("owl"), "bird") && has(&left("owl"), "eagle"));
        assert!(!has(&left("construction worker"), "man"), "a worker by the last word");
        for name in ["cat", "owl", "fish"] {
            assert!(!has(&left("wild animal"), name), "{name}");
        }
    }

    #[test]
    fn embeddings_too_much_alike_do_not_compete_whatever_they_all_have_in_common() {
        // Numbers around a common one of 5: as a whole their cosines are all above 0.9.
        let row = |x: f32, y: f32| vec![x, y, 5.0];
        let competitors = [row(1.0, 0.0), row(-1.0, 0.0), row(0.0, 1.0), row(0.0, -1.0)];
        assert_eq!(are_alike(&competitors, &row(0.9, 0.2)), [true, false, false, false]);
        assert_eq!(are_alike(&competitors, &[]), [false; 4]);
        assert!(are_alike(&[], &[1.0]).is_empty());
    }

    #[test]
    fn synonyms_count_as_the_word_does() {
        let sofa = Word { synonyms: vec!["couch".to_owned()], ..Word::new("sofa") };
        assert!(!has(&beside(&[sofa]), "couch"));
    }

    #[test]
    fn a_list_of_the_users_own_is_taken_but_for_the_words_themselves() {
        let own: Competitors = "puppy, Cats, sports car,puppy".parse().unwrap();
        let names = own.names_beside(&[Word::new("cat"), Word::new("car"), Word::new("dog")]);
        assert_eq!(names, ["puppy", "sports car"]);
    }

    #[test]
    fn competitors_are_named_in_one_argument() {
        assert_eq!("default".parse(), Ok(Competitors::Default));
        assert_eq!(" none".parse(), Ok(Competitors::None));
        assert_eq!(
            "wall, street sign".parse(),
            Ok(Competitors::These(vec!["wall".to_owned(), "street sign".to_owned()]))
        );
        assert!("wall,,sky".parse::<Competitors>().unwrap_err().contains("empty"));
        assert!("".parse::<Competitors>().is_err());
    }
}
