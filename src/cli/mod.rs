//! The command line.
//!
//! Turns arguments into settings for the stages. A flag overrides the configuration file, and the file overrides the
//! built-in configuration. Every flag's help stands beside its field.

mod agreement;
mod bench;
mod board;
#[cfg(feature = "v4l2")]
mod cameras;
mod check;
mod config;
mod detect;
mod doctor;
mod exit_code;
mod flags;
mod generate;
mod installed;
mod many_cameras;
mod measure;
#[cfg(feature = "tensorrt")]
mod plan;
mod print;
mod regions;
mod run;
mod student;
mod swaps;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use exit_code::exit_code_of;

/// Finds in pictures what you can name.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or configuration.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Names the things in photographs
    Detect(detect::DetectArgs),
    /// Names the things in a stream, one JSON line a frame
    Run(run::RunArgs),
    /// Measures a stream, or compares two measurements
    Bench(bench::BenchArgs),
    /// Says whether a configuration works, without running it
    Check(check::CheckArgs),
    /// Makes vocabularies of words, shows and checks them
    #[command(subcommand)]
    Words(words::WordsCommand),
    /// Says whether a file is a student, and what is wrong with it
    #[command(subcommand)]
    Student(student::StudentCommand),
    /// Prints the configuration that holds
    Config(config::ConfigArgs),
    /// Tells what the board says of itself: power, heat, clocks, alarms
    Board(board::BoardArgs),
    /// Looks at everything that can be wrong on a device, and says what to do
    Doctor(doctor::DoctorArgs),
    /// Lists the cameras of this machine
    #[cfg(feature = "v4l2")]
    Cameras(cameras::CamerasArgs),
    /// Builds, shows and lists TensorRT plans
    #[cfg(feature = "tensorrt")]
    Plan(plan::PlanArgs),
    /// Finds the regions of photographs for a stream, in a process of its own
    #[command(hide = true)]
    Regions(regions::RegionsArgs),
    /// Writes the man pages and completions for bash, zsh and fish, which the package installs
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps the command from being done; [`exit_code_of`] says how it ends.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Detect(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Words(command) => command.run(),
            Command::Student(command) => command.run(),
            Command::Config(args) => args.run(),
            Command::Board(args) => args.run(),
            Command::Doctor(args) => args.run(),
            #[cfg(feature = "v4l2")]
            Command::Cameras(args) => args.run(),
            #[cfg(feature = "tensorrt")]
            Command::Plan(args) => args.run(),
            Command::Regions(args) => args.run(),
            Command::Generate(args) => args.run(&Self::command()),
        }
    }
}
