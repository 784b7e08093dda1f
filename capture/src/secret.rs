//! Secrets that can't be printed, and URLs whose user and password are taken out when they are parsed.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

use crate::password::without_password;

/// A text with a secret in it: whatever prints it prints `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whoever the secret is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A network camera's or server's URL.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamUrl {
    /// As it may be shown: `rtsp://me:***@camera/stream`.
    pub shown: String,
    /// Without user and password; a query may hold a secret all the same.
    pub location: Secret,
    /// The user, decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<Secret>,
}

/// How a password is written that has characters in it which end one.
const ENCODED: &str = "where the user or the password has one of these characters, write it by its number: @ as %40, / as \
                       %2F, ? as %3F, # as %23, : as %3A, % as %25, a blank as %20";

impl StreamUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| match text.contains('@') {
            true => format!("{error}; {ENCODED}"),
            false => error.to_string(),
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it names no host: it is written rtsp://host/path".to_owned());
        }
        // A password with a / in it ends the host there, and the rest of it, up to its @, looks like a path.
        let behind = [Some(url.path()), url.query(), url.fragment()];
        if behind.into_iter().flatten().any(|part| part.contains('@')) {
            return Err(format!("there is an @ behind the host, as in a password that was cut; {ENCODED}"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        let password = url.password().map(|password| Secret(decoded(password)));
        let mut bare = url.clone();
        // These fail only where there is no host.
        let _ = (bare.set_username(""), bare.set_password(None));
        Ok(Self { shown: without_password(text), location: Secret(bare.into()), user, password })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_printed_by_nothing() {
        let secret = Secret::from("hunter2".to_owned());
        let url = StreamUrl::parse("rtsp://me:hunter2@camera/x?token=hunter2").unwrap();
        for printed in [format!("{secret}"), format!("{secret:?}"), format!("{url:?}"), format!("{url:#?}")] {
            assert!(!printed.contains("hunter2"), "{printed}");
        }
        assert_eq!(url.password.unwrap().reveal(), "hunter2");
    }

    #[test]
    fn user_and_password_come_whole_and_decoded_and_leave_the_location() {
        for (text, user, password, location) in [
            ("rtsp://me:pa@ss@camera:554/x", "me", "pa@ss", "rtsp://camera:554/x"),
            ("rtsp://me:p%40%2F%3Fss@camera/x?channel=1", "me", "p@/?ss", "rtsp://camera/x?channel=1"),
            ("rtsp://me:a%3Ab@[::1]/x", "me", "a:b", "rtsp://[::1]/x"),
            ("rtsp://me:pass word@camera/x", "me", "pass word", "rtsp://camera/x"),
            ("RTSP://me:100%@camera/x", "me", "100%", "rtsp://camera/x"),
        ] {
            let url = StreamUrl::parse(text).unwrap();
            assert_eq!(url.user.as_deref(), Some(user), "{text}");
            assert_eq!(url.password.unwrap().reveal(), password, "{text}");
            assert_eq!(url.location.reveal(), location, "{text}");
            assert!(!url.shown.contains(password), "{}", url.shown);
        }
        let url = StreamUrl::parse("rtsp://camera/x").unwrap();
        assert_eq!((url.user, url.password, url.shown.as_str()), (None, None, "rtsp://camera/x"));
    }

    #[test]
    fn a_password_that_ends_too_early_is_explained_and_not_repeated() {
        for text in [
            "rtsp://me:hun/ter2@camera/x",
            "rtsp://me:hun?ter2@camera/x",
            "rtsp://me:hun#ter2@camera/x",
            "rtsp://me:12/ter2@camera/x",
            "rtsp://me:12?ter2@camera/x",
            "rtsp://me:a@hun/ter2@camera/x",
        ] {
            let error = StreamUrl::parse(text).unwrap_err();
            assert!(error.contains("/ as %2F") && !error.contains("ter2"), "{text}: {error}");
        }
    }
}
