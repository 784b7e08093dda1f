//! Makes the demo's clip from photographs, and checks what the device program found in it.
//!
//! `clip` takes a recipe (`clip.toml`: camera paths), boxes marked by hand (`boxes.json`) and a folder of photographs;
//! it writes a Motion-JPEG file and its truth (where every marked object is in every frame). `check` takes the truth
//! and the device program's JSON lines; it prints a table, and ends with exit code 1 where less than half of a shot's
//! frames were right. `shrink` and `check-photographs` do the same for the demo's ordinary photographs: nothing is cut
//! out of them, and what was found in them is measured without a bar that it must reach.
//!
//! Boxes are marked once, in the photographs, and never in the frames. The camera path that cuts a frame out of a
//! photograph moves the photograph's boxes into the frame, so a path can change without marking boxes again.

mod boxes;
mod camera;
mod check;
mod clip;
mod photographs;
mod recipe;
mod shrink;
mod truth;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::boxes::{MarkedPhotos, Vocabulary};
use crate::check::Report;
use crate::recipe::Recipe;
use crate::truth::Truth;

/// Makes the demo's clip from photographs, and checks what was found in it.
#[derive(Parser)]
#[command(name = "wordsight-demo", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pan and zoom over photographs into a Motion-JPEG clip, and write its truth beside it
    ///
    /// The truth's name is the clip's with the ending `.truth.json`. The same photographs, recipe and
    /// boxes give the same bytes.
    Clip {
        /// Camera paths, one a shot
        #[arg(long, value_name = "FILE", default_value = "demo/clip.toml")]
        recipe: PathBuf,
        /// Boxes marked by hand, in the photographs' pixels
        #[arg(long, value_name = "FILE", default_value = "demo/boxes.json")]
        boxes: PathBuf,
        /// Folder with the photographs (scripts/fetch-demo-photos makes it)
        #[arg(long, value_name = "DIR", default_value = ".deps/demo-photos")]
        photos: PathBuf,
        /// The clip to write
        #[arg(short, long, value_name = "FILE", default_value = "demo/clip.mjpeg")]
        output: PathBuf,
    },
    /// Compare the device program's JSON lines with the clip's truth
    ///
    /// A table with one line for each shot and word, and exit code 1 if any word is right in less than
    /// half of its frames. A frame without a line counts as wrong. Right means, with IoU 0.5 or more
    /// between boxes: for the main vocabulary, that the frame's best-scored detection is the object and
    /// bears its word (column `first`); for the other vocabulary, whose things are small and beside the
    /// main object, that any detection of the frame is the object and bears its word (column `found`).
    Check {
        /// The clip's truth
        #[arg(long, value_name = "FILE", default_value = "demo/clip.truth.json")]
        truth: PathBuf,
        /// What `wordsight run` printed for the clip: one JSON object a line
        #[arg(long, value_name = "FILE")]
        detections: PathBuf,
        /// Which words the detections were made with
        #[arg(long, value_enum, default_value = "main")]
        vocabulary: Vocabulary,
        /// Shots that the student is known to miss: they are shown, and don't fail the check
        #[arg(long, value_name = "SHOT", value_delimiter = ',')]
        known_misses: Vec<String>,
        /// Also write the table as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Shrink whole photographs to JPEGs of at most 640 pixels a side
    ///
    /// The same photographs give the same bytes.
    Shrink {
        /// Folder with the photographs (scripts/fetch-demo-photographs makes it)
        #[arg(long, value_name = "DIR", default_value = ".deps/demo-photographs")]
        photos: PathBuf,
        /// Where the JPEGs go, under the photographs' names
        #[arg(short, long, value_name = "DIR", default_value = "demo/photographs")]
        output: PathBuf,
    },
    /// Measure what the device program found in the photographs: precision and recall, overall and a word
    ///
    /// A detection is right when it overlaps an object of its word, which no surer one has, with an IoU of
    /// 0.5 or more. All that is shown and every object count, small ones too; crowds count neither way.
    CheckPhotographs {
        /// What is in the photographs, in COCO's format
        #[arg(long, value_name = "FILE", default_value = "demo/photographs.truth.json")]
        truth: PathBuf,
        /// What `wordsight detect --json` wrote of all photographs: one JSON object a line
        #[arg(long, value_name = "FILE")]
        detections: PathBuf,
        /// Also write the table as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wordsight-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Clip { recipe, boxes, photos, output } => {
            let recipe = Recipe::load(&recipe)?;
            let marked = MarkedPhotos::load(&boxes)?;
            let truth = Truth::of(&recipe, &marked)?;
            let clip = clip::render(&recipe, &marked, &photos)?;
            write(&output, &clip)?;
            write(&output.with_extension("truth.json"), truth.to_json()?.as_bytes())?;
            let frames = truth.frames.len();
            let seconds = frames as f64 / f64::from(recipe.frames_per_second);
            println!(
                "{}: {frames} frames, {seconds:.1} s, {:.2} MB",
                output.display(),
                clip.len() as f64 / 1e6
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { truth, detections, vocabulary, known_misses, json } => {
            let truth = Truth::load(&truth)?;
            let seen = check::load_detections(&detections, truth.frames.len())?;
            let report = Report::of(&truth, &seen, vocabulary)?.with_known_misses(&known_misses)?;
            io::stdout().write_all(report.to_table().as_bytes())?;
            if let Some(json) = json {
                write(&json, serde_json::to_string_pretty(&report)?.as_bytes())?;
            }
            Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Shrink { photos, output } => {
            shrink_all(&photos, &output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::CheckPhotographs { truth, detections, json } => {
            let truth = photographs::Truth::load(&truth)?;
            let report = photographs::Report::of(&truth, &photographs::load_found(&detections)?)?;
            io::stdout().write_all(report.to_table().as_bytes())?;
            if let Some(json) = json {
                write(&json, serde_json::to_string_pretty(&report)?.as_bytes())?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn shrink_all(photos: &Path, output: &Path) -> Result<()> {
    let photos = shrink::photographs_in(photos)?;
    fs::create_dir_all(output).with_context(|| format!("cannot make the folder {}", output.display()))?;
    let mut bytes = 0;
    for photo in &photos {
        let jpeg = shrink::shrink(photo)?;
        let name = Path::new(photo.file_name().unwrap_or_default()).with_extension("jpg");
        write(&output.join(name), &jpeg)?;
        bytes += jpeg.len();
    }
    println!("{}: {} photographs, {:.0} KB", output.display(), photos.len(), bytes as f64 / 1e3);
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
