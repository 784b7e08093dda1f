//! Finding out what is to be another, and making it.
//!
//! In flow SIGHUP and files that have changed; out flow other words, between two frames, and [`Change`]s of all else, for
//! which the stream pauses. What is loaded is taken over whole or not at all: what can't be read, opened or made to meet
//! the rest is refused, with the reason in the log, in the health and in systemd's status, and what was before goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use wordsight_engines::{Engine, StudentFacts};

use super::last_good::LastGood;
use super::stamp::Watched;
use super::systemd::Systemd;
use super::wanted::append_to_output;
use super::{Loaded, Service, SourceWanted, Start, Wanted, of_usage, open_health};
use crate::capture::Source;
use crate::governor::Governing;
use crate::health::{Health, HealthFile};
use crate::locks::locked;
use crate::pipeline::{Control, Stop};
use crate::publish::{Output, SaveSettings};
use crate::scoring::Scoring;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_millis(200);
/// From one look at a signal to the next.
const SIGNAL_LOOK: Duration = Duration::from_millis(50);

/// What has run for so many frames works: more than may be under way from before.
const FRAMES_OF_PROOF: u64 = 20;

/// Parts to be exchanged while the stream pauses.
pub struct Change {
    pub engine: Option<Box<dyn Engine>>,
    pub scoring: Option<Scoring>,
    /// The new one, and the one that is there.
    pub source: Option<(NewSource, SourceWanted)>,
    pub json: Option<Option<Output>>,
    pub save: Option<Option<SaveSettings>>,
}

/// A change that waits to be taken, and where it is told what became of it.
pub type Waiting = Mutex<Option<(Change, Done)>>;

/// A source to come.
pub struct NewSource {
    pub wanted: SourceWanted,
    /// A file, which can be open beside another. A live one is opened when the old one is closed.
    pub opened: Option<Box<dyn Source>>,
}

/// Where it is told what became of a change.
pub struct Done(mpsc::Sender<anyhow::Result<()>>);

impl Done {
    pub fn tell(self, outcome: anyhow::Result<()>) {
        // Whoever waits may have gone: the stream ends.
        drop(self.0.send(outcome));
    }
}

/// What the threads of a service share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub control: &'a Control,
    pub health: &'a Health,
    pub changes: &'a Waiting,
    pub is_over: &'a AtomicBool,
    pub governing: &'a Governing,
}

/// What looks after changes.
pub struct Reloader<'a> {
    service: &'a Service<'a>,
    shared: Shared<'a>,
    systemd: Systemd,
    last_good: LastGood,
    /// Requested when the service is stopped, and when its stream is over.
    stop: Stop,
    in_use: InUse,
    health_file: Option<HealthFile>,
    seen: Seen,
    /// What is in use is kept when so many frames are out.
    keep_at: Option<u64>,
    /// Whether something else is in use than what is configured.
    is_refused: bool,
}

/// What the stream is made of.
struct InUse {
    wanted: Wanted,
    configuration: Option<String>,
    /// As it was when it was read; none where it isn't what is configured.
    vocabulary: Option<Watched>,
    student: Watched,
    facts: StudentFacts,
    /// Whether the engine ranks words itself.
    ranks: bool,
}

/// The files as they were when they were last about to be read, whatever came of that.
struct Seen {
    configuration: Option<Watched>,
    vocabulary: Watched,
    student: Watched,
}

impl Seen {
    /// Whether one has changed that is looked at. A student is large and takes long to be written: it is waited for only
    /// where it may be what lacks.
    fn has_changed(&mut self, also_student: bool) -> bool {
        let configuration = self.configuration.as_mut().is_some_and(Watched::has_changed);
        let vocabulary = self.vocabulary.has_changed();
        (also_student && self.student.has_changed()) || vocabulary || configuration
    }
}

/// What a reload came to.
enum Outcome {
    Taken,
    Same,
}

impl<'a> Reloader<'a> {
    pub fn new(
        service: &'a Service<'a>,
        start: &mut Start,
        configuration: Option<Watched>,
        health_file: Option<HealthFile>,
        shared: Shared<'a>,
        (systemd, last_good, stop): (Systemd, LastGood, Stop),
    ) -> Self {
        let Loaded { wanted, text, vocabulary, student } = &start.loaded;
        let engine = &mut start.pipeline.engine;
        let is_refused = start.is_refused;
        let in_use = InUse {
            wanted: wanted.clone(),
            configuration: text.clone(),
            vocabulary: (!start.has_kept_words).then(|| vocabulary.clone()),
            student: student.clone(),
            facts: engine.facts().clone(),
            ranks: engine.whole_frames().is_some(),
        };
        let seen = Seen { configuration, vocabulary: vocabulary.clone(), student: student.clone() };
        let keep_at = (!is_refused).then_some(FRAMES_OF_PROOF);
        Self { service, shared, systemd, last_good, stop, in_use, health_file, seen, keep_at, is_refused }
    }

    /// Looks until the stream is over.
    pub fn run(mut self, asked: &AtomicBool) {
        let mut looked = Instant::now();
        while !self.shared.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(SIGNAL_LOOK);
            let is_asked = asked.swap(false, Ordering::Relaxed);
            let has_changed = looked.elapsed() >= LOOK && {
                looked = Instant::now();
                self.shared.control.clear_grave();
                self.seen.has_changed(self.is_refused)
            };
            if is_asked || has_changed {
                self.reload();
            }
            if let Some(reason) = self.shared.control.take_refusal() {
                self.in_use.vocabulary = None;
                self.refuse(&reason);
            }
            self.keep();
        }
    }

    /// Keeps what is in use, when enough frames have been through it.
    fn keep(&mut self) {
        let published = self.shared.health.report().published;
        if self.keep_at.is_some_and(|at| published >= at) {
            self.keep_at = None;
            self.last_good.keep(self.in_use.configuration.as_deref(), self.in_use.vocabulary.as_ref());
        }
    }

    fn refuse(&mut self, reason: &str) {
        tracing::error!("what has changed is not used, and what was before goes on: {reason}");
        self.shared.health.reload_refused(reason);
        self.is_refused = true;
        self.keep_at = None;
    }

    /// Loads everything again.
    fn reload(&mut self) {
        self.systemd.reloading();
        match self.try_reload() {
            Ok(outcome) => {
                let health = self.shared.health;
                if let Outcome::Taken = outcome {
                    health.reloaded();
                    self.keep_at = Some(health.report().published + FRAMES_OF_PROOF);
                } else {
                    tracing::info!("loaded the configuration again: it is as it was");
                    health.unchanged();
                }
                self.is_refused = false;
            }
            Err(_) if self.stop.is_requested() => {}
            Err(reason) => self.refuse(&format!("{reason:#}")),
        }
        self.systemd.ready();
    }

    fn try_reload(&mut self) -> anyhow::Result<Outcome> {
        // All before they are read: what is written meanwhile is read again.
        if let Some(configuration) = &mut self.seen.configuration {
            *configuration = Watched::new(configuration.path());
        }
        self.seen.vocabulary = Watched::new(self.seen.vocabulary.path());
        let loaded = self.service.load_files(None)?;
        (self.seen.vocabulary, self.seen.student) = (loaded.vocabulary.clone(), loaded.student.clone());
        let new_vocabulary = self.in_use.vocabulary.as_ref() != Some(&loaded.vocabulary);
        let new_student = self.in_use.student != loaded.student;
        if loaded.wanted == self.in_use.wanted && !new_vocabulary && !new_student {
            return Ok(Outcome::Same);
        }
        self.take_over(loaded, new_vocabulary, new_student)?;
        Ok(Outcome::Taken)
    }

    /// Makes what is another, and has the stream take it.
    fn take_over(&mut self, loaded: Loaded, new_vocabulary: bool, new_student: bool) -> anyhow::Result<()> {
        let (wanted, in_use, systemd) = (&loaded.wanted, &self.in_use, &self.systemd);
        let mut engine = if new_student || wanted.engine != in_use.wanted.engine {
            Some(wanted.engine.open(&self.stop, &|| systemd.is_getting_on())?)
        } else {
            None
        };
        let facts = engine.as_ref().map_or(&in_use.facts, |engine| engine.facts()).clone();
        let scoring = (engine.is_some() || new_vocabulary || wanted.words != in_use.wanted.words)
            .then(|| wanted.words.open(&facts))
            .transpose()?;
        let words = scoring.as_ref().map(|scoring| scoring.words().len());
        let source = (wanted.source != in_use.wanted.source)
            .then(|| self.new_source(&wanted.source))
            .transpose()?
            .map(|new| (new, in_use.wanted.source.clone()));
        // Nothing that is there is lost by it, should the rest be refused.
        let json = (wanted.json != in_use.wanted.json)
            .then(|| wanted.json.as_deref().map(append_to_output).transpose())
            .transpose()?;
        let save = (wanted.save != in_use.wanted.save).then(|| wanted.save.clone());
        let health_file = (wanted.health != in_use.wanted.health)
            .then(|| wanted.health.as_deref().map(|path| open_health(self.shared.health, path)).transpose())
            .transpose()?;

        let ranks = engine.as_mut().map_or(in_use.ranks, |engine| engine.whole_frames().is_some());
        let is_live_change = engine.is_none() && source.is_none() && json.is_none() && save.is_none();
        match scoring {
            Some(scoring) if is_live_change => self.shared.control.swap_words(scoring, ranks),
            None if is_live_change => {}
            scoring => {
                let (done, outcome) = mpsc::channel();
                let change = Change { engine, scoring, source, json, save };
                self.pause_for((change, Done(done)), &outcome)?;
            }
        }
        self.shared.governing.set(wanted.governor);
        if let Some(words) = words {
            self.shared.health.of_vocabulary(&wanted.words.vocabulary, words);
        }
        if let Some(file) = health_file {
            self.health_file = file;
        }
        tracing::info!("what has changed is used from now on");
        let Loaded { wanted, text, vocabulary, student } = loaded;
        self.in_use =
            InUse { wanted, configuration: text, vocabulary: Some(vocabulary), student, facts, ranks };
        Ok(())
    }

    fn new_source(&self, wanted: &SourceWanted) -> anyhow::Result<NewSource> {
        let opened = if wanted.uri.is_live() {
            None
        } else {
            Some(wanted.open(self.shared.health, &self.stop).map_err(of_usage)?)
        };
        Ok(NewSource { wanted: wanted.clone(), opened })
    }

    /// Has the stream pause and take a change, and waits until it has.
    fn pause_for(
        &self,
        change: (Change, Done),
        outcome: &mpsc::Receiver<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        *locked(self.shared.changes) = Some(change);
        self.shared.control.pause();
        loop {
            match outcome.recv_timeout(SIGNAL_LOOK) {
                Ok(outcome) => return outcome,
                Err(mpsc::RecvTimeoutError::Timeout) if !self.shared.is_over.load(Ordering::Relaxed) => {}
                Err(_) => anyhow::bail!("the stream has ended meanwhile"),
            }
        }
    }
}
