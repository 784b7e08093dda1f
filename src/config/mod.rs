//! The configuration: a user's TOML over the built-in one, as values of the stages' own types.
//!
//! The defaults are not in this code: they are `demo/wordsight.toml`, which is compiled in and documents every key, so that
//! what is documented is what holds. The user's table is laid over that one, and the result deserialised once; a flag puts
//! its value into a field. What a section's keys mean stands with the stage that reads them.
//!
//! A path is relative to the file it stands in. For the built-in file that is the `demo` folder of a checkout, looked for
//! under the current directory and above the executable.

mod keys;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};
use wordsight_capture::{SourceUri, UriError};

use crate::files::is_standard_output;
use crate::governor::GovernorKeys;
use crate::http::HttpKeys;
use crate::pipeline::EngineKeys;
use crate::publish::{LinesKeys, MqttKeys, PicturesKeys, PublishKeys, SinkSettings, VideoKeys, WebhookKeys};
use crate::scoring::DetectionKeys;
use crate::settings::SettingError;
use crate::source::SourceKeys;
use crate::tracking::TrackingKeys;
pub use keys::{Effective, Origin};

/// The configuration that holds where the user's says nothing.
const BUILT_IN: &str = include_str!("../../demo/wordsight.toml");

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` can't be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not as it should be; the message shows the line.
    #[error("the configuration {} is wrong: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What toml says, with line and column, and what may have been meant.
        reason: String,
    },
    /// The built-in configuration names a file of a checkout, and there is no checkout.
    #[error(
        "demo/{} was not found under the current directory or above the executable: run wordsight in its \
         checkout (and `make demo` once), or name your own with `--{flag}` or in a configuration file", name.display()
    )]
    NoDemoFile {
        /// The file's name.
        name: PathBuf,
        /// The flag that names another.
        flag: &'static str,
    },
    /// A value of an output or the server that can't be what it is, by itself or beside the others.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// TensorRT is wanted from a program that can't have it.
    #[cfg(not(feature = "tensorrt"))]
    #[error(
        "this wordsight was built without TensorRT: set engine.kind to \"auto\" or \"onnxruntime\", or build it with \
         `cargo build --release --features tensorrt`"
    )]
    NoTensorRt,
    /// A stream where photographs are wanted.
    #[error("{} is a stream and not a photograph: use `wordsight run --source`", .0.display())]
    NotAPhotograph(PathBuf),
    /// A source that can't be opened as it is written, or not by this program.
    #[error(transparent)]
    Source(#[from] UriError),
    /// A camera that is to lose no frame.
    #[error(
        "{0} is live, and what isn't fetched in time is lost: `lossless` is for files; leave source.pacing at \"auto\""
    )]
    LosslessCamera(String),
}

impl ConfigError {
    /// Whether the user wrote something wrong, as against a file that isn't there.
    pub fn is_a_mistake_of_usage(&self) -> bool {
        !matches!(self, Self::NoDemoFile { .. })
    }
}

/// Where a relative path is looked for.
#[derive(Debug, Clone, Default, PartialEq)]
enum Base {
    /// Where the program was started: a flag's.
    #[default]
    Here,
    /// In the folder of the user's file.
    Folder(PathBuf),
    /// In the `demo` folder: the built-in file's.
    Demo,
}

impl Base {
    /// Where a file lies; `flag` could name another.
    fn find(&self, path: &Path, flag: &'static str) -> Result<PathBuf, ConfigError> {
        match self {
            Self::Here => Ok(path.to_owned()),
            Self::Folder(folder) => Ok(folder.join(path)),
            Self::Demo => {
                demo_file(path).ok_or_else(|| ConfigError::NoDemoFile { name: path.to_owned(), flag })
            }
        }
    }
}

/// A file that is needed: the user's, or one of the demo, which may not be there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "PathBuf")]
pub struct NamedFile {
    path: PathBuf,
    base: Base,
}

/// As a flag names it.
impl From<PathBuf> for NamedFile {
    fn from(path: PathBuf) -> Self {
        Self { path, base: Base::Here }
    }
}

impl NamedFile {
    /// Where it lies; `flag` could name another.
    ///
    /// # Errors
    /// When only the built-in configuration names one and there is no checkout around.
    pub fn find(&self, flag: &'static str) -> Result<PathBuf, ConfigError> {
        self.base.find(&self.path, flag)
    }
}

/// What holds for every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the stream is called.
    pub name: String,
    /// The student's file.
    pub student: NamedFile,
    /// The vocabulary's file.
    pub vocabulary: NamedFile,
    pub source: SourceKeys,
    pub detection: DetectionKeys,
    pub tracking: TrackingKeys,
    pub engine: EngineKeys,
    pub governor: GovernorKeys,
    pub publish: PublishKeys,
    pub http: HttpKeys,
    #[serde(default)]
    lines: Vec<LinesKeys>,
    #[serde(default)]
    mqtt: Vec<MqttKeys>,
    #[serde(default)]
    pictures: Vec<PicturesKeys>,
    #[serde(default)]
    webhook: Vec<WebhookKeys>,
    #[serde(default)]
    video: Vec<VideoKeys>,
    /// Where a source that is a file is looked for.
    #[serde(skip)]
    source_base: Base,
    /// What paths of the outputs are relative to.
    #[serde(skip)]
    folder: PathBuf,
}

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
        let wrong = |mut error: toml::de::Error| {
            // What is wrong is the user's: the built-in configuration has a test.
            error.set_input(Some(text));
            let hint =
                keys::hint_for(error.message()).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            ConfigError::Wrong {
                path: path.to_path_buf(),
                reason: error.to_string().trim_end().to_owned() + &hint,
            }
        };
        let user = DeTable::parse(text).map_err(wrong)?;
        let has = |section: Option<&str>, key: &str| {
            let table = section
                .map_or(Some(user.get_ref()), |section| user.get_ref().get(section)?.get_ref().as_table());
            table.is_some_and(|table| table.contains_key(key))
        };
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
        config.resolve_paths();
        Ok(config)
    }

    /// Puts the user's folder before the paths that only the user's file can have.
    fn resolve_paths(&mut self) {
        let folder = self.folder.clone();
        for (_, _, path) in self.own_paths() {
            if let Some(path) = path {
                *path = folder.join(&*path);
            }
        }
    }

    /// The paths that only the user's file can have, each with its section and key.
    fn own_paths(&mut self) -> [(&'static str, &'static str, Option<&mut PathBuf>); 6] {
        let json = &mut self.publish.json;
        let is_file = !json.as_os_str().is_empty() && !is_standard_output(json);
        [
            ("engine", "tensorrt", self.engine.tensorrt.as_mut()),
            ("http", "token_file", self.http.token_file.as_mut()),
            ("http", "vocabularies", self.http.vocabularies.as_mut()),
            ("publish", "save", self.publish.save.as_mut()),
            ("publish", "health", self.publish.health.as_mut()),
            ("publish", "json", is_file.then_some(json)),
        ]
    }

    /// Takes another source, as a flag names it.
    pub fn set_source(&mut self, written: &str) {
        (self.source.uri, self.source_base) = (written.to_owned(), Base::Here);
    }

    /// The source, to be opened as it is.
    ///
    /// # Errors
    /// When it is written wrong, or is a demo file and there is no checkout around.
    pub fn source_uri(&self) -> Result<SourceUri, ConfigError> {
        let uri = SourceUri::parse(&self.source.uri)?;
        match uri.path().map(|path| self.source_base.find(path, "source")).transpose()? {
            Some(path) => Ok(uri.at(path)),
            None => Ok(uri),
        }
    }

    /// The outputs that the user's own file lists.
    ///
    /// # Errors
    /// When a value of one can't be what it is.
    pub fn sinks(&self) -> Result<Vec<SinkSettings>, SettingError> {
        let folder = &self.folder;
        let mut sinks: Vec<SinkSettings> =
            self.lines.iter().map(|lines| SinkSettings::Lines(lines.resolve(folder))).collect();
        sinks.extend(PicturesKeys::resolve_all(&self.pictures, folder)?);
        for mqtt in &self.mqtt {
            sinks.push(SinkSettings::Mqtt(mqtt.resolve(folder)?));
        }
        for webhook in &self.webhook {
            sinks.push(SinkSettings::Webhook(webhook.resolve(folder)?));
        }
        for video in &self.video {
            sinks.push(SinkSettings::Video(video.resolve(folder)?));
        }
        Ok(sinks)
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

/// A file of the `demo` folder of a checkout, or of an installation: `../share/wordsight` of the executable.
fn demo_file(name: &Path) -> Option<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let folders = [Path::new("")].into_iter().chain(executable.ancestors().skip(1));
    let installed = executable.ancestors().nth(2).map(|prefix| prefix.join("share/wordsight"));
    folders
        .map(|folder| folder.join("demo"))
        .chain(installed)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests;
