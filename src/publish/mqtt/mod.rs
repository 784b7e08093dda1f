//! An MQTT broker, told of everything in Frigate's manner.
//!
//! In flow messages of the stream, out flow publications below `PREFIX/NAME`: events, how many things of each word there are,
//! snapshots, the state, and whether we are there at all. `docs/outputs.md` has the list of topics.
//!
//! The one surprising thing: there are two threads. One takes messages as fast as they come, into an [`Outbox`]; the other
//! tells the broker what stands there, and may wait for it as long as it likes.

mod connection;
mod home_assistant;
mod outbox;
mod remembered;
mod topics;

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Notify;

use self::connection::Shared;
use self::home_assistant::Discovery;
use self::outbox::{Outbox, OutboxSettings};
use self::remembered::Remembered;
use super::PublishError;
use super::message::Record;
use super::network::{self, Address, Scheme};
use super::settings::SinkContext;
use super::sink::{Chooser, Inbox, Interests, Sink};
use crate::job::{Event, EventKind};
use crate::settings::SettingError;
use crate::threads::{locked, named};

const SCHEMES: [Scheme; 2] = [("mqtt", false, 1883), ("mqtts", true, 8883)];
/// How many messages may wait to be taken in: some seconds' on a machine that is very busy.
const QUEUE: usize = 1_024;
/// How often it is looked whether there is a state to tell though no message comes.
const LOOK: Duration = Duration::from_secs(1);

/// One `[[mqtt]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttKeys {
    url: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    prefix: Option<String>,
    snapshots: Option<bool>,
    frames: Option<bool>,
    home_assistant: Option<bool>,
    discovery_prefix: Option<String>,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_id: Option<String>,
    keep_alive_s: Option<NonZeroU16>,
}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    address: Address,
    prefix: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    client_id: Option<String>,
    ca_file: Option<PathBuf>,
    /// The certificate, and its key.
    client_certificate: Option<(PathBuf, PathBuf)>,
    keep_alive: Duration,
    snapshots: bool,
    frames: bool,
    /// The prefix of Home Assistant's topics, if it is to be told.
    discovery: Option<String>,
}

impl MqttKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn resolve(&self, folder: &Path) -> Result<MqttSettings, SettingError> {
        self.resolved(folder).map_err(|reason| SettingError { section: "[mqtt]", reason })
    }

    fn resolved(&self, folder: &Path) -> Result<MqttSettings, String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let address = Address::parse(&self.url, &SCHEMES)?;
        if !matches!(address.rest.as_str(), "" | "/") {
            return Err("nothing stands behind the url's port: topics are below `prefix`".to_owned());
        }
        if address.is_secure && address.host.starts_with('[') {
            return Err("TLS takes a name or an IPv4 address in the url".to_owned());
        }
        if self.password_file.is_some() && self.username.is_none() {
            return Err("`password_file` takes a `username`".to_owned());
        }
        let is_plain = !address.is_secure;
        if is_plain && (self.ca_file.is_some() || self.certificate_file.is_some() || self.key_file.is_some())
        {
            return Err("certificates take a url that begins with mqtts://".to_owned());
        }
        let client_certificate = match (path(&self.certificate_file), path(&self.key_file)) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err("`certificate_file` and `key_file` go together".to_owned()),
        };
        let is_odd = |id: &String| id.is_empty() || id.len() > 256 || id.chars().any(char::is_control);
        if self.client_id.as_ref().is_some_and(is_odd) {
            return Err("`client_id` is to be a name of 1 to 256 bytes, or is left out".to_owned());
        }
        let prefix = self.prefix.as_deref().unwrap_or("wordsight");
        topics::check_prefix("prefix", prefix)?;
        let discovery = self.discovery_prefix.as_deref().unwrap_or("homeassistant");
        topics::check_prefix("discovery_prefix", discovery)?;
        Ok(MqttSettings {
            address,
            prefix: prefix.to_owned(),
            username: self.username.clone(),
            password_file: path(&self.password_file),
            client_id: self.client_id.clone(),
            ca_file: path(&self.ca_file),
            client_certificate,
            keep_alive: Duration::from_secs(self.keep_alive_s.map_or(15, NonZeroU16::get).into()),
            snapshots: self.snapshots.unwrap_or(false),
            frames: self.frames.unwrap_or(false),
            discovery: self.home_assistant.unwrap_or(false).then(|| discovery.to_owned()),
        })
    }
}

impl MqttSettings {
    /// Where it goes, for people, without secrets.
    pub fn place(&self) -> String {
        self.address.server()
    }

    /// Makes the output.
    ///
    /// # Errors
    /// When a file that it needs can't be read.
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        let base = format!("{}/{}", self.prefix, topics::level(&context.stream));
        let client_id = self.client_id.clone().unwrap_or_else(|| client_id(&context.stream));
        let remembered = Remembered::new(&context.state, &[&self.place(), &base]);
        let checked = self.options(&client_id, &base);
        checked.map_err(|reason| anyhow::anyhow!("{}: {reason}", self.place()))?;
        let discovery = self.discovery.as_ref().map(|prefix| Discovery {
            prefix: prefix.clone(),
            stream: context.stream.clone(),
            base: base.clone(),
            has_snapshots: self.snapshots,
        });
        let outbox = OutboxSettings {
            base,
            frames: self.frames,
            snapshots: self.snapshots,
            discovery,
            earlier: remembered.topics(),
        };
        let outbox = Outbox::new(outbox);
        Ok(Box::new(MqttSink { settings: self.clone(), client_id, outbox, remembered }))
    }
}

/// A name that is the same each time, and another on another machine: a broker has one client of a name.
fn client_id(stream: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("wordsight-{}", network::short_hash(&[&machine, stream]))
}

struct MqttSink {
    settings: MqttSettings,
    client_id: String,
    outbox: Outbox,
    remembered: Remembered,
}

/// Frames in which something appears.
struct Appearances;

impl Chooser for Appearances {
    fn wants(&mut self, _: &Record, events: &[std::sync::Arc<Event>]) -> bool {
        events.iter().any(|event| event.kind == EventKind::Appeared)
    }
}

impl Sink for MqttSink {
    fn name(&self) -> String {
        self.settings.place()
    }

    fn interests(&mut self) -> Interests {
        let pictures = self.settings.snapshots.then(|| Box::new(Appearances) as Box<dyn Chooser>);
        // Frames tell which words there are, what things are called now, and how fast the stream is.
        Interests { frames: true, events: true, pictures }
    }

    fn queue_size(&self) -> usize {
        QUEUE
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let Self { settings, client_id, outbox, mut remembered } = *self;
        let shared =
            Shared { outbox: Mutex::new(outbox), woken: Notify::new(), is_closing: AtomicBool::new(false) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(PublishError::NoThread)?;
        thread::scope(|scope| {
            let network = named("mqtt").spawn_scoped(scope, || {
                runtime.block_on(connection::run(&settings, &client_id, &shared, inbox));
                // A name may be looked up that nobody knows any more.
                runtime.shutdown_background();
            });
            let network = network.map_err(PublishError::NoThread)?;
            take_all(inbox, &shared, &mut remembered, &|| network.is_finished());
            shared.is_closing.store(true, Ordering::Relaxed);
            shared.woken.notify_one();
            let ended = network.join().map_err(|_| PublishError::Panicked(settings.place()));
            let left = locked(&shared.outbox).waiting();
            inbox.lost(left as u64);
            inbox.keeps(0);
            ended
        })
    }
}

/// Takes messages until there are no more.
fn take_all(inbox: &Inbox, shared: &Shared, remembered: &mut Remembered, is_over: &dyn Fn() -> bool) {
    while !is_over() {
        let message = inbox.next_within(LOOK);
        let mut outbox = locked(&shared.outbox);
        match &message {
            Some(message) => outbox.take(message, Instant::now()),
            None if inbox.is_closing() => break,
            None => outbox.tick(Instant::now()),
        }
        inbox.lost(outbox.take_lost());
        inbox.keeps(outbox.waiting());
        let topics = outbox.take_new_topics();
        drop(outbox);
        shared.woken.notify_one();
        if let Some(topics) = topics {
            remembered.keep(&topics);
        }
    }
    while let Some(message) = inbox.next() {
        locked(&shared.outbox).take(&message, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(text: &str) -> Result<MqttSettings, String> {
        let keys: MqttKeys = toml::from_str(text).unwrap();
        keys.resolve(Path::new("/etc/wordsight")).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_cannot_be_are_refused_with_what_to_do() {
        let cases = [
            ("url = \"broker\"", "mqtt://host"),
            ("url = \"mqtt://me:hunter2@broker\"", "in a file"),
            ("url = \"mqtt://broker/topic\"", "`prefix`"),
            ("url = \"mqtt://broker\"\npassword_file = \"p\"", "`username`"),
            ("url = \"mqtt://broker\"\nca_file = \"ca.pem\"", "mqtts://"),
            ("url = \"mqtts://broker\"\nkey_file = \"key.pem\"", "go together"),
            ("url = \"mqtt://broker\"\nprefix = \"a/#\"", "levels"),
            ("url = \"mqtt://broker\"\nclient_id = \"\"", "`client_id`"),
        ];
        for (text, reason) in cases {
            let error = resolve(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_configuration_and_the_rest_has_defaults() {
        let settings = resolve("url = \"mqtts://broker\"\nusername = \"me\"\npassword_file = \"p\"").unwrap();
        assert_eq!(settings.password_file, Some("/etc/wordsight/p".into()));
        assert_eq!(
            (settings.place().as_str(), settings.prefix.as_str()),
            ("mqtts://broker:8883", "wordsight")
        );
        assert_eq!((settings.discovery, settings.keep_alive), (None, Duration::from_secs(15)));
    }

    #[test]
    fn an_output_whose_password_cannot_be_read_is_not_opened() {
        let settings =
            resolve("url = \"mqtt://broker\"\nusername = \"me\"\npassword_file = \"none\"").unwrap();
        let context = SinkContext { stream: "a".to_owned(), appends: false, state: "/nowhere".into() };
        let error = settings.open(&context).err().unwrap().to_string();
        assert!(error.contains("password_file /etc/wordsight/none"), "{error}");
    }
}
