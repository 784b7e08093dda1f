//! The program's exit codes, the same as the device program's.

use std::process::ExitCode;

use anyhow::Error;
use wordsight_detection::VocabularyError;
use wordsight_distill::mistake::Mistake;
use wordsight_files::OutputError;
use wordsight_teacher::TeacherError;
use wordsight_teacher::words::WordsError;

/// How the program ends for an error: 2 for a mistake in the command line or in a file that configures a command, 1 for
/// everything else.
pub fn exit_code_of(error: &Error) -> ExitCode {
    ExitCode::from(if is_mistake(error) { 2 } else { 1 })
}

fn is_mistake(error: &Error) -> bool {
    // As a context it is no cause of its own.
    error.is::<Mistake>()
        || error.chain().any(|cause| {
            cause.is::<Mistake>()
                || cause.is::<OutputError>()
                || cause.is::<WordsError>()
                || matches!(cause.downcast_ref(), Some(TeacherError::Words(_)))
                || matches!(
                    cause.downcast_ref(),
                    Some(VocabularyError::OtherTeacher { .. } | VocabularyError::OtherSize { .. })
                )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_mistake_is_one_wherever_it_stands_among_the_causes() {
        let mistake = || Mistake::new("--batch must be at least 1");
        let cause: Result<(), Error> = Err(anyhow!(mistake()));
        assert!(is_mistake(&cause.context("the set a").context("sets.toml").unwrap_err()));
        let context: Result<(), Error> = Err(anyhow!("not a number"));
        assert!(is_mistake(&context.context(mistake()).context("sets.toml").unwrap_err()));
        assert!(!is_mistake(&anyhow!("not a number").context("sets.toml")));
        let refused = OutputError::Folder("images".into());
        assert!(is_mistake(&Error::from(refused).context("the report")));
        let words =
            WordsError::Unreadable { path: "words.toml".into(), reason: std::io::Error::other("gone") };
        assert!(is_mistake(&TeacherError::Words(words).into()));
    }
}
