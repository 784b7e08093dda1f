//! Secrets that systemd hands to a service: `LoadCredential=mqtt:/etc/wordsight/mqtt-password` in the unit, and
//! `password_file = "credential:mqtt"` in the configuration.
//!
//! Where a file is named, such a name becomes its path below `$CREDENTIALS_DIRECTORY`. An address (`uri`, `url`, `to`) is
//! written in the credential itself, since addresses of cameras and of chat services hold secrets.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use crate::files::read_whole;

/// What stands before a credential's name.
const PREFIX: &str = "credential:";
/// Where systemd says that they are.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Where they are of the service, for an administrator's commands beside it.
const OF_SERVICE: &str = "/run/credentials/wordsight.service";
/// Keys that hold an address.
const ADDRESSES: [&str; 3] = ["uri", "url", "to"];
/// The most bytes of an address.
const MOST_BYTES: u64 = 1 << 16;

/// Whether a value names a credential.
pub(super) fn is_credential(value: &str) -> bool {
    value.starts_with(PREFIX)
}

/// Puts the credentials of this process in the places of their names.
///
/// # Errors
/// When there is none of a name.
pub(super) fn fill(table: &mut DeTable<'_>) -> Result<(), ConfigError> {
    let folder = std::env::var_os(DIRECTORY).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(OF_SERVICE)).filter(|folder| folder.is_dir()));
    fill_from(table, folder.as_deref())
}

fn fill_from(table: &mut DeTable<'_>, folder: Option<&Path>) -> Result<(), ConfigError> {
    for (key, value) in table.iter_mut() {
        fill_value(key.get_ref(), value.get_mut(), folder)?;
    }
    Ok(())
}

fn fill_value(key: &str, value: &mut DeValue<'_>, folder: Option<&Path>) -> Result<(), ConfigError> {
    match value {
        DeValue::Table(table) => fill_from(table, folder),
        DeValue::Array(values) => {
            values.iter_mut().try_for_each(|value| fill_value(key, value.get_mut(), folder))
        }
        DeValue::String(text) => {
            let is_address = ADDRESSES.contains(&key);
            let Some(name) = text.strip_prefix(PREFIX).filter(|_| is_address || key.ends_with("_file"))
            else {
                return Ok(());
            };
            let wrong = |reason: String| ConfigError::Credential {
                key: key.to_owned(),
                name: if is_name(name) { name.to_owned() } else { "***".to_owned() },
                reason,
            };
            let path = path_of(name, folder).map_err(wrong)?;
            let filled = match is_address {
                true => address_in(&path).map_err(wrong)?,
                false => path.display().to_string(),
            };
            *text = Cow::Owned(filled);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a text can be a credential's name. What can't may be a secret that was written in its place.
fn is_name(text: &str) -> bool {
    Path::new(text).file_name() == Some(OsStr::new(text)) && !text.contains([':', '@'])
}

fn path_of(name: &str, folder: Option<&Path>) -> Result<PathBuf, String> {
    if !is_name(name) {
        return Err("a credential's name is one word without a slash, a colon or an at sign".to_owned());
    }
    let folder = folder.ok_or_else(|| {
        format!("there is no ${DIRECTORY}, which systemd sets for a unit that has LoadCredential={name}:FILE")
    })?;
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    let there = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut there: Vec<String> =
        there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    there.sort();
    Err(format!("{} has {there:?}: add LoadCredential={name}:FILE to the unit", folder.display()))
}

/// The first line of a file; what it holds is told in no error.
fn address_in(path: &Path) -> Result<String, String> {
    let bytes = read_whole(path, MOST_BYTES).map_err(|reason| format!("it can't be read: {reason}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        address => Ok(address.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(text: &str, folder: Option<&Path>) -> Result<toml::Table, String> {
        let mut table = DeTable::parse(text).unwrap();
        fill_from(table.get_mut(), folder).map_err(|error| error.to_string())?;
        serde::Deserialize::deserialize(toml::de::Deserializer::from(table))
            .map_err(|error| format!("{error}"))
    }

    #[test]
    fn a_file_is_the_credentials_path_and_an_address_stands_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mqtt"), "hunter2\n").unwrap();
        fs::write(folder.path().join("camera"), "rtsp://me:hunter2@camera/\n").unwrap();
        let text = "name = \"credential:mqtt\"\n[source]\nuri = \"credential:camera\"\n[[mqtt]]\nurl = \"mqtt://b\"\n\
                    password_file = \"credential:mqtt\"\n[[mqtt]]\nca_file = \"ca.pem\"\n";
        let table = filled(text, Some(folder.path())).unwrap();
        assert_eq!(table["name"].as_str(), Some("credential:mqtt"), "no file and no address");
        assert_eq!(table["source"]["uri"].as_str(), Some("rtsp://me:hunter2@camera/"));
        assert_eq!(table["mqtt"][0]["url"].as_str(), Some("mqtt://b"));
        assert_eq!(table["mqtt"][0]["password_file"].as_str(), folder.path().join("mqtt").to_str());
        assert_eq!(table["mqtt"][1]["ca_file"].as_str(), Some("ca.pem"));
    }

    #[test]
    fn a_credential_that_is_not_there_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        fs::write(folder.path().join("binary"), [0xff]).unwrap();
        let error = |text: &str, folder| filled(text, folder).unwrap_err();
        let told = error("token_file = \"credential:token\"", None);
        assert!(
            told.contains("CREDENTIALS_DIRECTORY") && told.contains("LoadCredential=token:FILE"),
            "{told}"
        );
        let told = error("token_file = \"credential:token\"", Some(folder.path()));
        assert!(told.contains("token_file") && told.contains("other"), "{told}");
        for name in ["", "../other", "a/b", "..", "rtsp://me:hunter2@camera", "me:hunter2@camera"] {
            let told = error(&format!("token_file = \"credential:{name}\""), Some(folder.path()));
            assert!(told.contains("without a slash") && !told.contains("hunter2"), "{name}: {told}");
        }
        let told = error("uri = \"credential:binary\"", Some(folder.path()));
        assert!(told.contains("no UTF-8"), "{told}");
    }
}
