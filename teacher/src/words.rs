//! From `words.toml`, which people write, to a vocabulary, which the device loads.
//!
//! ```toml
//! prompts = ["{}", "a photo of a {}."]   # optional
//! competitors = "default"                # or "none", or a list of words: see [`crate::competitors`]
//! words = [
//!     "cat",
//!     { word = "cup", synonyms = ["mug"], threshold = 0.4, trained_on = true },
//!     { word = "poster", hidden = true },  # competes beside the competitors
//! ]
//! ```
//!
//! Flows in: that file and a teacher. Flows out: a [`Vocabulary`]. The surprising thing: an unknown key is an error,
//! because a misspelt `treshold` that is quietly ignored costs a user an evening.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use toml::Spanned;
use wordsight_detection::{Vocabulary, Word};

use crate::Teacher;
use crate::competitors::Competitors;
use crate::error::TeacherError;
use crate::prompts::{DEFAULT_PROMPTS, caption, clean, visible};

/// The cosine from which on two words are one to a student.
pub const ALIKE: f32 = 0.98;
/// Among more words near-duplicates aren't looked for.
const MOST_COMPARED: usize = 3000;

/// Why a words file can't be used. Each says file, line and column.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// The file can't be read.
    #[error("cannot read the words {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The file isn't TOML of the right form.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there and what would be right.
        problem: String,
    },
}

/// What a words file says.
#[derive(Clone, Debug, PartialEq)]
pub struct WordList {
    /// Templates, `{}` standing for the word.
    pub prompts: Vec<String>,
    /// What to look for; hidden words last.
    pub words: Vec<Word>,
    /// What competes with it.
    pub competitors: Competitors,
    /// Line and column of each word, from 1; empty where the words come from no file.
    pub places: Vec<(usize, usize)>,
}

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordsFile {
    #[serde(default)]
    prompts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    competitors: Option<Spanned<CompetitorsEntry>>,
    words: Vec<Spanned<Entry>>,
}

/// A word alone, or a table with more about it.
struct Entry(Word);

/// `"default"`, `"none"` or a list.
struct CompetitorsEntry(Competitors);

/// The templates for words that come without their own.
pub fn default_prompts() -> Vec<String> {
    DEFAULT_PROMPTS.map(str::to_owned).to_vec()
}

/// Reads and checks a words file.
///
/// # Errors
/// When it can't be read, has an unknown key or a wrong value, or names a word twice.
pub fn read(path: &Path) -> Result<WordList, WordsError> {
    let text =
        fs::read_to_string(path).map_err(|reason| WordsError::Unreadable { path: path.into(), reason })?;
    parse(&text, path)
}

/// Embeds the words of a file and their competitors.
///
/// # Errors
/// As [`read`], and when the teacher fails.
pub fn make_vocabulary(path: &Path, teacher: &mut Teacher) -> Result<Vocabulary, TeacherError> {
    let WordList { prompts, words, competitors, places } = read(path)?;
    for (word, (line, column)) in words.iter().zip(places) {
        let names = std::iter::once(&word.word).chain(&word.synonyms);
        for name in names {
            if !teacher.sees(name)? {
                let problem = format!(
                    "the teacher's tokenizer knows nothing of {name:?}, so that it would mean the same as any other such \
                     word: name it in the teacher's language, or take a teacher that knows it"
                );
                return Err(WordsError::Wrong { path: path.into(), line, column, problem }.into());
            }
        }
    }
    let mut vocabulary = embed(words, prompts, teacher)?;
    competitors.append_to(&mut vocabulary, teacher)?;
    Ok(vocabulary)
}

/// Pairs of shown words that a student could hardly tell apart, the most alike first.
///
/// Among more than `MOST_COMPARED` words none are looked for: it takes the square of their number.
pub fn near_duplicates(vocabulary: &Vocabulary) -> Vec<(&str, &str, f32)> {
    let (words, size) = (vocabulary.shown(), vocabulary.embedding_size.max(1));
    if words.len() > MOST_COMPARED {
        return Vec::new();
    }
    let rows: Vec<&[f32]> = vocabulary.embeddings.chunks_exact(size).take(words.len()).collect();
    let mut pairs = Vec::new();
    for (place, a) in rows.iter().enumerate() {
        for (other, b) in rows.iter().enumerate().skip(place + 1) {
            let cosine: f32 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
            if cosine > ALIKE {
                pairs.push((words[place].word.as_str(), words[other].word.as_str(), cosine));
            }
        }
    }
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    pairs
}

/// Embeds words that come from elsewhere, a dataset's categories for example, and nothing beside them.
///
/// # Errors
/// When a prompt has no place for the word or the teacher fails.
pub fn embed(
    words: Vec<Word>,
    prompts: Vec<String>,
    teacher: &mut Teacher,
) -> Result<Vocabulary, TeacherError> {
    let named: Vec<(&str, &[String])> =
        words.iter().map(|word| (word.word.as_str(), word.synonyms.as_slice())).collect();
    let embeddings = teacher.embed_words(&prompts, &named)?.concat();
    Ok(Vocabulary {
        teacher: teacher.id().to_owned(),
        embedding_size: teacher.embedding_size(),
        words,
        prompts,
        embeddings,
    })
}

fn parse(text: &str, path: &Path) -> Result<WordList, WordsError> {
    let wrong = |offset: usize, problem: String| {
        let (line, column) = position(text, offset);
        WordsError::Wrong { path: path.into(), line, column, problem }
    };
    let file: WordsFile = toml::from_str(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut prompts = Vec::new();
    for prompt in file.prompts.unwrap_or_default() {
        caption(prompt.get_ref(), "word").map_err(|error| wrong(prompt.span().start, error.to_string()))?;
        prompts.push(prompt.into_inner());
    }
    if prompts.is_empty() {
        prompts = default_prompts();
    }
    let mut seen = HashMap::new();
    let mut words: Vec<(Word, (usize, usize))> = Vec::new();
    for entry in file.words {
        let start = entry.span().start;
        let mut word = entry.into_inner().0;
        word.word = visible(&word.word);
        word.synonyms.iter_mut().for_each(|name| *name = visible(name));
        check(&word).map_err(|problem| wrong(start, problem))?;
        if let Some(first) = seen.insert(clean(&word.word), start) {
            let (line, _) = position(text, first);
            return Err(wrong(start, format!("the word \"{}\" stands on line {line} already", word.word)));
        }
        words.push((word, position(text, start)));
    }
    if words.iter().all(|(word, _)| word.hidden) {
        return Err(wrong(0, "there are no words to show: write words = [\"cat\", \"cup\"]".to_owned()));
    }
    // A stable sort: otherwise the order is the file's.
    words.sort_by_key(|(word, _)| word.hidden);
    let (words, places) = words.into_iter().unzip();
    let competitors =
        file.competitors.unwrap_or_else(|| Spanned::new(0..0, CompetitorsEntry(Competitors::Default)));
    Ok(WordList { prompts, words, competitors: competitors.into_inner().0, places })
}

fn check(word: &Word) -> Result<(), String> {
    if std::iter::once(&word.word).chain(&word.synonyms).any(|name| clean(name).is_empty()) {
        return Err("a word or a synonym is empty".to_owned());
    }
    match word.threshold {
        Some(_) if word.hidden => {
            Err(format!("\"{}\" is hidden, so it is never told and has no threshold", word.word))
        }
        Some(threshold) if !(0.0..=1.0).contains(&threshold) => {
            Err(format!("the threshold of \"{}\" is {threshold}, and must be between 0 and 1", word.word))
        }
        _ => Ok(()),
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

// By hand and not as an untagged enum, whose errors would lose which key is unknown and where it stands.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter
                    .write_str("a word (\"cat\") or a table ({ word = \"cat\", synonyms = [\"kitten\"] })")
            }

            fn visit_str<E>(self, word: &str) -> Result<Entry, E> {
                Ok(Entry(Word::new(word)))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Entry, A::Error> {
                Word::deserialize(MapAccessDeserializer::new(table)).map(Entry)
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

// By hand for the same reason.
impl<'de> Deserialize<'de> for CompetitorsEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CompetitorsVisitor;

        impl<'de> Visitor<'de> for CompetitorsVisitor {
            type Value = CompetitorsEntry;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("\"default\", \"none\" or a list of words ([\"wall\", \"sky\"])")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CompetitorsEntry, E> {
                match text {
                    "default" => Ok(CompetitorsEntry(Competitors::Default)),
                    "none" => Ok(CompetitorsEntry(Competitors::None)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<CompetitorsEntry, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = words.next_element::<String>()? {
                    if clean(&name).is_empty() {
                        return Err(A::Error::custom("one of the competitors is empty"));
                    }
                    names.push(name);
                }
                Ok(CompetitorsEntry(Competitors::These(names)))
            }
        }

        deserializer.deserialize_any(CompetitorsVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn problem(text: &str) -> String {
        parse(text, Path::new("words.toml")).unwrap_err().to_string()
    }

    #[test]
    fn words_are_plain_or_tables_and_prompts_have_a_default() {
        let list = parse(
            "words = [\n  \"cat\",\n  { word = \"cup\", synonyms = [\"mug\"], threshold = 0.4, trained_on = true },\n]",
            Path::new("words.toml"),
        )
        .unwrap();
        assert_eq!(list.prompts, default_prompts());
        let [cat, cup] = list.words.as_slice() else { panic!("{list:?}") };
        assert_eq!((cat.word.as_str(), cat.trained_on), ("cat", false));
        assert_eq!(
            (cup.synonyms.as_slice(), cup.threshold, cup.trained_on),
            (&["mug".to_owned()][..], Some(0.4), true)
        );
    }

    #[test]
    fn a_file_written_on_windows_is_read() {
        let text = "competitors = \"none\"\nwords = [\n    \"cat\",\n    \"cup\",\n]\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.toml");
        fs::write(&path, format!("\u{feff}{text}").replace('\n', "\r\n")).unwrap();
        assert_eq!(read(&path).unwrap(), parse(text, &path).unwrap());
    }

    #[test]
    fn an_unknown_key_is_an_error_that_says_where() {
        let text = problem("words = [\n  { word = \"cup\", treshold = 0.4 },\n]");
        assert!(text.starts_with("words.toml:2:") && text.contains("treshold"), "{text}");
        let text = problem("word = [\"cat\"]");
        assert!(text.starts_with("words.toml:1:1:") && text.contains("`word`"), "{text}");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_where() {
        let text = problem("words = [\n  \"cat\",\n  7,\n]");
        assert!(text.starts_with("words.toml:3:3:") && text.contains("a word"), "{text}");
        let text = problem("words = [{ word = \"cup\", threshold = 4.0 }]");
        assert!(text.starts_with("words.toml:1:10:") && text.contains("between 0 and 1"), "{text}");
        let text = problem("words = [\"cat\"");
        assert!(text.starts_with("words.toml:1:"), "{text}");
    }

    #[test]
    fn competitors_are_the_default_ones_none_or_a_list() {
        let competitors = |text: &str| {
            let text = format!("{text}\nwords = [\"cat\"]");
            parse(&text, Path::new("words.toml")).unwrap().competitors
        };
        assert_eq!(competitors(""), Competitors::Default);
        assert_eq!(competitors("competitors = \"default\""), Competitors::Default);
        assert_eq!(competitors("competitors = \"none\""), Competitors::None);
        let wall = Competitors::These(vec!["wall".to_owned()]);
        assert_eq!(competitors("competitors = [\"wall\"]"), wall);
        let text = problem("words = [\"cat\"]\ncompetitors = \"coco\"");
        assert!(text.starts_with("words.toml:2:15:") && text.contains("\"none\""), "{text}");
        assert!(problem("competitors = [\" \"]\nwords = [\"cat\"]").contains("empty"));
    }

    #[test]
    fn hidden_words_of_the_file_come_last_and_have_no_threshold() {
        let text = "words = [{ word = \"wall\", hidden = true }, \"cat\", \"cup\"]";
        let words = parse(text, Path::new("words.toml")).unwrap().words;
        let names: Vec<&str> = words.iter().map(|word| word.word.as_str()).collect();
        assert_eq!(names, ["cat", "cup", "wall"]);
        assert!(words[2].hidden);
        let text = problem("words = [\"cat\", { word = \"wall\", hidden = true, threshold = 0.3 }]");
        assert!(text.contains("\"wall\" is hidden"), "{text}");
    }

    #[test]
    fn a_word_that_stands_twice_is_refused_however_it_is_spelt() {
        let text = problem("words = [\n  \"traffic light\",\n  \"Traffic_Light\",\n]");
        assert_eq!(text, "words.toml:3:3: the word \"Traffic_Light\" stands on line 2 already");
    }

    #[test]
    fn words_that_differ_in_nothing_visible_are_one() {
        for (first, second) in [("cat", "cat\\u200b"), ("cat", "ca\\u00adt"), ("caf\\u00e9", "cafe\\u0301")] {
            let text = problem(&format!("words = [\n  \"{first}\",\n  \"{second}\",\n]"));
            assert!(text.starts_with("words.toml:3:3:") && text.contains("on line 2 already"), "{text}");
        }
        let words = parse("words = [\"caf\\u0065\\u0301\"]", Path::new("words.toml")).unwrap().words;
        assert_eq!(words[0].word, "caf\u{e9}");
        assert!(problem("words = [\"\\u200b\"]").contains("empty"));
    }

    #[test]
    fn words_that_mean_the_same_to_a_student_are_named() {
        let words = ["cup", "mug", "cat"].map(Word::new).to_vec();
        let embeddings = [[1.0, 0.0], [0.995, 0.1], [0.0, 1.0]].concat();
        let vocabulary =
            Vocabulary { teacher: "t".into(), embedding_size: 2, words, prompts: Vec::new(), embeddings };
        let pairs: Vec<_> = near_duplicates(&vocabulary).iter().map(|(a, b, _)| (*a, *b)).collect();
        assert_eq!(pairs, [("cup", "mug")]);
    }

    #[test]
    fn a_prompt_without_a_place_for_the_word_and_an_empty_list_are_refused() {
        let text = problem("prompts = [\"a photo\"]\nwords = [\"cat\"]");
        assert!(text.starts_with("words.toml:1:12:"), "{text}");
        assert!(problem("words = []").contains("no words"));
        assert!(problem("words = [{ word = \"wall\", hidden = true }]").contains("no words to show"));
    }
}
