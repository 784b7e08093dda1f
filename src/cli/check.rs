//! `wordsight check`: whether a configuration would work, before a service is given it.
//!
//! In flows a configuration, out flows a line for each part: the student, the vocabulary and whether they meet, the source,
//! where results go and the page is. Nothing is run and no camera is opened, so that it can be asked beside a service that runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wordsight_detection::Vocabulary;
use wordsight_engines::StudentFacts;

use super::exit_code::code_of;
use super::print::print;
use super::run::RunArgs;
use crate::health::Health;
use crate::publish::{LinesSettings, Place, SinkSettings};
use crate::service::{Target, of_usage};
use crate::threads::Stop;

/// Says whether a configuration works, part by part, without running it.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file; without it the built-in one is checked
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// One part.
#[derive(Serialize)]
struct Part {
    part: &'static str,
    is_fine: bool,
    /// What it is, or what is wrong with it.
    says: String,
}

#[derive(Serialize)]
struct Checked {
    is_fine: bool,
    parts: Vec<Part>,
    #[serde(skip)]
    code: u8,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let checked = self.check();
        if self.json {
            print(&(serde_json::to_string_pretty(&checked)? + "\n"))?;
        } else {
            print(&checked)?;
        }
        Ok(ExitCode::from(checked.code))
    }

    fn check(&self) -> Checked {
        let mut checked = Checked { is_fine: true, parts: Vec::new(), code: 0 };
        let name = self.file.as_deref().map_or("built in".to_owned(), |file| file.display().to_string());
        let run = RunArgs::of_configuration(self.file.clone());
        let target = run.target(None).map_err(anyhow::Error::from);
        let Some(target) = checked.note("configuration", target, |_| name) else { return checked };
        let student = checked.note("student", student_of(&target), |facts| {
            let StudentFacts { input_width, input_height, proposals, teacher, .. } = facts;
            let path = target.engine.student.display();
            format!("{path}: {input_width}x{input_height}, {proposals} regions, teacher {teacher}")
        });
        checked.note("vocabulary", words_of(&target, student.as_ref()), |words| {
            let fits = if student.is_some() { ", which the student understands" } else { "" };
            format!("{}: {words} words{fits}", target.words.vocabulary.display())
        });
        checked.note("source", source_of(&target), |says| says.clone());
        checked.note("results", outputs_of(&target), |says| says.clone());
        if let Some(http) = &target.http {
            checked.note("page", http.check(), |says| says.clone());
        }
        checked
    }
}

impl Checked {
    fn note<T>(
        &mut self,
        part: &'static str,
        result: anyhow::Result<T>,
        says: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (is_fine, says) = match &result {
            Ok(value) => (true, says(value)),
            Err(error) => (false, format!("{error:#}").trim_end().to_owned()),
        };
        if let Err(error) = &result {
            self.is_fine = false;
            self.code = self.code.max(code_of(error));
        }
        self.parts.push(Part { part, is_fine, says });
        result.ok()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Part { part, is_fine, says } in &self.parts {
            writeln!(f, "{:<6} {part:<14} {says}", if *is_fine { "fine" } else { "WRONG" })?;
        }
        Ok(())
    }
}

fn student_of(target: &Target) -> anyhow::Result<StudentFacts> {
    let path = &target.engine.student;
    let model = wordsight_onnx::read(path)?;
    Ok(StudentFacts::of_model(&model, &path.display().to_string())?)
}

fn words_of(target: &Target, student: Option<&StudentFacts>) -> anyhow::Result<usize> {
    let vocabulary = Vocabulary::load(&target.words.vocabulary)?;
    if let Some(student) = student {
        vocabulary.check_against(&student.teacher, student.embedding_size)?;
    }
    Ok(vocabulary.shown().len())
}

fn source_of(target: &Target) -> anyhow::Result<String> {
    let uri = &target.source.uri;
    if uri.is_live() {
        return Ok(format!("{}: not opened; `wordsight doctor` looks at cameras", uri.display()));
    }
    drop(target.source.open(&Health::default(), &Stop::default()).map_err(of_usage)?);
    Ok(uri.display().to_owned())
}

/// Whether the folders are there that files are to be made in.
fn outputs_of(target: &Target) -> anyhow::Result<String> {
    let mut places = Vec::new();
    for sink in &target.sinks {
        if let SinkSettings::Lines(LinesSettings {
            place: Place::File { path, .. } | Place::Socket(path),
            ..
        }) = sink
        {
            folder_of(path)?;
        }
        places.push(sink.place());
    }
    if let Some(path) = &target.health {
        places.push(folder_of(path)?);
    }
    Ok(if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") })
}

fn folder_of(path: &Path) -> anyhow::Result<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // This systemd makes when the service starts.
    anyhow::ensure!(
        folder.is_dir() || folder.starts_with("/run/wordsight"),
        "the folder of {} is not there: make it, or name another file",
        path.display()
    );
    Ok(path.display().to_string())
}
