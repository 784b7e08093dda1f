//! `[http]` of the configuration: the address, the token, the folder of vocabularies.
//!
//! Turns the keys as they are written into checked settings. An address that other machines can reach without a token
//! is an error at the start and not a warning: nobody on the network is to look through the camera without one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::state_folder;
use crate::settings::SettingError;

/// The least and the most of `picture_fps`.
const PICTURE_FPS: std::ops::RangeInclusive<f64> = 0.1..=60.0;

/// `[http]` of a configuration, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpKeys {
    pub listen: String,
    pub token_file: Option<PathBuf>,
    pub vocabularies: Option<PathBuf>,
    pub picture_fps: f64,
}

/// What the server is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A file with the token that whoever asks must have.
    pub token_file: Option<PathBuf>,
    /// The folder of the vocabularies that may be switched to; that in the state directory where none is named.
    pub vocabularies: Option<PathBuf>,
    /// The most pictures a second for viewers.
    pub picture_fps: f64,
}

impl HttpKeys {
    /// The folder of the vocabularies that may be switched to, whether the page is served or not.
    pub fn vocabulary_folder(&self) -> PathBuf {
        self.vocabularies.clone().unwrap_or_else(own_vocabularies)
    }

    /// What they come to; `None`: no server.
    ///
    /// # Errors
    /// When a value can't be what it is, or the address would be open to others without a token.
    pub fn settings(&self) -> Result<Option<HttpSettings>, SettingError> {
        let Self { listen, picture_fps, .. } = self;
        if !PICTURE_FPS.contains(picture_fps) {
            return Err(wrong(format!("picture_fps is {picture_fps}, and may be 0.1 to 60")));
        }
        if listen.is_empty() {
            return Ok(None);
        }
        let listen = parse_address(listen).map_err(|reason| wrong(format!("listen {reason}")))?;
        if !listen.ip().to_canonical().is_loopback() && self.token_file.is_none() {
            return Err(wrong(format!(
                "other machines can reach {listen}, and whoever does would see what the camera sees: name a token_file \
                 with a token of 16 characters or more, or listen on 127.0.0.1"
            )));
        }
        Ok(Some(HttpSettings {
            listen,
            token_file: self.token_file.clone(),
            vocabularies: Some(self.vocabulary_folder()),
            picture_fps: *picture_fps,
        }))
    }
}

/// The folder of vocabularies where none is named: made when the first is uploaded.
fn own_vocabularies() -> PathBuf {
    state_folder().join("vocabularies")
}

/// Reads an address with a port; `localhost` is this machine's own.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port_of_localhost = text.rsplit_once(':').filter(|(host, _)| host.eq_ignore_ascii_case("localhost"));
    let numbers = port_of_localhost.map_or(text.to_owned(), |(_, port)| format!("127.0.0.1:{port}"));
    numbers.parse().map_err(|_| {
        format!(
            "is `{text}`, which is no address with a port: write it as \"127.0.0.1:8620\" or \"[::1]:8620\""
        )
    })
}

impl HttpSettings {
    /// The folder of vocabularies that is named and isn't there; its own is made when it is needed.
    pub(super) fn missing_folder(&self) -> Option<&Path> {
        self.vocabularies.as_deref().filter(|folder| !folder.is_dir() && **folder != own_vocabularies())
    }

    /// The vocabularies that may be switched to.
    pub fn vocabulary_files(&self) -> Vec<PathBuf> {
        let entries =
            self.vocabularies.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "safetensors")).collect()
    }
}

/// That something under `[http]` can't be what it is.
pub(super) fn wrong(reason: String) -> SettingError {
    SettingError { section: "http", reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(text: &str) -> Result<Option<HttpSettings>, String> {
        let mut keys: toml::Table = "listen = \"\"\npicture_fps = 10.0".parse().unwrap();
        keys.extend(text.parse::<toml::Table>().unwrap());
        let keys: HttpKeys = keys.try_into().unwrap();
        keys.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_served_unless_an_address_is_given() {
        assert_eq!(resolved(""), Ok(None));
        assert_eq!(resolved("listen = \"\"\ntoken_file = \"t\""), Ok(None));
        assert!(resolved("listen = \"127.0.0.1:8620\"").unwrap().is_some());
    }

    #[test]
    fn an_address_that_others_can_reach_takes_a_token_however_it_is_written() {
        for open in ["0.0.0.0:8620", "192.168.1.7:80", "[::]:8620", "[::ffff:10.0.0.1]:80"] {
            let told = resolved(&format!("listen = \"{open}\"")).unwrap_err();
            assert!(told.contains("token_file") && told.contains("[http]"), "{told}");
            assert!(resolved(&format!("listen = \"{open}\"\ntoken_file = \"t\"")).unwrap().is_some());
        }
        for own in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:8620", "[::ffff:127.0.0.1]:80"] {
            assert!(resolved(&format!("listen = \"{own}\"")).unwrap().is_some(), "{own}");
        }
    }

    #[test]
    fn localhost_is_this_machines_own_address() {
        let settings = resolved("listen = \"localhost:8620\"").unwrap().unwrap();
        assert_eq!(settings.listen, SocketAddr::from(([127, 0, 0, 1], 8620)));
    }

    #[test]
    fn what_is_no_address_or_no_rate_is_named() {
        for (text, reason) in [
            ("listen = \"8620\"", "`8620`"),
            ("listen = \"localhost\"", "\"127.0.0.1:8620\""),
            ("listen = \"example.com:8620\"", "\"127.0.0.1:8620\""),
            ("picture_fps = 0", "0.1 to 60"),
            ("picture_fps = nan", "0.1 to 60"),
        ] {
            let told = resolved(text).unwrap_err();
            assert!(told.contains(reason), "{told}");
        }
    }
}
