//! A configuration as values of the stages' own types.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use wordsight_capture::SourceUri;
use wordsight_teacher::words::ListedWords;

use super::error::ConfigError;
use super::paths::{Base, NamedFile};
use crate::files::is_standard_output;
use crate::governor::GovernorKeys;
use crate::http::HttpKeys;
use crate::pipeline::EngineKeys;
use crate::publish::{LinesKeys, MqttKeys, PicturesKeys, PublishKeys, SinkSettings, VideoKeys, WebhookKeys};
use crate::scoring::DetectionKeys;
use crate::settings::SettingError;
use crate::source::SourceKeys;
use crate::tracking::TrackingKeys;

/// What holds for every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the stream is called.
    pub name: String,
    /// The student's file.
    pub student: NamedFile,
    /// The vocabulary's file, or a list of words.
    pub vocabulary: NamedFile,
    /// The words, in the place of a file.
    pub words: Option<ListedWords>,
    /// The folder of the teacher that embeds words.
    pub teacher: Option<PathBuf>,
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
    pub(super) source_base: Base,
    /// What paths of the outputs are relative to.
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// The user's file.
    #[serde(skip)]
    pub(super) file: PathBuf,
}

impl Config {
    /// The user's file; empty without one.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Puts the user's folder before the paths that only the user's file can have.
    pub(super) fn resolve_paths(&mut self) {
        let folder = self.folder.clone();
        for (_, _, path) in self.own_paths() {
            if let Some(path) = path {
                *path = folder.join(&*path);
            }
        }
        self.words = self.words.take().map(|words| words.in_folder(&folder));
    }

    /// The paths that only the user's file can have, each with its section and key.
    pub(super) fn own_paths(&mut self) -> [(&'static str, &'static str, Option<&mut PathBuf>); 7] {
        let json = &mut self.publish.json;
        let is_file = !json.as_os_str().is_empty() && !is_standard_output(json);
        [
            ("", "teacher", self.teacher.as_mut()),
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
        (self.source.uri, self.source_base) = (written.to_owned().into(), Base::Here);
    }

    /// The source, to be opened as it is.
    ///
    /// # Errors
    /// When it is written wrong, or is a demo file and there is no checkout around.
    pub fn source_uri(&self) -> Result<SourceUri, ConfigError> {
        let uri = SourceUri::parse(self.source.uri.reveal())?;
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
        let mut sinks = Vec::new();
        for lines in &self.lines {
            sinks.push(SinkSettings::Lines(lines.resolve(folder)?));
        }
        sinks.extend(PicturesKeys::resolve_all(&self.pictures, folder)?.into_iter().map(SinkSettings::Rule));
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
