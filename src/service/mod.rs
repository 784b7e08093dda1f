//! A stream that is looked after: it starts, is told other things while it runs, and says how it is.
//!
//! In flow what a stream is to be made of ([`Target`]), and again whenever the configuration or the vocabulary changes or
//! SIGHUP comes; out flows the [`Report`] of the last of its streams. The parts: [`reload`] finds out what is to be another
//! and makes it, `systemd` tells how the stream is, `last_good` keeps what works.
//!
//! The one surprising thing: nothing is stopped for what can be exchanged. Words and thresholds are swapped between two
//! frames. For another source, student or output the stream pauses: its last frames come out, and it goes on with every
//! part that is the same, an open camera and a warm engine among them. What is new is made and tried before that, so that
//! what doesn't work never takes the place of what does.

mod engines;
mod file_watch;
mod last_good;
mod overrides;
mod reload;
mod systemd;
mod target;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::SIGHUP;

use crate::config::Config;
use crate::files::state_folder;
use crate::governor::{Governing, board_root};
use crate::health::{Health, HealthFile};
use crate::http::{Current, HttpSettings, Parts, Requests, Server};
use crate::job::Words;
use crate::pipeline::{Control, Counters, Pipeline, Report};
use crate::publish::{Live, Outputs, Publisher, SinkContext};
use crate::threads::{Stop, locked, named};
use crate::tracking::Tracking;
#[cfg(feature = "tensorrt")]
pub use engines::BuildProgress;
pub use engines::{Engines, GpuWait, Installed};
use file_watch::Watched;
use last_good::LastGood;
use overrides::Overrides;
use reload::{Change, NewSource, Reloader, Waiting};
use systemd::Systemd;
use wordsight_capture::{CaptureError, Captured, Frame, Source};

pub use target::{EngineTarget, SourceTarget, Target, WordsTarget, of_usage, open_output};

/// What says what is wanted by a configuration's text.
pub type Load<'a> = &'a (dyn Fn(Option<&str>) -> anyhow::Result<Target> + Sync);

/// What the threads of a service and whoever watches it share.
#[derive(Default)]
struct Common {
    health: Health,
    counters: Arc<Counters>,
    control: Arc<Control>,
    live: Live,
    requests: Requests,
}

/// What is to be looked after.
pub struct Service<'a> {
    /// What the stream is to be made of, by a configuration's text, or without one by what is built in.
    pub load: Load<'a>,
    /// The configuration's file.
    pub configuration: Option<PathBuf>,
    /// After how many frames it is enough.
    pub frames: Option<u64>,
    /// How many of the engine's inputs to keep.
    pub inputs_to_keep: usize,
    /// How long it may take to end.
    pub longest_stop: Duration,
    /// Who may end it.
    pub stop: Stop,
    /// What opens engines.
    pub engines: &'a dyn Engines,
    /// How long `auto` waits for a GPU where systemd started this, and when it asks again.
    pub gpu_wait: GpuWait,
}

/// What was loaded, and the files as they were when they were about to be read.
struct Loaded {
    target: Target,
    /// The words that the configuration asks for, whatever was requested since.
    configured: WordsTarget,
    /// The configuration.
    text: Option<String>,
    vocabulary: Watched,
    student: Watched,
}

/// What a service begins with.
struct Start {
    pipeline: Pipeline,
    loaded: Loaded,
    /// Whether the words are those that were kept, and not those of the configuration.
    has_kept_words: bool,
    /// Whether the processor stands in for a GPU that may come up yet.
    gpu_may_come: bool,
    /// Whether something else is used than what is configured.
    is_refused: bool,
}

/// Tells everybody that the stream has ended, however it does.
struct Ended<'a> {
    health: &'a Health,
    is_over: &'a AtomicBool,
    reloading: Stop,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.health.ended();
        self.is_over.store(true, Ordering::Relaxed);
        self.reloading.request();
    }
}

impl Service<'_> {
    /// Runs until the source ends, there are enough frames, it is stopped, or a part fails that it can't do without.
    ///
    /// # Errors
    /// When a part can't be opened at the start, and nothing is kept that works; later, when the engine fails, or an output
    /// of a stream that is not live.
    pub fn run(self) -> anyhow::Result<Report> {
        let systemd = Systemd::of_this_process();
        let last_good = LastGood::of_this_process();
        let asked_to_reload = asked_to_reload()?;
        let (common, is_over) = (Common::default(), AtomicBool::new(false));
        let (health, control) = (&common.health, &*common.control);
        let changes = Mutex::new(None);
        let governing = Governing::new(None, &board_root());
        let reloading = self.stop.child();
        // From here on: opening an engine may take as long as a stream.
        self.stop.ends_process_after(self.longest_stop)?;

        thread::scope(|scope| {
            let mut file = None;
            // Dropped before the file: however this ends, the file says so.
            let _ended = Ended { health, is_over: &is_over, reloading: reloading.clone() };
            let (stop, shared) = (&self.stop, (control, health, &is_over));
            let (follower, (control, health, is_over)) = (systemd.clone(), shared);
            named("systemd").spawn_scoped(scope, move || {
                follower.follow(control, health, &|| stop.is_requested(), is_over);
            })?;
            // Before it is read: what is written meanwhile is read again.
            let configuration = self.configuration.as_deref().map(Watched::new);
            let mut start = self.start(&last_good, &systemd, &common, &mut file)?;
            let target = &start.loaded.target;
            let server = target.http.as_ref().map(|http| common.serve(http)).transpose();
            let server = match server {
                // A device detects whoever has its port; somebody at a terminal wants to know at once.
                Err(error) if systemd.is_there() => {
                    tracing::error!("nothing is served over HTTP: {error:#}");
                    None
                }
                server => server?,
            };
            governing.set(start.loaded.target.governor);
            named("governor").spawn_scoped(scope, || {
                governing.run(control.rate_limit(), health, &|| is_over.load(Ordering::Relaxed));
            })?;
            let reloader = Reloader::new(
                &self,
                &mut start,
                configuration,
                (file.take(), server),
                reload::Shared {
                    control,
                    common: &common,
                    changes: &changes,
                    is_over,
                    governing: &governing,
                },
                (systemd, last_good, reloading),
            );
            let asked = &asked_to_reload;
            named("reload").spawn_scoped(scope, move || reloader.run(asked))?;
            self.keep_running(start.pipeline, control, &changes, health)
        })
    }

    /// Loads what is configured, or what this text says.
    fn load_files(&self, text: Option<&str>) -> anyhow::Result<Loaded> {
        self.load_files_over(text, &Overrides::default())
    }

    /// The same, with what was requested since over it.
    fn load_files_over(&self, text: Option<&str>, overrides: &Overrides) -> anyhow::Result<Loaded> {
        let text = match (text, &self.configuration) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(path)) => Some(Config::text_of(path)?),
            (None, None) => None,
        };
        let mut target = (self.load)(text.as_deref())?;
        let configured = target.words.clone();
        overrides.apply(&mut target.words);
        let (vocabulary, student) = (&target.words.vocabulary, &target.engine.student);
        let (vocabulary, student) = (Watched::new(vocabulary), Watched::new(student));
        Ok(Loaded { text, vocabulary, student, target, configured })
    }

    /// Makes the first stream, of what is configured or else of what last worked.
    fn start(
        &self,
        last_good: &LastGood,
        systemd: &Systemd,
        common: &Common,
        file: &mut Option<HealthFile>,
    ) -> anyhow::Result<Start> {
        let reason = match self.assemble(None, None, systemd, common, file) {
            Ok(start) => return Ok(start),
            Err(reason) => reason,
        };
        let (text, words) = (last_good.configuration(), last_good.words());
        // The words alone may be to blame, or the configuration alone, or both.
        for (text, words) in
            [(None, words.as_deref()), (text.as_deref(), None), (text.as_deref(), words.as_deref())]
        {
            if (text.is_none() && words.is_none()) || self.stop.is_requested() {
                continue;
            }
            if let Ok(start) = self.assemble(text, words, systemd, common, file) {
                let what = if text.is_some() { "configuration" } else { "vocabulary" };
                tracing::error!("the {what} that last worked is used: {reason:#}");
                common.health.reload_refused(&format!("{reason:#}"));
                return Ok(Start { is_refused: true, ..start });
            }
        }
        Err(reason)
    }

    /// Opens all parts of the first stream, by a configuration and words that may be others than those configured.
    fn assemble(
        &self,
        text: Option<&str>,
        kept_words: Option<&Path>,
        systemd: &Systemd,
        common: &Common,
        file: &mut Option<HealthFile>,
    ) -> anyhow::Result<Start> {
        let loaded = self.load_files(text)?;
        let (target, health) = (&loaded.target, &common.health);
        // A plan takes minutes: what is wrong with the source is told before.
        target.source.check(&self.stop).map_err(of_usage)?;
        // Whoever sits at a terminal is not to wait for a GPU.
        let longest = if systemd.is_there() { self.gpu_wait.at_start } else { Duration::ZERO };
        let alive = || systemd.is_getting_on();
        let opened = target.engine.open_with(self.engines, longest, &self.stop, &alive)?;
        let (engine_health, gpu_may_come) = (opened.health(), opened.gpu_may_come());
        let engine = opened.engine;
        let words = match kept_words {
            Some(kept) => WordsTarget { vocabulary: kept.to_owned(), ..target.words.clone() },
            None => target.words.clone(),
        };
        let scoring = words.open(engine.facts())?;
        health.of_engine(engine_health);
        health.of_vocabulary(&words.vocabulary, scoring.words().len());
        health.of_source(target.source.uri.display());
        // One after the other: they may be of one name.
        *file = None;
        *file = target.health.as_deref().map(|path| open_health(health, path)).transpose()?;
        let source = target.source.open(health, &self.stop).map_err(of_usage)?;
        let context = sink_context(target, systemd);
        let sinks = target.sinks.iter().map(|settings| Ok((settings.clone(), settings.open(&context)?)));
        let outputs = Outputs {
            sinks: sinks.collect::<anyhow::Result<_>>()?,
            live: common.live.clone(),
            frames: self.frames,
            ..Outputs::default()
        };
        common.show(target, true, &scoring.words(), engine.title());
        let (pacing, publisher) = (target.source.pacing, Publisher::new(outputs)?);
        let pipeline = Pipeline {
            repeat: target.source.repeat,
            tracking: Tracking::new(target.tracking),
            inputs_to_keep: self.inputs_to_keep,
            health: health.clone(),
            counters: Arc::clone(&common.counters),
            ..Pipeline::new(source, pacing, engine, scoring, publisher)
        };
        let has_kept_words = kept_words.is_some();
        Ok(Start { pipeline, loaded, has_kept_words, gpu_may_come, is_refused: false })
    }

    /// Runs one stream after the other, each with those parts of the one before that have not changed.
    fn keep_running(
        &self,
        mut pipeline: Pipeline,
        control: &Control,
        changes: &Waiting,
        health: &Health,
    ) -> anyhow::Result<Report> {
        loop {
            let mut report = pipeline.run(&self.stop, control)?;
            if report.is_enough {
                report.source = None;
            }
            let mut next = match report.next() {
                Ok(next) => next,
                Err(ended) => return Ok(*ended),
            };
            let waiting = locked(changes).take();
            let told = waiting.map(|(change, done)| (done, self.change(&mut next, change, control, health)));
            // In this order: who is told may have it pause again.
            control.resume();
            if let Some((done, outcome)) = told {
                done.tell(outcome);
            }
            pipeline = next;
        }
    }

    /// Exchanges parts of a stream. A source that doesn't open leaves it as it was.
    fn change(
        &self,
        pipeline: &mut Pipeline,
        change: Change,
        control: &Control,
        health: &Health,
    ) -> anyhow::Result<()> {
        if let Some((new, old)) = change.source {
            self.change_source(pipeline, new, &old, health)?;
        }
        if let Some(engine) = change.engine {
            pipeline.engine = engine;
        }
        if let Some(scoring) = change.scoring {
            // What waits for a frame is older.
            control.discard_waiting();
            *pipeline.scoring = scoring;
        }
        if let Some(tracking) = change.tracking {
            pipeline.tracking.set(tracking);
        }
        if let Some(slots) = change.sinks {
            pipeline.publisher.set_sinks(slots)?;
        }
        Ok(())
    }

    fn change_source(
        &self,
        pipeline: &mut Pipeline,
        new: NewSource,
        old: &SourceTarget,
        health: &Health,
    ) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut pipeline.source, Box::new(NoSource));
        health.of_source(new.target.uri.display());
        let opened = match new.opened {
            Some(source) => Ok(source),
            None if old.uri.is_live() => {
                // A camera can't be open twice.
                drop(before);
                self.open_or_wait(&new.target, health).map_err(|reason| (reason, None))
            }
            None => self.open_or_wait(&new.target, health).map_err(|reason| (reason, Some(before))),
        };
        match opened {
            Ok(source) => {
                (pipeline.source, pipeline.pacing) = (source, new.target.pacing);
                pipeline.repeat = new.target.repeat;
                pipeline.before.in_pass = 0;
                Ok(())
            }
            Err((reason, before)) => {
                health.of_source(old.uri.display());
                let reopened = before.map_or_else(|| old.waited_for().open(health, &self.stop), Ok);
                match reopened {
                    Ok(source) => pipeline.source = source,
                    Err(error) => {
                        return Err(reason.context(format!("what was before doesn't open again ({error})")));
                    }
                }
                Err(reason)
            }
        }
    }

    /// Opens a live source; one that isn't there is waited for, and one that is written wrong is an error.
    fn open_or_wait(&self, target: &SourceTarget, health: &Health) -> anyhow::Result<Box<dyn Source>> {
        match target.at_once().open(health, &self.stop) {
            Ok(source) => Ok(source),
            Err(error @ CaptureError::Uri(_)) => Err(of_usage(error)),
            Err(error) => {
                tracing::warn!("it is waited for: {error}");
                target.waited_for().open(health, &self.stop).map_err(of_usage)
            }
        }
    }
}

impl Common {
    fn serve(&self, settings: &HttpSettings) -> anyhow::Result<Server> {
        Server::start(settings, self.parts())
    }

    fn parts(&self) -> Parts {
        Parts {
            live: self.live.clone(),
            health: self.health.clone(),
            counters: Arc::clone(&self.counters),
            control: Arc::clone(&self.control),
            requests: self.requests.clone(),
            board_root: board_root(),
        }
    }

    /// Shows what is in use.
    fn show(&self, target: &Target, is_as_configured: bool, words: &Words, engine: &str) {
        self.requests.show(Current {
            stream: target.name.clone(),
            vocabulary: target.words.vocabulary.clone(),
            words: words.clone(),
            score_threshold: target.words.detection.score_threshold,
            is_as_configured,
            student: target.engine.student.clone(),
            engine: engine.to_owned(),
        });
    }
}

/// What outputs need to know.
fn sink_context(target: &Target, systemd: &Systemd) -> SinkContext {
    SinkContext { stream: target.name.clone(), appends: systemd.is_there(), state: state_folder() }
}

/// In the place of a source that is closed, until another is open.
struct NoSource;

impl Source for NoSource {
    fn capture(&mut self, _: &mut Frame) -> Result<Captured, CaptureError> {
        Ok(Captured::End)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }
}

fn open_health(health: &Health, path: &Path) -> anyhow::Result<HealthFile> {
    let file = HealthFile::start(health.clone(), path.to_owned());
    file.with_context(|| format!("cannot write the health to {}", path.display()))
}

/// Whether SIGHUP came. A terminal that is closed sends it too, and means the end.
fn asked_to_reload() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    if !std::io::stdin().is_terminal() {
        signal_hook::flag::register(SIGHUP, Arc::clone(&asked))?;
    }
    Ok(asked)
}

#[cfg(all(test, feature = "tensorrt"))]
mod tests;
