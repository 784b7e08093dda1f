//! Finding out what is to be another, and making it.
//!
//! In flow SIGHUP and files that have changed; out flow other words, between two frames, and [`Change`]s of all else, for
//! which the stream pauses. What is loaded is taken over whole or not at all: what can't be read, opened or made to meet
//! the rest is refused, with the reason in the log, in the health and in systemd's status, and what was before goes on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use wordsight_engines::{Engine, StudentFacts};

use super::last_good::LastGood;
use super::stamp::Watched;
use super::systemd::Systemd;
use super::{Service, SourceWanted, Wanted, of_usage, open_health, open_output};
use crate::capture::Source;
use crate::governor::Governing;
use crate::health::{Health, HealthFile};
use crate::pipeline::Control;
use crate::publish::{Output, SaveSettings};
use crate::scoring::Scoring;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_millis(200);
/// From one look at a signal to the next.
const SIGNAL_LOOK: Duration = Duration::from_millis(50);

/// Parts to be exchanged while the stream pauses.
pub struct Change {
    pub engine: Option<Box<dyn Engine>>,
    pub scoring: Option<Scoring>,
    /// The new one, and the one that is there.
    pub source: Option<(NewSource, SourceWanted)>,
    pub json: Option<Option<Output>>,
    pub save: Option<Option<SaveSettings>>,
    pub done: Done,
}

/// A source to come.
pub struct NewSource {
    pub wanted: SourceWanted,
    /// A file, which can be open beside another. A live one is opened when the old one is closed.
    pub opened: Option<Box<dyn Source>>,
}

/// Where it is told what became of a change.
pub struct Done(mpsc::Sender<anyhow::Result<()>>);

// Whoever waits may have gone: the stream ends.
impl Done {
    pub fn accept(self) {
        drop(self.0.send(Ok(())));
    }

    pub fn refuse(self, reason: anyhow::Error) {
        drop(self.0.send(Err(reason)));
    }
}

/// What the threads of a service share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub control: &'a Control,
    pub health: &'a Health,
    pub changes: &'a Mutex<Option<Change>>,
    pub is_over: &'a AtomicBool,
    pub governing: &'a Governing,
}

/// Nothing can panic while it holds this lock, so a poisoned one is still whole.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What looks after changes.
pub struct Reloader<'a> {
    service: &'a Service<'a>,
    shared: Shared<'a>,
    systemd: Systemd,
    last_good: LastGood,
    /// What the stream is made of.
    current: Wanted,
    health_file: Option<HealthFile>,
    student: StudentFacts,
    /// Whether the engine ranks words itself.
    ranks: bool,
    files: Files,
}

/// The files that a stream was made from.
struct Files {
    configuration: Option<Watched>,
    vocabulary: Watched,
    student: Watched,
}

impl Files {
    fn of(configuration: Option<&PathBuf>, wanted: &Wanted) -> Self {
        Self {
            configuration: configuration.map(|path| Watched::new(path)),
            vocabulary: Watched::new(&wanted.words.vocabulary),
            student: Watched::new(&wanted.engine.student),
        }
    }

    /// Whether one has changed that is looked at of its own accord. A student is large and takes long to be written.
    fn have_changed(&mut self) -> bool {
        let configuration = self.configuration.as_mut().is_some_and(Watched::has_changed);
        self.vocabulary.has_changed() || configuration
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
        current: Wanted,
        health_file: Option<HealthFile>,
        student: StudentFacts,
        ranks: bool,
        shared: Shared<'a>,
        (systemd, last_good): (Systemd, LastGood),
    ) -> Self {
        let files = Files::of(service.configuration.as_ref(), &current);
        Self { service, shared, systemd, last_good, current, health_file, student, ranks, files }
    }

    /// Looks until the stream is over. `is_good` says whether what it began with is what is configured.
    pub fn run(mut self, asked: &AtomicBool, mut is_good: bool) {
        let mut looked = Instant::now();
        while !self.shared.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(SIGNAL_LOOK);
            let is_asked = asked.swap(false, Ordering::Relaxed);
            let has_changed = looked.elapsed() >= LOOK && {
                looked = Instant::now();
                self.shared.control.clear_grave();
                self.files.have_changed()
            };
            if is_asked || has_changed {
                is_good = self.reload();
            }
            // What works is what a frame has been through.
            if is_good && self.shared.health.report().published > 0 {
                is_good = false;
                if !self.files.vocabulary.is_other() {
                    self.last_good.keep(self.service.configuration.as_deref(), self.files.vocabulary.path());
                }
            }
        }
    }

    /// Loads everything again; whether something else is used now.
    fn reload(&mut self) -> bool {
        self.systemd.reloading();
        let outcome = self.try_reload();
        let health = self.shared.health;
        let is_taken = match outcome {
            Ok(Outcome::Taken) => {
                health.reloaded();
                true
            }
            Ok(Outcome::Same) => {
                tracing::info!("loaded the configuration again: it is as it was");
                health.unchanged();
                false
            }
            Err(_) if self.service.stop.is_requested() => false,
            Err(reason) => {
                tracing::error!("what has changed is not used, and what was before goes on: {reason:#}");
                health.reload_refused(&format!("{reason:#}"));
                false
            }
        };
        self.systemd.ready();
        is_taken
    }

    fn try_reload(&mut self) -> anyhow::Result<Outcome> {
        // Before they are read: what is written meanwhile is read again.
        let is_vocabulary_other = self.files.vocabulary.is_other();
        let is_student_other = self.files.student.is_other();
        let loaded = (self.service.load)(None);
        let paths = loaded.as_ref().unwrap_or(&self.current);
        let files = Files::of(self.service.configuration.as_ref(), paths);
        let before = std::mem::replace(&mut self.files, files);
        // What is not taken over is not what the stream is made of: a later look compares with what is.
        self.files.student = before.student;
        let wanted = loaded?;
        if wanted == self.current && !is_vocabulary_other && !is_student_other {
            return Ok(Outcome::Same);
        }
        self.take_over(wanted, is_vocabulary_other, is_student_other)?;
        self.files.student = Watched::new(&self.current.engine.student);
        Ok(Outcome::Taken)
    }

    /// Makes what is another, and has the stream take it.
    fn take_over(&mut self, wanted: Wanted, new_vocabulary: bool, new_student: bool) -> anyhow::Result<()> {
        let (stop, systemd) = (&self.service.stop, &self.systemd);
        let mut engine = if new_student || wanted.engine != self.current.engine {
            Some(wanted.engine.open(stop, &|| systemd.is_getting_on())?)
        } else {
            None
        };
        let student = engine.as_ref().map_or(&self.student, |engine| engine.facts()).clone();
        let scoring = (engine.is_some() || new_vocabulary || wanted.words != self.current.words)
            .then(|| wanted.words.open(&student))
            .transpose()?;
        let words = scoring.as_ref().map(|scoring| scoring.words().len());
        let source = (wanted.source != self.current.source)
            .then(|| self.new_source(&wanted))
            .transpose()?
            .map(|new| (new, self.current.source.clone()));
        let json = (wanted.json != self.current.json)
            .then(|| wanted.json.as_deref().map(open_output).transpose())
            .transpose()?;
        let save = (wanted.save != self.current.save).then(|| wanted.save.clone());
        let health_file = (wanted.health != self.current.health)
            .then(|| wanted.health.as_deref().map(|path| open_health(self.shared.health, path)).transpose())
            .transpose()?;

        let ranks = engine.as_mut().map_or(self.ranks, |engine| engine.whole_frames().is_some());
        match scoring {
            Some(scoring) if engine.is_none() && source.is_none() && json.is_none() && save.is_none() => {
                self.shared.control.swap_words(scoring, ranks);
            }
            None if engine.is_none() && source.is_none() && json.is_none() && save.is_none() => {}
            scoring => {
                let (done, outcome) = mpsc::channel();
                self.pause_for(Change { engine, scoring, source, json, save, done: Done(done) }, &outcome)?;
            }
        }
        self.shared.governing.set(wanted.governor);
        let health = self.shared.health;
        if let Some(words) = words {
            health.of_vocabulary(&wanted.words.vocabulary, words);
        }
        health.of_source(wanted.source.uri.display());
        if let Some(file) = health_file {
            self.health_file = file;
        }
        tracing::info!("what has changed is used from now on");
        (self.current, self.student, self.ranks) = (wanted, student, ranks);
        Ok(())
    }

    fn new_source(&self, wanted: &Wanted) -> anyhow::Result<NewSource> {
        let wanted = wanted.source.clone();
        let opened = if wanted.uri.is_live() {
            None
        } else {
            Some(wanted.open(self.shared.health, &self.service.stop).map_err(of_usage)?)
        };
        Ok(NewSource { wanted, opened })
    }

    /// Has the stream pause and take a change, and waits until it has.
    fn pause_for(&self, change: Change, outcome: &mpsc::Receiver<anyhow::Result<()>>) -> anyhow::Result<()> {
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
