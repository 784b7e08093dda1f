//! Authentication by token or cookie, checks of host and origin.
//!
//! Passes a request on to what answers it, or refuses it. It sees every request first and every answer last, also those
//! to paths that don't exist.
//!
//! A server on the loopback address can be reached not only by whoever sits at the machine. Every page that a browser
//! there has open can send requests to it, by a name that leads to 127.0.0.1 (DNS rebinding) or across sites. So
//! without a token the server answers to loopback names only, and whatever changes something must come from the page
//! itself or from no page at all.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::answer::Refusal;
use super::body::{SMALL, is_long};
use super::settings::{HttpSettings, wrong};
use crate::threads::clock::since_1970;
use crate::threads::locked;

/// The fewest characters of a token.
const SHORTEST_TOKEN: usize = 16;
/// The most bytes of a token's file.
const LONGEST_TOKEN_FILE: u64 = 4 << 10;
/// How long whoever has a wrong token waits for the answer.
const WRONG_TOKEN_WAITS: Duration = Duration::from_secs(1);
/// From one line in the log about wrong tokens to the next.
const WRONG_TOKEN_LOGGED: Duration = Duration::from_secs(10);
/// What may be asked for without a token: the page, which shows nothing by itself, and the way to log in.
const PUBLIC: [&str; 2] = ["/", "/login"];

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What decides who may ask.
pub struct Guard {
    pub(super) token: Option<Token>,
    wrong: Mutex<WrongTokens>,
}

#[derive(Default)]
struct WrongTokens {
    logged: Option<Instant>,
    since: u64,
}

/// What whoever asks must know. Only keyed hashes of it are compared, which takes as long for any other.
pub(super) struct Token {
    key: Hmac<Sha256>,
    pub(super) cookie: String,
}

impl Guard {
    /// One that asks for the token in the settings' file, if there is one.
    ///
    /// # Errors
    /// When the file can't be read or has no token in it.
    pub fn new(settings: &HttpSettings) -> anyhow::Result<Self> {
        let token = settings.token_file.as_deref().map(read_token).transpose()?;
        let token = token.map(|text| Token::new(&text, settings.listen.port())).transpose()?;
        Ok(Self { token, wrong: Mutex::default() })
    }

    /// Whether a request has the token, as a header or a browser's cookie.
    fn authenticate(&self, headers: &HeaderMap) -> TokenCheck {
        let Some(token) = &self.token else { return TokenCheck::Right };
        if headers.get_all(header::COOKIE).iter().any(|cookies| token.is_cookie(cookies)) {
            return TokenCheck::Right;
        }
        match headers.get(header::AUTHORIZATION) {
            Some(given) if bearer(given).is_some_and(|given| token.is(given)) => TokenCheck::Right,
            Some(_) => TokenCheck::Wrong,
            None => TokenCheck::Missing,
        }
    }

    /// Lets whoever has a wrong token wait, and says so in the log now and then.
    pub(super) async fn delay_wrong_token(&self, peer: Option<Peer>) {
        {
            let mut wrong = locked(&self.wrong);
            wrong.since += 1;
            if wrong.logged.is_none_or(|logged| logged.elapsed() >= WRONG_TOKEN_LOGGED) {
                let from =
                    peer.map_or_else(String::new, |Peer(peer)| format!(", the last from {}", peer.ip()));
                tracing::warn!("HTTP: {} requests with a wrong token{from}", wrong.since);
                *wrong = WrongTokens { logged: Some(Instant::now()), since: 0 };
            }
        }
        tokio::time::sleep(WRONG_TOKEN_WAITS).await;
    }
}

/// What a request has for a token.
enum TokenCheck {
    /// The right one, or none is asked for.
    Right,
    Missing,
    Wrong,
}

fn bearer(given: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = given.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The token in a file.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let unreadable = || format!("cannot read the token for HTTP from {shown}");
    let file = std::fs::File::open(path).with_context(unreadable)?;
    let mode = file.metadata().with_context(unreadable)?.permissions().mode();
    let mut text = Vec::new();
    file.take(LONGEST_TOKEN_FILE + 1).read_to_end(&mut text).with_context(unreadable)?;
    let token = text.trim_ascii();
    let is_token = token.len() >= SHORTEST_TOKEN
        && text.len() as u64 <= LONGEST_TOKEN_FILE
        && token.iter().all(u8::is_ascii_graphic);
    if !is_token {
        return Err(wrong(format!(
            "{shown} holds no token: write one of {SHORTEST_TOKEN} characters or more into it, ASCII without blanks, as \
             `openssl rand -hex 32` makes them"
        ))
        .into());
    }
    if mode & 0o004 != 0 {
        tracing::warn!("every user of this machine can read the token in {shown}: `chmod o-r {shown}`");
    }
    Ok(String::from_utf8_lossy(token).into_owned())
}

impl Token {
    fn new(token: &str, port: u16) -> anyhow::Result<Self> {
        let key = Hmac::new_from_slice(token.as_bytes()).context("the token can't be a key")?;
        Ok(Self { key, cookie: format!("wordsight-{port}") })
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(text);
        mac
    }

    /// Whether this is the token: then the same comes out when something is hashed with either for a key.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        let Ok(mut given) = Hmac::<Sha256>::new_from_slice(given) else { return false };
        given.update(b"token");
        self.mac(b"token").verify(&given.finalize().into_bytes()).is_ok()
    }

    /// What a browser keeps instead of the token: until when, and proof that whoever made it knows the token.
    pub(super) fn cookie_value(&self, until: u64) -> String {
        let proof = self.mac(format!("cookie {until}").as_bytes()).finalize().into_bytes();
        format!("{until}.{}", hex::encode(proof))
    }

    fn is_cookie(&self, cookies: &HeaderValue) -> bool {
        let cookies = cookies.to_str().unwrap_or_default().split(';');
        let mut pairs = cookies.filter_map(|cookie| cookie.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && self.is_proof(value))
    }

    fn is_proof(&self, value: &str) -> bool {
        let parts = || {
            let (until, proof) = value.split_once('.')?;
            Some((until.parse::<u64>().ok()?, hex::decode(proof).ok()?))
        };
        let Some((until, proof)) = parts() else { return false };
        until > now() && self.mac(format!("cookie {until}").as_bytes()).verify_slice(&proof).is_ok()
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    since_1970().as_secs()
}

/// Puts what browsers should know to an answer.
pub(super) fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let set = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether a request may go on; with its body, read whole unless it is a long one.
pub(super) async fn check(guard: &Guard, request: Request) -> Result<Request, Refusal> {
    let (parts, body) = request.into_parts();
    let host = host_of(&parts.uri, &parts.headers)?;
    if guard.token.is_none() && !is_loopback(&host) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "without a token only names and addresses of this machine itself are answered to, as 127.0.0.1 and localhost",
        ));
    }
    if !PUBLIC.contains(&parts.uri.path()) {
        match guard.authenticate(&parts.headers) {
            TokenCheck::Right => {}
            TokenCheck::Missing => return Err(no_token()),
            TokenCheck::Wrong => {
                guard.delay_wrong_token(parts.extensions.get::<Peer>().copied()).await;
                return Err(no_token());
            }
        }
    }
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes {
        check_origin(&parts.headers, &host)?;
    }
    if is_long(&parts.method, parts.uri.path()) {
        return Ok(Request::from_parts(parts, body));
    }
    let body = SMALL.read(&parts.headers, body).await?;
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn no_token() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "this takes the token, as `Authorization: Bearer TOKEN` or by logging in",
    )
    .with(header::WWW_AUTHENTICATE, "Bearer")
}

/// The host, and the port where one is written, that a request is meant for.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
    let refusal = || Refusal::new(StatusCode::BAD_REQUEST, "a request says once, in `Host`, whom it is for");
    if let Some(authority) = uri.authority() {
        return Ok(authority.as_str().to_ascii_lowercase());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.to_str().map_err(|_| refusal())?.to_ascii_lowercase()),
        _ => Err(refusal()),
    }
}

/// Whether a host, with or without a port, is a name or an address of the loopback interface.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = without_port.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(without_port);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether what changes something comes from the page itself, or from a program that is no browser.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    let refusal = || Refusal::new(StatusCode::FORBIDDEN, "another site may not change anything here");
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(refusal());
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
        Ok(())
    } else {
        Err(refusal())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn guard(text: &str) -> anyhow::Result<Guard> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        Guard::new(&HttpSettings {
            listen: "127.0.0.1:8620".parse().unwrap(),
            token_file: Some(path),
            vocabularies: None,
            picture_fps: 10.0,
        })
    }

    #[test]
    fn a_token_is_known_by_its_header_and_nothing_like_it_is() {
        let guard = guard("0123456789abcdef\n").unwrap();
        let is_known = |value: &str| {
            matches!(guard.authenticate(&headers(&[("authorization", value)])), TokenCheck::Right)
        };
        assert!(is_known("Bearer 0123456789abcdef") && is_known("bearer 0123456789abcdef"));
        for other in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
        ] {
            assert!(!is_known(other), "{other}");
        }
        assert!(matches!(guard.authenticate(&HeaderMap::new()), TokenCheck::Missing));
    }

    #[test]
    fn a_cookie_is_good_until_it_is_old_or_was_changed_or_is_another_tokens() {
        let (one, other) = (guard("0123456789abcdef").unwrap(), guard("fedcba9876543210").unwrap());
        let value = |guard: &Guard, until| guard.token.as_ref().unwrap().cookie_value(until);
        let is_known = |value: &str| {
            let cookies = format!("theme=dark; wordsight-8620={value}");
            matches!(one.authenticate(&headers(&[("cookie", &cookies)])), TokenCheck::Right)
        };
        let good = value(&one, now() + 60);
        assert!(is_known(&good));
        assert!(!is_known(&value(&one, now() - 1)), "old");
        assert!(!is_known(&value(&other, now() + 60)), "another's");
        let later = format!("{}.{}", now() + 9_999, good.split_once('.').unwrap().1);
        for changed in [later.as_str(), &good[..good.len() - 2], &good[..good.len() - 1], "", ".", "x.y"] {
            assert!(!is_known(changed), "{changed}");
        }
    }

    #[test]
    fn a_file_without_a_token_is_a_mistake_of_usage_and_its_text_is_not_told() {
        for text in ["", "too short", "  \n", "with a blank in it, and long", &"x".repeat(5_000)] {
            let error = guard(text).err().unwrap();
            assert!(error.is::<crate::settings::SettingError>());
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()), "{error}");
            assert!(error.to_string().contains("16 characters"), "{error}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_the_page_itself_or_from_no_browser() {
        let is_taken =
            |pairs: &[(&'static str, &str)]| check_origin(&headers(pairs), "camera.local:8620").is_ok();
        assert!(is_taken(&[]), "a program");
        assert!(is_taken(&[("origin", "http://camera.local:8620"), ("sec-fetch-site", "same-origin")]));
        assert!(is_taken(&[("origin", "https://camera.local:8620")]), "behind a proxy");
        for origin in
            ["http://evil.example", "null", "http://camera.local", "http://camera.local:8620.evil.example"]
        {
            assert!(!is_taken(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!is_taken(&[("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn only_loopback_names_and_addresses_are_this_machine() {
        for own in [
            "localhost",
            "localhost:8620",
            "127.0.0.1",
            "127.0.0.1:8620",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:8620",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:8620",
            "localhost:x",
            "[::1",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
