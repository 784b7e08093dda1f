//! The reloader: loads the configuration and vocabulary again, and exchanges what has changed.
//!
//! On SIGHUP, when a file has changed and when HTTP or MQTT asks for it, it swaps words between two frames, and gives a
//! [`Change`] of everything else, for which the stream pauses. A configuration is taken over whole or not at all: what
//! can't be read or opened, or doesn't fit the rest, is refused, with the reason in the log, in the health and in
//! systemd's status, and the stream goes on as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wordsight_detection::Vocabulary;
use wordsight_engines::{Engine, StudentFacts};

use super::change::{Change, Done, NewSource, Waiting};
use super::engines::Opened;
use super::file_watch::Watched;
use super::kept_choices::KeptChoices;
use super::last_good::{KeptWords, LastGood};
use super::overrides::{Configured, Overrides};
use super::photographs::PhotographTarget;
use super::start::{
    Loaded, Service, ServiceState, Start, open_health, sink_context, warn_of_undrawable_words,
    warn_of_unknown_names,
};
use super::systemd::Systemd;
use super::target::{SourceTarget, Target, of_usage};
use crate::governor::Governing;
use crate::health::{EngineHealth, HealthFile};
use crate::http::{Server, VocabularyFolder};
use crate::job::WordList;
use crate::pipeline::Control;
use crate::publish::{SinkContext, SinkSettings, Slot};
use crate::requests::{ChangeRequest, Current, Pending};
use crate::threads::{Stop, locked};

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_millis(200);
/// From one look at a signal to the next.
const SIGNAL_LOOK: Duration = Duration::from_millis(50);

/// What has run for so many frames works: more than may be under way from before.
pub(super) const FRAMES_OF_PROOF: u64 = 20;

/// What the threads of a service share.
#[derive(Clone, Copy)]
pub struct StreamHandles<'a> {
    pub control: &'a Control,
    pub state: &'a ServiceState,
    pub changes: &'a Waiting,
    pub is_over: &'a AtomicBool,
    pub governing: &'a Governing,
}

/// What looks after changes.
pub struct Reloader<'a> {
    service: &'a Service<'a>,
    stream: StreamHandles<'a>,
    systemd: Systemd,
    last_good: LastGood,
    /// Requested when the service is stopped, and when its stream is over.
    stop: Stop,
    in_use: InUse,
    health_file: Option<HealthFile>,
    server: Option<Server>,
    /// What change requests have put over the configuration, and what the configuration asked for then.
    overrides: Overrides,
    configured: Configured,
    seen: Seen,
    /// What is in use is kept when so many frames are out.
    keep_at: Option<u64>,
    /// Whether something else is in use than what is configured.
    is_refused: bool,
    /// When the GPU is asked for again that the processor stands in for.
    ask_for_gpu_at: Option<Instant>,
}

/// What the stream is made of.
struct InUse {
    target: Target,
    configuration: Option<String>,
    /// As it was when it was read; none where it isn't what is configured.
    vocabulary: Option<Watched>,
    made: Option<Made>,
    student: Watched,
    facts: StudentFacts,
    /// Whether the engine ranks words itself.
    ranks: bool,
}

/// A vocabulary that was made and stands in no file.
enum Made {
    ToKeep(Vocabulary),
    Kept,
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

/// What is to be known of a change when the stream has taken it.
struct News {
    /// Another engine's, and whether the processor stands in for a GPU that may come up yet.
    engine: Option<(EngineHealth, bool)>,
    facts: StudentFacts,
    ranks: bool,
    /// Others, or the same for another student, and the vocabulary where it was made.
    words: Option<(WordList, Option<Vocabulary>)>,
    /// Another one, or none any more.
    health_file: Option<Option<HealthFile>>,
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
        (health_file, server): (Option<HealthFile>, Option<Server>),
        stream: StreamHandles<'a>,
        (systemd, last_good, stop): (Systemd, LastGood, Stop),
    ) -> Self {
        let Loaded { target, configured, text, vocabulary, student } = &start.loaded;
        let engine = &mut start.pipeline.engine;
        let is_refused = start.is_refused;
        let in_use = InUse {
            target: target.clone(),
            configuration: text.clone(),
            vocabulary: (!start.has_kept_words).then(|| vocabulary.clone()),
            made: start.made.take().map(Made::ToKeep),
            student: student.clone(),
            facts: engine.facts().clone(),
            ranks: engine.whole_frames().is_some(),
        };
        let seen = Seen { configuration, vocabulary: vocabulary.clone(), student: student.clone() };
        let keep_at = (!is_refused).then_some(FRAMES_OF_PROOF);
        let (overrides, configured) = (std::mem::take(&mut start.overrides), configured.clone());
        let mut reloader = Self {
            service,
            stream,
            systemd,
            last_good,
            stop,
            in_use,
            health_file,
            server,
            overrides,
            configured,
            seen,
            keep_at,
            is_refused,
            ask_for_gpu_at: None,
        };
        reloader.expect_gpu(start.gpu_may_come);
        reloader.set_photographs();
        reloader
    }

    /// Looks until the stream is over.
    pub fn run(mut self, asked: &AtomicBool) {
        let mut looked = Instant::now();
        while !self.stream.is_over.load(Ordering::Relaxed) {
            for Pending { request, answer } in self.stream.state.requests.take_within(SIGNAL_LOOK) {
                // Whoever asked may have gone.
                drop(answer.send(self.answer(request)));
            }
            let is_asked = asked.swap(false, Ordering::Relaxed);
            let has_changed = looked.elapsed() >= LOOK && {
                looked = Instant::now();
                self.stream.control.drop_retired();
                self.stream.state.photographs.end_idle(looked);
                self.seen.has_changed(self.is_refused)
            };
            if is_asked || has_changed {
                drop(self.reload(None));
            }
            if let Some(reason) = self.stream.control.take_refusal() {
                (self.in_use.vocabulary, self.in_use.made) = (None, None);
                self.refuse(&reason);
            }
            self.keep();
            self.ask_for_gpu();
        }
    }

    /// Keeps what is in use, when enough frames have been through it.
    fn keep(&mut self) {
        let published = self.stream.state.health.report().published;
        if self.keep_at.is_some_and(|at| published >= at) {
            self.keep_at = None;
            let words = match (&self.in_use.made, &self.in_use.vocabulary) {
                (Some(Made::ToKeep(vocabulary)), _) => KeptWords::Made(vocabulary),
                (None, Some(file)) => KeptWords::File(file),
                (Some(Made::Kept), _) | (None, None) => KeptWords::Same,
            };
            self.last_good.keep(self.in_use.configuration.as_deref(), words);
            // A large one is not to be held for ever.
            if let Some(made) = &mut self.in_use.made {
                *made = Made::Kept;
            }
        }
    }

    /// Applies a change request.
    ///
    /// # Errors
    /// Why it is refused.
    fn answer(&mut self, request: ChangeRequest) -> Result<(), String> {
        match request {
            ChangeRequest::Keep(_) => {
                let overrides = self.overrides.with(&request)?;
                self.kept_choices().write(&self.configured, &overrides)?;
                self.overrides = overrides;
                self.show_overrides();
                Ok(())
            }
            ChangeRequest::VocabularyNamed(name) => {
                let folder = VocabularyFolder::new(Some(self.in_use.target.vocabularies.clone()));
                let file = folder.file(&name).map_err(|error| error.to_string())?;
                self.reload(Some(&ChangeRequest::Vocabulary(file)))
            }
            request => self.reload(Some(&request)),
        }
    }

    fn kept_choices(&self) -> KeptChoices {
        KeptChoices::of(&self.in_use.target.name)
    }

    /// Keeps what was chosen, where that was asked for; what can't be kept goes to the log, and is not said to be kept.
    fn keep_overrides(&mut self) {
        if let Err(reason) = self.kept_choices().write(&self.configured, &self.overrides) {
            tracing::warn!("what was chosen is gone after a restart: {reason}");
            self.overrides.is_kept = false;
        }
        self.show_overrides();
    }

    fn show_overrides(&self) {
        let requests = &self.stream.state.requests;
        let Overrides { is_kept, .. } = self.overrides;
        let (is_as_configured, are_zones_configured) =
            (!self.overrides.has_words(), !self.overrides.has_zones());
        requests.show(Current { is_as_configured, are_zones_configured, is_kept, ..requests.current() });
    }

    fn refuse(&mut self, reason: &str) {
        tracing::error!("what has changed is not used, and what was before goes on: {reason}");
        self.stream.state.health.reload_refused(reason);
        self.is_refused = true;
        self.keep_at = None;
    }

    /// Loads everything again, and applies a request if there is one.
    ///
    /// # Errors
    /// Why what is there now, or what is requested, is not used.
    fn reload(&mut self, request: Option<&ChangeRequest>) -> Result<(), String> {
        self.systemd.reloading();
        let before = self.overrides.clone();
        let reloaded = self.try_reload(request);
        if self.overrides != before {
            self.keep_overrides();
        }
        let answer = reloaded.as_ref().map(drop).map_err(|reason| format!("{reason:#}"));
        match reloaded {
            Ok(outcome) => {
                let health = &self.stream.state.health;
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
            // Nothing is wrong with the files: whoever asked is told, and nobody else.
            Err(reason) if request.is_some() => tracing::warn!("a change request is refused: {reason:#}"),
            Err(reason) => self.refuse(&format!("{reason:#}")),
        }
        self.systemd.ready();
        answer
    }

    fn try_reload(&mut self, request: Option<&ChangeRequest>) -> anyhow::Result<Outcome> {
        // All before they are read: what is written meanwhile is read again.
        if let Some(configuration) = &mut self.seen.configuration {
            *configuration = Watched::new(configuration.path());
        }
        self.seen.vocabulary = Watched::new(self.seen.vocabulary.path());
        let mut overrides = match request {
            Some(request) => self.overrides.with(request).map_err(anyhow::Error::msg)?,
            None => self.overrides.clone(),
        };
        let mut loaded = self.service.load_files(None)?;
        if request.is_none() {
            overrides = overrides.under(&self.configured, &loaded.configured);
        }
        loaded.apply(&overrides)?;
        (self.seen.vocabulary, self.seen.student) = (loaded.vocabulary.clone(), loaded.student.clone());
        let new_vocabulary = self.in_use.vocabulary.as_ref() != Some(&loaded.vocabulary);
        let new_student = self.in_use.student != loaded.student;
        let configured = loaded.configured.clone();
        let is_same = loaded.target == self.in_use.target && !new_vocabulary && !new_student;
        if !is_same {
            self.take_over(loaded, &overrides, new_vocabulary, new_student)?;
        }
        (self.overrides, self.configured) = (overrides, configured);
        Ok(if is_same { Outcome::Same } else { Outcome::Taken })
    }

    /// Makes what is another, and has the stream take it.
    fn take_over(
        &mut self,
        loaded: Loaded,
        overrides: &Overrides,
        new_vocabulary: bool,
        new_student: bool,
    ) -> anyhow::Result<()> {
        let (change, news) = self.make(&loaded.target, new_vocabulary, new_student)?;
        self.hand_over(change, news.ranks)?;
        self.take_note(loaded, news, overrides);
        Ok(())
    }

    /// Makes and tries what is another, while the stream goes on with what there is.
    fn make(
        &self,
        target: &Target,
        new_vocabulary: bool,
        new_student: bool,
    ) -> anyhow::Result<(Change, News)> {
        let (in_use, before) = (&self.in_use, &self.in_use.target);
        if target.source != before.source {
            target.source.check(&self.stop).map_err(of_usage)?;
        }
        let is_other_engine = new_student || target.engine != before.engine;
        let opened = is_other_engine.then(|| self.new_engine(target)).transpose()?;
        let told = opened.as_ref().map(|opened| (opened.health(), opened.gpu_may_come()));
        let mut engine = opened.map(|opened| opened.engine);
        let facts = engine.as_ref().map_or(&in_use.facts, |engine| engine.facts()).clone();
        let ranks = engine.as_mut().map_or(in_use.ranks, |engine| engine.whole_frames().is_some());
        let opened = (is_other_engine || new_vocabulary || target.words != before.words)
            .then(|| target.words.open(&facts, &self.stop))
            .transpose()?;
        let words = opened.as_ref().map(|opened| opened.scorer.words());
        let (scorer, made) = opened.map(|opened| (opened.scorer, opened.made)).unzip();
        let source = (target.source != before.source)
            .then(|| self.new_source(&target.source))
            .transpose()?
            .map(|new| (new, before.source.clone()));
        let sinks = (target.sinks != before.sinks || target.name != before.name)
            .then(|| self.new_sinks(target))
            .transpose()?;
        let tracking = (target.tracking != before.tracking).then_some(target.tracking);
        let zones = (target.zones != before.zones).then(|| target.zones.clone());
        let health = &self.stream.state.health;
        let health_file = (target.health != before.health)
            .then(|| target.health.as_deref().map(|path| open_health(health, path)).transpose())
            .transpose()?;
        let news = News { engine: told, facts, ranks, words: words.zip(made), health_file };
        Ok((Change { engine, scorer, source, tracking, zones, sinks }, news))
    }

    /// Has the stream take a change: words between two frames, all else while it pauses.
    fn hand_over(&self, change: Change, ranks: bool) -> anyhow::Result<()> {
        if change.needs_pause() {
            let (done, outcome) = mpsc::channel();
            return self.pause_for((change, Done(done)), &outcome);
        }
        if let Some(scorer) = change.scorer {
            self.stream.control.swap_words(scorer, ranks);
        }
        Ok(())
    }

    /// Tells everybody what is in use from now on.
    fn take_note(&mut self, loaded: Loaded, news: News, overrides: &Overrides) {
        let Loaded { target, text, vocabulary, student, .. } = loaded;
        let News { engine, facts, ranks, words, health_file } = news;
        let state = self.stream.state;
        self.stream.governing.set(target.governor);
        let shown = state.requests.current();
        let name = engine.as_ref().map_or(shown.engine, |(health, _)| health.name.clone());
        if let Some((health, gpu_may_come)) = engine {
            state.health.of_engine(health);
            self.expect_gpu(gpu_may_come);
        }
        let (words, made) = match words {
            Some((words, made)) => (Some(words), made.map(Made::ToKeep)),
            None => (None, self.in_use.made.take()),
        };
        if let Some(words) = &words {
            state.health.of_vocabulary(&target.words.vocabulary, words.len());
            warn_of_undrawable_words(&target, words);
        }
        let words = words.unwrap_or(shown.words);
        if target.zones != self.in_use.target.zones {
            warn_of_unknown_names(&target, &words);
        }
        state.show(&target, overrides, &words, &name);
        state.share(&target);
        self.serve(&target);
        if let Some(file) = health_file {
            self.health_file = file;
        }
        tracing::info!("what has changed is used from now on");
        self.in_use =
            InUse { target, configuration: text, vocabulary: Some(vocabulary), made, student, facts, ranks };
        self.set_photographs();
    }

    /// Has photographs looked at by the stream's student.
    fn set_photographs(&self) {
        let InUse { target, student, facts, .. } = &self.in_use;
        self.stream.state.photographs.set(PhotographTarget {
            student: student.clone(),
            facts: facts.clone(),
            words: target.words.clone(),
            control: self.stream.state.control.clone(),
            stop: self.stop.clone(),
        });
    }

    fn new_engine(&self, target: &Target) -> anyhow::Result<Opened> {
        let alive = || self.systemd.is_getting_on();
        target.engine.open_with(self.service.engines, Duration::ZERO, &self.stop, &alive)
    }

    /// Asks for a GPU later, if one may come up yet.
    fn expect_gpu(&mut self, may_come: bool) {
        self.ask_for_gpu_at = may_come.then(|| Instant::now() + self.service.gpu_wait.later);
    }

    /// Has TensorRT run the student from now on, where the processor stands in for a GPU that has come up.
    fn ask_for_gpu(&mut self) {
        if self.ask_for_gpu_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        // Its file may be another by now, and the words would not fit: then all of it is loaded again.
        if self.in_use.student.is_other() {
            self.expect_gpu(true);
            drop(self.reload(None));
            return;
        }
        let (target, systemd) = (&self.in_use.target.engine, &self.systemd);
        let alive = || systemd.is_getting_on();
        let engine = target.open_after_all(self.service.engines, &self.stop, &alive);
        let health = &self.stream.state.health;
        match engine {
            Ok(engine) => self.take_engine(engine),
            Err(_) if self.stop.is_requested() => {}
            Err(instead) => {
                let reason = format!("{:#}", instead.reason);
                // The same once more is no news.
                if health.report().engine.instead_of_tensorrt.as_ref() != Some(&reason) {
                    tracing::warn!("ONNX Runtime goes on: {reason}");
                    let name = health.report().engine.name;
                    health.of_engine(EngineHealth { name, instead_of_tensorrt: Some(reason) });
                }
                self.expect_gpu(instead.may_pass);
                let state = self.stream.state;
                let ends = || state.ends_for_late_device(&self.systemd, &self.service.stop);
                if let Some(reason) = instead.may_pass.then(ends).flatten() {
                    tracing::warn!("{reason}");
                }
            }
        }
    }

    fn take_engine(&mut self, mut engine: Box<dyn Engine>) {
        let (name, ranks) = (engine.title().to_owned(), engine.whole_frames().is_some());
        // The words stay: the student is the same.
        let change = Change {
            engine: Some(engine),
            scorer: None,
            source: None,
            tracking: None,
            zones: None,
            sinks: None,
        };
        self.ask_for_gpu_at = None;
        if let Err(reason) = self.hand_over(change, ranks) {
            tracing::warn!("{name} does not take the place of ONNX Runtime: {reason:#}");
            return;
        }
        self.in_use.ranks = ranks;
        tracing::info!(engine = name, "the GPU has come up and runs the student from now on");
        let state = self.stream.state;
        state.requests.show(Current { engine: name.clone(), ..state.requests.current() });
        state.health.of_engine(EngineHealth { name, instead_of_tensorrt: None });
    }

    /// Serves what is wanted over HTTP from now on. The address may be the same, so the old server ends first; should the new
    /// one not start, the stream goes on without, and says so.
    fn serve(&mut self, target: &Target) {
        if target.http == self.in_use.target.http {
            return;
        }
        self.server = None;
        let server = target.http.as_ref().map(|http| self.stream.state.serve(http)).transpose();
        match server {
            Ok(server) => self.server = server,
            Err(error) => tracing::error!("nothing is served over HTTP: {error:#}"),
        }
    }

    /// Outputs by other settings: those that are the same stay, and the new are opened beside them.
    fn new_sinks(&self, target: &Target) -> anyhow::Result<Vec<Slot>> {
        let before = &self.in_use.target;
        // Nothing that is there is lost by it, should the rest be refused.
        let context = SinkContext { appends: true, ..sink_context(target, &self.systemd, self.stream.state) };
        let slot = |settings: &SinkSettings| {
            if before.name == target.name && before.sinks.contains(settings) {
                return Ok(Slot::Kept(settings.clone()));
            }
            Ok(Slot::New(settings.clone(), settings.open(&context)?))
        };
        target.sinks.iter().map(slot).collect()
    }

    fn new_source(&self, target: &SourceTarget) -> anyhow::Result<NewSource> {
        let opened = if target.uri.is_live() {
            None
        } else {
            Some(target.open(&self.stream.state.health, &self.stop).map_err(of_usage)?)
        };
        Ok(NewSource { target: target.clone(), opened })
    }

    /// Has the stream pause and take a change, and waits until it has.
    fn pause_for(
        &self,
        change: (Change, Done),
        outcome: &mpsc::Receiver<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        *locked(self.stream.changes) = Some(change);
        self.stream.control.pause();
        loop {
            match outcome.recv_timeout(SIGNAL_LOOK) {
                Ok(outcome) => return outcome,
                Err(mpsc::RecvTimeoutError::Timeout) if !self.stream.is_over.load(Ordering::Relaxed) => {}
                Err(_) => anyhow::bail!("the stream has ended meanwhile"),
            }
        }
    }
}
