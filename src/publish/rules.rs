//! Annotated pictures on disk by rules: when something appears, or every so often while it is there.
//!
//! Writes pictures that were drawn ([`pictures`](super::pictures)) into JPEG files named by time and word, and beside
//! each, if wanted, the frame's line of JSON. What is old or too much is removed ([`retention`](super::retention)).
//!
//! A rule is evaluated twice: on the stream's thread to choose frames, without allocating, and on its own thread for
//! the word in the file's name, so that the word needn't be carried along.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::error::PublishError;
use super::json;
use super::message::{Message, Picture, Record};
use super::retention::{Kept, RetentionSettings, day_and_time};
use super::sink::{Chooser, Inbox, Interests, Sink};
use crate::files::{Durability, replace};
use crate::job::{Event, EventKind};
use crate::settings::{Fraction, Seconds, SettingError};

/// From one picture of a rule to the next, where the rule doesn't say.
const USUAL_PERIOD: Duration = Duration::from_secs(1);
/// How much of a rule's pictures stays, where the rule doesn't say: a disk is not to be full one day.
const USUAL_MIB: u32 = 1000;
/// The longest part of a file's name that is a word's, bytes.
const LONGEST_WORD: usize = 60;
/// How often it is looked for what is too old while no picture comes.
const LOOKED_AFTER: Duration = Duration::from_secs(3600);

/// One `[[pictures]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicturesKeys {
    folder: PathBuf,
    #[serde(default)]
    words: Vec<String>,
    min_score: Option<Fraction>,
    on: Option<Occasion>,
    #[serde(default)]
    zones: Vec<String>,
    every_s: Option<Seconds>,
    keep_days: Option<u32>,
    keep_mib: Option<u32>,
    json: Option<bool>,
    /// Of which cameras, where there are several; without it, of all.
    pub cameras: Option<Vec<String>>,
}

/// When a picture is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A thing has appeared.
    #[default]
    Appear,
    /// A thing has entered a zone.
    Enter,
    /// A thing has been in a zone for as long as the zone says.
    Dwell,
    /// A thing has crossed a line.
    Cross,
    /// A thing is in the frame.
    Every,
}

/// What a rule is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSettings {
    /// The folder; it is made if it isn't there.
    pub folder: PathBuf,
    /// What is matched.
    rule: Rule,
    /// From one picture to the next at least.
    period: Duration,
    /// What stays.
    retention: RetentionSettings,
    /// Whether the frame's line is written beside the picture.
    json: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    /// Empty: all.
    words: Vec<String>,
    min_score: f32,
    on: Occasion,
    /// Zones and lines, by their names; empty: all.
    zones: Vec<String>,
}

impl Occasion {
    /// The event that it is; none where no event is needed.
    fn event(self) -> Option<EventKind> {
        match self {
            Self::Appear => Some(EventKind::Appeared),
            Self::Enter => Some(EventKind::Entered),
            Self::Dwell => Some(EventKind::Dwelled),
            Self::Cross => Some(EventKind::Crossed),
            Self::Every => None,
        }
    }
}

impl PicturesKeys {
    /// Resolves all rules of a configuration, whose paths are relative to `folder`.
    ///
    /// # Errors
    /// When two share a folder: each removes what is old in its own.
    pub fn resolve_all(rules: &[Self], folder: &Path) -> Result<Vec<RuleSettings>, SettingError> {
        let mut seen = HashMap::new();
        let settings = rules.iter().enumerate().map(|(place, rule)| {
            let settings = rule.resolve(folder)?;
            match seen.insert(settings.folder.clone(), place + 1) {
                None => Ok(settings),
                Some(other) => Err(wrong(format!(
                    "the rules {other} and {} both write to {}: give each a folder of its own, since each removes what is \
                     old in it",
                    place + 1,
                    settings.folder.display()
                ))),
            }
        });
        settings.collect()
    }

    fn resolve(&self, folder: &Path) -> Result<RuleSettings, SettingError> {
        if self.folder.as_os_str().is_empty() {
            return Err(wrong("folder is empty: name the folder that the pictures go to".to_owned()));
        }
        if self.words.iter().any(|word| word.trim().is_empty()) {
            return Err(wrong("one of the words is empty: leave `words` out for all words".to_owned()));
        }
        let on = self.on.unwrap_or_default();
        if !self.zones.is_empty() && matches!(on, Occasion::Appear | Occasion::Every) {
            return Err(wrong("`zones` takes on = \"enter\", \"dwell\" or \"cross\"".to_owned()));
        }
        Ok(RuleSettings {
            folder: folder.join(&self.folder),
            rule: Rule {
                words: self.words.clone(),
                min_score: self.min_score.map_or(0.0, |Fraction(score)| score),
                on,
                zones: self.zones.clone(),
            },
            period: self.every_s.map_or(USUAL_PERIOD, |Seconds(period)| period),
            retention: RetentionSettings {
                days: self.keep_days.unwrap_or(0),
                bytes: u64::from(self.keep_mib.unwrap_or(USUAL_MIB)) << 20,
            },
            json: self.json.unwrap_or(false),
        })
    }
}

fn wrong(reason: String) -> SettingError {
    SettingError { section: "[pictures]", reason }
}

impl RuleSettings {
    /// The same for one of several cameras, which has a folder in it.
    pub fn of_camera(self, camera: &str) -> Self {
        Self { folder: self.folder.join(camera), ..self }
    }

    /// The words that it is about; none: all.
    pub fn words(&self) -> &[String] {
        &self.rule.words
    }

    /// The zones and lines that it is about; none: all.
    pub fn zones(&self) -> &[String] {
        &self.rule.zones
    }

    /// Makes the output.
    pub fn open(&self) -> Box<dyn Sink> {
        Box::new(RuleSink { settings: self.clone() })
    }
}

impl Rule {
    fn names(&self, word: &str, score: f32) -> bool {
        score >= self.min_score && (self.words.is_empty() || self.words.iter().any(|wanted| wanted == word))
    }

    fn is_at(&self, event: &Event) -> bool {
        self.zones.is_empty() || self.zones.iter().any(|zone| event.spot() == Some(zone))
    }

    /// What of a frame the rule is about: its word, and the number of its track.
    fn matched<'a>(&self, record: &'a Record, events: &'a [Arc<Event>]) -> Option<(&'a str, Option<u64>)> {
        match self.on.event() {
            Some(kind) => {
                let mut of_kind = events.iter().filter(|event| event.kind == kind && self.is_at(event));
                let event = of_kind.find(|event| self.names(event.word(), event.score))?;
                Some((event.word(), Some(event.track)))
            }
            None => record.detections.iter().find_map(|found| {
                let (word, score) = found.shown();
                let word = record.words.get(word);
                self.names(word, score).then(|| (word, found.track.map(|track| track.id)))
            }),
        }
    }
}

/// Chooses what matches, and no more than so often.
struct RuleChooser {
    rule: Rule,
    period_ns: u64,
    last_ns: Option<u64>,
}

impl Chooser for RuleChooser {
    fn wants(&mut self, record: &Record, events: &[Arc<Event>]) -> bool {
        let now = record.timestamp_ns;
        // A clock that was put back is no reason to wait for it.
        let is_early = self.last_ns.is_some_and(|last| now >= last && now - last < self.period_ns);
        if is_early || self.rule.matched(record, events).is_none() {
            return false;
        }
        self.last_ns = Some(now);
        true
    }
}

struct RuleSink {
    settings: RuleSettings,
}

impl Sink for RuleSink {
    fn name(&self) -> String {
        self.settings.folder.display().to_string()
    }

    fn interests(&mut self) -> Interests {
        let period_ns = u64::try_from(self.settings.period.as_nanos()).unwrap_or(u64::MAX);
        let chooser = RuleChooser { rule: self.settings.rule.clone(), period_ns, last_ns: None };
        Interests { pictures: Some(Box::new(chooser)), ..Interests::default() }
    }

    fn queue_size(&self) -> usize {
        8
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let RuleSettings { folder, rule, retention, json, .. } = self.settings;
        let mut album = Album { kept: Kept::new(folder.clone(), retention), folder, rule, json };
        // The folder is made with the first picture: whether the stream outlives what fails is not known before it begins.
        album.remove_old(inbox);
        loop {
            let Some(message) = inbox.next_within(LOOKED_AFTER) else {
                if inbox.is_closing() {
                    return Ok(());
                }
                album.remove_old(inbox);
                continue;
            };
            let Message::Picture(picture) = message else { continue };
            match album.add(&picture) {
                Ok(()) => {
                    inbox.sent(1);
                    inbox.recovered();
                    album.remove_old(inbox);
                }
                Err(error) => {
                    inbox.lost(1);
                    settled(Err(error), inbox)?;
                }
            }
        }
    }
}

/// What fails ends a stream that can wait for its pictures; another is worth more than they are.
fn settled(outcome: Result<(), PublishError>, inbox: &Inbox) -> Result<(), PublishError> {
    match outcome {
        Err(error) if inbox.outlives_failures() => {
            inbox.failed(&error.to_string());
            Ok(())
        }
        outcome => outcome,
    }
}

/// A rule's folder.
struct Album {
    folder: PathBuf,
    rule: Rule,
    json: bool,
    kept: Kept,
}

impl Album {
    /// Writes a picture, and its line before it: who sees the picture finds both.
    fn add(&mut self, picture: &Picture) -> Result<(), PublishError> {
        let (day, stem) = self.name_for(picture);
        let day_folder = self.folder.join(&day);
        let path = day_folder.join(format!("{stem}.jpg"));
        let mut written = fs::create_dir_all(&day_folder);
        let mut bytes = picture.jpeg.len();
        // A power cut is to leave no picture that is empty.
        let write = |path: &Path, bytes: &[u8]| replace(path, Durability::Whole, bytes);
        if self.json && written.is_ok() {
            let line = json_line(picture);
            bytes += line.as_ref().map_or(0, Vec::len);
            written = line.and_then(|line| write(&day_folder.join(format!("{stem}.json")), &line));
        }
        written.and_then(|()| write(&path, &picture.jpeg)).map_err(|reason| {
            // A line without its picture is of no use.
            drop(fs::remove_file(path.with_file_name(format!("{stem}.json"))));
            PublishError::UnwritablePicture { path, reason: reason.to_string() }
        })?;
        self.kept.add(&day, &stem, bytes as u64);
        Ok(())
    }

    /// The day's folder and the name without its ending, which no file has yet.
    fn name_for(&self, picture: &Picture) -> (String, String) {
        let record = &picture.record;
        let (word, track) = self.rule.matched(record, &picture.events).unwrap_or(("thing", None));
        let (day, time) = day_and_time(record.timestamp_ns);
        let track = track.map_or_else(String::new, |track| format!("-{track}"));
        let stem = format!("{time}-{}{track}", in_a_name(word));
        let is_taken = |stem: &String| self.folder.join(&day).join(format!("{stem}.jpg")).exists();
        let free = std::iter::once(stem.clone())
            .chain((2..).map(|copy| format!("{stem}-{copy}")))
            .find(|stem| !is_taken(stem));
        (day, free.unwrap_or(stem))
    }

    fn remove_old(&mut self, inbox: &Inbox) {
        if let Err(reason) = self.kept.remove_old() {
            inbox.failed(&reason);
        }
    }
}

fn json_line(picture: &Picture) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&json::line(&picture.record))?;
    line.push(b'\n');
    Ok(line)
}

/// A word as a part of a file's name: letters and digits, whatever it is written in, and "-" between.
fn in_a_name(word: &str) -> String {
    let mut name = String::new();
    for character in word.chars() {
        let character = if character.is_alphanumeric() { character } else { '-' };
        if name.len() + character.len_utf8() > LONGEST_WORD {
            break;
        }
        if character != '-' || !name.ends_with('-') {
            name.push(character);
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() { "thing".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::allocations;
    use crate::job::{Detection, Tracked, WordList};

    fn rule(text: &str) -> Result<RuleSettings, SettingError> {
        let keys: PicturesKeys = toml::from_str(&format!("folder = \"found\"\n{text}")).unwrap();
        keys.resolve(Path::new("/var"))
    }

    fn chooser(text: &str) -> Box<dyn Chooser> {
        RuleSink { settings: rule(text).unwrap() }.interests().pictures.unwrap()
    }

    fn words() -> WordList {
        ["cat", "dog"].map(str::to_owned).into_iter().collect()
    }

    /// A frame with a cat, and less surely a dog.
    fn record(at_ms: u64) -> Record {
        let track = Some(Tracked { id: 7, word: 0, score: 0.8 });
        let cat =
            Detection { word: 0, score: 0.8, objectness: 1.0, box_in_frame: [0.0; 4], is_weak: false, track };
        let dog = Detection { word: 1, score: 0.4, track: None, ..cat.clone() };
        Record {
            timestamp_ns: at_ms * 1_000_000,
            detections: vec![cat, dog],
            words: words(),
            ..Record::default()
        }
    }

    fn event(kind: EventKind, word: usize, score: f32) -> Arc<Event> {
        Arc::new(Event::made_up(kind, 7, words(), word, score))
    }

    #[test]
    fn what_appears_is_chosen_by_its_word_and_score_and_what_leaves_is_not() {
        let mut chooser = chooser("words = [\"cat\"]\nmin_score = 0.5\nevery_s = 0");
        for (kind, word, score, expected) in [
            (EventKind::Appeared, 0, 0.6, true),
            (EventKind::Appeared, 0, 0.4, false),
            (EventKind::Appeared, 1, 0.6, false),
            (EventKind::Left, 0, 0.6, false),
        ] {
            let events = [event(kind, word, score)];
            assert_eq!(chooser.wants(&record(0), &events), expected, "{kind:?} {word} {score}");
        }
        assert!(!chooser.wants(&record(0), &[]), "it is there, but it was before");
    }

    #[test]
    fn what_enters_a_zone_is_chosen_by_the_zone_and_what_crosses_by_the_line() {
        let at = |kind, name: &str| {
            Arc::new(Event::made_up(kind, 7, words(), 0, 0.9).at_zone(name, Duration::ZERO))
        };
        let cases = [
            ("on = \"enter\"", at(EventKind::Entered, "yard"), true),
            ("on = \"enter\"", at(EventKind::Dwelled, "yard"), false),
            ("on = \"enter\"\nzones = [\"street\"]", at(EventKind::Entered, "yard"), false),
            ("on = \"dwell\"\nzones = [\"street\", \"yard\"]", at(EventKind::Dwelled, "yard"), true),
            (
                "on = \"cross\"",
                Arc::new(Event::made_up(EventKind::Crossed, 7, words(), 0, 0.9).at_line("gate", "in")),
                true,
            ),
            ("on = \"appear\"", at(EventKind::Entered, "yard"), false),
        ];
        for (text, event, expected) in cases {
            assert_eq!(chooser(text).wants(&record(0), &[event]), expected, "{text}");
        }
        let error = rule("zones = [\"yard\"]").unwrap_err().to_string();
        assert!(error.contains("`zones` takes on ="), "{error}");
    }

    #[test]
    fn every_frame_with_a_match_is_chosen_but_no_more_often_than_said_and_a_clock_put_back_is_no_reason_to_wait()
     {
        let mut of_dogs = chooser("on = \"every\"\nwords = [\"dog\"]\nevery_s = 2");
        let chosen = [0, 1000, 1999, 2000, 3000, 4100, 10, 20].map(|at| of_dogs.wants(&record(at), &[]));
        assert_eq!(chosen, [true, false, false, true, false, true, true, false]);
        assert!(!chooser("on = \"every\"\nwords = [\"dog\"]\nmin_score = 0.5").wants(&record(0), &[]));
        assert!(chooser("on = \"every\"").wants(&record(0), &[]), "no words: all");
    }

    #[test]
    fn choosing_allocates_nothing() {
        let mut chooser = chooser("on = \"every\"\nwords = [\"cow\", \"dog\"]\nevery_s = 0");
        let (record, events) = (record(0), [event(EventKind::Appeared, 0, 0.5)]);
        let before = allocations::on_this_thread();
        assert!(chooser.wants(&record, &events));
        assert_eq!(allocations::on_this_thread(), before);
    }

    #[test]
    fn a_picture_is_named_by_its_time_in_utc_its_word_and_its_track() {
        let folder = tempfile::tempdir().unwrap();
        let RuleSettings { rule, retention, .. } = rule("on = \"every\"").unwrap();
        let kept = Kept::new(folder.path().to_owned(), retention);
        let mut album = Album { folder: folder.path().to_owned(), rule, json: true, kept };
        let picture = Picture {
            jpeg: b"a picture".to_vec(),
            pixels: None,
            record: Arc::new(Record { timestamp_ns: 1_795_788_202_123_999_999, ..record(0) }),
            events: Vec::new(),
        };
        album.add(&picture).unwrap();
        album.add(&picture).unwrap();
        let day = folder.path().join("2026-11-27");
        let mut names: Vec<String> = fs::read_dir(&day)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (first, second) = ("14-03-22.123-cat-7", "14-03-22.123-cat-7-2");
        let expected = [second, first].map(|stem| [format!("{stem}.jpg"), format!("{stem}.json")]);
        let mut expected = expected.concat();
        expected.sort();
        assert_eq!(names, expected);
        let line: serde_json::Value =
            serde_json::from_slice(&fs::read(day.join(format!("{first}.json"))).unwrap()).unwrap();
        assert_eq!(line["detections"][0]["word"], "cat");
    }

    #[test]
    fn a_word_is_a_name_whatever_it_is_written_in() {
        let long = "é".repeat(99);
        let names = [
            ("cup of tea", "cup-of-tea"),
            ("../../etc", "etc"),
            ("猫!", "猫"),
            ("?", "thing"),
            ("a/.b", "a-b"),
        ];
        for (word, name) in names {
            assert_eq!(in_a_name(word), name);
        }
        assert_eq!(in_a_name(&long), "é".repeat(LONGEST_WORD / 2));
    }

    #[test]
    fn what_can_not_be_is_refused_in_words() {
        let of = |text: &str| {
            let keys: Vec<PicturesKeys> =
                toml::from_str::<HashMap<String, _>>(text).unwrap().remove("pictures").unwrap();
            PicturesKeys::resolve_all(&keys, Path::new("/var")).unwrap_err().to_string()
        };
        let cases = [
            (
                "[[pictures]]\nfolder = \"a\"\n[[pictures]]\nfolder = \"a\"",
                "the rules 1 and 2 both write to /var/a",
            ),
            ("[[pictures]]\nfolder = \"\"", "folder is empty"),
            ("[[pictures]]\nfolder = \"a\"\nwords = [\" \"]", "one of the words is empty"),
        ];
        for (text, expected) in cases {
            assert!(of(text).contains(expected), "{}", of(text));
        }
    }
}
