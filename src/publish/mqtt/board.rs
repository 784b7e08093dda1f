//! What the broker is to be told, whether or not it can be told now.
//!
//! In flow messages of the stream, out flow publications, each as soon as there is room for it on the way. What the broker
//! keeps (counts, configurations) is held here as it is to be: a broker that has forgotten it all is told it all again.
//! Events wait in order, and each leaves when the broker has acknowledged it.
//!
//! The one surprising thing: one event is under way at a time. Two might change places when a connection breaks between
//! them, and both might come twice; as it is, at most the one that was under way does, and by its `id` a reader knows it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::home_assistant::{Discovery, MOST_WORDS};
use super::topics;
use crate::job::{Event, EventKind, Words, run_id};
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

/// What a board is made from.
pub(super) struct BoardSettings {
    /// The stream's topic, below which all others are.
    pub base: String,
    pub frames: bool,
    pub snapshots: bool,
    pub discovery: Option<Discovery>,
    /// Topics that an earlier run had the broker keep.
    pub earlier: BTreeSet<String>,
}

/// All that there is to tell.
pub(super) struct Board {
    settings: BoardSettings,
    words: Words,
    levels: Vec<String>,
    counts: Vec<u32>,
    /// The tracks that are there, and the word of each.
    present: HashMap<u64, usize>,
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
}

/// How many frames there were since when.
struct Rate {
    since: Instant,
    frames: u32,
}

impl Board {
    pub(super) fn new(settings: BoardSettings) -> Self {
        let mut board = Self {
            settings,
            words: Words::default(),
            levels: Vec::new(),
            counts: Vec::new(),
            present: HashMap::new(),
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
        };
        board.set_availability("online");
        board
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
        let is_new = !record.words.are(&self.words);
        if is_new {
            self.set_words(&record.words);
        }
        if is_new || record.source != self.source {
            self.source = Arc::clone(&record.source);
            self.tell_state(None);
        }
        // A track may come to be called something else.
        for track in record.found.iter().filter_map(|found| found.track) {
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

    /// Another vocabulary holds: what the broker keeps of words that are no more goes.
    fn set_words(&mut self, words: &Words) {
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
        gone.remove(&self.availability());
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
        words.flat_map(|(place, level)| discovery.configurations(self.words.get(place), level)).collect()
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::{Found, Tracked};

    fn words_of(words: &[&str]) -> Words {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn board_with(discovery: bool, earlier: &[&str]) -> Board {
        let base = "wordsight/door".to_owned();
        let prefix = "homeassistant".to_owned();
        Board::new(BoardSettings {
            frames: false,
            snapshots: true,
            discovery: discovery.then(|| Discovery {
                prefix,
                stream: "door".to_owned(),
                base: base.clone(),
                has_snapshots: false,
            }),
            base,
            earlier: earlier.iter().map(|topic| (*topic).to_owned()).collect(),
        })
    }

    fn frame(words: &Words) -> Record {
        Record { words: words.clone(), source: "a.mjpeg".into(), ..Record::default() }
    }

    fn event(words: &Words, kind: EventKind, track: u64, word: usize) -> Arc<Event> {
        Arc::new(Event {
            kind,
            track,
            words: words.clone(),
            word,
            score: 0.9,
            best_score: 0.9,
            box_in_frame: [0.0; 4],
            frame_size: (64, 64),
            first_seen_ns: 0,
            last_seen_ns: 0,
            timestamp_ns: 0,
            frame: 0,
            source: "a.mjpeg".into(),
        })
    }

    fn picture(words: &Words, track: u64, word: usize) -> Message {
        let events = vec![event(words, EventKind::Appeared, track, word)];
        Message::Picture(Arc::new(Picture {
            jpeg: vec![track as u8],
            pixels: None,
            record: Arc::new(frame(words)),
            events,
        }))
    }

    fn take(board: &mut Board, message: Message) {
        board.take(&message, Instant::now());
    }

    /// All that there is to tell, as it arrives, one after the other.
    fn told(board: &mut Board) -> Vec<(String, String)> {
        let mut told = Vec::new();
        while let Some(publication) = board.next() {
            told.push((publication.topic, String::from_utf8_lossy(&publication.payload).into_owned()));
            board.arrived(publication.what);
        }
        told
    }

    fn of<'a>(told: &'a [(String, String)], topic: &str) -> Vec<&'a str> {
        told.iter().filter(|(of, _)| of == topic).map(|(_, payload)| payload.as_str()).collect()
    }

    #[test]
    fn counts_follow_what_appears_leaves_and_is_called_something_else() {
        let words = words_of(&["cat", "dog"]);
        let mut board = board_with(false, &[]);
        board.connected();
        take(&mut board, Message::Frame(Arc::new(frame(&words))));
        let first = told(&mut board);
        assert_eq!(first[0], ("wordsight/door/availability".to_owned(), "online".to_owned()));
        assert_eq!(of(&first, "wordsight/door/cat"), ["0"]);
        for track in [1, 2] {
            take(&mut board, Message::Event(event(&words, EventKind::Appeared, track, 0)));
        }
        let next = told(&mut board);
        assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec!["2"], vec![]));
        let track = Some(Tracked { id: 2, word: 1, score: 0.9 });
        let found = vec![Found { track, ..found() }];
        take(&mut board, Message::Frame(Arc::new(Record { found, ..frame(&words) })));
        let next = told(&mut board);
        assert_eq!(
            (of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")),
            (vec!["1"], vec!["1"])
        );
        // By whatever word it leaves.
        take(&mut board, Message::Event(event(&words, EventKind::Left, 2, 0)));
        let next = told(&mut board);
        assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec![], vec!["0"]));
    }

    fn found() -> Found {
        Found { word: 0, score: 0.9, objectness: 0.9, box_in_frame: [0.0; 4], is_weak: false, track: None }
    }

    #[test]
    fn events_go_one_at_a_time_in_order_and_again_when_a_connection_breaks() {
        let words = words_of(&["cat"]);
        let mut board = board_with(false, &[]);
        told(&mut board);
        for track in 1..=3 {
            board.take_event(&event(&words, EventKind::Appeared, track, 0));
        }
        let track = |publication: Publication| {
            let event: serde_json::Value = serde_json::from_slice(&publication.payload).unwrap();
            event["track"].as_u64().unwrap()
        };
        assert_eq!(board.next().map(track), Some(1));
        assert!(board.next().is_none(), "one is under way");
        board.arrived(What::Event);
        assert_eq!(board.next().map(track), Some(2));
        board.disconnected([What::Event].into_iter());
        board.connected();
        let events = told(&mut board);
        let events: Vec<_> =
            of(&events, "wordsight/door/events").iter().map(|event| event.contains("\"track\":2")).collect();
        assert_eq!(events, [true, false], "the second again, and then the third");
    }

    #[test]
    fn more_events_than_there_is_room_for_lose_the_oldest_but_not_the_one_under_way() {
        let words = words_of(&["cat"]);
        let mut board = board_with(false, &[]);
        told(&mut board);
        board.take_event(&event(&words, EventKind::Appeared, 1, 0));
        board.next().unwrap();
        for track in 2..=MOST_EVENTS as u64 + 5 {
            board.take_event(&event(&words, EventKind::Appeared, track, 0));
        }
        assert_eq!((board.waiting(), board.take_lost(), board.take_lost()), (MOST_EVENTS, 5, 0));
        let tracks: Vec<u64> = board.events.iter().take(3).map(|event| event.track).collect();
        assert_eq!(tracks, [1, 7, 8]);
    }

    #[test]
    fn a_broker_that_is_back_is_told_again_what_it_is_to_keep() {
        let words = words_of(&["cat"]);
        let mut board = board_with(true, &[]);
        take(&mut board, Message::Frame(Arc::new(frame(&words))));
        let first = told(&mut board);
        assert!(told(&mut board).is_empty());
        board.disconnected([].into_iter());
        board.connected();
        assert_eq!(told(&mut board), first);
    }

    #[test]
    fn what_was_kept_of_words_that_are_no_more_goes_also_from_an_earlier_run() {
        let config = "homeassistant/binary_sensor/wordsight_door/cat/config";
        let mut board = board_with(true, &["wordsight/door/bird", "wordsight/door/dog"]);
        take(&mut board, Message::Frame(Arc::new(frame(&words_of(&["cat", "dog"])))));
        let first = told(&mut board);
        assert_eq!(
            (of(&first, "wordsight/door/bird"), of(&first, "wordsight/door/dog")),
            (vec![""], vec!["0"])
        );
        assert!(of(&first, config)[0].contains("occupancy"));
        assert!(!board.take_new_topics().unwrap().contains("wordsight/door/bird"));
        take(&mut board, picture(&words_of(&["other"]), 1, 0));
        assert!(told(&mut board).is_empty(), "a picture of other words");
        let words = board.words.clone();
        take(&mut board, picture(&words, 1, 0));
        assert_eq!(of(&told(&mut board), "wordsight/door/cat/snapshot").len(), 1);
        take(&mut board, Message::Frame(Arc::new(frame(&words_of(&["dog"])))));
        let next = told(&mut board);
        for gone in [config, "wordsight/door/cat", "wordsight/door/cat/snapshot"] {
            assert_eq!(of(&next, gone), [""], "{gone}");
        }
        let topics = board.take_new_topics().unwrap();
        assert!(!topics.iter().any(|topic| topic.contains("cat")), "{topics:?}");
        // And they may come back.
        take(&mut board, Message::Frame(Arc::new(frame(&words_of(&["cat"])))));
        let next = told(&mut board);
        assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec!["0"], vec![""]));
    }

    #[test]
    fn the_newest_snapshot_of_a_word_waits_and_no_more_than_some() {
        let names: Vec<String> = (0..20).map(|number| format!("word{number}")).collect();
        let words = words_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut board = board_with(false, &[]);
        take(&mut board, Message::Frame(Arc::new(frame(&words))));
        told(&mut board);
        let words = board.words.clone();
        for track in 1..=3 {
            take(&mut board, picture(&words, track, 0));
        }
        let told = told(&mut board);
        assert_eq!(of(&told, "wordsight/door/word0/snapshot"), ["\u{3}"]);
        for word in 0..20 {
            take(&mut board, picture(&words, word as u64, word));
        }
        assert_eq!((board.snapshots.len(), board.take_lost()), (MOST_SNAPSHOTS, 4));
    }
}
