//! `[[camera]]`: what is different for one of several cameras.
//!
//! A camera's table is laid over what stands outside of it: its own keys of `[source]` over `[source]`, its words over those
//! at the top, its `[camera.detection]` over `[detection]`. So what stands outside is the default for all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// Keys of a camera that stand at the top of a file for one camera.
pub(super) const AT_THE_TOP: [&str; 3] = ["name", "vocabulary", "words"];
/// Sections that a camera may have of its own.
pub(super) const SECTIONS: [&str; 5] = ["detection", "tracking", "zone", "crossing_line", "mask"];
/// The longest name, bytes: it stands in topics, labels and paths.
const LONGEST_NAME: usize = 64;

/// Takes the cameras out of a user's table, in their order.
pub(super) fn take_cameras<'i>(user: &mut DeTable<'i>) -> Result<Vec<DeTable<'i>>, ConfigError> {
    let Some(cameras) = user.remove("camera") else { return Ok(Vec::new()) };
    let wrong = |reason: &str| ConfigError::Cameras(reason.to_owned());
    let DeValue::Array(cameras) = cameras.into_inner() else {
        return Err(wrong("there may be several of it, so it is written [[camera]]"));
    };
    let tables = cameras.into_iter().map(|camera| match camera.into_inner() {
        DeValue::Table(table) => Ok(table),
        _ => Err(wrong("a camera is a table of keys: write [[camera]] and its keys below it")),
    });
    let tables: Vec<DeTable<'i>> = tables.collect::<Result<_, _>>()?;
    check_names(&tables)?;
    Ok(tables)
}

/// What was asked of the list of cameras, over the configuration's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChosenCameras {
    /// The tables of cameras that are new or others, by their names, in TOML.
    set: BTreeMap<String, String>,
    removed: BTreeSet<String>,
}

impl ChosenCameras {
    /// Whether the cameras are those of the configuration.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// Names that were asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.set.keys().map(String::as_str)
    }

    /// Names of cameras that are not to be there.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(String::as_str)
    }

    /// This name, if a camera of it was asked for.
    pub(super) fn named(&self, name: &str) -> Option<String> {
        self.set.contains_key(name).then(|| name.to_owned())
    }

    /// As it was before a camera of this name was asked for.
    pub fn forget(mut self, name: &str) -> Self {
        self.set.remove(name);
        self
    }

    /// Also this camera, or with these keys from now on.
    pub fn with(mut self, name: &str, keys: &toml::Table) -> Self {
        self.removed.remove(name);
        self.set.insert(name.to_owned(), keys.to_string());
        self
    }

    /// Also without this camera.
    pub fn without(mut self, name: &str) -> Self {
        self.set.remove(name);
        self.removed.insert(name.to_owned());
        self
    }

    /// Lays it over the tables of a configuration.
    pub(super) fn lay_over<'i>(&'i self, cameras: &mut Vec<DeTable<'i>>) -> Result<(), ConfigError> {
        let name = |camera: &DeTable<'_>| {
            camera.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned)
        };
        cameras.retain(|camera| name(camera).is_none_or(|name| !self.removed.contains(&name)));
        for (chosen, text) in &self.set {
            let table =
                DeTable::parse(text).map_err(|error| ConfigError::Cameras(error.message().to_owned()))?;
            let table = table.into_inner();
            match cameras.iter().position(|camera| name(camera).as_ref() == Some(chosen)) {
                Some(place) => cameras[place] = table,
                None => cameras.push(table),
            }
        }
        check_names(cameras)
    }
}

/// Every camera has a name, which no other has.
fn check_names(cameras: &[DeTable<'_>]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for (place, camera) in cameras.iter().enumerate() {
        let name = camera.get("name").and_then(|name| name.get_ref().as_str());
        let place = place + 1;
        let Some(name) = name else {
            return Err(ConfigError::Cameras(format!("camera {place} has no name: write name = \"...\"")));
        };
        if let Some(reason) = wrong_name(name) {
            return Err(ConfigError::Cameras(format!("the name of camera {place}, {name:?}, {reason}")));
        }
        // As topics, files and labels have it.
        let as_topic: String =
            name.to_lowercase().chars().map(|of| if of.is_alphanumeric() { of } else { '_' }).collect();
        if !names.insert(as_topic) {
            let reason = format!("two cameras are called {name:?}, or as good as: rename one");
            return Err(ConfigError::Cameras(reason));
        }
    }
    Ok(())
}

/// Why a camera can't be called so.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    let is_allowed = |character: char| character.is_alphanumeric() || " -_.".contains(character);
    if name.trim() != name || name.is_empty() {
        Some("is empty or has blanks around it")
    } else if name.len() > LONGEST_NAME {
        Some("is longer than 64 bytes")
    } else if !name.chars().all(is_allowed) || name.starts_with('.') {
        Some("has other characters than letters, digits, blanks, - _ and . between them")
    } else {
        None
    }
}

/// A camera's table as one of a file for one camera: its keys in the sections where they stand there.
pub(super) fn in_sections(camera: DeTable<'_>) -> DeTable<'_> {
    let (mut top, mut source) = (DeTable::new(), DeTable::new());
    let mut span = 0..0;
    for (key, value) in camera {
        let name: &str = key.get_ref();
        if AT_THE_TOP.contains(&name) || SECTIONS.contains(&name) {
            top.insert(key, value);
        } else {
            span = key.span();
            source.insert(key, value);
        }
    }
    if !source.is_empty() {
        top.insert(Spanned::new(span.clone(), "source".into()), Spanned::new(span, DeValue::Table(source)));
    }
    top
}
