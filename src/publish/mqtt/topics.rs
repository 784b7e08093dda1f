//! Names of topics.
//!
//! Turns names and words as people write them into levels of topics.
//!
//! Two words may come to the same level, or to that of a topic of ours ("events"). The later one gets a number, by its
//! place in the vocabulary, so that each word has a topic of its own.

use std::collections::HashSet;

use crate::job::WordList;
use crate::publish::network::short_hash;

/// Levels beside those of words.
const OURS: [&str; 8] =
    ["availability", "events", "frames", "lines", "state", "vocabulary", "words", "zones"];
/// The longest level, bytes.
const LONGEST_LEVEL: usize = 64;

/// A level of a topic: without what means something in topics, without spaces, and not long.
pub(super) fn level(name: &str) -> String {
    let is_odd = |character: char| {
        matches!(character, '+' | '#' | '/' | '$') || character.is_whitespace() || character.is_control()
    };
    let mut level = String::new();
    for character in name.trim().chars().map(|character| if is_odd(character) { '_' } else { character }) {
        if level.len() + character.len_utf8() > LONGEST_LEVEL {
            break;
        }
        level.push(character);
    }
    if level.is_empty() { "_".to_owned() } else { level }
}

/// A level for each of the words, all different.
pub(super) fn levels(words: &WordList) -> Vec<String> {
    distinct(words.iter(), &OURS)
}

/// A level for each of the names, all different, and none of these.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>, ours: &[&str]) -> Vec<String> {
    let mut given: HashSet<String> = ours.iter().map(|level| (*level).to_owned()).collect();
    let one = |name| {
        let base = level(name);
        let mut level = base.clone();
        let mut number = 2;
        while !given.insert(level.clone()) {
            level = format!("{base}-{number}");
            number += 1;
        }
        level
    };
    names.map(one).collect()
}

/// The same for where only letters without accents, digits, "_" and "-" are allowed; still all different.
pub(super) fn plain(level: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    if level.chars().all(is_plain) {
        return level.to_owned();
    }
    let plain: String =
        level.chars().map(|character| if is_plain(character) { character } else { '_' }).collect();
    format!("{plain}_{}", short_hash(&[level]))
}

/// What is wrong with a prefix, if anything is.
pub(super) fn check_prefix(key: &str, prefix: &str) -> Result<(), String> {
    let is_odd = |character: char| "+#$".contains(character) || character.is_control();
    if prefix.chars().any(is_odd) || prefix.len() > 256 || prefix.split('/').any(str::is_empty) {
        return Err(format!(
            "{key} is to be levels of a topic, such as \"wordsight\" or \"house/cameras\", without + # $"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_of(words: &[&str]) -> Vec<String> {
        levels(&words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_word_becomes_a_level_that_means_nothing_to_a_broker() {
        let cases = [
            ("person", "person"),
            ("traffic light", "traffic_light"),
            ("#/+$SYS", "____SYS"),
            ("a\u{0}\nb", "a__b"),
            ("  ", "_"),
            ("Straßenbahn", "Straßenbahn"),
        ];
        for (word, expected) in cases {
            assert_eq!(level(word), expected);
        }
        let long = level(&"ß".repeat(100));
        assert_eq!(long.len(), LONGEST_LEVEL);
    }

    #[test]
    fn each_word_has_a_level_of_its_own_and_none_of_ours() {
        let levels = levels_of(&["a b", "a_b", "a/b", "events", "zones", "a_b-2"]);
        assert_eq!(levels, ["a_b", "a_b-2", "a_b-3", "events-2", "zones-2", "a_b-2-2"]);
    }

    #[test]
    fn plain_names_are_different_where_levels_are() {
        assert_eq!(plain("traffic_light"), "traffic_light");
        assert_ne!(plain("猫"), plain("犬"));
        assert!(plain("猫").is_ascii());
    }

    #[test]
    fn a_prefix_is_levels() {
        for right in ["wordsight", "house/cameras"] {
            assert_eq!(check_prefix("prefix", right), Ok(()));
        }
        for wrong in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\nb"] {
            assert!(check_prefix("prefix", wrong).is_err(), "{wrong}");
        }
    }
}
