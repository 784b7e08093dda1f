//! Reads a configuration: the user's table over the built-in one, deserialised once.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::ConfigError;
use super::keys::hint_for;
use super::paths::Base;
use super::secrets::shown_error;
use super::values::Config;

/// The configuration that holds where the user's says nothing.
pub(super) const BUILT_IN: &str = include_str!("../../demo/wordsight.toml");

impl Config {
    /// Reads the configuration: the built-in one alone, or a file's over it.
    ///
    /// # Errors
    /// When the file can't be read or has anything in it that it shouldn't.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::parse(&Self::text_of(path)?, path),
            None => Self::parse("", Path::new("")),
        }
    }

    /// What is written in a configuration's file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text_of(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_path_buf(), reason })
    }

    /// The configuration that this text is, at the place of this file.
    ///
    /// # Errors
    /// When it has anything in it that it shouldn't.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // What is wrong is the user's: the built-in configuration has a test.
        let wrong = |error: toml::de::Error| {
            let written = text.parse::<toml::Table>().unwrap_or_default();
            let hint = hint_for(error.message(), &written);
            let hint = hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            ConfigError::Wrong { path: path.to_path_buf(), reason: shown_error(error, text) + &hint }
        };
        let user = DeTable::parse(text).map_err(wrong)?;
        let has = |section: Option<&str>, key: &str| {
            let table = section
                .map_or(Some(user.get_ref()), |section| user.get_ref().get(section)?.get_ref().as_table());
            table.is_some_and(|table| table.contains_key(key))
        };
        if has(None, "vocabulary") && has(None, "words") {
            return Err(ConfigError::TwoVocabularies { path: path.to_path_buf() });
        }
        let base = |is_users: bool| match is_users {
            true => Base::Folder(path.parent().unwrap_or(Path::new("")).to_owned()),
            false => Base::Demo,
        };
        let bases = [has(None, "student"), has(None, "vocabulary"), has(Some("source"), "uri")].map(base);
        let mut merged = DeTable::parse(BUILT_IN).map_err(wrong)?;
        lay_over(merged.get_mut(), user.into_inner());
        let mut config = Self::deserialize(Deserializer::from(merged)).map_err(wrong)?;
        [config.student.base, config.vocabulary.base, config.source_base] = bases;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        config.file = path.to_owned();
        config.resolve_paths();
        Ok(config)
    }
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
