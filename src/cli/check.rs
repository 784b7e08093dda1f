//! `wordsight check`: whether a configuration would work, before a service is given it.
//!
//! Prints a line for each part of a configuration: the student, the vocabulary and whether they meet, the source, where
//! results go and where the page is. It runs no stream and opens no camera, so that it can be asked beside a service
//! that runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use wordsight_detection::Vocabulary;
use wordsight_engines::StudentFacts;
use wordsight_teacher::TeacherError;

use super::exit_code::code_of;
use super::print::print;
use super::run::RunArgs;
use crate::config::ConfigError;
use crate::files::try_file;
use crate::health::Health;
use crate::publish::{SinkContext, SinkSettings};
use crate::requests::Requests;
use crate::service::{Target, of_usage};
use crate::settings::SettingError;
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
    /// Of which camera, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    camera: Option<String>,
    part: &'static str,
    is_fine: bool,
    /// Whether it works, and something should be done.
    is_warning: bool,
    /// What it is, or what is wrong with it.
    says: String,
}

#[derive(Serialize)]
struct Checked {
    is_fine: bool,
    parts: Vec<Part>,
    #[serde(skip)]
    code: u8,
    /// The camera that is looked at, where there are several.
    #[serde(skip)]
    camera: Option<String>,
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
        let mut checked = Checked { is_fine: true, parts: Vec::new(), code: 0, camera: None };
        let name = self.file.as_deref().map_or("built in".to_owned(), |file| file.display().to_string());
        let run = RunArgs::of_configuration(self.file.clone());
        let device = run.device_or_single().map_err(anyhow::Error::from);
        let Some(device) = checked.note("configuration", device, |_| name) else { return checked };
        for target in &device.cameras {
            checked.camera = target.is_camera.then(|| target.name.clone());
            self.check_stream(target, &mut checked);
        }
        checked.camera = None;
        if let Some(path) =
            device.health.as_ref().filter(|_| device.cameras.iter().all(|target| target.is_camera))
        {
            checked.note("health", can_write_health(path), |()| path.display().to_string());
        }
        if let Some(http) = &device.http {
            checked.note("page", http.check(), |says| says.clone());
        }
        checked
    }

    fn check_stream(&self, target: &Target, checked: &mut Checked) {
        let student = checked.note("student", facts_of(&target.engine.student), |facts| {
            let StudentFacts { resize, proposals, teacher, .. } = facts;
            let (input_width, input_height) = resize.input_size;
            let path = target.engine.student.display();
            format!("{path}: {input_width}x{input_height}, {proposals} regions, teacher {teacher}")
        });
        let words = checked.note("vocabulary", words_of(target, student.as_ref()), |words| {
            let fits = if student.is_some() { ", which the student understands" } else { "" };
            format!("{}: {} words{fits}", target.words.vocabulary.display(), words.shown().len())
        });
        if let Some(words) = &words {
            checked.warn_of_labels(target, words);
        }
        checked.note("source", source_of(target), |says| says.clone());
        if let Some(zones) = target.zones.told() {
            checked.note("zones", Ok(zones), |says| says.clone());
        }
        checked
            .note("results", outputs_of(target, self.file.as_deref(), words.as_ref()), |says| says.clone());
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
        self.parts.push(Part { camera: self.camera.clone(), part, is_fine, is_warning: false, says });
        result.ok()
    }

    /// What pictures can't show of the words.
    fn warn_of_labels(&mut self, target: &Target, words: &Vocabulary) {
        let words = words.shown().iter().map(|known| known.word.as_str());
        if let Some(undrawable) = target.undrawable_words(words) {
            let says = format!("{undrawable}; {}", undrawable.remedy());
            let camera = self.camera.clone();
            self.parts.push(Part { camera, part: "labels", is_fine: true, is_warning: true, says });
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut of = &None;
        for Part { camera, part, is_fine, is_warning, says } in &self.parts {
            if let Some(name) = camera.as_ref().filter(|_| camera != of) {
                writeln!(f, "camera {name}")?;
            }
            of = camera;
            let state = match (is_fine, is_warning) {
                (false, _) => "WRONG",
                (true, true) => "warning",
                (true, false) => "fine",
            };
            writeln!(f, "{state:<7} {part:<14} {says}")?;
        }
        Ok(())
    }
}

/// The facts of a student that isn't run here.
pub(super) fn facts_of(path: &Path) -> anyhow::Result<StudentFacts> {
    let model = wordsight_onnx::read(path)?;
    Ok(StudentFacts::of_model(&model, &path.display().to_string())?)
}

/// The vocabulary: read, or made in the space of the student's teacher.
fn words_of(target: &Target, student: Option<&StudentFacts>) -> anyhow::Result<Vocabulary> {
    let words = &target.words;
    let list = words.list().map_err(TeacherError::from)?;
    let vocabulary = match (list, student) {
        (Some(list), Some(student)) => words.make(&list, student, &Stop::default())?,
        (Some(_), None) => {
            anyhow::bail!(
                "{} is a list of words, and no student says for which teacher",
                words.vocabulary.display()
            )
        }
        (None, _) => Vocabulary::load(&words.vocabulary)?,
    };
    if let Some(student) = student {
        vocabulary.check_against(&student.teacher, student.embedding_size)?;
    }
    Ok(vocabulary)
}

fn source_of(target: &Target) -> anyhow::Result<String> {
    let uri = &target.source.uri;
    if uri.is_live() {
        return Ok(format!("{}: not opened; `wordsight doctor` looks at cameras", uri.display()));
    }
    // What is a pipe is opened by the stream alone, since it can be opened once, and may not answer.
    let is_pipe = uri.path().is_some_and(|path| path.exists() && !path.is_file() && !path.is_dir());
    if !is_pipe {
        drop(target.source.open(&Health::default(), &Stop::default()).map_err(of_usage)?);
    }
    Ok(uri.display().to_owned())
}

fn can_write_health(path: &Path) -> anyhow::Result<()> {
    try_file(path).with_context(|| format!("cannot write the health file {}", path.display()))
}

/// What a start would find out of the outputs.
fn outputs_of(
    target: &Target,
    configuration: Option<&Path>,
    words: Option<&Vocabulary>,
) -> anyhow::Result<String> {
    target.check_outputs(configuration).map_err(ConfigError::from)?;
    // Not the service's own: what is tried there may be root's, and stay.
    let state = std::env::temp_dir().join(format!("wordsight-check.{}", std::process::id()));
    let context = SinkContext {
        stream: target.name.clone(),
        appends: true,
        state: state.clone(),
        requests: Requests::default(),
        places: Default::default(),
    };
    let checked = target.sinks.iter().try_for_each(|sink| sink.check(&context));
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&state);
    checked?;
    let mut places: Vec<String> = target.sinks.iter().map(SinkSettings::place).collect();
    if let Some(path) = &target.health {
        can_write_health(path)?;
        places.push(path.display().to_string());
    }
    if let Some(words) = words {
        let unknown = target.unknown_names(words.shown().iter().map(|known| known.word.as_str()));
        if let Some(first) = unknown.first() {
            let reasons: Vec<&str> = unknown.iter().map(|unknown| unknown.reason.as_str()).collect();
            return Err(SettingError { section: first.section, reason: reasons.join("; ") }.into());
        }
    }
    Ok(if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") })
}
