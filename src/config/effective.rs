//! What holds for each key, and where it comes from: what `wordsight config` prints.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::ConfigError;
use super::keys::{BUILT_IN, Key, keys};
use super::secrets::shown_value;
use super::values::Config;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Environment,
    /// The user's file.
    File,
    /// The built-in configuration.
    BuiltIn,
}

/// One key, and what holds for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The section that it stands in; empty at the top.
    pub section: &'static str,
    /// Which of the sections of that name, where there may be more than one.
    pub table: Option<usize>,
    /// Its name.
    pub name: &'static str,
    /// Its value, where it has one, without secrets.
    pub value: Option<toml::Value>,
    /// Where that comes from.
    pub origin: Origin,
}

impl Config {
    /// What holds for each key, by the environment over a file over what is built in; paths as they are looked for.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn effective(path: Option<&Path>) -> Result<Vec<Effective>, ConfigError> {
        let text = path.map(Self::text_of).transpose()?.unwrap_or_default();
        let environment = Environment::of_process()?;
        let mut config = Self::parse_over(&text, path.unwrap_or(Path::new("")), &environment)?;
        let [own, built_in] = [&text, BUILT_IN].map(|text| text.parse::<toml::Table>().unwrap_or_default());
        let value = |table: &toml::Table, key: Key| match key.section {
            "" => table.get(key.name).cloned(),
            section => table.get(section)?.get(key.name).cloned(),
        };
        let mut effective = Vec::new();
        let keys = keys();
        for &key in keys.iter().filter(|key| !key.is_repeated) {
            let of_environment = environment.value(key.section, key.name).cloned();
            let of_file = value(&own, key);
            let origin = match (&of_environment, &of_file) {
                (Some(_), _) => Origin::Environment,
                (None, Some(_)) => Origin::File,
                (None, None) => Origin::BuiltIn,
            };
            let own = of_environment.or(of_file);
            // Words in the configuration stand in the built-in file's place.
            let is_replaced = match (key.section, key.name) {
                ("", "vocabulary") => config.words.is_some(),
                ("", "words") => config.words.is_none(),
                _ => false,
            };
            let value = own.or_else(|| value(&built_in, key)).filter(|_| !is_replaced);
            let value = config.file_of(key).map(|path| path.display().to_string().into()).or(value);
            let value = value.map(|value| shown_value(key.section, key.name, value));
            effective.push(Effective { section: key.section, table: None, name: key.name, value, origin });
        }
        // Of sections that there may be any number of, those that there are.
        for chunk in keys.chunk_by(|a, b| a.section == b.section).filter(|chunk| chunk[0].is_repeated) {
            let section = chunk[0].section;
            let tables = own.get(section).and_then(toml::Value::as_array);
            for (number, table) in tables.into_iter().flatten().enumerate() {
                effective.extend(chunk.iter().map(|key| Effective {
                    section,
                    table: Some(number),
                    name: key.name,
                    value: table.get(key.name).map(|value| shown_value(section, key.name, value.clone())),
                    origin: Origin::File,
                }));
            }
        }
        Ok(effective)
    }

    /// Where the file lies that a key names.
    fn file_of(&mut self, key: Key) -> Option<PathBuf> {
        match (key.section, key.name) {
            ("", "student") => self.student.find("student").ok(),
            ("", "vocabulary") if self.words.is_none() => self.vocabulary.find("vocabulary").ok(),
            ("source", "uri") => self.source_uri().ok()?.path().map(Path::to_path_buf),
            named => {
                let path = self.own_paths().into_iter().find(|(section, name, _)| (*section, *name) == named);
                path?.2.cloned()
            }
        }
    }
}
