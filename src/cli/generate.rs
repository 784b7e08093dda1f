//! `wordsight generate`: man pages and shell completions, made of the flags' help texts.
//!
//! Writes a man page for each command, and completions for three shells. It is a command of the program itself, because
//! a page then says what this very build understands: some commands and flags come with cargo features.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

/// Writes the man pages and the completions.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The folder to write them to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl GenerateArgs {
    pub(super) fn run(self, command: &Command) -> anyhow::Result<ExitCode> {
        let unwritable = || format!("cannot write to {}", self.folder.display());
        std::fs::create_dir_all(&self.folder).with_context(unwritable)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let name = command.get_name().to_owned();
            clap_complete::generate_to(shell, &mut command.clone(), name, &self.folder)
                .with_context(unwritable)?;
        }
        // Anew: the completions know `help` as a command, and nobody looks for its page.
        clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &self.folder)
            .with_context(unwritable)?;
        Ok(ExitCode::SUCCESS)
    }
}
