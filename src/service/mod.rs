//! A stream that is looked after: it starts, is told other things while it runs, and says how it is.
//!
//! In flow what a stream is to be made of ([`Wanted`]), and again whenever the configuration or the vocabulary changes or
//! SIGHUP comes; out flows the [`Report`] of the last of its streams. The parts: [`reload`] finds out what is to be another
//! and makes it, `systemd` tells how the stream is, `last_good` keeps what works.
//!
//! The one surprising thing: nothing is stopped for what can be exchanged. Words and thresholds are swapped between two
//! frames. For another source, student or output the stream pauses: its last frames come out, and it goes on with every
//! part that is the same, an open camera and a warm engine among them. What is new is made and tried before that, so that
//! what doesn't work never takes the place of what does.

mod last_good;
mod reload;
mod stamp;
mod systemd;
mod wanted;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::SIGHUP;
use wordsight_engines::Engine;

use crate::capture::{Pacing, Source};
use crate::governor::{Governing, board_root};
use crate::health::{Health, HealthFile};
use crate::pipeline::{Control, Frames, Pipeline, Report, Stop};
use crate::publish::{Outputs, Publisher};
use crate::scoring::Scoring;
use last_good::LastGood;
use reload::{Change, Reloader};
use systemd::Systemd;

pub use wanted::{
    EngineWanted, SourceWanted, Wanted, WordsWanted, is_standard_output, of_usage, open_output,
};

/// What says what is wanted: by the configuration as it lies on the disk, or by this text in its place.
pub type Load<'a> = &'a (dyn Fn(Option<&str>) -> anyhow::Result<Wanted> + Sync);

/// What is to be looked after.
pub struct Service<'a> {
    /// What the stream is to be made of.
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
}

/// What a start found.
struct Start {
    wanted: Wanted,
    engine: Box<dyn Engine>,
    scoring: Scoring,
    /// Why something else is used than what is configured.
    refused: Option<anyhow::Error>,
}

/// Tells everybody that the stream has ended, however it does.
struct Ended<'a> {
    health: &'a Health,
    is_over: &'a AtomicBool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.health.ended();
        self.is_over.store(true, Ordering::Relaxed);
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
        let health = Health::default();
        systemd.status("opening the student");
        let start = self.start(&last_good, &systemd)?;
        if let Some(reason) = &start.refused {
            health.reload_refused(&format!("{reason:#}"));
        }
        let (wanted, source) = (start.wanted, &start.scoring);
        health.of_source(wanted.source.uri.display());
        health.of_vocabulary(&wanted.words.vocabulary, source.words().len());
        let file = wanted.health.as_deref().map(|path| open_health(&health, path)).transpose()?;
        let is_over = AtomicBool::new(false);
        let control = Control::default();
        let changes = Mutex::new(None);
        let governing = Governing::new(wanted.governor, &board_root());

        thread::scope(|scope| {
            let mut engine = start.engine;
            let reloader = Reloader::new(
                &self,
                wanted.clone(),
                file,
                engine.facts().clone(),
                engine.whole_frames().is_some(),
                reload::Shared {
                    control: &control,
                    health: &health,
                    changes: &changes,
                    is_over: &is_over,
                    governing: &governing,
                },
                (systemd.clone(), last_good),
            );
            // Dropped before the reloader, and its health's file with it: however this ends, the file says so.
            let _ended = Ended { health: &health, is_over: &is_over };
            let stop = &self.stop;
            named("systemd").spawn_scoped(scope, || {
                systemd.follow(&control, &health, &|| stop.is_requested(), &is_over);
            })?;
            named("governor").spawn_scoped(scope, || {
                governing.run(control.rate_limit(), &health, &|| is_over.load(Ordering::Relaxed));
            })?;
            let pipeline = self.first(wanted, engine, start.scoring, &health)?;
            // When a source is there, and not before: a start that is waited for is not the time for another.
            let is_kept = start.refused.is_none();
            named("reload").spawn_scoped(scope, move || reloader.run(&asked_to_reload, is_kept))?;
            self.stop.ends_process_after(self.longest_stop)?;
            self.keep_running(pipeline, &control, &changes, &health)
        })
    }

    /// Opens the engine and the words, by what is configured or else by what last worked.
    fn start(&self, last_good: &LastGood, systemd: &Systemd) -> anyhow::Result<Start> {
        let open = |wanted: &Wanted| wanted.engine.open(&self.stop, &|| systemd.is_getting_on());
        let configured = (self.load)(None).and_then(|wanted| Ok((open(&wanted)?, wanted)));
        let (engine, wanted, refused) = match configured {
            Ok((engine, wanted)) => (engine, wanted, None),
            Err(reason) => {
                let Some(kept) = last_good.configuration().filter(|_| !self.stop.is_requested()) else {
                    return Err(reason);
                };
                let Ok((engine, wanted)) =
                    (self.load)(Some(&kept)).and_then(|wanted| Ok((open(&wanted)?, wanted)))
                else {
                    return Err(reason);
                };
                tracing::error!("the configuration that last worked is used: {reason:#}");
                (engine, wanted, Some(reason))
            }
        };
        match wanted.words.open(engine.facts()) {
            Ok(scoring) => Ok(Start { wanted, engine, scoring, refused }),
            Err(reason) => {
                let kept =
                    last_good.words().map(|vocabulary| WordsWanted { vocabulary, ..wanted.words.clone() });
                let Some(Ok(scoring)) = kept.map(|words| words.open(engine.facts())) else {
                    return Err(refused.unwrap_or(reason));
                };
                tracing::error!("the vocabulary that last worked is used: {reason:#}");
                Ok(Start { wanted, engine, scoring, refused: refused.or(Some(reason)) })
            }
        }
    }

    /// The stream that it begins with.
    fn first(
        &self,
        wanted: Wanted,
        engine: Box<dyn Engine>,
        scoring: Scoring,
        health: &Health,
    ) -> anyhow::Result<Pipeline> {
        let source = wanted.source.open(health, &self.stop).map_err(of_usage)?;
        let outputs = Outputs {
            outlives_failures: wanted.source.pacing != Pacing::Lossless,
            json: wanted.json.as_deref().map(open_output).transpose()?,
            table: None,
            save: wanted.save,
            frames: self.frames,
        };
        Ok(Pipeline {
            source,
            pacing: wanted.source.pacing,
            repeat: wanted.source.repeat,
            engine,
            scoring: Box::new(scoring),
            publisher: Publisher::new(outputs),
            before: Frames::default(),
            inputs_to_keep: self.inputs_to_keep,
            health: health.clone(),
            counters: Arc::default(),
            measurement: None,
        })
    }

    /// Runs one stream after the other, each with those parts of the one before that have not changed.
    fn keep_running(
        &self,
        mut pipeline: Pipeline,
        control: &Control,
        changes: &Mutex<Option<Change>>,
        health: &Health,
    ) -> anyhow::Result<Report> {
        loop {
            let (pacing, repeat) = (pipeline.pacing, pipeline.repeat);
            let report = pipeline.run(&self.stop, control)?;
            let Some(source) = report.source else { return Ok(Report { source: None, ..report }) };
            let mut next = Pipeline {
                source,
                pacing,
                repeat,
                engine: report.engine,
                scoring: report.scoring,
                publisher: report.publisher,
                before: report.frames,
                inputs_to_keep: self.inputs_to_keep,
                health: health.clone(),
                counters: report.counters,
                measurement: None,
            };
            let change = reload::locked(changes).take();
            if let Some(change) = change {
                next = self.changed(next, change, health);
            }
            control.resume();
            pipeline = next;
        }
    }

    /// The stream with some parts exchanged. A source that doesn't open leaves the stream with the one that it had.
    fn changed(&self, mut pipeline: Pipeline, change: Change, health: &Health) -> Pipeline {
        if let Some((new, old)) = change.source {
            let opened = match new.opened {
                Some(source) => Ok(source),
                // A camera can't be open twice.
                None => {
                    pipeline.source = Box::new(NoSource);
                    self.open_or_wait(&new.wanted, health)
                }
            };
            match opened {
                Ok(source) => {
                    (pipeline.source, pipeline.pacing) = (source, new.wanted.pacing);
                    pipeline.repeat = new.wanted.repeat;
                    pipeline.publisher.set_outlives_failures(new.wanted.pacing != Pacing::Lossless);
                }
                Err(reason) => {
                    if let Ok(source) = old.waited_for().open(health, &self.stop) {
                        pipeline.source = source;
                    }
                    change.done.refuse(reason);
                    return pipeline;
                }
            }
        }
        if let Some(engine) = change.engine {
            pipeline.engine = engine;
        }
        if let Some(scoring) = change.scoring {
            pipeline.scoring = Box::new(scoring);
        }
        if let Some(json) = change.json {
            pipeline.publisher.set_json(json);
        }
        if let Some(save) = change.save {
            pipeline.publisher.set_save(save);
        }
        change.done.accept();
        pipeline
    }

    /// Opens a live source; one that isn't there is waited for, and one that is written wrong is an error.
    fn open_or_wait(&self, wanted: &SourceWanted, health: &Health) -> anyhow::Result<Box<dyn Source>> {
        use crate::capture::CaptureError;
        let at_once = SourceWanted {
            supervision: crate::capture::SupervisionSettings { waits_at_start: false, ..wanted.supervision },
            ..wanted.clone()
        };
        match at_once.open(health, &self.stop) {
            Ok(source) => Ok(source),
            Err(error @ CaptureError::Uri(_)) => Err(of_usage(error)),
            Err(error) => {
                tracing::warn!("it is waited for: {error}");
                wanted.waited_for().open(health, &self.stop).map_err(of_usage)
            }
        }
    }
}

/// In the place of a source that is closed, until another is open.
struct NoSource;

impl Source for NoSource {
    fn capture(
        &mut self,
        _: &mut crate::capture::Frame,
    ) -> Result<crate::capture::Captured, crate::capture::CaptureError> {
        Ok(crate::capture::Captured::End)
    }

    fn rewind(&mut self) -> Result<(), crate::capture::CaptureError> {
        Ok(())
    }
}

fn open_health(health: &Health, path: &std::path::Path) -> anyhow::Result<HealthFile> {
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

/// A thread with a name, for `top -H` and a debugger.
fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}
