//! `[[mqtt]]` of a configuration: which broker, and what it is told.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::topics;
use crate::publish::network::{Address, Scheme};
use crate::settings::SettingError;

const SCHEMES: [Scheme; 2] = [("mqtt", false, 1883), ("mqtts", true, 8883)];

/// One `[[mqtt]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttKeys {
    url: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    prefix: Option<String>,
    snapshots: Option<bool>,
    frames: Option<bool>,
    control: Option<bool>,
    home_assistant: Option<bool>,
    discovery_prefix: Option<String>,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_id: Option<String>,
    keep_alive_s: Option<NonZeroU16>,
    /// Of which cameras, where there are several; without it, of all.
    pub cameras: Option<Vec<String>>,
}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    pub(super) address: Address,
    pub(super) prefix: String,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) client_id: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    /// The certificate, and its key.
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) keep_alive: Duration,
    pub(super) snapshots: bool,
    pub(super) frames: bool,
    /// Whether words can be chosen through the broker.
    pub(super) control: bool,
    /// The prefix of Home Assistant's topics, if it is to be told.
    pub(super) discovery: Option<String>,
}

impl MqttKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path) -> Result<MqttSettings, SettingError> {
        self.resolved(folder).map_err(|reason| SettingError { section: "[mqtt]", reason })
    }

    fn resolved(&self, folder: &Path) -> Result<MqttSettings, String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let address = Address::parse(&self.url, &SCHEMES)?;
        if !matches!(address.rest.as_str(), "" | "/") {
            return Err("nothing stands behind the url's port: topics are below `prefix`".to_owned());
        }
        if address.is_secure && address.host.starts_with('[') {
            return Err("TLS takes a name or an IPv4 address in the url".to_owned());
        }
        if self.password_file.is_some() && self.username.is_none() {
            return Err("`password_file` takes a `username`".to_owned());
        }
        let is_plain = !address.is_secure;
        if is_plain && (self.ca_file.is_some() || self.certificate_file.is_some() || self.key_file.is_some())
        {
            return Err("certificates take a url that begins with mqtts://".to_owned());
        }
        let client_certificate = match (path(&self.certificate_file), path(&self.key_file)) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err("`certificate_file` and `key_file` go together".to_owned()),
        };
        let is_odd = |id: &String| id.is_empty() || id.len() > 256 || id.chars().any(char::is_control);
        if self.client_id.as_ref().is_some_and(is_odd) {
            return Err("`client_id` is to be a name of 1 to 256 bytes, or is left out".to_owned());
        }
        let prefix = self.prefix.as_deref().unwrap_or("wordsight");
        topics::check_prefix("prefix", prefix)?;
        let discovery = self.discovery_prefix.as_deref().unwrap_or("homeassistant");
        topics::check_prefix("discovery_prefix", discovery)?;
        Ok(MqttSettings {
            address,
            prefix: prefix.to_owned(),
            username: self.username.clone(),
            password_file: path(&self.password_file),
            client_id: self.client_id.clone(),
            ca_file: path(&self.ca_file),
            client_certificate,
            keep_alive: Duration::from_secs(self.keep_alive_s.map_or(15, NonZeroU16::get).into()),
            snapshots: self.snapshots.unwrap_or(false),
            frames: self.frames.unwrap_or(false),
            control: self.control.unwrap_or(false),
            discovery: self.home_assistant.unwrap_or(false).then(|| discovery.to_owned()),
        })
    }
}

impl MqttSettings {
    /// The same for one of several cameras: a broker has one client of a name.
    pub fn of_camera(self, camera: &str) -> Self {
        let client_id = self.client_id.map(|id| format!("{id}-{camera}"));
        Self { client_id, ..self }
    }

    /// The files that it reads.
    pub fn files_read(&self) -> Vec<&Path> {
        let pair = self.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let others = [&self.password_file, &self.ca_file].into_iter().flatten();
        others.chain(pair).map(PathBuf::as_path).collect()
    }

    /// Whether it publishes snapshots.
    pub fn takes_pictures(&self) -> bool {
        self.snapshots
    }

    /// Where it goes, for people, without secrets.
    pub fn place(&self) -> String {
        self.address.server()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(text: &str) -> Result<MqttSettings, String> {
        let keys: MqttKeys = toml::from_str(text).unwrap();
        keys.resolve(Path::new("/etc/wordsight")).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_cannot_be_are_refused_with_what_to_do() {
        let cases = [
            ("url = \"broker\"", "mqtt://host"),
            ("url = \"mqtt://me:hunter2@broker\"", "in a file"),
            ("url = \"mqtt://broker/topic\"", "`prefix`"),
            ("url = \"mqtt://broker\"\npassword_file = \"p\"", "`username`"),
            ("url = \"mqtt://broker\"\nca_file = \"ca.pem\"", "mqtts://"),
            ("url = \"mqtts://broker\"\nkey_file = \"key.pem\"", "go together"),
            ("url = \"mqtt://broker\"\nprefix = \"a/#\"", "levels"),
            ("url = \"mqtt://broker\"\nclient_id = \"\"", "`client_id`"),
        ];
        for (text, reason) in cases {
            let error = resolve(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_configuration_and_the_rest_has_defaults() {
        let settings = resolve("url = \"mqtts://broker\"\nusername = \"me\"\npassword_file = \"p\"").unwrap();
        assert_eq!(settings.password_file, Some("/etc/wordsight/p".into()));
        assert_eq!(
            (settings.place().as_str(), settings.prefix.as_str()),
            ("mqtts://broker:8883", "wordsight")
        );
        assert_eq!((settings.discovery, settings.keep_alive), (None, Duration::from_secs(15)));
    }
}
