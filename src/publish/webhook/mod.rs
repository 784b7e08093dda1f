//! Webhooks: events to a web server, in batches, each of which is on disk before it is sent.
//!
//! Sends events as POST requests. One thread gathers events and writes batches into the [`Spool`]; another sends them,
//! oldest first, and takes each away when the server has it. `docs/outputs.md` says what a request looks like.
//!
//! When the program ends or the output is removed, the sending thread is not joined: it may hang in a request, and what
//! it has not sent is in the spool for the next one.

mod sender;
mod settings;
mod spool;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::sender::{Sender, SpoolState};
pub use self::settings::{WebhookKeys, WebhookSettings};
use self::spool::Spool;
use super::error::PublishError;
use super::json;
use super::message::Message;
use super::network;
use super::sink::{Inbox, Interests, Sink, SinkContext};
use crate::job::{Event, EventKind, run_id};
use crate::threads::{locked, named};

/// How many messages may wait to be gathered.
const QUEUE: usize = 1_024;
/// The most events that are gathered and can't be written to the disk.
const MOST_GATHERED: usize = 1_000;
/// From one try to write to the next.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether the program ends.
const LOOK: Duration = Duration::from_secs(1);
/// How long what waits may take to be sent when the program ends.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);

impl WebhookSettings {
    /// Makes the output.
    ///
    /// # Errors
    /// When a file that it needs can't be read, or its spool can't be written.
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        let whose: Vec<&str> = [self.url.as_str()].into_iter().chain(self.camera.as_deref()).collect();
        let of_state = || context.state.join("spool").join(network::short_hash(&whose));
        let folder = self.spool.clone().unwrap_or_else(of_state);
        let fail = |reason: String| anyhow::anyhow!("{}: {reason}", self.place());
        spool::check(&folder)
            .map_err(|error| fail(format!("cannot write into the spool {}: {error}", folder.display())))?;
        self.agent().map_err(fail)?;
        self.secret().map_err(fail)?;
        Ok(Box::new(WebhookSink { settings: self.clone(), stream: context.stream.clone(), folder }))
    }
}

struct WebhookSink {
    settings: WebhookSettings,
    stream: String,
    folder: PathBuf,
}

impl Sink for WebhookSink {
    fn name(&self) -> String {
        self.settings.place()
    }

    fn interests(&mut self) -> Interests {
        Interests { events: true, ..Interests::default() }
    }

    fn queue_size(&self) -> usize {
        QUEUE
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let Self { settings, stream, folder } = *self;
        let state = Arc::new(SpoolState::default());
        let sender = Sender::new(settings.clone(), Arc::clone(&state), inbox.clone());
        let mut gatherer = Gatherer {
            filter: Filter { words: settings.words, min_score: settings.min_score, told: HashSet::new() },
            batch: settings.batch,
            most_in_batch: settings.most_in_batch,
            stream,
            gathered: VecDeque::new(),
            due: None,
            to_open: Some((folder, settings.spool_bytes, sender)),
            state,
            inbox,
        };
        gatherer.run();
        Ok(())
    }
}

/// Gathers events, and writes them into the spool.
struct Gatherer<'a> {
    filter: Filter,
    batch: Duration,
    most_in_batch: usize,
    stream: String,
    gathered: VecDeque<Arc<Event>>,
    /// When what is gathered is to be written.
    due: Option<Instant>,
    /// The spool's folder and size, and who sends what is in it, as long as it isn't open.
    to_open: Option<(PathBuf, u64, Sender)>,
    state: Arc<SpoolState>,
    inbox: &'a Inbox,
}

impl Gatherer<'_> {
    fn run(&mut self) {
        self.write_if_due();
        loop {
            let wait = self.due.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            match self.inbox.next_within(wait) {
                Some(message) => self.take(&message),
                None if self.inbox.is_closing() => break,
                None => {}
            }
            self.write_if_due();
        }
        while let Some(message) = self.inbox.next() {
            self.take(&message);
        }
        self.write();
        self.inbox.lost(self.gathered.len() as u64);
        self.state.close(LONGEST_GOODBYE);
    }

    fn take(&mut self, message: &Message) {
        let Message::Event(event) = message else { return };
        if !self.filter.passes(event) {
            return;
        }
        if self.gathered.len() == MOST_GATHERED {
            self.gathered.pop_front();
            self.inbox.lost(1);
        }
        self.gathered.push_back(Arc::clone(event));
        self.due.get_or_insert_with(|| Instant::now() + self.batch);
    }

    fn write_if_due(&mut self) {
        let is_due = self.due.is_some_and(|due| Instant::now() >= due);
        // A disk that was full is not asked again for each event.
        let is_full = self.gathered.len() >= self.most_in_batch && !self.state.is_spool_ill();
        if is_due || is_full || self.to_open.is_some() {
            self.write();
        }
        let waiting = locked(&self.state.spool).as_ref().map_or(0, Spool::events);
        self.inbox.keeps(self.gathered.len() + waiting);
    }

    /// Writes what is gathered, and says so if that can't be.
    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => {
                if self.state.set_spool_ill(false) {
                    self.inbox.recovered();
                }
                self.due = None;
            }
            Err(why) => {
                self.state.set_spool_ill(true);
                self.inbox.failed(&why);
                self.due = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }

    fn try_write(&mut self) -> Result<(), String> {
        self.open()?;
        while !self.gathered.is_empty() {
            let size = self.gathered.len().min(self.most_in_batch);
            let body = self.body(size)?;
            let mut spool = locked(&self.state.spool);
            let Some(spool) = spool.as_mut() else { return Ok(()) };
            let lost = spool.put(&body, size).map_err(|error| {
                format!(
                    "cannot write into the spool {}, and events wait in memory: {error}",
                    spool.folder().display()
                )
            })?;
            self.inbox.lost(lost);
            self.gathered.drain(..size);
            self.state.changed();
        }
        Ok(())
    }

    /// Opens the spool, unless another has it: the one before this, for as long as a request of its hangs.
    fn open(&mut self) -> Result<(), String> {
        let Some((folder, size, _)) = &self.to_open else { return Ok(()) };
        let spool = Spool::open(folder, *size)?;
        *locked(&self.state.spool) = Some(spool);
        if let Some((_, _, sender)) = self.to_open.take() {
            let sending = named("webhook").spawn(move || sender.run());
            sending.map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        Ok(())
    }

    fn body(&self, size: usize) -> Result<Vec<u8>, String> {
        #[derive(Serialize)]
        struct Body<'a, E> {
            stream: &'a str,
            run: &'a str,
            events: Vec<E>,
        }
        let events = self.gathered.iter().take(size).map(|event| json::event(event)).collect();
        let body = Body { stream: &self.stream, run: run_id(), events };
        serde_json::to_vec(&body).map_err(|error| error.to_string())
    }
}

/// Which events are told.
struct Filter {
    words: Option<Vec<String>>,
    min_score: f32,
    /// The tracks that are there and were told of.
    told: HashSet<u64>,
}

impl Filter {
    /// By what is known when a thing appears; that it leaves is told of those of which it was told that they appeared. What
    /// happens at zones and lines is told by what is known then.
    fn passes(&mut self, event: &Event) -> bool {
        if event.kind == EventKind::Left {
            return self.told.remove(&event.track);
        }
        let is_named = self.words.as_ref().is_none_or(|words| words.iter().any(|word| word == event.word()));
        let passes = is_named && event.best_score >= self.min_score;
        if passes && event.kind == EventKind::Appeared {
            self.told.insert(event.track);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::WordList;

    #[test]
    fn what_leaves_is_told_if_it_was_told_that_it_appeared() {
        let mut filter = Filter { words: Some(vec!["cat".to_owned()]), min_score: 0.5, told: HashSet::new() };
        let words: WordList = ["cat", "dog"].map(str::to_owned).into_iter().collect();
        let event = |kind, track, word, score| Event::made_up(kind, track, words.clone(), word, score);
        use EventKind::{Appeared, Crossed, Entered, Exited, Left};
        let cases = [
            (Appeared, 1, 0, 0.9, true),
            (Appeared, 2, 1, 0.9, false),
            (Appeared, 3, 0, 0.4, false),
            (Left, 2, 0, 0.9, false),
            (Left, 3, 0, 0.9, false),
            (Left, 1, 1, 0.9, true),
            (Left, 1, 0, 0.9, false),
            (Crossed, 4, 0, 0.9, true),
            (Entered, 4, 1, 0.9, false),
            (Exited, 4, 0, 0.4, false),
            (Left, 4, 0, 0.9, false),
        ];
        for (kind, track, word, score, passes) in cases {
            assert_eq!(filter.passes(&event(kind, track, word, score)), passes, "{kind:?} {track}");
        }
    }
}
