//! A finding, its state, and the device that is examined.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::config::{ChosenCameras, ConfigError};
use crate::service::Target;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and something should be done.
    Warning,
    /// It doesn't work.
    Wrong,
}

impl State {
    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
        }
    }
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: "student".
    pub about: &'static str,
    /// How it is.
    pub state: State,
    /// What there is.
    pub found: String,
    /// What to do, where something is to be done and `found` doesn't say it.
    pub todo: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, state: State::Ok, found: found.into(), todo: None }
    }

    pub(super) fn warning(about: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { about, state: State::Warning, found: found.into(), todo: Some(todo.into()) }
    }

    pub(super) fn wrong(about: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { about, state: State::Wrong, found: found.into(), todo: Some(todo.into()) }
    }

    /// An error of this program's says itself what to do.
    pub(super) fn failed(about: &'static str, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { about, state: State::Wrong, found: format!("{error:#}"), todo: None }
    }
}

/// What to look at.
pub struct Device {
    /// The configuration's file; nothing for the built-in one.
    pub file: Option<PathBuf>,
    /// What it asks for.
    pub configured: Result<Target, ConfigError>,
    /// The cameras beside that one, where there are several.
    pub others: Vec<Target>,
    /// What was asked of the list of cameras over HTTP; those above have it.
    pub chosen: ChosenCameras,
    /// Where the system's files are.
    pub root: PathBuf,
    /// What time the clock says it is.
    pub now: SystemTime,
}
