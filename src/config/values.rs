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
use crate::tracking::{CrossingLineKeys, MaskKeys, TrackingKeys, WrittenZones, ZoneKeys, ZoneSettings};

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
    zone: Vec<ZoneKeys>,
    #[serde(default)]
    crossing_line: Vec<CrossingLineKeys>,
    #[serde(default)]
    mask: Vec<MaskKeys>,
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
    /// Each camera's own, where the file lists cameras; this is what holds for all of them then.
    #[serde(skip)]
    pub(super) cameras: Vec<Self>,
    /// Whether this is one of several.
    #[serde(skip)]
    pub(super) is_camera: bool,
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

    /// The configuration of each camera, where the file lists cameras.
    pub fn cameras(&self) -> &[Self] {
        &self.cameras
    }

    /// The same, to put flags over them.
    pub fn cameras_mut(&mut self) -> &mut [Self] {
        &mut self.cameras
    }

    /// Whether this is the configuration of one of several cameras.
    pub fn is_camera(&self) -> bool {
        self.is_camera
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

    /// The zones, lines and masks, as they are written.
    pub fn written_zones(&self) -> WrittenZones {
        WrittenZones {
            zone: self.zone.clone(),
            crossing_line: self.crossing_line.clone(),
            mask: self.mask.clone(),
        }
    }

    /// The zones, lines and masks.
    ///
    /// # Errors
    /// When one can't be what it is, or nothing is followed.
    pub fn zones(&self) -> Result<ZoneSettings, SettingError> {
        ZoneSettings::of(&self.written_zones(), self.tracking.enabled)
    }

    /// The outputs that the user's own file lists.
    ///
    /// # Errors
    /// When a value of one can't be what it is.
    pub fn sinks(&self) -> Result<Vec<SinkSettings>, SettingError> {
        let folder = &self.folder;
        let mut sinks = Vec::new();
        for lines in self.lines.iter().filter(|lines| self.is_for_this(&lines.cameras)) {
            sinks.push(SinkSettings::Lines(lines.resolve(folder)?));
        }
        let of_this = |pictures: &&PicturesKeys| self.is_for_this(&pictures.cameras);
        let pictures: Vec<PicturesKeys> = self.pictures.iter().filter(of_this).cloned().collect();
        sinks.extend(PicturesKeys::resolve_all(&pictures, folder)?.into_iter().map(SinkSettings::Rule));
        for mqtt in self.mqtt.iter().filter(|mqtt| self.is_for_this(&mqtt.cameras)) {
            sinks.push(SinkSettings::Mqtt(mqtt.resolve(folder)?));
        }
        for webhook in self.webhook.iter().filter(|webhook| self.is_for_this(&webhook.cameras)) {
            sinks.push(SinkSettings::Webhook(webhook.resolve(folder)?));
        }
        for video in self.video.iter().filter(|video| self.is_for_this(&video.cameras)) {
            sinks.push(SinkSettings::Video(video.resolve(folder)?));
        }
        Ok(sinks)
    }

    /// Whether an output that names these cameras is for this one.
    fn is_for_this(&self, cameras: &Option<Vec<String>>) -> bool {
        !self.is_camera || cameras.as_ref().is_none_or(|cameras| cameras.contains(&self.name))
    }

    /// The cameras that outputs name must be there.
    pub(super) fn check_cameras_of_outputs(&self) -> Result<(), SettingError> {
        let of_lines = self.lines.iter().map(|keys| ("[lines]", &keys.cameras));
        let named = of_lines
            .chain(self.mqtt.iter().map(|keys| ("[mqtt]", &keys.cameras)))
            .chain(self.pictures.iter().map(|keys| ("[pictures]", &keys.cameras)))
            .chain(self.webhook.iter().map(|keys| ("[webhook]", &keys.cameras)))
            .chain(self.video.iter().map(|keys| ("[video]", &keys.cameras)));
        for (section, name) in named.flat_map(|(section, cameras)| {
            // What names none is for none: hardly what was meant.
            let none = cameras.as_ref().is_some_and(Vec::is_empty).then_some((section, None));
            none.into_iter().chain(cameras.iter().flatten().map(move |name| (section, Some(name))))
        }) {
            let Some(name) = name else {
                let reason = "`cameras` names none: leave it out for all cameras".to_owned();
                return Err(SettingError { section, reason });
            };
            if !self.cameras.iter().any(|camera| camera.name == *name) {
                let reason =
                    format!("there is no [[camera]] called {name:?}: `cameras` names those that it is for");
                return Err(SettingError { section, reason });
            }
        }
        Ok(())
    }
}
