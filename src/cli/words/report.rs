//! What `wordsight words` tells of a vocabulary.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use wordsight_detection::{Vocabulary, Word};
use wordsight_teacher::words::{ALIKE, WordsError, near_duplicates, neighbours, too_near};

use crate::words::Pack;

/// How many near words are shown of each.
const NEIGHBOURS: usize = 3;
/// How many pairs of words that are hardly told apart are named.
const PAIRS_NAMED: usize = 5;

/// A vocabulary, word by word.
#[derive(Debug, Serialize)]
pub struct ShowReport {
    teacher: String,
    embedding_size: usize,
    prompts: Vec<String>,
    words: Vec<ShownWord>,
    /// How many only compete.
    hidden: usize,
}

#[derive(Debug, Serialize)]
struct ShownWord {
    word: String,
    synonyms: Vec<String>,
    kind: &'static str,
    threshold: Option<f64>,
    trained_on: bool,
    /// How many examples are in it.
    examples: usize,
    /// The words that it is nearest to, hidden ones among them, with the cosine.
    near: Vec<Near>,
}

#[derive(Debug, Serialize)]
struct Near {
    word: String,
    cosine: f64,
    is_hidden: bool,
}

impl ShowReport {
    pub fn of(vocabulary: &Vocabulary, with_hidden: bool) -> Self {
        let shown = if with_hidden { &vocabulary.words } else { vocabulary.shown() };
        Self {
            teacher: vocabulary.teacher.clone(),
            embedding_size: vocabulary.embedding_size,
            prompts: vocabulary.prompts.clone(),
            words: shown
                .iter()
                .enumerate()
                .map(|(place, word)| ShownWord::of(vocabulary, place, word))
                .collect(),
            hidden: vocabulary.hidden().len(),
        }
    }
}

impl ShownWord {
    fn of(vocabulary: &Vocabulary, place: usize, word: &Word) -> Self {
        let near = neighbours(vocabulary, place, NEIGHBOURS).into_iter().map(|near| Near {
            word: near.word.word.clone(),
            cosine: rounded(near.cosine),
            is_hidden: near.word.hidden,
        });
        Self {
            word: word.word.clone(),
            synonyms: word.synonyms.clone(),
            kind: if word.hidden { "hidden" } else { "shown" },
            threshold: word.threshold.map(rounded),
            trained_on: word.trained_on,
            examples: word.examples,
            near: near.collect(),
        }
    }
}

impl fmt::Display for ShowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.words.iter().map(|word| word.word.chars().count()).max().unwrap_or(0).max(4);
        writeln!(f, "teacher   {}, {} numbers a word", self.teacher, self.embedding_size)?;
        writeln!(f, "prompts   {}", self.prompts.join(" | "))?;
        writeln!(f, "{:<longest$}  {:<6}  threshold  nearest", "word", "kind")?;
        for word in &self.words {
            let threshold = word.threshold.map_or("-".to_owned(), |threshold| threshold.to_string());
            let near: Vec<String> = word
                .near
                .iter()
                .map(|near| {
                    let hidden = if near.is_hidden { ", hidden" } else { "" };
                    format!("{} ({:.2}{hidden})", near.word, near.cosine)
                })
                .collect();
            writeln!(f, "{:<longest$}  {:<6}  {threshold:<9}  {}", word.word, word.kind, near.join(", "))?;
            if !word.synonyms.is_empty() {
                writeln!(f, "{:<longest$}  also {}", "", word.synonyms.join(", "))?;
            }
            match word.examples {
                0 => {}
                1 => writeln!(f, "{:<longest$}  by an example", "")?,
                count => writeln!(f, "{:<longest$}  by {count} examples", "")?,
            }
        }
        writeln!(f, "beside {} hidden words", self.hidden)
    }
}

/// The ready lists of words.
#[derive(Debug, Serialize)]
pub struct PacksReport {
    packs: Vec<ListedPack>,
}

#[derive(Debug, Serialize)]
struct ListedPack {
    name: &'static str,
    words: usize,
    about: &'static str,
    /// The vocabulary of it that is installed.
    vocabulary: Option<PathBuf>,
}

impl PacksReport {
    pub fn new() -> Result<Self, WordsError> {
        let listed = Pack::ALL.into_iter().map(|pack| {
            Ok(ListedPack {
                name: pack.name(),
                words: pack.words()?.words.len(),
                about: pack.about(),
                vocabulary: pack.vocabulary(),
            })
        });
        Ok(Self { packs: listed.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for PacksReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<11}  words  what", "pack")?;
        for pack in &self.packs {
            writeln!(f, "{:<11}  {:>5}  {}", pack.name, pack.words, pack.about)?;
            if let Some(vocabulary) = &pack.vocabulary {
                writeln!(f, "{:<11}         {}", "", vocabulary.display())?;
            }
        }
        writeln!(f, "print one: wordsight words packs coco > words.toml")
    }
}

/// What is to be said of some words.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Whether a vocabulary can be made of all of them.
    pub is_fine: bool,
    findings: Vec<Finding>,
}

/// One thing that is to be said.
#[derive(Debug, Serialize)]
pub struct Finding {
    kind: &'static str,
    words: Vec<String>,
    says: String,
}

impl Finding {
    pub fn unknown(name: &str, line: usize, column: usize) -> Self {
        Self {
            kind: "unknown",
            words: vec![name.to_owned()],
            says: format!(
                "line {line}, column {column}: the teacher's tokenizer knows nothing of {name:?}: name it in the teacher's \
                 language"
            ),
        }
    }
}

impl CheckReport {
    /// Of words that make no vocabulary.
    pub fn of_findings(findings: Vec<Finding>) -> Self {
        Self { is_fine: findings.is_empty(), findings }
    }

    pub fn of(vocabulary: &Vocabulary, unknown: Vec<Finding>) -> Self {
        let is_fine = unknown.is_empty();
        let mut findings = unknown;
        for (a, b, cosine) in near_duplicates(vocabulary) {
            findings.push(Finding {
                kind: "near_duplicate",
                words: vec![a.to_owned(), b.to_owned()],
                says: format!(
                    "the teacher hardly tells {a:?} and {b:?} apart (cosine {cosine:.3}): make one a synonym of the other"
                ),
            });
        }
        for (word, other, cosine) in too_near(vocabulary) {
            let hidden = if other.hidden { ", which is hidden" } else { "" };
            let other = &other.word;
            findings.push(Finding {
                kind: "neighbour",
                words: vec![word.to_owned(), other.clone()],
                says: format!(
                    "{word:?} means nearly the same as {other:?}{hidden} ({cosine:.2} beside what all words have in common): \
                     each takes some of the other's regions"
                ),
            });
        }
        Self { is_fine, findings }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { kind, says, .. } in &self.findings {
            writeln!(f, "{:<7}  {says}", if *kind == "unknown" { "WRONG" } else { "warning" })?;
        }
        if self.findings.is_empty() {
            writeln!(f, "fine: each word is known, and none is too near another")?;
        }
        Ok(())
    }
}

/// One sentence about words that are hardly told apart, if there are some.
pub fn named_duplicates(pairs: &[(&str, &str, f32)]) -> Option<String> {
    let named: Vec<String> = pairs
        .iter()
        .take(PAIRS_NAMED)
        .map(|(a, b, cosine)| format!("{a:?} and {b:?} ({cosine:.3})"))
        .collect();
    (!pairs.is_empty()).then(|| {
        format!(
            "the teacher hardly tells {} pairs of words apart (cosine above {ALIKE}): {}; make one a synonym of the other",
            pairs.len(),
            named.join(", ")
        )
    })
}

/// A number as people and JSON take it: 0.4 and not 0.4000000059604645.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}
