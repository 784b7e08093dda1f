//! MQTT: publishes events, counts, snapshots and state to a broker, with topics as Frigate has them.
//!
//! Publishes below `PREFIX/NAME`: events, how many things of each word there are, snapshots, the state, and whether we
//! are there at all. `docs/outputs.md` has the list of topics. With `control`, words come by the broker too.
//!
//! There are two threads. One takes messages as fast as they come, into an [`Outbox`]; the other sends what is in it,
//! and may wait for the broker.

mod command;
mod commands;
mod connection;
mod home_assistant;
mod outbox;
mod remembered;
mod settings;
mod topics;
mod zone_topics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::commands::{Commands, InUseWatch};
use self::home_assistant::Discovery;
use self::outbox::{Outbox, OutboxSettings, OutboxState};
use self::remembered::Remembered;
pub use self::settings::{MqttKeys, MqttSettings};
use super::error::PublishError;
use super::message::Record;
use super::network;
use super::sink::{Chooser, Inbox, Interests, Sink, SinkContext};
use crate::job::{Event, EventKind};
use crate::requests::Requests;
use crate::threads::{locked, named};

/// How many messages may wait to be taken in: some seconds' on a machine that is very busy.
const QUEUE: usize = 1_024;
/// How often it is looked whether there is a state to tell though no message comes.
const LOOK: Duration = Duration::from_secs(1);

impl MqttSettings {
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
            has_control: self.control,
        });
        let outbox = OutboxSettings {
            base: base.clone(),
            frames: self.frames,
            snapshots: self.snapshots,
            discovery,
            earlier: remembered.topics(),
        };
        let outbox = Outbox::new(outbox);
        let control = self.control.then(|| (base, context.requests.clone()));
        Ok(Box::new(MqttSink { settings: self.clone(), client_id, outbox, remembered, control }))
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
    /// The stream's topic, and who is asked, where words can be chosen.
    control: Option<(String, Requests)>,
}

/// Frames in which something appears.
struct Appearances;

impl Chooser for Appearances {
    fn wants(&mut self, _: &Record, events: &[Arc<Event>]) -> bool {
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
        let Self { settings, client_id, outbox, mut remembered, control } = *self;
        let state = Arc::new(OutboxState {
            outbox: Mutex::new(outbox),
            woken: Notify::new(),
            is_closing: AtomicBool::new(false),
        });
        let commands = control.as_ref().map(|(base, requests)| {
            Commands::start(base, requests.clone(), Arc::clone(&state)).map_err(PublishError::NoThread)
        });
        let commands = commands.transpose()?;
        let mut in_use = control.map(|(_, requests)| InUseWatch::new(requests));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(PublishError::NoThread)?;
        thread::scope(|scope| {
            let network = named("mqtt").spawn_scoped(scope, || {
                runtime.block_on(connection::run(&settings, &client_id, &state, inbox, commands.as_ref()));
                // A name may be looked up that nobody knows any more.
                runtime.shutdown_background();
            });
            let network = network.map_err(PublishError::NoThread)?;
            take_all(inbox, &state, &mut remembered, &mut in_use, &|| network.is_finished());
            state.is_closing.store(true, Ordering::Relaxed);
            state.woken.notify_one();
            let ended = network.join().map_err(|_| PublishError::Panicked(settings.place()));
            let left = locked(&state.outbox).waiting();
            inbox.lost(left as u64);
            inbox.keeps(0);
            ended
        })
    }
}

/// Takes messages until there are no more.
fn take_all(
    inbox: &Inbox,
    state: &OutboxState,
    remembered: &mut Remembered,
    in_use: &mut Option<InUseWatch>,
    is_over: &dyn Fn() -> bool,
) {
    while !is_over() {
        let message = inbox.next_within(LOOK);
        let mut outbox = locked(&state.outbox);
        match &message {
            Some(message) => outbox.take(message, Instant::now()),
            None if inbox.is_closing() => break,
            None => outbox.tick(Instant::now()),
        }
        if let Some(in_use) = in_use.as_mut().and_then(|watch| watch.look(Instant::now())) {
            outbox.tell_in_use(&in_use, false);
        }
        inbox.lost(outbox.take_lost());
        inbox.keeps(outbox.waiting());
        let topics = outbox.take_new_topics();
        drop(outbox);
        state.woken.notify_one();
        if let Some(topics) = topics {
            remembered.keep(&topics);
        }
    }
    while let Some(message) = inbox.next() {
        locked(&state.outbox).take(&message, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn an_output_whose_password_cannot_be_read_is_not_opened() {
        let keys = "url = \"mqtt://broker\"\nusername = \"me\"\npassword_file = \"none\"";
        let keys: MqttKeys = toml::from_str(keys).unwrap();
        let settings = keys.resolve(Path::new("/etc/wordsight")).unwrap();
        let context = SinkContext {
            stream: "a".to_owned(),
            appends: false,
            state: "/nowhere".into(),
            requests: Requests::default(),
            places: Default::default(),
        };
        let error = settings.open(&context).err().unwrap().to_string();
        assert!(error.contains("password_file /etc/wordsight/none"), "{error}");
    }
}
