//! An MQTT broker. (To come.)

use std::path::Path;

use serde::Deserialize;

use super::settings::SinkContext;
use super::sink::Sink;
use crate::config::ConfigError;

/// One `[[mqtt]]` of a configuration, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttKeys {}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {}

impl MqttKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path) -> Result<MqttSettings, ConfigError> {
        let _ = folder;
        Ok(MqttSettings {})
    }
}

impl MqttSettings {
    /// Where it goes, for people, without secrets.
    pub fn place(&self) -> String {
        String::new()
    }

    /// Makes the output.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        let _ = context;
        anyhow::bail!("not built yet")
    }
}
