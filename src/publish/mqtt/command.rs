//! A command that comes through the broker, as it is written, and what is in use then, as it is told.

use serde::Deserialize;
use serde_json::json;
use wordsight_teacher::words::{ListedWords, WrittenWord, parse_line};

use crate::requests::{ChangeRequest, Current};

/// The most words that are told.
const MOST_TOLD: usize = 1_000;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Words,
    Vocabulary,
}

impl Command {
    pub(super) const ALL: [Self; 2] = [Self::Words, Self::Vocabulary];

    /// The level below the stream's topic whose retained message is what is in use.
    pub(super) fn level(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Vocabulary => "vocabulary",
        }
    }

    /// The topic that it comes on.
    pub(super) fn topic(self, base: &str) -> String {
        format!("{base}/{}/set", self.level())
    }
}

/// The request that a message asks for, and whether it is to be kept, where it says so.
pub(super) fn request_of(command: Command, payload: &[u8]) -> Result<(ChangeRequest, Option<bool>), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        words: Vec<WrittenWord>,
        keep: Option<bool>,
    }
    let text = std::str::from_utf8(payload).map_err(|_| "it is no text in UTF-8".to_owned())?.trim();
    if text.is_empty() {
        return Ok((ChangeRequest::AsConfigured, None));
    }
    if command == Command::Vocabulary {
        return Ok((ChangeRequest::VocabularyNamed(text.to_owned()), None));
    }
    let written = if text.starts_with('{') {
        serde_json::from_str::<Written>(text).map_err(|error| error.to_string())?
    } else {
        Written { words: parse_line(text)?, keep: None }
    };
    Ok((ChangeRequest::Words(ListedWords::typed(written.words)?), written.keep))
}

/// What is in use, as it is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InUse {
    pub vocabulary: String,
    pub words: Vec<String>,
    pub total: usize,
    pub is_as_configured: bool,
    pub is_kept: bool,
    /// Why the last command is refused, if it is.
    pub error: Option<String>,
}

impl InUse {
    pub(super) fn of(current: &Current) -> Self {
        let words = current.words.iter().take(MOST_TOLD).map(str::to_owned).collect();
        Self {
            vocabulary: current.vocabulary_name(),
            words,
            total: current.words.len(),
            is_as_configured: current.is_as_configured,
            is_kept: current.is_kept,
            error: None,
        }
    }

    /// The message of the topic `words`.
    pub(super) fn to_json(&self) -> String {
        let Self { vocabulary, words, total, is_as_configured, is_kept, error } = self;
        json!({
            "words": words, "total": total, "vocabulary": vocabulary,
            "is_as_configured": is_as_configured, "is_kept": is_kept, "error": error,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words_of(payload: &str) -> Result<(Vec<String>, Option<bool>), String> {
        let (request, keep) = request_of(Command::Words, payload.as_bytes())?;
        let ChangeRequest::Words(words) = request else { return Err(format!("{request:?}")) };
        Ok((words.words().iter().map(|word| word.word.clone()).collect(), keep))
    }

    #[test]
    fn words_come_as_people_type_them_or_as_json() {
        let two = vec!["cat".to_owned(), "red cup".to_owned()];
        assert_eq!(words_of("cat, red cup\n"), Ok((two.clone(), None)));
        assert_eq!(words_of("\"cat\",red cup"), Ok((two.clone(), None)));
        let json = r#"{"words": ["cat", {"word": "red cup", "threshold": 0.2}], "keep": true}"#;
        assert_eq!(words_of(json), Ok((two, Some(true))));
        assert!(words_of("cat, Cat").unwrap_err().contains("twice"));
        assert!(words_of("{\"words\": 3}").unwrap_err().contains("invalid type"));
        assert!(words_of("{\"words\": [\"cat\"], \"kept\": true}").unwrap_err().contains("kept"));
        assert!(words_of(",").unwrap_err().contains("word 1 is empty"));
        assert!(request_of(Command::Words, b"\xff").unwrap_err().contains("UTF-8"));
        assert_eq!(request_of(Command::Words, b" "), Ok((ChangeRequest::AsConfigured, None)));
        assert_eq!(request_of(Command::Vocabulary, b""), Ok((ChangeRequest::AsConfigured, None)));
        let named = ChangeRequest::VocabularyNamed("my words".to_owned());
        assert_eq!(request_of(Command::Vocabulary, b"my words\n"), Ok((named, None)));
    }
}
