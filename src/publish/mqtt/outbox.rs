//! The outbox: publications that wait for the broker, connected or not.
//!
//! Turns the stream's messages into publications. It holds the current value of each retained topic (counts,
//! configurations), and sends them all again on each connection: the broker may have lost them. Events wait in order,
//! and each leaves when the broker has acknowledged it.
//!
//! One event is in flight at a time. Two might change places when a connection breaks between them, and both might come
//! twice; this way at most one does, and a reader knows it by its `id`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use super::command::{Command, InUse};
use super::home_assistant::{Discovery, MOST_WORDS};
use super::topics;
use super::zone_topics::ZoneTopics;
use crate::job::{Event, EventKind, WordList, run_id};
use crate::publish::json;
use crate::publish::message::{Message, Picture, Record};

/// The most events that wait.
const MOST_EVENTS: usize = 1_000;
/// The most snapshots that wait: each may have a megabyte.
const MOST_SNAPSHOTS: usize = 16;
/// The most frames' results that wait: what is older is of no use.
const MOST_FRAMES: usize = 8;
/// So many words have a count from the start, of 0; the others from when they are seen first.
const MOST_ZEROS: usize = 1_000;
/// From one state to the next.
const STATE_EVERY: Duration = Duration::from_secs(10);

/// What is kept by the broker, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Availability,
    /// Of words that are no more.
    Gone,
    Configuration,
    Count,
    State,
}

/// A topic that the broker keeps the last message of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept {
    kind: Kind,
    topic: String,
}

/// What a publication is, for when it has arrived or is lost.
#[derive(Debug, Clone)]
pub(super) enum What {
    Kept(Kept),
    Event,
    Snapshot(String, Arc<Picture>),
    Frame,
}

/// One message to the broker.
#[derive(Debug)]
pub(super) struct Publication {
    pub what: What,
    pub topic: String,
    pub payload: Vec<u8>,
    pub is_kept: bool,
    /// Whether the broker is to say that it has it.
    pub is_acknowledged: bool,
}

/// What an outbox is made from.
pub(super) struct OutboxSettings {
    /// The stream's topic, below which all others are.
    pub base: String,
    pub frames: bool,
    pub snapshots: bool,
    pub discovery: Option<Discovery>,
    /// Topics that an earlier run had the broker keep.
    pub earlier: BTreeSet<String>,
}

/// What the thread that takes messages and the one that sends them share.
pub(super) struct OutboxState {
    pub outbox: Mutex<Outbox>,
    /// There may be more to tell, or the program ends.
    pub woken: Notify,
    pub is_closing: AtomicBool,
}

/// All that there is to tell.
pub(super) struct Outbox {
    settings: OutboxSettings,
    words: WordList,
    levels: Vec<String>,
    counts: Vec<u32>,
    /// The tracks that are there, and the word of each.
    present: HashMap<u64, usize>,
    zones: ZoneTopics,
    kept: BTreeMap<Kept, Vec<u8>>,
    /// What the broker does not have yet, of `kept`.
    due: BTreeSet<Kept>,
    events: VecDeque<Arc<Event>>,
    is_event_under_way: bool,
    snapshots: VecDeque<(String, Arc<Picture>)>,
    /// Topics with a snapshot at the broker.
    shown: BTreeSet<String>,
    frames: VecDeque<Vec<u8>>,
    is_connected: bool,
    lost: u64,
    has_new_topics: bool,
    source: Arc<str>,
    rate: Rate,
    /// What is told to be in use, where it can be chosen.
    in_use: Option<InUse>,
}

/// How many frames there were since when.
struct Rate {
    since: Instant,
    frames: u32,
}

impl Outbox {
    pub(super) fn new(settings: OutboxSettings) -> Self {
        let mut outbox = Self {
            settings,
            words: WordList::default(),
            levels: Vec::new(),
            counts: Vec::new(),
            present: HashMap::new(),
            zones: ZoneTopics::default(),
            kept: BTreeMap::new(),
            due: BTreeSet::new(),
            events: VecDeque::with_capacity(MOST_EVENTS),
            is_event_under_way: false,
            snapshots: VecDeque::with_capacity(MOST_SNAPSHOTS),
            shown: BTreeSet::new(),
            frames: VecDeque::with_capacity(MOST_FRAMES),
            is_connected: false,
            lost: 0,
            has_new_topics: false,
            source: Arc::default(),
            rate: Rate { since: Instant::now(), frames: 0 },
            in_use: None,
        };
        outbox.set_availability("online");
        outbox
    }

    fn topic(&self, level: &str) -> String {
        format!("{}/{level}", self.settings.base)
    }

    /// The topic where it stands whether there is anybody.
    pub(super) fn availability(&self) -> String {
        self.topic("availability")
    }

    /// Has the broker say that we are there, or not.
    pub(super) fn set_availability(&mut self, state: &str) {
        self.keep(Kind::Availability, self.availability(), state.into());
    }

    /// Takes in a message.
    pub(super) fn take(&mut self, message: &Message, now: Instant) {
        match message {
            Message::Frame(record) => self.take_frame(record, now),
            Message::Event(event) => self.take_event(event),
            Message::Picture(picture) => self.take_picture(picture),
        }
    }

    fn take_frame(&mut self, record: &Record, now: Instant) {
        // Before the words: what was kept of an earlier run and belongs to neither goes with them.
        self.take_zones(record);
        let is_new = !record.words.are(&self.words);
        if is_new {
            self.set_words(&record.words);
        }
        if is_new || record.source != self.source {
            self.source = Arc::clone(&record.source);
            self.tell_state(None);
        }
        // A track may come to be called something else.
        for track in record.detections.iter().filter_map(|found| found.track) {
            if let Some(word) = self.present.get_mut(&track.id)
                && *word != track.word
            {
                let before = std::mem::replace(word, track.word);
                self.count(before, -1);
                self.count(track.word, 1);
            }
        }
        self.rate.frames += 1;
        self.tick(now);
        if self.settings.frames {
            self.take_results(record);
        }
    }

    fn take_zones(&mut self, record: &Record) {
        let OutboxSettings { base, discovery, .. } = &self.settings;
        let Some(told) = self.zones.take(record.zones.as_ref(), base, discovery.as_ref()) else { return };
        for topic in told.gone {
            self.forget(topic);
        }
        for (topic, configuration) in told.configurations {
            self.keep(Kind::Configuration, topic, configuration);
        }
        for (topic, count) in told.counts {
            self.keep(Kind::Count, topic, count);
        }
    }

    fn take_results(&mut self, record: &Record) {
        let Ok(payload) = serde_json::to_vec(&json::line(record)) else { return };
        if !self.is_connected {
            self.lost += 1;
            return;
        }
        if self.frames.len() == MOST_FRAMES {
            self.frames.pop_front();
            self.lost += 1;
        }
        self.frames.push_back(payload);
    }

    fn take_event(&mut self, event: &Arc<Event>) {
        if event.words.are(&self.words) {
            match event.kind {
                EventKind::Appeared => {
                    if self.present.insert(event.track, event.word).is_none() {
                        self.count(event.word, 1);
                    }
                }
                EventKind::Left => {
                    if let Some(word) = self.present.remove(&event.track) {
                        self.count(word, -1);
                    }
                }
                EventKind::Entered | EventKind::Exited | EventKind::Dwelled | EventKind::Crossed => {}
            }
        }
        if self.events.len() == MOST_EVENTS {
            // What is under way may have arrived.
            self.events.remove(usize::from(self.is_event_under_way));
            self.lost += 1;
        }
        self.events.push_back(Arc::clone(event));
    }

    fn take_picture(&mut self, picture: &Arc<Picture>) {
        for event in &picture.events {
            if event.kind != EventKind::Appeared || !event.words.are(&self.words) {
                continue;
            }
            let Some(level) = self.levels.get(event.word) else { continue };
            let topic = self.topic(&format!("{level}/snapshot"));
            self.snapshots.retain(|(other, _)| *other != topic);
            if self.snapshots.len() == MOST_SNAPSHOTS {
                self.snapshots.pop_front();
                self.lost += 1;
            }
            // It isn't gone after all.
            let gone = Kept { kind: Kind::Gone, topic };
            self.due.remove(&gone);
            self.kept.remove(&gone);
            let topic = gone.topic;
            self.has_new_topics |= self.shown.insert(topic.clone());
            self.snapshots.push_back((topic, Arc::clone(picture)));
        }
    }

    /// Tells how the stream is now and then.
    pub(super) fn tick(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.rate.since);
        if elapsed < STATE_EVERY || self.words.len() == 0 {
            return;
        }
        let fps = f64::from(self.rate.frames) / elapsed.as_secs_f64();
        self.rate = Rate { since: now, frames: 0 };
        self.tell_state(Some(json::rounded(fps, 2)));
    }

    fn tell_state(&mut self, frames_per_second: Option<f64>) {
        let state = json!({
            "source": &*self.source,
            "frames_per_second": frames_per_second,
            "words": self.words.len(),
            "run": run_id(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.keep(Kind::State, self.topic("state"), state.to_string().into_bytes());
    }

    /// Tells what is in use, as the answer to a command or because it is another. Why a command was refused stands there
    /// until the next one, or until something else is in use.
    pub(super) fn tell_in_use(&mut self, in_use: &InUse, is_answer: bool) {
        let is_same = |before: &InUse| InUse { error: None, ..before.clone() } == *in_use;
        if !is_answer && self.in_use.as_ref().is_some_and(is_same) {
            return;
        }
        let [words, vocabulary] = Command::ALL.map(|command| self.topic(command.level()));
        self.keep(Kind::State, words, in_use.to_json().into_bytes());
        self.keep(Kind::State, vocabulary, in_use.vocabulary.clone().into_bytes());
        self.in_use = Some(in_use.clone());
    }

    /// Another vocabulary holds: what the broker keeps of words that are no more goes.
    fn set_words(&mut self, words: &WordList) {
        self.words = words.clone();
        self.levels = topics::levels(words);
        self.counts = vec![0; words.len()];
        self.present.clear();
        let topics: Vec<String> = self.levels.iter().map(|level| self.topic(level)).collect();
        let mut gone: BTreeSet<String> = std::mem::take(&mut self.settings.earlier);
        gone.append(&mut self.shown);
        gone.extend(
            self.kept.keys().filter(|kept| kept.kind != Kind::Availability).map(|kept| kept.topic.clone()),
        );
        gone.remove(&self.topic("state"));
        if self.in_use.is_some() {
            for command in Command::ALL {
                gone.remove(&self.topic(command.level()));
            }
        }
        gone.remove(&self.availability());
        gone.retain(|topic| !self.zones.have(topic));
        for topic in &topics {
            let snapshot = format!("{topic}/snapshot");
            // Of a word that is still there, in a picture that is as true as it was.
            if self.settings.snapshots && gone.remove(&snapshot) {
                self.shown.insert(snapshot);
            }
        }
        self.snapshots.retain(|(topic, _)| self.shown.contains(topic));
        let configured: Vec<(String, Vec<u8>)> = self.configurations();
        for (topic, configuration) in configured {
            gone.remove(&topic);
            self.keep(Kind::Configuration, topic, configuration);
        }
        for (place, topic) in topics.into_iter().enumerate() {
            let had = gone.remove(&topic);
            if had || place < MOST_ZEROS {
                self.keep(Kind::Count, topic, b"0".to_vec());
            }
        }
        for topic in gone {
            self.forget(topic);
        }
        self.has_new_topics = true;
    }

    fn configurations(&self) -> Vec<(String, Vec<u8>)> {
        let Some(discovery) = &self.settings.discovery else { return Vec::new() };
        let words = self.levels.iter().enumerate().take(MOST_WORDS);
        let of_words =
            words.flat_map(|(place, level)| discovery.configurations(self.words.get(place), level));
        of_words.chain(discovery.text_field()).collect()
    }

    /// Has the broker keep nothing there any more.
    fn forget(&mut self, topic: String) {
        self.kept.retain(|kept, _| kept.topic != topic);
        self.due.retain(|kept| kept.topic != topic);
        self.keep(Kind::Gone, topic, Vec::new());
    }

    fn count(&mut self, word: usize, change: i32) {
        let (Some(count), Some(level)) = (self.counts.get_mut(word), self.levels.get(word)) else { return };
        *count = count.saturating_add_signed(change);
        let (payload, topic) = (count.to_string().into_bytes(), self.topic(level));
        self.keep(Kind::Count, topic, payload);
    }

    /// Has the broker keep something, if it doesn't yet.
    fn keep(&mut self, kind: Kind, topic: String, payload: Vec<u8>) {
        if kind != Kind::Gone {
            let gone = Kept { kind: Kind::Gone, topic: topic.clone() };
            self.due.remove(&gone);
            self.kept.remove(&gone);
        }
        let kept = Kept { kind, topic };
        if self.kept.get(&kept) != Some(&payload) {
            self.has_new_topics |= self.kept.insert(kept.clone(), payload).is_none();
            self.due.insert(kept);
        }
    }

    /// What is to be told next, if anything is that may go now.
    pub(super) fn next(&mut self) -> Option<Publication> {
        // Who is there comes first, and what happens waits for no count.
        let is_first = self.due.first().is_some_and(|kept| kept.kind == Kind::Availability);
        if !is_first && let Some(event) = self.next_event() {
            return Some(event);
        }
        if let Some(kept) = self.due.pop_first() {
            let payload = self.kept.get(&kept).cloned().unwrap_or_default();
            let topic = kept.topic.clone();
            return Some(Publication {
                what: What::Kept(kept),
                topic,
                payload,
                is_kept: true,
                is_acknowledged: true,
            });
        }
        if let Some((topic, picture)) = self.snapshots.pop_front() {
            let payload = picture.jpeg.clone();
            let what = What::Snapshot(topic.clone(), picture);
            return Some(Publication { what, topic, payload, is_kept: true, is_acknowledged: true });
        }
        let payload = self.frames.pop_front()?;
        let topic = self.topic("frames");
        Some(Publication { what: What::Frame, topic, payload, is_kept: false, is_acknowledged: false })
    }

    fn next_event(&mut self) -> Option<Publication> {
        if self.is_event_under_way {
            return None;
        }
        let payload = serde_json::to_vec(&json::event(self.events.front()?)).ok()?;
        self.is_event_under_way = true;
        let topic = self.topic("events");
        Some(Publication { what: What::Event, topic, payload, is_kept: false, is_acknowledged: true })
    }

    /// A publication has arrived; returns how many messages of the stream did with it.
    pub(super) fn arrived(&mut self, what: What) -> u64 {
        match what {
            What::Event => {
                self.events.pop_front();
                self.is_event_under_way = false;
                1
            }
            What::Kept(kept) => {
                // What is gone need not be told again.
                if !self.due.contains(&kept) && self.kept.get(&kept).is_some_and(Vec::is_empty) {
                    self.kept.remove(&kept);
                    self.has_new_topics = true;
                }
                0
            }
            What::Snapshot(..) | What::Frame => 1,
        }
    }

    /// The broker is there, and may have forgotten everything.
    pub(super) fn connected(&mut self) {
        self.is_connected = true;
        self.due.extend(self.kept.keys().cloned());
    }

    /// The broker is away; these publications may not have arrived.
    pub(super) fn disconnected(&mut self, under_way: impl DoubleEndedIterator<Item = What>) {
        self.is_connected = false;
        self.is_event_under_way = false;
        self.lost += self.frames.len() as u64;
        self.frames.clear();
        for what in under_way.rev() {
            match what {
                What::Snapshot(topic, picture) => {
                    let is_old = self.snapshots.iter().any(|(other, _)| *other == topic);
                    if !is_old && self.shown.contains(&topic) && self.snapshots.len() < MOST_SNAPSHOTS {
                        self.snapshots.push_front((topic, picture));
                    }
                }
                What::Frame => self.lost += 1,
                // They are still where they were.
                What::Kept(_) | What::Event => {}
            }
        }
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.events.is_empty() && self.snapshots.is_empty() && self.frames.is_empty()
    }

    /// How many messages of the stream wait.
    pub(super) fn waiting(&self) -> usize {
        self.events.len() + self.snapshots.len() + self.frames.len()
    }

    /// How many messages of the stream were lost since this was asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The topics that the broker keeps something of, if they are others than when this was asked. As long as it isn't known
    /// which words there are, they are those of the earlier run.
    pub(super) fn take_new_topics(&mut self) -> Option<BTreeSet<String>> {
        if self.words.len() == 0 || !std::mem::take(&mut self.has_new_topics) {
            return None;
        }
        let kept = self.kept.keys().map(|kept| kept.topic.clone());
        Some(kept.chain(self.shown.iter().cloned()).collect())
    }
}

#[cfg(test)]
mod tests;
