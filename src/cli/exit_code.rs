//! The program's exit codes.

use std::process::ExitCode;

use wordsight_detection::VocabularyError;
use wordsight_teacher::TeacherError;
use wordsight_teacher::words::WordsError;

use crate::bench::ReportError;
use crate::config::ConfigError;
use crate::settings::SettingError;

/// How the program ends for an error: 2 for what the user configured, 1 for everything else.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code_of(error))
}

/// The same as a number.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    let configured = error.chain().any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(VocabularyError::OtherTeacher { .. } | VocabularyError::OtherSize { .. })
        ) || matches!(
            cause.downcast_ref(),
            Some(TeacherError::Words(WordsError::Wrong { .. }) | TeacherError::UnknownName(_))
        ) || cause.is::<SettingError>()
            || cause.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_a_mistake_of_usage)
            || cause.downcast_ref::<ReportError>().is_some_and(ReportError::is_a_mistake_of_usage)
    });
    if configured { 2 } else { 1 }
}
