//! Sends the batches in the spool, oldest first, and retries with exponential back-off.
//!
//! A batch leaves the spool when the server says that it has it (2xx), and is set aside when it says that it never will
//! (4xx, but 408, 425 and 429); for anything else it is sent again, later each time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use wordsight_capture::Backoff;

use super::settings::WebhookSettings;
use super::spool::{Batch, Spool};
use crate::publish::network;
use crate::publish::sink::Inbox;
use crate::threads::clock::since_1970;
use crate::threads::locked;

/// The shortest and longest wait before a batch is sent again.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));
/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// So much of an answer is read, so that the connection can be used again, bytes.
const LARGEST_ANSWER: u64 = 64 << 10;

/// What the thread that gathers and the one that sends share.
#[derive(Default)]
pub(super) struct SpoolState {
    /// As soon as it is open.
    pub spool: Mutex<Option<Spool>>,
    changed: Condvar,
    /// Whether batches can't be written: then that one was sent is not the end of the trouble.
    is_spool_ill: AtomicBool,
    /// Until when what waits may be sent, once the program ends.
    end: Mutex<Option<Instant>>,
}

impl SpoolState {
    /// There is more to send, or less.
    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    pub(super) fn is_spool_ill(&self) -> bool {
        self.is_spool_ill.load(Ordering::Relaxed)
    }

    /// Returns how it was before.
    pub(super) fn set_spool_ill(&self, is_ill: bool) -> bool {
        self.is_spool_ill.swap(is_ill, Ordering::Relaxed)
    }

    /// Has the sender end, and waits so long at most for what it still can send.
    pub(super) fn close(&self, longest: Duration) {
        let end = Instant::now() + longest;
        *locked(&self.end) = Some(end);
        self.changed();
        let mut spool = locked(&self.spool);
        while spool.as_ref().is_some_and(|spool| spool.oldest().is_some()) {
            let left = end.saturating_duration_since(Instant::now());
            // An end that is sooner: there is no use in waiting.
            if left.is_zero() || locked(&self.end).is_none_or(|end| end <= Instant::now()) {
                return;
            }
            spool = self.wait(spool, left);
        }
    }

    fn wait<'a>(
        &self,
        spool: MutexGuard<'a, Option<Spool>>,
        longest: Duration,
    ) -> MutexGuard<'a, Option<Spool>> {
        self.changed.wait_timeout(spool, longest).unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self) -> Option<Instant> {
        *locked(&self.end)
    }

    fn is_over(&self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    /// For good.
    Refused(String),
    /// For now; the server may have said for how long.
    Failed(String, Option<Duration>),
}

/// Who sends.
pub(super) struct Sender {
    settings: WebhookSettings,
    state: Arc<SpoolState>,
    inbox: Inbox,
    /// Made anew after a failure: certificates may have been exchanged.
    agent: Option<Agent>,
    backoff: Backoff,
}

impl Sender {
    pub(super) fn new(settings: WebhookSettings, state: Arc<SpoolState>, inbox: Inbox) -> Self {
        Self { settings, state, inbox, agent: None, backoff: Backoff::new(WAITS.0, WAITS.1) }
    }

    /// Sends until the program ends.
    pub(super) fn run(mut self) {
        while let Some((batch, body)) = self.next() {
            let fate = self.send(&batch, &body);
            self.settle(&batch, fate);
        }
        // Whoever waits for the spool waits for nothing any more.
        *locked(&self.state.end) = Some(Instant::now());
        *locked(&self.state.spool) = None;
        self.state.changed();
    }

    /// The oldest batch as soon as there is one.
    fn next(&self) -> Option<(Batch, Vec<u8>)> {
        let mut guard = locked(&self.state.spool);
        loop {
            if self.state.is_over() {
                return None;
            }
            let spool = guard.as_mut()?;
            match spool.oldest().cloned() {
                Some(batch) => match spool.body(&batch) {
                    Ok(body) => return Some((batch, body)),
                    Err(error) => {
                        tracing::error!("a batch of {} events is lost: {error}", batch.events);
                        self.inbox.lost(batch.events as u64);
                        spool.remove(&batch);
                    }
                },
                None if self.state.end().is_some() => return None,
                None => guard = self.state.wait(guard, Duration::from_secs(60)),
            }
        }
    }

    fn settle(&mut self, batch: &Batch, fate: Fate) {
        let events = batch.events as u64;
        match fate {
            Fate::Taken => {
                if let Some(spool) = locked(&self.state.spool).as_mut() {
                    spool.remove(batch);
                }
                self.inbox.sent(events);
                if !self.state.is_spool_ill() {
                    self.inbox.recovered();
                }
                self.backoff.reset();
            }
            Fate::Refused(why) => {
                if let Some(spool) = locked(&self.state.spool).as_mut() {
                    spool.refuse(batch);
                    let aside = spool.folder().join("refused");
                    self.inbox.gave_up(&format!("{why}; such batches are set aside in {}", aside.display()));
                }
                self.inbox.lost(events);
            }
            Fate::Failed(why, asked) => {
                self.inbox.failed(&why);
                self.agent = None;
                let wait = network::wait_to_retry(&mut self.backoff)
                    .max(asked.unwrap_or_default().min(LONGEST_ASKED));
                self.pause(wait);
            }
        }
        self.state.changed();
    }

    /// Waits before the next try; when the program ends, there is none.
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut spool = locked(&self.state.spool);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.state.end().is_some() {
                *locked(&self.state.end) = Some(Instant::now());
                return;
            }
            spool = self.state.wait(spool, left);
        }
    }

    fn send(&mut self, batch: &Batch, body: &[u8]) -> Fate {
        match self.try_send(batch, body) {
            Ok(fate) => fate,
            Err(why) => Fate::Failed(why, None),
        }
    }

    fn try_send(&mut self, batch: &Batch, body: &[u8]) -> Result<Fate, String> {
        let signature = self.settings.secret()?.map(|secret| signature(&secret, unix_seconds(), body));
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => self.settings.agent()?,
        };
        let agent = self.agent.insert(agent);
        let mut request = agent
            .post(&self.settings.url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &batch.id);
        if let Some(signature) = &signature {
            request = request.header("Wordsight-Signature", signature);
        }
        let mut response = request.send(body).map_err(|error| self.settings.explain(&error))?;
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let asked = header("Retry-After").and_then(retry_after);
        // To its end, or the connection is of no more use; what it says is of none either.
        drop(response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec());
        Ok(fate_by(status.as_u16(), status.canonical_reason().unwrap_or(""), asked))
    }
}

/// What a server's answer means.
fn fate_by(status: u16, reason: &str, asked: Option<Duration>) -> Fate {
    let said = format!("the server answers {status} {reason}").trim_end().to_owned();
    match status {
        200..=299 => Fate::Taken,
        300..=399 => Fate::Failed(
            format!("{said}, and it is not followed to elsewhere: set `url` to the new address"),
            asked,
        ),
        408 | 425 | 429 => Fate::Failed(said, asked),
        400..=499 => Fate::Refused(said),
        _ => Fate::Failed(said, asked),
    }
}

/// How long to wait, by a header: seconds, or until a time.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value.trim()).ok()?.duration_since(SystemTime::now()).ok()
}

fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// What proves that a body is ours, and of when.
fn signature(secret: &str, unix_seconds: u64, body: &[u8]) -> String {
    let mut mac = match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => mac,
        // There is no length that HMAC doesn't take.
        Err(_) => return String::new(),
    };
    mac.update(format!("{unix_seconds}.").as_bytes());
    mac.update(body);
    format!("t={unix_seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

impl WebhookSettings {
    /// The secret, if there is one.
    pub(super) fn secret(&self) -> Result<Option<String>, String> {
        self.secret_file.as_deref().map(|path| network::read_secret("secret_file", path)).transpose()
    }

    /// What speaks HTTP.
    pub(super) fn agent(&self) -> Result<Agent, String> {
        let mut configuration = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(self.timeout))
            .user_agent(concat!("wordsight/", env!("CARGO_PKG_VERSION")));
        if self.address.is_secure {
            let authorities = network::authorities(self.ca_file.as_deref())?;
            let roots = authorities.iter().map(|der| Certificate::from_der(der).to_owned());
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::from(roots))
                .unversioned_rustls_crypto_provider(network::crypto());
            configuration = configuration.tls_config(tls.build());
        }
        Ok(configuration.build().new_agent())
    }

    /// What is wrong, for people, and what to do about it.
    fn explain(&self, error: &ureq::Error) -> String {
        let is_of_tls = match error {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
            ureq::Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
            _ => false,
        };
        match error {
            _ if is_of_tls => format!(
                "no TLS with the server: {error}; the authority that vouches for a certificate of your own is named by \
                 `ca_file`"
            ),
            ureq::Error::Timeout(_) => format!("the server doesn't answer within {:?}", self.timeout),
            ureq::Error::HostNotFound => format!("nobody knows where {} is", self.address.host),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody listens at the server".to_owned()
            }
            error => format!("cannot reach the server: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_taken_refused_or_sent_again_by_the_servers_answer() {
        for status in [200, 202, 204] {
            assert_eq!(fate_by(status, "", None), Fate::Taken);
        }
        for status in [400, 401, 404, 410, 413, 422] {
            assert!(matches!(fate_by(status, "", None), Fate::Refused(_)), "{status}");
        }
        let asked = Some(Duration::from_secs(7));
        for status in [301, 408, 425, 429, 500, 503, 100] {
            assert!(matches!(fate_by(status, "", asked), Fate::Failed(_, told) if told == asked), "{status}");
        }
    }

    #[test]
    fn a_wait_that_a_server_asks_for_is_in_seconds_or_until_a_time() {
        assert_eq!(retry_after(" 120"), Some(Duration::from_secs(120)));
        let later = SystemTime::now() + Duration::from_secs(60);
        let until = retry_after(&httpdate::fmt_http_date(later)).map(|wait| wait.as_secs());
        assert!(until.is_some_and(|seconds| (58..=60).contains(&seconds)), "{until:?}");
        for none in ["", "soon", "-1", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(retry_after(none), None, "{none}");
        }
    }

    #[test]
    fn a_signature_is_what_python_makes_of_it() {
        // hmac.new(b"secret", b"1700000000.{}", "sha256").hexdigest()
        assert_eq!(
            signature("secret", 1_700_000_000, b"{}"),
            "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
    }
}
