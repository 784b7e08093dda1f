//! The command line.
//!
//! In flow arguments, out flow settings for the stages. A flag goes before the configuration file,
//! and the file before the built-in configuration. Every flag's help stands beside its field.

mod agreement;
mod bench;
mod board;
#[cfg(feature = "v4l2")]
mod cameras;
mod check;
mod config;
mod detect;
mod doctor;
mod generate;
mod measure;
mod parts;
#[cfg(feature = "tensorrt")]
mod plan;
mod run;
mod swaps;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use wordsight_detection::VocabularyError;

use crate::bench::ReportError;
use crate::config::ConfigError;
use crate::pipeline::EngineKind;
use crate::settings::{Fraction, SettingError};

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
            Command::Config(args) => args.run(),
            Command::Board(args) => args.run(),
            Command::Doctor(args) => args.run(),
            #[cfg(feature = "v4l2")]
            Command::Cameras(args) => args.run(),
            #[cfg(feature = "tensorrt")]
            Command::Plan(args) => args.run(),
            Command::Generate(args) => args.run(),
        }
    }
}

/// What all commands understand that open a student.
#[derive(Debug, Default, Args)]
struct CommonArgs {
    /// The configuration file (TOML); without it the built-in one holds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The student: an .onnx file from `wordsight-distill`
    #[arg(long, value_name = "FILE")]
    student: Option<PathBuf>,
    /// What to look for: a .safetensors file from `wordsight-distill vocabulary`
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// The score threshold: what scores less is not told, 0 to 1
    #[arg(long, value_name = "X")]
    score_threshold: Option<Fraction>,
    /// Overlap (intersection over union, 0 to 1) above which two detections are one thing
    #[arg(long, value_name = "X")]
    nms_iou: Option<Fraction>,
    /// The most detections a frame
    #[arg(long, value_name = "N")]
    max_detections: Option<NonZeroUsize>,
    /// Words that one region may carry; above 1, only equal words compete
    #[arg(long, value_name = "N")]
    words_per_region: Option<NonZeroUsize>,
    /// What runs the student
    #[arg(long, value_name = "KIND")]
    engine: Option<EngineKind>,
    /// CPU threads that run one frame together; 0 = all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// How the program ends for an error: 2 for what the user configured, 1 for everything else.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code_of(error))
}

fn code_of(error: &anyhow::Error) -> u8 {
    let configured = error.chain().any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(VocabularyError::OtherTeacher { .. } | VocabularyError::OtherSize { .. })
        ) || cause.is::<SettingError>()
            || cause.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_a_mistake_of_usage)
            || cause.downcast_ref::<ReportError>().is_some_and(ReportError::is_a_mistake_of_usage)
    });
    if configured { 2 } else { 1 }
}
