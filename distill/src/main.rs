//! `wordsight-distill`: makes the two files that a device needs, a student and a vocabulary.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use wordsight_distill::photographs::Collection;
use wordsight_distill::scenes;

/// Makes students and vocabularies for wordsight.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes training scenes out of labelled photographs, cutouts and backgrounds.
    Scenes {
        /// Folder with imagenet.json, photographs, cutouts and backgrounds.
        #[arg(long)]
        data: PathBuf,
        /// How many scenes.
        #[arg(long, default_value_t = 6000)]
        count: usize,
        /// The same seed makes the same bytes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Folder for images/ and annotations.json.
        #[arg(long, short)]
        output: PathBuf,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordsight-distill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Scenes { data, count, seed, output } => {
            let collection = Collection::load(&data)?;
            let settings = scenes::Settings { count, seed };
            let dataset = scenes::make(&collection, &data.join("backgrounds"), &settings, &output)?;
            println!(
                "{} scenes with {} objects of {} words in {}",
                dataset.images.len(),
                dataset.annotations.len(),
                dataset.categories.len(),
                output.display()
            );
            Ok(())
        }
    }
}
