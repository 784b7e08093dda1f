//! Mistakes in the command line, or in a file that configures a command.

use std::fmt;

/// A mistake of the user's, in a sentence that says what would be right. Other errors are work that failed.
#[derive(Debug)]
pub struct Mistake(String);

impl Mistake {
    /// A mistake in these words.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// An error that is a mistake, with its causes.
    pub fn of(error: &anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}
