//! `wordsight`: frames in, named boxes out.
//!
//! The folders are the stages, in the order that data flows: `capture`, `preprocess`, `pipeline`
//! (the engine and the threads), `scoring`, `publish`; `cli` turns flags and the configuration
//! file into them. This file parses, runs, and maps the outcome to an exit code.
//!
//! The one surprising thing: exit codes tell what to put right. 0: done; 1: something failed or
//! could not be read; 2: the command line, the configuration or the combination of files is wrong.

/// `eprintln!` for a program that goes on when nobody reads its stderr any more.
macro_rules! tell {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod allocations;
mod bench;
mod capture;
mod cli;
mod health;
mod pipeline;
mod preprocess;
mod publish;
mod scoring;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        // They would be told by `eprintln!`, which panics where nobody reads.
        .log_internal_errors(false)
        .init();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            tell!("wordsight: {error:#}");
            cli::exit_code_of(&error)
        }
    }
}
