//! Runs a service: one stream after the other, each with the parts of the last one that have not changed.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use signal_hook::consts::SIGHUP;
use wordsight_capture::{CaptureError, Captured, Frame, Source};

use super::change::{Change, NewSource, Waiting};
use super::file_watch::Watched;
use super::last_good::LastGood;
use super::reload::{Reloader, StreamHandles};
use super::start::{Service, ServiceState};
use super::systemd::Systemd;
use super::target::{SourceTarget, of_usage};
use crate::governor::{Governing, board_root};
use crate::health::Health;
use crate::pipeline::{Control, Pipeline, Report};
use crate::threads::{Stop, locked, named};

/// Sets a flag however this ends.
pub(super) struct SetAtEnd<'a>(pub(super) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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

/// What is around a stream: the process that it alone makes up, or shares with others.
pub(super) struct Surroundings<'a> {
    pub(super) systemd: Systemd,
    pub(super) last_good: LastGood,
    pub(super) governing: &'a Governing,
    /// Whether somebody has asked to load everything again.
    pub(super) asked: &'a AtomicBool,
    /// Set when the stream is over.
    pub(super) is_over: &'a AtomicBool,
    /// Whether changes of the configuration's file are looked for here.
    pub(super) watches_configuration: bool,
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
        let asked = asked_to_reload()?;
        let (state, is_over) = (ServiceState::default(), AtomicBool::new(false));
        let governing = Governing::new(None, &board_root());
        // From here on: opening an engine may take as long as a stream.
        self.stop.ends_process_after(self.longest_stop)?;

        thread::scope(|scope| {
            let _over = SetAtEnd(&is_over);
            let (stop, is_over, state, follower) = (&self.stop, &is_over, &state, systemd.clone());
            let is_ended = move || is_over.load(Ordering::Relaxed);
            named("systemd").spawn_scoped(scope, move || {
                follower.follow(&|| vec![state.followed(None)], &|| stop.is_requested(), &is_ended);
            })?;
            let governing = &governing;
            named("governor").spawn_scoped(scope, move || {
                let governed = || vec![(Arc::clone(&state.control), state.health.clone())];
                governing.run(&governed, &is_ended);
            })?;
            let surroundings = Surroundings {
                systemd,
                last_good,
                governing,
                asked: &asked,
                is_over,
                watches_configuration: true,
            };
            self.run_stream(state, surroundings)
        })
    }

    /// Runs the stream alone: what is around it is looked after elsewhere.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) fn run_stream(
        &self,
        state: &ServiceState,
        surroundings: Surroundings<'_>,
    ) -> anyhow::Result<Report> {
        let Surroundings { systemd, last_good, governing, asked, is_over, watches_configuration } =
            surroundings;
        let (health, control, changes) = (&state.health, &*state.control, &Mutex::new(None));
        let reloading = self.stop.child();
        thread::scope(|scope| {
            let mut file = None;
            // Dropped before the file: however this ends, the file says so.
            let _ended = Ended { health, is_over, reloading: reloading.clone() };
            // Before it is read: what is written meanwhile is read again.
            let configuration =
                self.configuration.as_deref().filter(|_| watches_configuration).map(Watched::new);
            let mut start = self.start(&last_good, &systemd, state, &mut file)?;
            let target = &start.loaded.target;
            let server = target.http.as_ref().map(|http| state.serve(http)).transpose();
            let server = match server {
                // A device detects whoever has its port; somebody at a terminal wants to know at once.
                Err(error) if systemd.is_there() => {
                    tracing::error!("nothing is served over HTTP: {error:#}");
                    None
                }
                server => server?,
            };
            governing.set(start.loaded.target.governor);
            let reloader = Reloader::new(
                self,
                &mut start,
                configuration,
                (file.take(), server),
                StreamHandles { control, state, changes, is_over, governing },
                (systemd, last_good, reloading),
            );
            named("reload").spawn_scoped(scope, move || reloader.run(asked))?;
            self.keep_running(start.pipeline, control, changes, health)
        })
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
        if let Some(scorer) = change.scorer {
            // What waits for a frame is older.
            control.discard_waiting();
            *pipeline.scorer = scorer;
        }
        if let Some(tracking) = change.tracking {
            pipeline.tracking.set(tracking);
        }
        if let Some(zones) = change.zones {
            pipeline.tracking.set_zones(zones);
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
                tracing::warn!("the new source is not there, and is waited for: {error}");
                target.waited_for().open(health, &self.stop).map_err(of_usage)
            }
        }
    }
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

/// Whether SIGHUP came. A terminal that is closed sends it too, and means the end.
pub(super) fn asked_to_reload() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    if !std::io::stdin().is_terminal() {
        signal_hook::flag::register(SIGHUP, Arc::clone(&asked))?;
    }
    Ok(asked)
}
