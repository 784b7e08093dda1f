//! Opens an engine once for all streams that run the same student: each gets a [`SharedEngine`] of it.

use std::sync::Mutex;
use std::time::Duration;

use wordsight_engines::{Engine, SharedEngine};

use super::engines::Engines;
use super::file_watch::Watched;
use super::target::EngineTarget;
use crate::threads::{Stop, locked};

/// Engines that several streams share.
pub struct SharedEngines<'a> {
    installed: &'a dyn Engines,
    on_processor: Mutex<Option<Opened>>,
    on_tensorrt: Mutex<Option<Opened>>,
}

/// What was opened last.
struct Opened {
    target: EngineTarget,
    /// The student's file as it was then.
    student: Watched,
    engine: SharedEngine,
}

impl<'a> SharedEngines<'a> {
    /// Those that these open.
    pub fn new(installed: &'a dyn Engines) -> Self {
        Self { installed, on_processor: Mutex::default(), on_tensorrt: Mutex::default() }
    }
}

/// The engine that is open for this target, or is opened now. Whoever asks meanwhile waits for it.
fn shared(
    opened: &Mutex<Option<Opened>>,
    target: &EngineTarget,
    open: impl FnOnce() -> anyhow::Result<Box<dyn Engine>>,
) -> anyhow::Result<Box<dyn Engine>> {
    let mut opened = locked(opened);
    let student = Watched::new(&target.student);
    if let Some(known) = opened.as_ref().filter(|known| known.target == *target && known.student == student) {
        return Ok(Box::new(known.engine.for_another()?));
    }
    let engine = SharedEngine::new(open()?)?;
    let another = engine.for_another()?;
    *opened = Some(Opened { target: target.clone(), student, engine });
    Ok(Box::new(another))
}

impl Engines for SharedEngines<'_> {
    fn on_processor(&self, target: &EngineTarget) -> anyhow::Result<Box<dyn Engine>> {
        shared(&self.on_processor, target, || self.installed.on_processor(target))
    }

    fn on_tensorrt(
        &self,
        target: &EngineTarget,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>> {
        let opened = shared(&self.on_tensorrt, target, || self.installed.on_tensorrt(target, stop, alive))?;
        // The processor doesn't stand in any more: streams that still use its engine have it until they change.
        *locked(&self.on_processor) = None;
        Ok(opened)
    }

    fn wait(&self, duration: Duration, stop: &Stop) {
        self.installed.wait(duration, stop);
    }
}
