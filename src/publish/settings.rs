//! The settings of an output, resolved and comparable.
//!
//! A configuration that is loaded again opens only those outputs anew whose settings have changed; the others keep
//! their connections and queues.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::lines::{LinesSettings, Place};
use super::mqtt::MqttSettings;
use super::rules::RuleSettings;
use super::save::{PictureNames, SaveSettings};
use super::sink::{Sink, SinkContext};
use super::video::VideoSettings;
use super::webhook::WebhookSettings;
use crate::files::is_standard_output;

/// What an output is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkSettings {
    /// JSON lines.
    Lines(LinesSettings),
    /// Annotated pictures in a folder.
    Pictures(SaveSettings),
    /// Annotated pictures in a folder, by a rule.
    Rule(RuleSettings),
    /// An MQTT broker.
    Mqtt(MqttSettings),
    /// A web server that is told of events.
    Webhook(WebhookSettings),
    /// Annotated video.
    Video(VideoSettings),
}

/// `[publish]` of a configuration, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishKeys {
    pub json: PathBuf,
    pub save: Option<PathBuf>,
    pub save_every: NonZeroUsize,
    pub health: Option<PathBuf>,
}

impl PublishKeys {
    /// The outputs that are asked for here: lines for every frame, and annotated pictures.
    pub fn sinks(&self) -> Vec<SinkSettings> {
        let save = self.save.as_ref().map(|folder| SaveSettings {
            folder: folder.clone(),
            every: self.save_every,
            names: PictureNames::Numbers,
        });
        let json = self.lines().map(SinkSettings::Lines);
        json.into_iter().chain(save.map(SinkSettings::Pictures)).collect()
    }

    /// Where lines go: `-` is the standard output, and an empty path is none.
    fn lines(&self) -> Option<LinesSettings> {
        if self.json.as_os_str().is_empty() {
            return None;
        }
        let place = if is_standard_output(&self.json) {
            Place::StandardOutput
        } else {
            Place::File { path: self.json.clone(), rotate_bytes: 0, keep: 0 }
        };
        Some(LinesSettings { place, frames: true, events: false })
    }
}

impl SinkSettings {
    /// The folder on this machine that it writes to, if it does.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Lines(LinesSettings { place: Place::File { path, .. } | Place::Socket(path), .. }) => {
                path.parent()
            }
            Self::Pictures(settings) => Some(&settings.folder),
            Self::Rule(settings) => Some(&settings.folder),
            Self::Video(settings) => settings.folder(),
            Self::Lines(_) | Self::Mqtt(_) | Self::Webhook(_) => None,
        }
    }

    /// Where it goes, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Lines(LinesSettings { place: Place::StandardOutput, .. }) => "standard output".to_owned(),
            Self::Lines(LinesSettings { place: Place::File { path, .. }, .. }) => path.display().to_string(),
            Self::Lines(LinesSettings { place: Place::Socket(path), .. }) => {
                format!("unix:{}", path.display())
            }
            Self::Pictures(settings) => settings.folder.display().to_string(),
            Self::Rule(settings) => settings.folder.display().to_string(),
            Self::Mqtt(settings) => settings.place(),
            Self::Webhook(settings) => settings.place(),
            Self::Video(settings) => settings.place(),
        }
    }

    /// Makes the output; what can be found out without a network is.
    ///
    /// # Errors
    /// When it can't be made: a folder, a file or a socket that isn't to be had, a secret that can't be read.
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        match self {
            Self::Lines(settings) => settings.open(context.appends),
            Self::Pictures(settings) => Ok(settings.open()),
            Self::Rule(settings) => Ok(settings.open()),
            Self::Mqtt(settings) => settings.open(context),
            Self::Webhook(settings) => settings.open(context),
            Self::Video(settings) => settings.open(context),
        }
    }
}
