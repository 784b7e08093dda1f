//! `wordsight`: frames in, named boxes out.
//!
//! The folders are the stages, in the order that data flows: `source` (the crate `capture` by its keys), `preprocess`, `pipeline` (the engine and the
//! threads), `scoring`, `tracking`, `publish`; `cli` turns flags and the configuration file into them, and `service` looks
//! after a stream of them. `docs/architecture.md` has the order in which they build on one another.
//!
//! The program is this library and a `main`, so that fuzzers can call what the program calls. It is no interface for others:
//! what it does is asked of the command line, and nothing else is promised.

/// `eprintln!` for a program that goes on when nobody reads its stderr any more.
macro_rules! tell {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod allocations;
mod bench;
mod cli;
mod config;
mod doctor;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod governor;
mod health;
mod http;
mod job;
mod logging;
mod pipeline;
mod preprocess;
mod publish;
mod requests;
mod scoring;
mod service;
mod settings;
mod source;
mod threads;
mod tracking;
mod words;

use std::process::ExitCode;

use clap::Parser;

pub use allocations::Counting;

/// Tests count allocations as the program does.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Parses the command line, does what it asks for, and tells how it ended. 0: done; 1: something failed or could not be
/// read; 2: the command line, the configuration or the combination of files is wrong.
pub fn run() -> ExitCode {
    logging::start();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            tell!("wordsight: {error:#}");
            cli::exit_code_of(&error)
        }
    }
}
