//! `wordsight regions`: the process that looks at photographs beside a stream.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::service::answer_photographs;

/// Finds regions.
#[derive(Debug, Args)]
pub struct RegionsArgs {
    /// The student's file
    #[arg(long, value_name = "FILE")]
    student: PathBuf,
}

impl RegionsArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        answer_photographs(&self.student).map(|()| ExitCode::SUCCESS)
    }
}
