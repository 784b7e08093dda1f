//! `wordsight-distill eval --words` and `--small-vocabularies`: what a user of a few words sees.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use wordsight_detection::{Vocabulary, Word};
use wordsight_distill::eval::annotated::AnnotatedSet;
use wordsight_distill::eval::small_vocabularies::{self, Contender, Row};
use wordsight_distill::mistake::Mistake;
use wordsight_engines::{CpuEngine, Engine};
use wordsight_teacher::competitors::Competitors;
use wordsight_teacher::words::WordList;
use wordsight_teacher::{Teacher, prompts, words};

/// Ten words that people ask for.
const TEN_WORDS: [&str; 10] =
    ["dog", "cat", "bicycle", "car", "cup", "umbrella", "bird", "laptop", "chair", "bottle"];

/// Arguments of `eval` about small vocabularies.
#[derive(Args)]
pub struct Arguments {
    /// Precision and recall of these words as a user sees them, one label a region: categories of the annotations with
    /// commas between them, or a words.toml.
    #[arg(long, requires = "teacher", conflicts_with_all = ["vocabulary", "teacher_on_crops", "true_boxes"])]
    words: Option<String>,
    /// The same for ten words, all categories, and these with the thousand of ImageNet.
    #[arg(long, requires = "teacher", conflicts_with_all = ["vocabulary", "teacher_on_crops", "true_boxes"])]
    small_vocabularies: bool,
    /// What competes with the words without being shown: `default`, `none`, or words with commas between them. Without
    /// it, --words and --small-vocabularies are evaluated with none and with the default ones, average precision with
    /// none.
    #[arg(long, requires = "teacher", conflicts_with = "vocabulary")]
    pub competitors: Option<Competitors>,
}

impl Arguments {
    /// Whether small vocabularies are to be evaluated.
    pub fn are_asked_for(&self) -> bool {
        self.words.is_some() || self.small_vocabularies
    }

    /// Evaluates them.
    pub fn run(&self, student: &Path, set: &AnnotatedSet, teacher: &Path, json: Option<&Path>) -> Result<()> {
        let engine = CpuEngine::open(student, 0)?;
        let mut teacher = Teacher::open(teacher)?;
        ensure!(
            teacher.id() == engine.facts().teacher,
            Mistake::new(format!(
                "the student learned from {}, not from {}",
                engine.facts().teacher,
                teacher.id()
            ))
        );
        let rows = self.rows(engine, set, &mut teacher)?;
        print!("{}", small_vocabularies::table(&rows));
        super::report::write_json(json, &json!({ "small_vocabularies": rows }))
    }

    fn rows(&self, engine: CpuEngine, set: &AnnotatedSet, teacher: &mut Teacher) -> Result<Vec<Row>> {
        let mut contenders = Vec::new();
        for (name, list) in self.lists(set, &engine)? {
            contenders.extend(self.with_competitors(&name, list, teacher)?);
        }
        small_vocabularies::rows(engine, &contenders, set)
    }

    /// Word lists under their names.
    fn lists(&self, set: &AnnotatedSet, engine: &CpuEngine) -> Result<Vec<(String, WordList)>> {
        let trained = engine.facts().trained_words();
        let list = |names: Vec<String>| WordList {
            prompts: words::default_prompts(),
            words: names
                .into_iter()
                .map(|name| Word { trained_on: trained.contains(&name), ..Word::new(name) })
                .collect(),
            competitors: Competitors::Default,
            places: Vec::new(),
            shown: Vec::new(),
        };
        let mut lists = Vec::new();
        if let Some(asked) = &self.words {
            let asked = if asked.ends_with(".toml") {
                words::read(Path::new(asked))?
            } else {
                list(names_of(asked)?)
            };
            lists.push((format!("{} words", asked.words.len()), asked));
        }
        if self.small_vocabularies {
            let categories = set.names();
            let mut thousand = categories.clone();
            let is_new = |name: &String| set.category_of(name).is_none();
            thousand.extend(without_repeats(wordsight_standin::class_names()).into_iter().filter(is_new));
            let ten = TEN_WORDS.map(str::to_owned).to_vec();
            lists.push(("ten words".to_owned(), list(ten)));
            lists.push((format!("all {} categories", categories.len()), list(categories)));
            lists.push((format!("{} words, ImageNet's among them", thousand.len()), list(thousand)));
        }
        Ok(lists)
    }

    /// A list with the competitors that were asked for, or with none and with its own.
    fn with_competitors(&self, name: &str, list: WordList, teacher: &mut Teacher) -> Result<Vec<Contender>> {
        let WordList { prompts, words, competitors, .. } = list;
        let alone: Vocabulary = words::embed(words, prompts, teacher)?;
        let asked = match &self.competitors {
            Some(competitors) => vec![competitors.clone()],
            None if competitors == Competitors::None => vec![Competitors::None],
            None => vec![Competitors::None, competitors],
        };
        let mut contenders = Vec::new();
        for competitors in asked {
            let mut vocabulary = alone.clone();
            competitors.append_to(&mut vocabulary, teacher)?;
            let name = match vocabulary.hidden().len() {
                0 => format!("{name}, alone"),
                _ => format!("{name}, with competitors"),
            };
            contenders.push(Contender { name, vocabulary });
        }
        Ok(contenders)
    }
}

/// The rows of `--small-vocabularies`, as they come without further flags.
pub(super) fn all_rows(student: &Path, set: &AnnotatedSet, teacher: &mut Teacher) -> Result<Vec<Row>> {
    let asked = Arguments { words: None, small_vocabularies: true, competitors: None };
    asked.rows(CpuEngine::open(student, 0)?, set, teacher)
}

/// The words between commas.
fn names_of(text: &str) -> Result<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let empty = names.iter().position(|name| prompts::clean(name).is_empty());
    ensure!(
        empty.is_none(),
        Mistake::new(format!("--words {text:?} has an empty word: write --words \"cat,cup\""))
    );
    let count = names.len();
    let names = without_repeats(names);
    ensure!(
        names.len() == count,
        Mistake::new(format!("--words {text:?} names a word twice: name each once"))
    );
    Ok(names)
}

/// ImageNet calls two of its classes "crane", and two more pairs alike.
fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().filter(|name| seen.insert(prompts::clean(name))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_stand_between_commas_and_each_once() {
        assert_eq!(names_of("cat, traffic light").unwrap(), ["cat", "traffic light"]);
        assert!(names_of("cat,,cup").unwrap_err().to_string().contains("empty word"));
        assert!(names_of("").unwrap_err().to_string().contains("empty word"));
        assert!(names_of("cup,Cup").unwrap_err().to_string().contains("twice"));
    }
}
