//! What outputs over a network share: addresses without secrets in them, secrets from files, whom to trust, and how long to
//! wait before trying again.
//!
//! What stands in a file (a password, a certificate) is read again for each connection, so that one that is exchanged
//! holds from the next on, without a reload.

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use wordsight_capture::Backoff;

/// The longest secret in a file.
const LONGEST_SECRET: u64 = 64 << 10;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As in the URL: "mqtts".
    pub scheme: &'static str,
    /// Whether it is spoken to by TLS.
    pub is_secure: bool,
    /// A name or a number; one of IPv6 in brackets.
    pub host: String,
    pub port: u16,
    /// What stands behind it in the URL: a path and a query.
    pub rest: String,
}

/// A scheme, whether it is TLS, and its usual port.
pub(super) type Scheme = (&'static str, bool, u16);

impl Address {
    /// Reads a URL. What is wrong is said without repeating it: it may have a password in it.
    pub(super) fn parse(url: &str, schemes: &[Scheme]) -> Result<Self, String> {
        let expected = || {
            let examples: Vec<_> =
                schemes.iter().map(|(scheme, ..)| format!("\"{scheme}://host\"")).collect();
            format!("the url is to be like {}", examples.join(" or "))
        };
        let Some((scheme, behind)) = url.split_once("://") else { return Err(expected()) };
        let known = schemes.iter().find(|(known, ..)| known.eq_ignore_ascii_case(scheme));
        let &(scheme, is_secure, usual_port) = known.ok_or_else(expected)?;
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at(end);
        if authority.contains('@') {
            return Err(
                "no user name and no password may stand in the url, which shows in logs: put them where the \
                        section has keys for them, the secret in a file"
                    .to_owned(),
            );
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, port.ok_or("the url's port is no number from 1 to 65535")?)
            }
            _ => (authority, usual_port),
        };
        let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_named) || url.chars().any(char::is_control) {
            return Err(expected());
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err("an IPv6 address stands in brackets in a url: [::1]".to_owned());
        }
        Ok(Self { scheme, is_secure, host: host.to_owned(), port, rest: rest.to_owned() })
    }

    /// The server, for people.
    pub(super) fn server(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Reads what a file holds but for a line's end behind it.
pub(super) fn read_secret(key: &str, path: &Path) -> Result<String, String> {
    let shown = || format!("{key} {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot read {}: {error}", shown()))?;
    let read = file.take(LONGEST_SECRET + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {}: {error}", shown()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{} is empty: it is to hold the secret", shown()));
    }
    if text.len() as u64 > LONGEST_SECRET {
        return Err(format!("{} is too long for a secret: {LONGEST_SECRET} bytes at most", shown()));
    }
    Ok(secret.to_owned())
}

/// What does the arithmetic of TLS.
pub(super) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whom to trust: those of a file and nobody else, or whom the system trusts.
pub(super) fn authorities(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    if let Some(path) = ca_file {
        return certificates("ca_file", path);
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(
            "this system has no list of authorities to trust (Debian's is in the package ca-certificates): \
                    install one, or name a file with ca_file"
                .to_owned(),
        );
    }
    Ok(found.certs)
}

/// The certificates of a file.
pub(super) fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = || format!("{key} {}", path.display());
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", shown()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| format!("{} is no PEM: {error}", shown()))?;
    if certificates.is_empty() {
        return Err(format!(
            "{} has no certificate in it: it is to be in PEM, -----BEGIN CERTIFICATE-----",
            shown()
        ));
    }
    Ok(certificates)
}

/// The private key of a file.
pub(super) fn private_key(key: &str, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        format!("{key} {} has no private key in PEM that can be read: {error}", path.display())
    })
}

/// How long to wait before a server is tried again that others may have lost at the same moment.
pub(super) fn wait_to_retry(backoff: &mut Backoff) -> Duration {
    backoff.jittered_wait(random_fraction())
}

/// A number from 0 to 1 that nobody can foretell and nobody needs to.
fn random_fraction() -> f64 {
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}

/// A short name for something long, the same each time, from which it can't be read.
pub(super) fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..4])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SCHEMES: [Scheme; 2] = [("mqtt", false, 1883), ("mqtts", true, 8883)];

    #[test]
    fn a_url_is_a_scheme_a_host_and_perhaps_a_port() {
        let of = |url| {
            Address::parse(url, &SCHEMES).map(|address| (address.host, address.port, address.is_secure))
        };
        assert_eq!(of("mqtt://broker"), Ok(("broker".to_owned(), 1883, false)));
        assert_eq!(of("MQTTS://broker.example:99"), Ok(("broker.example".to_owned(), 99, true)));
        assert_eq!(of("mqtt://[::1]"), Ok(("[::1]".to_owned(), 1883, false)));
        assert_eq!(of("mqtt://[::1]:7"), Ok(("[::1]".to_owned(), 7, false)));
        for wrong in
            ["broker", "http://broker", "mqtt://", "mqtt://a b", "mqtt://a:0", "mqtt://a:x", "mqtt://::1"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        for url in ["mqtt://me:hunter2@broker", "mqtt://me:hunter2@broker:99x", "http://me:hunter2@broker"] {
            let error = Address::parse(url, &SCHEMES).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_a_files_content_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "a b\r\n").unwrap();
        assert_eq!(read_secret("password_file", &path).unwrap(), "a b");
        for wrong in [b"\n".to_vec(), vec![0xff], vec![b'a'; 70_000]] {
            std::fs::write(&path, wrong).unwrap();
            assert!(read_secret("password_file", &path).is_err());
        }
        assert!(read_secret("password_file", folder.path()).is_err());
    }
}
