//! Reads `words.toml`, which people write, and makes the [`Vocabulary`] that the device loads.
//!
//! ```toml
//! prompts = ["{}", "a photo of a {}."]   # optional
//! competitors = "default"                # or "none", or a list of words: see [`crate::competitors`]
//! words = [
//!     "cat",
//!     { word = "cup", synonyms = ["mug"], threshold = 0.4, trained_on = true },
//!     { word = "poster", hidden = true },  # competes beside the competitors
//!     { word = "our mug", examples = ["mug.jpg"] },  # see [`ExampleFile`]
//! ]
//! ```
//!
//! An unknown key is an error: a misspelt `treshold` that was silently ignored would cost a user an evening.

mod examples;
mod line;
mod neighbours;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;
use wordsight_detection::{Vocabulary, Word};

use crate::captions::{EmbedCaptions, Names, embed_names};
use crate::competitors::Competitors;
use crate::error::TeacherError;
use crate::prompts::{DEFAULT_PROMPTS, caption, clean, visible};
use examples::WordTable;
pub use examples::{ExampleFile, ShownFile, WrittenWord};
pub use line::parse_line;
pub use neighbours::{ALIKE, Neighbour, near_duplicates, neighbours, too_near};

/// The most words that can be asked for at once.
pub const MOST_TYPED: usize = 1_000;

const NOTHING_SHOWN: &str = "there are no words to show: write words = [\"cat\", \"cup\"]";

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

/// What a words file says, or a list of words alone.
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
    /// Pictures that show the words, which [`make`] leaves alone.
    pub shown: Vec<ShownFile>,
}

/// Words as a configuration or a request lists them, plain or tables as in a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedWords {
    words: Vec<Word>,
    shown: Vec<ShownFile>,
}

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordsFile {
    #[serde(default)]
    prompts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    competitors: Option<Spanned<CompetitorsEntry>>,
    words: Vec<Spanned<WrittenWord>>,
}

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
/// As [`read`], and when the teacher fails or knows nothing of a word.
pub fn make_vocabulary(path: &Path, teacher: &mut impl EmbedCaptions) -> Result<Vocabulary, TeacherError> {
    let list = read(path)?;
    make(&list, teacher).map_err(|error| list.error_at_its_place(error, path))
}

/// Embeds the words of a list and their competitors, all captions in one call.
///
/// # Errors
/// When the teacher fails, or knows nothing of a word.
pub fn make(list: &WordList, teacher: &mut impl EmbedCaptions) -> Result<Vocabulary, TeacherError> {
    let WordList { prompts, words, competitors, .. } = list;
    let beside = competitors.names_beside(words);
    let mut names: Vec<Names> = words
        .iter()
        .map(|word| Names {
            word: &word.word,
            synonyms: &word.synonyms,
            must_be_known: !list.has_examples(&word.word),
        })
        .collect();
    names.extend(competitors.to_embed(&beside));
    let mut embeddings = embed_names(teacher, prompts, &names)?;
    let of_competitors = embeddings.split_off(words.len());
    let mut vocabulary = vocabulary_of(words.clone(), prompts.clone(), &embeddings, teacher.id());
    competitors.append(beside, of_competitors, &mut vocabulary);
    Ok(vocabulary)
}

/// Embeds words that come from elsewhere, a dataset's categories for example, and nothing beside them.
///
/// # Errors
/// When a prompt has no place for the word or the teacher fails.
pub fn embed(
    words: Vec<Word>,
    prompts: Vec<String>,
    teacher: &mut impl EmbedCaptions,
) -> Result<Vocabulary, TeacherError> {
    let named: Vec<(&str, &[String])> =
        words.iter().map(|word| (word.word.as_str(), word.synonyms.as_slice())).collect();
    let embeddings = teacher.embed_words(&prompts, &named)?;
    Ok(vocabulary_of(words, prompts, &embeddings, teacher.id()))
}

fn vocabulary_of(
    words: Vec<Word>,
    prompts: Vec<String>,
    embeddings: &[Vec<f32>],
    teacher: &str,
) -> Vocabulary {
    Vocabulary {
        teacher: teacher.to_owned(),
        student: None,
        embedding_size: embeddings.first().map_or(0, Vec::len),
        words,
        prompts,
        embeddings: embeddings.concat(),
    }
}

impl WordList {
    /// Whether pictures show a word: then its name need not mean anything to the teacher.
    pub fn has_examples(&self, word: &str) -> bool {
        self.shown.iter().any(|shown| shown.word == word && !shown.is_negative)
    }

    /// An error of [`make`], with file, line and column where it is about one of this file's words.
    pub fn error_at_its_place(&self, error: TeacherError, path: &Path) -> TeacherError {
        let TeacherError::UnknownName(name) = &error else { return error };
        let is_it = |word: &Word| word.word == *name || word.synonyms.contains(name);
        match self.words.iter().zip(&self.places).find(|(word, _)| is_it(word)) {
            Some((_, &(line, column))) => {
                WordsError::Wrong { path: path.into(), line, column, problem: error.to_string() }.into()
            }
            None => error,
        }
    }
}

impl ListedWords {
    /// Embedded by the default prompts, beside the default competitors.
    pub fn list(&self) -> WordList {
        WordList {
            prompts: default_prompts(),
            words: self.words.clone(),
            competitors: Competitors::Default,
            places: Vec::new(),
            shown: self.shown.clone(),
        }
    }

    /// The words, those to be shown and then the hidden ones.
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The same with relative paths of pictures in this folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        for ShownFile { file, .. } in &mut self.shown {
            file.image = folder.join(&file.image);
        }
        self
    }

    /// A list of words that somebody waits for: no more of them than are embedded within some seconds.
    ///
    /// # Errors
    /// As [`Self::of`], and when there are more than [`MOST_TYPED`].
    pub fn typed(written: Vec<WrittenWord>) -> Result<Self, String> {
        if written.len() > MOST_TYPED {
            let number = written.len();
            return Err(format!(
                "these are {number} words, and {MOST_TYPED} at most can be asked for at once: make a vocabulary of them \
                 (`wordsight words make`), or list them in the configuration"
            ));
        }
        if written.iter().any(|word| !word.examples.is_empty() || !word.negative_examples.is_empty()) {
            return Err("pictures are no words: post them, one by one, to /api/examples".to_owned());
        }
        Self::of(written)
    }

    /// A list of words as they are written.
    ///
    /// # Errors
    /// When one is empty or wrong, or stands there twice.
    pub fn of(written: Vec<WrittenWord>) -> Result<Self, String> {
        let mut seen = HashSet::new();
        let (mut words, mut shown) = (Vec::with_capacity(written.len()), Vec::new());
        for written in written {
            written.check_examples()?;
            let word = checked(written.word.clone())?;
            shown.extend(written.shown(&word.word, Path::new("")));
            if !seen.insert(clean(&word.word)) {
                return Err(format!("the word {:?} stands there twice, however it is spelt", word.word));
            }
            words.push(word);
        }
        Ok(Self { words: in_order(words)?, shown })
    }
}

impl Serialize for ListedWords {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words.iter().map(|word| WordTable::of(word, &self.shown)))
    }
}

impl<'de> Deserialize<'de> for ListedWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Checks the text of a words file; `path` is for the error.
///
/// # Errors
/// When it has an unknown key or a wrong value, or names a word twice.
pub fn parse(text: &str, path: &Path) -> Result<WordList, WordsError> {
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
    let (mut words, mut shown) = (Vec::new(), Vec::new());
    let folder = path.parent().unwrap_or(Path::new(""));
    for entry in file.words {
        let start = entry.span().start;
        let written = entry.into_inner();
        let checked = written.check_examples().and_then(|()| checked(written.word.clone()));
        let word = checked.map_err(|problem| wrong(start, problem))?;
        shown.extend(written.shown(&word.word, folder));
        if let Some(first) = seen.insert(clean(&word.word), start) {
            let (line, _) = position(text, first);
            return Err(wrong(start, format!("the word \"{}\" stands on line {line} already", word.word)));
        }
        words.push((word, position(text, start)));
    }
    if words.iter().all(|(word, _)| word.hidden) {
        return Err(wrong(0, NOTHING_SHOWN.to_owned()));
    }
    // A stable sort: otherwise the order is the file's.
    words.sort_by_key(|(word, _)| word.hidden);
    let (words, places) = words.into_iter().unzip();
    let competitors =
        file.competitors.unwrap_or_else(|| Spanned::new(0..0, CompetitorsEntry(Competitors::Default)));
    Ok(WordList { prompts, words, competitors: competitors.into_inner().0, places, shown })
}

/// Shown words before hidden ones, otherwise in their order.
fn in_order(mut words: Vec<Word>) -> Result<Vec<Word>, String> {
    if words.iter().all(|word| word.hidden) {
        return Err(NOTHING_SHOWN.to_owned());
    }
    words.sort_by_key(|word| word.hidden);
    Ok(words)
}

/// A word as captions and labels spell it, if it makes sense.
fn checked(mut word: Word) -> Result<Word, String> {
    word.word = visible(&word.word);
    word.synonyms.iter_mut().for_each(|name| *name = visible(name));
    check(&word)?;
    Ok(word)
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
impl<'de> Deserialize<'de> for WrittenWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;

        impl<'de> Visitor<'de> for WordVisitor {
            type Value = WrittenWord;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter
                    .write_str("a word (\"cat\") or a table ({ word = \"cat\", synonyms = [\"kitten\"] })")
            }

            fn visit_str<E>(self, word: &str) -> Result<WrittenWord, E> {
                Ok(WrittenWord::plain(word))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<WrittenWord, A::Error> {
                WordTable::deserialize(MapAccessDeserializer::new(table)).map(WrittenWord::from)
            }
        }

        deserializer.deserialize_any(WordVisitor)
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
    use crate::captions::Caption;

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
    fn examples_are_pictures_beside_the_file_whole_or_with_a_box() {
        let list = |text: &str| parse(text, Path::new("/etc/words/words.toml"));
        let shown = list(
            "words = [\"cat\", { word = \"mug\", examples = [\"mug.jpg\", { image = \"/shelf.jpg\", box = [1, 2, 3, 4] }], \
             negative_examples = [\"vases\"] }]",
        );
        let shown: Vec<(String, PathBuf, Option<[f32; 4]>, bool)> = shown
            .unwrap()
            .shown
            .into_iter()
            .map(|shown| (shown.word, shown.file.image, shown.file.box_in_image, shown.is_negative))
            .collect();
        let mug = |image: &str, thing, is_not| ("mug".to_owned(), PathBuf::from(image), thing, is_not);
        let expected = [
            mug("/etc/words/mug.jpg", None, false),
            mug("/shelf.jpg", Some([1.0, 2.0, 3.0, 4.0]), false),
            mug("/etc/words/vases", None, true),
        ];
        assert_eq!(shown, expected);
        for (entry, problem) in [
            ("{ word = \"mug\", examples = 3 }", "sequence"),
            ("{ word = \"mug\", examples = [3] }", "a picture"),
            ("{ word = \"mug\", examples = [{ image = \"a.jpg\", boxes = [1, 2, 3, 4] }] }", "boxes"),
            ("{ word = \"mug\", examples = [{ image = \"a.jpg\", box = [3, 2, 1, 4] }] }", "no area"),
            ("{ word = \"mug\", hidden = true, examples = [\"a.jpg\"] }", "negative_examples"),
        ] {
            let error = list(&format!("words = [\"cat\", {entry}]")).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(":1:"), "{entry}: {error}");
        }
    }

    #[test]
    fn listed_words_are_written_as_they_are_read_and_typed_ones_name_no_files() {
        let text = "words = [{ word = \"mug\", threshold = 0.25, examples = [\"mug.jpg\"] }, \"cat\"]";
        let listed = listed(text).unwrap();
        let json = serde_json::to_string(&listed).unwrap();
        assert_eq!(serde_json::from_str::<ListedWords>(&json).unwrap(), listed);
        let moved = listed.in_folder(Path::new("/etc"));
        assert_eq!(moved.list().shown[0].file.image, Path::new("/etc/mug.jpg"));
        let typed = serde_json::from_str::<Vec<WrittenWord>>(&json).unwrap();
        assert!(ListedWords::typed(typed).unwrap_err().contains("/api/examples"));
    }

    fn listed(text: &str) -> Result<ListedWords, String> {
        #[derive(Debug, Deserialize)]
        struct Configuration {
            words: ListedWords,
        }
        toml::from_str(text).map(|of: Configuration| of.words).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_lists_words_as_a_file_does() {
        let words = listed(
            "words = [{ word = \"wall\", hidden = true }, \"cat\\u200b\", { word = \"cup\", threshold = 0.4 }]",
        );
        let words = words.unwrap();
        let names: Vec<&str> = words.words().iter().map(|word| word.word.as_str()).collect();
        assert_eq!((names, words.words()[1].threshold), (vec!["cat", "cup", "wall"], Some(0.4)));
        assert_eq!(words.list().prompts, default_prompts());
        for (text, problem) in [
            ("words = []", "no words to show"),
            ("words = [\"cat\", \"Cat\"]", "\"Cat\" stands there twice"),
            ("words = [{ word = \"cat\", treshold = 1 }]", "treshold"),
            ("words = \"cat\"", "sequence"),
        ] {
            let error = listed(text).unwrap_err();
            assert!(error.contains(problem) && error.contains("line 1"), "{text}: {error}");
        }
    }

    /// Knows what has letters, and counts how often it is asked.
    struct Letters(usize);

    impl EmbedCaptions for Letters {
        fn id(&self) -> &str {
            "letters"
        }

        fn embed_captions(&mut self, captions: &[Caption]) -> Result<Vec<Vec<f32>>, TeacherError> {
            self.0 += 1;
            let is_unknown = |caption: &&Caption| {
                caption.must_be_known && !caption.name.bytes().any(|byte| byte.is_ascii_alphabetic())
            };
            if let Some(caption) = captions.iter().find(is_unknown) {
                return Err(TeacherError::UnknownName(caption.name.clone()));
            }
            let row = |caption: &Caption| {
                let first = f32::from(caption.text.bytes().next().unwrap_or(0)) / 40.0;
                vec![first.cos(), first.sin()]
            };
            Ok(captions.iter().map(row).collect())
        }
    }

    #[test]
    fn a_vocabulary_is_made_by_one_call_and_an_unknown_word_is_told_with_its_place() {
        let make = |text: &str| {
            let list = parse(text, Path::new("words.toml")).unwrap();
            let mut teacher = Letters(0);
            let made = make(&list, &mut teacher);
            assert_eq!(teacher.0, 1);
            made.map_err(|error| list.error_at_its_place(error, Path::new("words.toml")).to_string())
        };
        let made = make("prompts = [\"{}\"]\ncompetitors = [\"wall\"]\nwords = [\"cat\", \"cup\"]").unwrap();
        let names: Vec<&str> = made.words.iter().map(|word| word.word.as_str()).collect();
        assert_eq!((names, made.hidden().len(), made.embedding_size), (vec!["cat", "cup", "wall"], 1, 2));
        let error =
            make("words = [\n  \"cat\",\n  { word = \"cup\", synonyms = [\"\u{2615}\"] }\n]").unwrap_err();
        assert!(error.starts_with("words.toml:3:3: ") && error.contains("knows nothing of"), "{error}");
        let error = make("competitors = [\"\u{2615}\"]\nwords = [\"cat\"]").unwrap_err();
        assert!(error.contains("knows nothing of") && !error.contains(".toml:"), "{error}");
    }

    #[test]
    fn a_prompt_without_a_place_for_the_word_and_an_empty_list_are_refused() {
        let text = problem("prompts = [\"a photo\"]\nwords = [\"cat\"]");
        assert!(text.starts_with("words.toml:1:12:"), "{text}");
        assert!(problem("words = []").contains("no words"));
        assert!(problem("words = [{ word = \"wall\", hidden = true }]").contains("no words to show"));
    }
}
