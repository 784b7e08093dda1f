//! A web server that is told of events. (To come.)

use std::path::Path;

use serde::Deserialize;

use super::settings::SinkContext;
use super::sink::Sink;
use crate::config::ConfigError;

/// One `[[webhook]]` of a configuration, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookKeys {}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSettings {}

impl WebhookKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path) -> Result<WebhookSettings, ConfigError> {
        let _ = folder;
        Ok(WebhookSettings {})
    }
}

impl WebhookSettings {
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
