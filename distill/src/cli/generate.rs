//! `wordsight-distill generate`: man pages and shell completions, made of the flags' help texts.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

/// Writes the man pages and the completions.
#[derive(Args)]
pub struct Generate {
    /// The folder to write them to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a man page for each command, and completions for three shells.
pub fn run(arguments: &Generate, command: &Command) -> Result<()> {
    let unwritable = || format!("cannot write to {}", arguments.folder.display());
    std::fs::create_dir_all(&arguments.folder).with_context(unwritable)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let name = command.get_name().to_owned();
        clap_complete::generate_to(shell, &mut command.clone(), name, &arguments.folder)
            .with_context(unwritable)?;
    }
    // `help` has no page: whoever looks for one takes --help.
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &arguments.folder)
        .with_context(unwritable)
}
