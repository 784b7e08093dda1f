//! Reads a configuration: the user's table over the built-in one, deserialised once.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::cameras::{ChosenCameras, SECTIONS, in_sections, take_cameras};
use super::credentials;
use super::environment::{self, Environment, Variable};
use super::error::ConfigError;
use super::keys::{BUILT_IN, hint_for, names_in};
use super::paths::Base;
use super::secrets::{shown_error, shown_message};
use super::values::Config;

impl Config {
    /// Reads the configuration: the built-in one, a file's over it, and the environment over both.
    ///
    /// # Errors
    /// When the file can't be read, or it or the environment has anything in it that it shouldn't.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let text = path.map(Self::text_of).transpose()?.unwrap_or_default();
        Self::parse_over(&text, path.unwrap_or(Path::new("")), &Environment::of_process()?)
    }

    /// What is written in a configuration's file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text_of(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_path_buf(), reason })
    }

    /// The configuration that this text is, at the place of this file, without the environment.
    ///
    /// # Errors
    /// When it has anything in it that it shouldn't.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::parse_over(text, path, &Environment::default())
    }

    /// The same, with an environment over it.
    ///
    /// # Errors
    /// When one of the two has anything in it that it shouldn't.
    pub fn parse_over(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        Self::parse_with(text, path, environment, &ChosenCameras::default())
    }

    /// The same, with cameras that were chosen over those of the file.
    ///
    /// # Errors
    /// As [`Self::parse_over`].
    pub fn parse_with(
        text: &str,
        path: &Path,
        environment: &Environment,
        chosen: &ChosenCameras,
    ) -> Result<Self, ConfigError> {
        // What is wrong is the user's: the built-in configuration has a test.
        let refused = |error: toml::de::Error, is_of_camera: bool| {
            let written = text.parse::<toml::Table>().unwrap_or_default();
            let as_camera = |told: String| if is_of_camera { in_camera(&told) } else { told };
            let hint = hint_for(&as_camera(error.message().to_owned()), &written);
            let hint = hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            let reason = as_camera(shown_error(error, text)) + &hint;
            ConfigError::Wrong { path: path.to_path_buf(), reason }
        };
        let wrong = |error: toml::de::Error| refused(error, false);
        let mut user = DeTable::parse(text).map_err(wrong)?.into_inner();
        let mut cameras = take_cameras(&mut user)?;
        chosen.lay_over(&mut cameras)?;
        let has_both = |table: &DeTable<'_>| table.contains_key("vocabulary") && table.contains_key("words");
        if has_both(&user) || cameras.iter().any(has_both) {
            return Err(ConfigError::TwoVocabularies { path: path.to_path_buf() });
        }
        let of_environment = environment::text_of(environment.variables());
        let bases = Bases { file: user.clone(), environment, path };
        lay_environment_over(&mut user, environment, &of_environment)?;
        let wrong_of_all = |error| wrong_variable(text, path, environment).unwrap_or_else(|| wrong(error));
        let mut config = Self::of_table(user.clone(), &bases.of(None), path, &wrong_of_all)?;
        for camera in cameras {
            let asked_for = camera.get("name").and_then(|name| chosen.named(name.get_ref().as_str()?));
            let camera = in_sections(camera);
            let (bases, mut table) = (bases.of(Some(&camera)), user.clone());
            lay_camera_over(&mut table, camera);
            // What was asked for stands in no line of the file.
            let wrong_here = |error: toml::de::Error| match &asked_for {
                Some(name) => {
                    ConfigError::Cameras(format!("{name:?} as it was asked for: {}", error.message()))
                }
                None => refused(error, true),
            };
            let mut camera = Self::of_table(table, &bases, path, &wrong_here)?;
            camera.is_camera = true;
            config.cameras.push(camera);
        }
        config.check_cameras_of_outputs()?;
        Ok(config)
    }

    /// The configuration of a user's table, at the place of this file, over the built-in one.
    fn of_table(
        user: DeTable<'_>,
        bases: &[Base; 3],
        path: &Path,
        wrong: &dyn Fn(toml::de::Error) -> ConfigError,
    ) -> Result<Self, ConfigError> {
        let mut merged = DeTable::parse(BUILT_IN).map_err(wrong)?;
        lay_over(merged.get_mut(), user);
        credentials::fill(merged.get_mut())?;
        let mut config = Self::deserialize(Deserializer::from(merged)).map_err(wrong)?;
        [config.student.base, config.vocabulary.base, config.source_base] = bases.clone();
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        config.file = path.to_owned();
        config.resolve_paths();
        Ok(config)
    }
}

/// Where the student, the vocabulary and the source are looked for.
struct Bases<'a> {
    file: DeTable<'a>,
    environment: &'a Environment,
    path: &'a Path,
}

impl Bases<'_> {
    /// By who names them: the camera's table, the environment, the file, or the built-in configuration.
    fn of(&self, camera: Option<&DeTable<'_>>) -> [Base; 3] {
        let folder = || Base::Folder(self.path.parent().unwrap_or(Path::new("")).to_owned());
        let base = |section: &str, key: &str| {
            let has = |table: &DeTable<'_>| match section {
                "" => table.contains_key(key),
                _ => table
                    .get(section)
                    .and_then(|of| of.get_ref().as_table())
                    .is_some_and(|of| of.contains_key(key)),
            };
            if camera.is_some_and(has) {
                folder()
            } else if self.environment.value(section, key).is_some() {
                Base::Here
            } else if has(&self.file) {
                folder()
            } else {
                Base::Demo
            }
        };
        [base("", "student"), base("", "vocabulary"), base("source", "uri")]
    }
}

/// What is told of a camera's table, whose keys of `[source]` stand below `[[camera]]`.
fn in_camera(told: &str) -> String {
    let listed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("expected one of {}", names.join(", "))
    };
    let of_camera = [names_in("camera"), SECTIONS.to_vec()].concat();
    told.replace("under [source]", "under [[camera]]")
        .replace(&listed(&names_in("source")), &listed(&of_camera))
}

/// Lays a camera's table over the user's: what a camera looks for stands in the place of what is looked for elsewhere.
fn lay_camera_over<'i>(user: &mut DeTable<'i>, camera: DeTable<'i>) {
    for (own, other) in [("vocabulary", "words"), ("words", "vocabulary")] {
        if camera.contains_key(own) && !camera.contains_key(other) {
            user.remove(other);
        }
    }
    lay_over(user, camera);
}

/// Lays the environment over the user's table; `text`: the same as a file would have it.
fn lay_environment_over<'i>(
    user: &mut DeTable<'i>,
    environment: &Environment,
    text: &'i str,
) -> Result<(), ConfigError> {
    // What is looked for stands in one of two keys, and the environment's goes before the file's.
    let is_set = |key: &str| environment.value("", key).is_some();
    match (is_set("words"), is_set("vocabulary")) {
        (true, true) => {
            let reason =
                "what is looked for stands in it or in WORDSIGHT_VOCABULARY; take one out".to_owned();
            return Err(ConfigError::Environment { variable: "WORDSIGHT_WORDS".to_owned(), reason });
        }
        (true, false) => drop(user.remove("vocabulary")),
        (false, true) => drop(user.remove("words")),
        (false, false) => {}
    }
    let wrong = |error: toml::de::Error| ConfigError::Environment {
        variable: "WORDSIGHT_...".to_owned(),
        reason: error.message().to_owned(),
    };
    lay_over(user, DeTable::parse(text).map_err(wrong)?.into_inner());
    Ok(())
}

/// What is wrong with the environment where the file alone is right: the first variable that its key doesn't take.
fn wrong_variable(text: &str, path: &Path, environment: &Environment) -> Option<ConfigError> {
    if environment.variables().is_empty() {
        return None;
    }
    if let Err(of_file) = Config::parse(text, path) {
        return Some(of_file);
    }
    let refusal = |variable: &Variable| {
        let own = environment::text_of(std::slice::from_ref(variable));
        let mut merged = DeTable::parse(BUILT_IN).ok()?;
        lay_over(merged.get_mut(), DeTable::parse(&own).ok()?.into_inner());
        let error = Config::deserialize(Deserializer::from(merged)).err()?;
        let reason = shown_message(error.message(), &own);
        Some(ConfigError::Environment { variable: variable.name.clone(), reason })
    };
    environment.variables().iter().find_map(refusal)
}

/// Lays a user's table over another: tables are merged, and of everything else the user's stands.
fn lay_over<'i>(below: &mut DeTable<'i>, user: DeTable<'i>) {
    for (key, value) in user {
        let (span, value) = (value.span(), value.into_inner());
        // Removed and not replaced: the key that stays has its place in the user's text.
        let value = match (below.remove(&key).map(Spanned::into_inner), value) {
            (Some(DeValue::Table(mut merged)), DeValue::Table(own)) => {
                lay_over(&mut merged, own);
                DeValue::Table(merged)
            }
            (_, value) => value,
        };
        below.insert(key, Spanned::new(span, value));
    }
}
