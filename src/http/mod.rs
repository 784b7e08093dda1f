//! HTTP: the live page, metrics, health and an interface for programs. (To come.)

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::config::ConfigError;
use crate::health::Health;
use crate::pipeline::Counters;
use crate::publish::Live;
use crate::service::Wishes;

/// `[http]` of a configuration, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpKeys {
    pub listen: Option<String>,
    pub token_file: Option<PathBuf>,
    pub vocabularies: Option<PathBuf>,
    pub picture_fps: Option<f64>,
}

/// What the server is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A file with the token that whoever asks must have.
    pub token_file: Option<PathBuf>,
    /// The folder of the vocabularies that may be switched to.
    pub vocabularies: Option<PathBuf>,
    /// The most pictures a second for viewers.
    pub picture_fps: f64,
}

impl HttpKeys {
    /// Resolves paths, which are relative to `folder`, over what is built in; `None`: no server.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path, built_in: &Self) -> Result<Option<HttpSettings>, ConfigError> {
        let _ = (folder, built_in);
        Ok(None)
    }
}

/// What the server shows and tells.
#[derive(Clone)]
pub struct Parts {
    /// Results, pictures, events, counts.
    pub live: Live,
    /// How the stream is.
    pub health: Health,
    /// What the stages counted.
    pub counters: Arc<Counters>,
    /// What is in use, and the way to ask for something else.
    pub wishes: Wishes,
    /// Where the board's files are: `/`.
    pub board_root: PathBuf,
}

/// A server at work, for as long as this lives.
pub struct Server {}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When the address isn't to be had, or would be open to others without a token.
    pub fn start(settings: &HttpSettings, parts: Parts) -> anyhow::Result<Self> {
        let _ = (settings, parts);
        Ok(Self {})
    }
}
