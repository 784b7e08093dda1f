//! One list of words for all sets: equal names are one word, and so are synonyms.
//!
//! Takes each set's own words and returns their places in one list. `synonyms.toml` says which names are synonyms.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

/// Names of one and the same kind of thing: the name that is kept, and the others.
const SYNONYMS: &str = include_str!("synonyms.toml");

/// The words so far, each with its place.
pub(super) struct WordTable {
    /// The name that is kept, by another.
    kept: HashMap<String, String>,
    words: Vec<String>,
    places: HashMap<String, usize>,
}

impl WordTable {
    /// No words yet.
    pub fn new() -> Result<Self> {
        let table: HashMap<String, Vec<String>> = toml::from_str(SYNONYMS)
            .context("distill/src/sets/synonyms.toml is no table of lists of words")?;
        let mut kept = HashMap::new();
        for (name, others) in &table {
            for other in others {
                let before = kept.insert(other.clone(), name.clone());
                ensure!(
                    before.is_none() && !table.contains_key(other),
                    "distill/src/sets/synonyms.toml: {other} is a synonym of two words or is one that others have"
                );
            }
        }
        Ok(Self { kept, words: Vec::new(), places: HashMap::new() })
    }

    /// The name under which a word is kept.
    pub fn canonical<'a>(&'a self, word: &'a str) -> &'a str {
        self.kept.get(word).map_or(word, String::as_str)
    }

    /// The place of a word, which it gets now if it has none.
    pub fn place(&mut self, word: &str) -> usize {
        let word = self.canonical(word).to_owned();
        *self.places.entry(word).or_insert_with_key(|word| {
            self.words.push(word.clone());
            self.words.len() - 1
        })
    }

    /// The place of a word that has one.
    pub fn find(&self, word: &str) -> Option<usize> {
        self.places.get(self.canonical(word)).copied()
    }

    /// The words in the order of their places.
    pub fn into_words(self) -> Vec<String> {
        self.words
    }
}
