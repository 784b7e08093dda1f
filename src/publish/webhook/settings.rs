//! `[[webhook]]` of a configuration: which server, and of which events it is told.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::publish::network::{self, Address, Scheme};
use crate::settings::{Fraction, LongSeconds, Seconds, SettingError};

const SCHEMES: [Scheme; 2] = [("https", true, 443), ("http", false, 80)];
/// The most events that a batch may be said to have.
const LARGEST_BATCH: usize = 10_000;

/// One `[[webhook]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookKeys {
    url: String,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    words: Option<Vec<String>>,
    min_score: Option<Fraction>,
    batch_s: Option<Seconds>,
    most_in_batch: Option<NonZeroUsize>,
    timeout_s: Option<LongSeconds>,
    spool: Option<PathBuf>,
    spool_mib: Option<NonZeroU32>,
    /// Of which cameras, where there are several; without it, of all.
    pub cameras: Option<Vec<String>>,
}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSettings {
    pub(super) url: String,
    pub(super) address: Address,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    /// The words whose events are told; none: of all.
    pub(super) words: Option<Vec<String>>,
    pub(super) min_score: f32,
    pub(super) batch: Duration,
    pub(super) most_in_batch: usize,
    pub(super) timeout: Duration,
    pub(super) spool: Option<PathBuf>,
    pub(super) spool_bytes: u64,
    /// Which of several cameras is told about.
    pub(super) camera: Option<String>,
}

impl WebhookKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path) -> Result<WebhookSettings, SettingError> {
        self.resolved(folder).map_err(|reason| SettingError { section: "[webhook]", reason })
    }

    fn resolved(&self, folder: &Path) -> Result<WebhookSettings, String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let address = Address::parse(&self.url, &SCHEMES)?;
        if self.url.parse::<ureq::http::Uri>().is_err() {
            return Err(
                "the url has characters in it that a url can't have: write them as %20 and so on".to_owned()
            );
        }
        if !address.is_secure && self.ca_file.is_some() {
            return Err("`ca_file` takes a url that begins with https://".to_owned());
        }
        let most_in_batch = self.most_in_batch.map_or(100, NonZeroUsize::get);
        if most_in_batch > LARGEST_BATCH {
            return Err(format!("`most_in_batch` is {LARGEST_BATCH} at most"));
        }
        Ok(WebhookSettings {
            url: self.url.clone(),
            address,
            secret_file: path(&self.secret_file),
            ca_file: path(&self.ca_file),
            words: self.words.clone(),
            min_score: self.min_score.map_or(0.0, |score| score.0),
            batch: self.batch_s.map_or(Duration::from_secs(1), |seconds| seconds.0),
            most_in_batch,
            timeout: self.timeout_s.map_or(Duration::from_secs(10), |seconds| seconds.0),
            spool: path(&self.spool),
            spool_bytes: u64::from(self.spool_mib.map_or(64, NonZeroU32::get)) << 20,
            camera: None,
        })
    }
}

impl WebhookSettings {
    /// The same for one of several cameras, with a spool of its own.
    pub fn of_camera(self, camera: &str) -> Self {
        let spool = self.spool.map(|spool| spool.join(camera));
        Self { spool, camera: Some(camera.to_owned()), ..self }
    }

    /// The words that it is about; none: all.
    pub fn words(&self) -> &[String] {
        self.words.as_deref().unwrap_or_default()
    }

    /// The files that it reads.
    pub fn files_read(&self) -> Vec<&Path> {
        [&self.secret_file, &self.ca_file].into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// Where it goes, for people, without secrets: which a path and a query may be.
    pub fn place(&self) -> String {
        format!("{} ({})", self.address.server(), network::short_hash(&[&self.url]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(text: &str) -> Result<WebhookSettings, String> {
        let keys: WebhookKeys = toml::from_str(text).unwrap();
        keys.resolve(Path::new("/etc/wordsight")).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_cannot_be_are_refused_with_what_to_do() {
        let cases = [
            ("url = \"example.com\"", "https://host"),
            ("url = \"https://me:hunter2@example.com\"", "in a file"),
            ("url = \"https://example.com/a b\"", "%20"),
            ("url = \"http://example.com\"\nca_file = \"ca.pem\"", "https://"),
            ("url = \"https://example.com\"\nmost_in_batch = 100000", "10000 at most"),
        ];
        for (text, reason) in cases {
            let error = resolve(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_in_a_path_is_not_shown() {
        let settings = resolve("url = \"https://example.com/hooks/hunter2?key=hunter2\"").unwrap();
        assert!(settings.place().starts_with("https://example.com:443 ("), "{}", settings.place());
        assert!(!settings.place().contains("hunter2"));
    }
}
