//! The settings of an output, resolved and comparable.
//!
//! A configuration that is loaded again opens only those outputs anew whose settings have changed; the others keep
//! their connections and queues.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::lines::LinesSettings;
use super::mqtt::MqttSettings;
use super::places::Place;
use super::rules::RuleSettings;
use super::save::{PictureNames, SaveSettings};
use super::sink::{Sink, SinkContext};
use super::video::VideoSettings;
use super::webhook::WebhookSettings;
use crate::files::{Content, Inputs, OutputError, is_standard_output, try_folder};

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

    /// The files that it reads: passwords, certificates.
    pub fn files_read(&self) -> Vec<&Path> {
        match self {
            Self::Mqtt(settings) => settings.files_read(),
            Self::Webhook(settings) => settings.files_read(),
            Self::Lines(_) | Self::Pictures(_) | Self::Rule(_) | Self::Video(_) => Vec::new(),
        }
    }

    /// Whether labels are drawn for it.
    pub fn takes_pictures(&self) -> bool {
        match self {
            Self::Pictures(_) | Self::Rule(_) | Self::Video(_) => true,
            Self::Mqtt(settings) => settings.takes_pictures(),
            Self::Lines(_) | Self::Webhook(_) => false,
        }
    }

    /// Holds where it writes against what is read.
    ///
    /// # Errors
    /// When it would overwrite an input, or what it doesn't write itself.
    pub fn check_place(&self, inputs: &Inputs) -> Result<(), OutputError> {
        match self {
            Self::Lines(LinesSettings { place: place @ Place::File { path, .. }, .. }) => {
                inputs.check(path, Content::Json)?;
                place.put_aside().iter().try_for_each(|path| inputs.check(path, Content::Json))
            }
            Self::Pictures(settings) => inputs.check_pictures(&settings.folder),
            Self::Rule(settings) => inputs.check_pictures(&settings.folder),
            Self::Video(settings) => {
                settings.file().map_or(Ok(()), |path| inputs.check(path, Content::Video))
            }
            Self::Lines(_) | Self::Mqtt(_) | Self::Webhook(_) => Ok(()),
        }
    }

    /// Whether it could be opened: everything that [`Self::open`] and the first frame find out, and nothing is left of it.
    ///
    /// # Errors
    /// As [`Self::open`], and when its folder can't be made or written to.
    pub fn check(&self, context: &SinkContext) -> anyhow::Result<()> {
        if let Self::Lines(settings) = self {
            return settings.check();
        }
        if let Some(folder) = self.folder() {
            try_folder(folder)
                .with_context(|| format!("cannot write into the folder {}", folder.display()))?;
        }
        if matches!(self, Self::Mqtt(_) | Self::Webhook(_) | Self::Video(_)) {
            let missing = self.folder().filter(|folder| !folder.exists());
            drop(self.open(context)?);
            // It may not have been made.
            missing.map(std::fs::remove_dir);
        }
        Ok(())
    }

    /// The same for one of several cameras, which has files and folders of its own. JSON lines of all go to one place.
    pub fn of_camera(&self, camera: &str) -> Self {
        match self.clone() {
            Self::Lines(settings) => Self::Lines(settings),
            Self::Pictures(settings) => {
                Self::Pictures(SaveSettings { folder: settings.folder.join(camera), ..settings })
            }
            Self::Rule(settings) => Self::Rule(settings.of_camera(camera)),
            Self::Mqtt(settings) => Self::Mqtt(settings.of_camera(camera)),
            Self::Webhook(settings) => Self::Webhook(settings.of_camera(camera)),
            Self::Video(settings) => Self::Video(settings.of_camera(camera)),
        }
    }

    /// Whether there can be one of it at a place, and not one for each camera.
    pub fn is_one_for_all(&self) -> bool {
        matches!(self, Self::Video(settings) if settings.file().is_none())
    }

    /// The section of a configuration that it stands in, as errors name it.
    pub fn section(&self) -> &'static str {
        match self {
            Self::Lines(_) => "[lines]",
            Self::Pictures(_) => "publish",
            Self::Rule(_) => "[pictures]",
            Self::Mqtt(_) => "[mqtt]",
            Self::Webhook(_) => "[webhook]",
            Self::Video(_) => "[video]",
        }
    }

    /// The words that it is about; none: all.
    pub fn words(&self) -> &[String] {
        match self {
            Self::Rule(settings) => settings.words(),
            Self::Webhook(settings) => settings.words(),
            Self::Lines(_) | Self::Pictures(_) | Self::Mqtt(_) | Self::Video(_) => &[],
        }
    }

    /// The zones and lines that it is about; none: all.
    pub fn zones(&self) -> &[String] {
        match self {
            Self::Rule(settings) => settings.zones(),
            _ => &[],
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
            Self::Lines(settings) => settings.open(context),
            Self::Pictures(settings) => Ok(settings.open()),
            Self::Rule(settings) => Ok(settings.open()),
            Self::Mqtt(settings) => settings.open(context),
            Self::Webhook(settings) => settings.open(context),
            Self::Video(settings) => settings.open(context),
        }
    }
}
