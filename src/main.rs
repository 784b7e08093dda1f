//! `wordsight`: frames in, named boxes out.
//!
//! The folders are the stages, in the order that data flows: `capture`, `preprocess`, `pipeline`
//! (the engine and the threads), `scoring`, `publish`; `cli` turns flags and the configuration
//! file into them. This file parses, runs, and maps the outcome to an exit code.
//!
//! The one surprising thing: exit codes tell what to put right. 0: done; 1: something failed or
//! could not be read; 2: the command line, the configuration or the combination of files is wrong.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what `wordsight bench` measures makes reports, and comes next")
)]
mod bench;
mod capture;
mod cli;
mod pipeline;
mod preprocess;
mod publish;
mod scoring;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wordsight: {error:#}");
            cli::exit_code_of(&error)
        }
    }
}
