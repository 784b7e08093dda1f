//! The parts of a service, and how its first stream is assembled: from the configuration, or else from what last
//! worked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use wordsight_detection::Vocabulary;
use wordsight_engines::StudentFacts;

use super::devices::LateDevices;
use super::engines::{Engines, GpuWait};
use super::file_watch::Watched;
use super::kept_choices::KeptChoices;
use super::last_good::LastGood;
use super::overrides::{Configured, Overrides};
use super::photographs::Photographs;
use super::systemd::{Followed, Systemd};
use super::target::{OpenedWords, Target, of_usage};
use crate::config::{Config, ConfigError};
use crate::files::state_folder;
use crate::governor::board_root;
use crate::health::{Health, HealthFile};
use crate::http::{HttpSettings, ServedCameras, ServedStream, Server};
use crate::job::WordList;
use crate::pipeline::{Control, Counters, Pipeline};
use crate::publish::{Live, Outputs, Publisher, SharedPlaces, SinkContext};
use crate::requests::{Current, ExampleCount, Requests};
use crate::settings::SettingError;
use crate::threads::Stop;
use crate::tracking::Tracking;

/// What says what is wanted by a configuration's text.
pub type Load<'a> = &'a (dyn Fn(Option<&str>) -> anyhow::Result<Target> + Sync);

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

/// What the threads of a service and whoever watches it share.
#[derive(Default)]
pub(super) struct ServiceState {
    pub(super) late_devices: LateDevices,
    pub(super) health: Health,
    pub(super) counters: Arc<Counters>,
    pub(super) control: Arc<Control>,
    pub(super) live: Live,
    pub(super) requests: Requests,
    pub(super) photographs: Arc<Photographs>,
    /// Of several streams, those that all of them write lines to.
    pub(super) places: SharedPlaces,
}

/// What was loaded, and the files as they were when they were about to be read.
pub(super) struct Loaded {
    pub(super) target: Target,
    /// What the configuration asks for, whatever was requested since.
    pub(super) configured: Configured,
    /// The configuration.
    pub(super) text: Option<String>,
    pub(super) vocabulary: Watched,
    pub(super) student: Watched,
}

/// What a service begins with.
pub(super) struct Start {
    pub(super) pipeline: Pipeline,
    pub(super) loaded: Loaded,
    /// What was chosen in an earlier run and kept.
    pub(super) overrides: Overrides,
    /// The vocabulary, where it was made and stands in no file.
    pub(super) made: Option<Vocabulary>,
    /// Whether the words are those that were kept, and not those of the configuration.
    pub(super) has_kept_words: bool,
    /// Whether the processor stands in for a GPU that may come up yet.
    pub(super) gpu_may_come: bool,
    /// Whether something else is used than what is configured.
    pub(super) is_refused: bool,
}

impl Loaded {
    /// Puts what was chosen over what is configured.
    ///
    /// # Errors
    /// When there can't be such zones.
    pub(super) fn apply(&mut self, overrides: &Overrides) -> Result<(), SettingError> {
        overrides.apply(&mut self.target)?;
        if overrides.has_words() {
            self.vocabulary = Watched::new(self.target.words.watched());
        }
        Ok(())
    }

    /// Puts what was chosen in an earlier run and kept over what is configured, and returns it.
    fn apply_kept_choices(&mut self) -> Overrides {
        let mut overrides = KeptChoices::of(&self.target.name).read(&self.configured);
        if let Err(reason) = self.apply(&overrides) {
            tracing::warn!(
                "the zones that were chosen are not used, and those that are configured are: {reason}"
            );
            overrides = overrides.without_zones();
            // What may be wrong is taken out.
            let _ = self.apply(&overrides);
        }
        overrides
    }

    /// Opens the words of this file, where some are given; or else those that were chosen, or else those that are configured.
    /// Returns where they stand, too.
    fn open_words(
        &mut self,
        file: Option<&Path>,
        overrides: &mut Overrides,
        student: &StudentFacts,
        stop: &Stop,
    ) -> anyhow::Result<(PathBuf, OpenedWords)> {
        let mut words = match file {
            Some(file) => self.target.words.of_file(file),
            None => self.target.words.clone(),
        };
        let mut opened = words.open(student, stop);
        if let Err(reason) = &opened
            && overrides.has_words()
        {
            tracing::warn!(
                "what was chosen does not work any more, and what is configured is used: {reason:#}"
            );
            *overrides = std::mem::take(overrides).without_words();
            self.target.words = self.configured.words.clone();
            self.vocabulary = Watched::new(self.target.words.watched());
            words = self.target.words.clone();
            opened = words.open(student, stop);
        }
        Ok((words.vocabulary, opened?))
    }
}

impl Service<'_> {
    /// Loads what is configured, or what this text says.
    pub(super) fn load_files(&self, text: Option<&str>) -> anyhow::Result<Loaded> {
        let text = match (text, &self.configuration) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(path)) => Some(Config::text_of(path)?),
            (None, None) => None,
        };
        let target = (self.load)(text.as_deref())?;
        target.check_outputs(self.configuration.as_deref()).map_err(ConfigError::from)?;
        let configured = Configured::of(&target);
        let student = Watched::new(&target.engine.student);
        let vocabulary = Watched::new(target.words.watched());
        Ok(Loaded { text, vocabulary, student, target, configured })
    }

    /// Makes the first stream, of what is configured or else of what last worked.
    pub(super) fn start(
        &self,
        last_good: &LastGood,
        systemd: &Systemd,
        state: &ServiceState,
        file: &mut Option<HealthFile>,
    ) -> anyhow::Result<Start> {
        let reason = match self.assemble(None, None, systemd, state, file) {
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
            if let Ok(start) = self.assemble(text, words, systemd, state, file) {
                let what = if text.is_some() { "configuration" } else { "vocabulary" };
                tracing::error!("the {what} that last worked is used: {reason:#}");
                state.health.reload_refused(&format!("{reason:#}"));
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
        state: &ServiceState,
        file: &mut Option<HealthFile>,
    ) -> anyhow::Result<Start> {
        let mut loaded = self.load_files(text)?;
        // What last worked is what the stream falls back to, with nothing over it.
        let mut overrides = match (text, kept_words) {
            (None, None) => loaded.apply_kept_choices(),
            _ => Overrides::default(),
        };
        let (target, health) = (&loaded.target, &state.health);
        // A plan takes minutes: what is wrong with the source is told before.
        target.source.check(&self.stop).map_err(of_usage)?;
        // Whoever sits at a terminal is not to wait for a GPU.
        let longest = if systemd.is_there() { self.gpu_wait.at_start } else { Duration::ZERO };
        let alive = || systemd.is_getting_on();
        let opened = target.engine.open_with(self.engines, longest, &self.stop, &alive)?;
        let (engine_health, gpu_may_come) = (opened.health(), opened.gpu_may_come());
        if let Some(reason) = gpu_may_come.then(|| state.ends_for_late_device(systemd, &self.stop)).flatten()
        {
            anyhow::bail!(reason);
        }
        let engine = opened.engine;
        let (vocabulary, opened) =
            loaded.open_words(kept_words, &mut overrides, engine.facts(), &self.stop)?;
        let (target, OpenedWords { scorer, made }) = (&loaded.target, opened);
        // Words that are kept are not those that the outputs were written for.
        if kept_words.is_none() {
            warn_of_unknown_names(target, &scorer.words());
        }
        warn_of_undrawable_words(target, &scorer.words());
        health.of_engine(engine_health);
        health.of_vocabulary(&vocabulary, scorer.words().len());
        health.of_source(target.source.uri.display());
        // One after the other: they may be of one name.
        *file = None;
        *file = target.health.as_deref().map(|path| open_health(health, path)).transpose()?;
        let source = target.source.open(health, &self.stop).map_err(of_usage)?;
        let outputs = self.open_outputs(target, systemd, state)?;
        state.show(target, &overrides, &scorer.words(), engine.title());
        state.share(target);
        let (pacing, publisher) = (target.source.pacing, Publisher::new(outputs)?);
        let mut tracking = Tracking::new(target.tracking).of_camera(target.camera());
        tracking.set_zones(target.zones.clone());
        let pipeline = Pipeline {
            repeat: target.source.repeat,
            tracking,
            inputs_to_keep: self.inputs_to_keep,
            health: health.clone(),
            counters: Arc::clone(&state.counters),
            ..Pipeline::new(source, pacing, engine, scorer, publisher)
        };
        let has_kept_words = kept_words.is_some();
        Ok(Start { pipeline, loaded, overrides, made, has_kept_words, gpu_may_come, is_refused: false })
    }

    fn open_outputs(
        &self,
        target: &Target,
        systemd: &Systemd,
        state: &ServiceState,
    ) -> anyhow::Result<Outputs> {
        let context = sink_context(target, systemd, state);
        let sinks = target.sinks.iter().map(|settings| Ok((settings.clone(), settings.open(&context)?)));
        Ok(Outputs {
            sinks: sinks.collect::<anyhow::Result<_>>()?,
            live: state.live.clone(),
            camera: target.camera(),
            frames: self.frames,
            ..Outputs::default()
        })
    }
}

impl ServiceState {
    /// Has the service end where a GPU's driver came too late for the unit's device rules, and returns why: the rules of
    /// the next start know it.
    pub(super) fn ends_for_late_device(&self, systemd: &Systemd, stop: &Stop) -> Option<String> {
        let device = self.late_devices.denied().filter(|_| systemd.is_there())?;
        stop.request_all();
        Some(format!(
            "{} came after the start of the service, whose device rules don't know its driver: it ends, and systemd starts \
             it again with rules that do",
            device.display()
        ))
    }

    /// What systemd is told of; the name, where there are several streams.
    pub(super) fn followed(&self, name: Option<String>) -> Followed {
        Followed { name, control: Arc::clone(&self.control), health: self.health.clone() }
    }

    pub(super) fn serve(&self, settings: &HttpSettings) -> anyhow::Result<Server> {
        Server::start(settings, ServedCameras::single(self.served()), &board_root())
    }

    pub(super) fn served(&self) -> ServedStream {
        ServedStream {
            live: self.live.clone(),
            health: self.health.clone(),
            counters: Arc::clone(&self.counters),
            control: Arc::clone(&self.control),
            requests: self.requests.clone(),
            photographs: self.photographs.clone(),
            camera: None,
        }
    }

    /// Gives the stream its part of what several share.
    pub(super) fn share(&self, target: &Target) {
        self.control.set_priority(target.share.priority);
        self.control.rate_limit().set_configured(target.share.max_fps);
    }

    /// Shows what is in use.
    pub(super) fn show(&self, target: &Target, overrides: &Overrides, words: &WordList, engine: &str) {
        self.requests.show(Current {
            stream: target.name.clone(),
            vocabulary: target.words.vocabulary.clone(),
            words: words.clone(),
            score_threshold: target.words.detection.score_threshold,
            is_as_configured: !overrides.has_words(),
            is_kept: overrides.is_kept,
            examples: target.words.shown.as_ref().map(ExampleCount::of).unwrap_or_default(),
            zones: target.zones.written().clone(),
            are_zones_configured: !overrides.has_zones(),
            student: target.engine.student.clone(),
            engine: engine.to_owned(),
        });
    }
}

/// What outputs need to know.
pub(super) fn sink_context(target: &Target, systemd: &Systemd, state: &ServiceState) -> SinkContext {
    SinkContext {
        stream: target.name.clone(),
        appends: systemd.is_there(),
        state: state_folder(),
        requests: state.requests.clone(),
        places: state.places.clone(),
    }
}

/// Opens the file that holds how the stream is.
pub(super) fn open_health(health: &Health, path: &Path) -> anyhow::Result<HealthFile> {
    let file = HealthFile::start(health.clone(), path.to_owned());
    file.with_context(|| format!("cannot write the health to {}", path.display()))
}

/// Says which words of outputs and zones the vocabulary lacks: another that is switched to may have them.
pub(super) fn warn_of_unknown_names(target: &Target, words: &WordList) {
    for unknown in target.unknown_names(words.iter()) {
        tracing::warn!("nothing is told of a word or a zone that there isn't: {unknown}");
    }
}

/// Says which words pictures can't show, and what to do.
pub(super) fn warn_of_undrawable_words(target: &Target, words: &WordList) {
    if let Some(undrawable) = target.undrawable_words(words.iter()) {
        tracing::warn!("{undrawable}; {}", undrawable.remedy());
    }
}
