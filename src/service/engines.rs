//! Opens the engine of a stream; `auto` falls back to the processor while the GPU can't be used.
//!
//! Takes a student and what is to run it ([`EngineTarget`]), and gives an [`Opened`] engine and, where ONNX Runtime has
//! taken TensorRT's place, why.
//!
//! A driver that finds no GPU is asked again. At boot the service may start before the GPU's driver or power is up
//! (llama.cpp#27923, meta-tegra#1294), and a decision made in that second would hold until somebody restarts the
//! service.

use std::thread;
use std::time::Duration;

use wordsight_capture::LONGEST_NAP;
use wordsight_engines::{CpuEngine, Engine, Regions};

use super::target::EngineTarget;
use crate::health::EngineHealth;
use crate::pipeline::EngineKind;
use crate::threads::Stop;

/// From one question to the next while a service starts.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// An engine that was opened.
pub struct Opened {
    pub engine: Box<dyn Engine>,
    pub instead: Option<Instead>,
}

/// Why ONNX Runtime runs a student that TensorRT was to run.
pub struct Instead {
    pub reason: anyhow::Error,
    /// Whether the GPU may come up yet.
    pub may_pass: bool,
}

impl Opened {
    /// Whether the processor stands in for a GPU that may come up yet.
    pub fn gpu_may_come(&self) -> bool {
        self.instead.as_ref().is_some_and(|instead| instead.may_pass)
    }

    /// What the health says of it.
    pub fn health(&self) -> EngineHealth {
        let instead = self.instead.as_ref().filter(|instead| !is_without_driver(&instead.reason));
        EngineHealth {
            name: self.engine.title().to_owned(),
            instead_of_tensorrt: instead.map(|instead| format!("{:#}", instead.reason)),
        }
    }
}

/// How long a GPU is waited for that the driver can't use yet.
#[derive(Debug, Clone, Copy)]
pub struct GpuWait {
    /// Before the processor takes its place.
    pub at_start: Duration,
    /// From one try to the next after that.
    pub later: Duration,
}

impl GpuWait {
    /// A service's: it has the whole uptime before it.
    pub const SERVICE: Self = Self { at_start: Duration::from_secs(30), later: Duration::from_secs(30) };
}

/// What opens engines: those that are installed, or a test's.
pub trait Engines: Sync {
    /// Opens the student on ONNX Runtime.
    fn on_processor(&self, target: &EngineTarget) -> anyhow::Result<Box<dyn Engine>>;

    /// Opens the student on TensorRT. `alive` is called now and then while a plan is built.
    fn on_tensorrt(
        &self,
        target: &EngineTarget,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>>;

    /// Lets time pass, less of it when `stop` is requested.
    fn wait(&self, duration: Duration, stop: &Stop);
}

/// Takes the steps of a plan's build, which takes minutes.
#[cfg(feature = "tensorrt")]
pub type BuildProgress = Box<dyn Fn(wordsight_engines::tensorrt::Step<'_>) + Send + Sync>;

/// The engines of this machine.
pub struct Installed {
    /// Begins to show the build of a student's plan.
    #[cfg(feature = "tensorrt")]
    pub progress: fn(&std::path::Path) -> anyhow::Result<BuildProgress>,
}

impl Installed {
    /// Who builds no plan has nothing to show.
    pub const QUIET: Self = Self {
        #[cfg(feature = "tensorrt")]
        progress: |_| Ok(Box::new(|_| ())),
    };
}

impl Engines for Installed {
    fn on_processor(&self, target: &EngineTarget) -> anyhow::Result<Box<dyn Engine>> {
        Ok(Box::new(CpuEngine::open(&target.student, target.threads)?))
    }

    #[cfg(feature = "tensorrt")]
    fn on_tensorrt(
        &self,
        target: &EngineTarget,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>> {
        use std::ops::ControlFlow;

        use wordsight_engines::tensorrt::{BuildSettings, PlanStore, TensorRtEngine, TensorRtSettings};
        let settings = TensorRtSettings {
            libraries: target.tensorrt.clone(),
            state: PlanStore::default_state(),
            builds_plans: target.builds_plans,
            build: BuildSettings {
                workspace_mib: (target.workspace_mib > 0).then_some(target.workspace_mib),
                target: None,
                precision: target.precision.into(),
            },
        };
        let progress = (self.progress)(&target.student)?;
        let show = |step: wordsight_engines::tensorrt::Step<'_>| {
            alive();
            progress(step);
            if stop.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        Ok(Box::new(TensorRtEngine::open(&target.student, &settings, &show)?))
    }

    #[cfg(not(feature = "tensorrt"))]
    fn on_tensorrt(
        &self,
        target: &EngineTarget,
        _: &Stop,
        _: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>> {
        let _ = (&target.tensorrt, target.builds_plans, target.precision, target.workspace_mib);
        Err(crate::config::ConfigError::NoTensorRt.into())
    }

    fn wait(&self, duration: Duration, stop: &Stop) {
        let naps = duration.as_millis() / LONGEST_NAP.as_millis();
        for _ in 0..naps {
            if stop.is_requested() {
                return;
            }
            thread::sleep(LONGEST_NAP);
        }
    }
}

impl EngineTarget {
    /// Opens the student, and with `auto` takes at once what there is. `alive` is called now and then while a plan is
    /// built.
    ///
    /// # Errors
    /// When the student or what is to run it can't be opened.
    pub fn open(
        &self,
        engines: &dyn Engines,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>> {
        Ok(self.open_with(engines, Duration::ZERO, stop, alive)?.engine)
    }

    /// Opens the student and runs it once on grey, so that the first frame isn't slower than the rest: engines lay out
    /// their memory in the first run. `auto` waits `longest` for a GPU that the driver can't use yet.
    ///
    /// # Errors
    /// When the student or what is to run it can't be opened.
    pub fn open_with(
        &self,
        engines: &dyn Engines,
        longest: Duration,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Opened> {
        let of = |engine| Opened { engine, instead: None };
        let mut opened = match self.kind {
            EngineKind::OnnxRuntime => of(engines.on_processor(self)?),
            EngineKind::TensorRt => of(engines.on_tensorrt(self, stop, alive)?),
            EngineKind::Auto => self.open_best(engines, longest, stop, alive)?,
        };
        warm_up(&mut *opened.engine)?;
        let engine = &opened.engine;
        let (student, teacher) = (self.student.display(), &engine.facts().teacher);
        tracing::info!(%student, teacher, engine = engine.title(), "opened the student");
        Ok(opened)
    }

    /// TensorRT, for whose GPU is waited where its driver is, or ONNX Runtime.
    fn open_best(
        &self,
        engines: &dyn Engines,
        longest: Duration,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Opened> {
        // Counted by what was waited, and not by a clock: the board's may be set meanwhile.
        let mut waited = Duration::ZERO;
        loop {
            let reason = match engines.on_tensorrt(self, stop, alive) {
                Ok(engine) => return Ok(Opened { engine, instead: None }),
                Err(_) if stop.is_requested() => anyhow::bail!("stopped while the student was opened"),
                Err(reason) => reason,
            };
            let may_pass = is_of_gpu(&reason);
            if !may_pass || waited >= longest {
                // First: what is wrong with the student is wrong here too, and is told then.
                let engine = engines.on_processor(self)?;
                say_why_not_tensorrt(&reason);
                return Ok(Opened { engine, instead: Some(Instead { reason, may_pass }) });
            }
            if waited.is_zero() {
                tracing::warn!("the GPU is waited for, {} s at most: {reason:#}", longest.as_secs());
            }
            engines.wait(ASK_EVERY, stop);
            waited += ASK_EVERY;
        }
    }

    /// TensorRT for a student that ONNX Runtime runs meanwhile, as [`Self::open_with`] would have opened it.
    ///
    /// # Errors
    /// Why ONNX Runtime goes on.
    pub fn open_after_all(
        &self,
        engines: &dyn Engines,
        stop: &Stop,
        alive: &(dyn Fn() + Sync),
    ) -> Result<Box<dyn Engine>, Instead> {
        let opened = engines.on_tensorrt(self, stop, alive).and_then(|mut engine| {
            warm_up(&mut *engine)?;
            Ok(engine)
        });
        opened.map_err(|reason| Instead { may_pass: is_of_gpu(&reason), reason })
    }
}

fn warm_up(engine: &mut dyn Engine) -> anyhow::Result<()> {
    let facts = engine.facts();
    let grey = vec![wordsight_detection::PADDING; facts.resize.input_len()];
    Ok(engine.infer(&grey, &mut Regions::default())?)
}

/// That ONNX Runtime takes TensorRT's place. On a machine without NVIDIA's driver that is no news.
fn say_why_not_tensorrt(reason: &anyhow::Error) {
    if is_without_driver(reason) {
        tracing::info!("ONNX Runtime runs the student, on the processor: {reason:#}");
    } else {
        tracing::warn!("ONNX Runtime runs the student, on the processor, and not TensorRT: {reason:#}");
    }
}

/// Whether there is no NVIDIA driver, or this program was built without TensorRT.
fn is_without_driver(reason: &anyhow::Error) -> bool {
    #[cfg(feature = "tensorrt")]
    {
        use wordsight_engines::EngineError;
        use wordsight_engines::tensorrt::TensorRtError;
        matches!(reason.downcast_ref(), Some(EngineError::TensorRt(TensorRtError::NoDriver { .. })))
    }
    #[cfg(not(feature = "tensorrt"))]
    {
        let _ = reason;
        true
    }
}

/// Whether it is the GPU that can't be used, and neither TensorRT nor the student is at fault.
fn is_of_gpu(reason: &anyhow::Error) -> bool {
    #[cfg(feature = "tensorrt")]
    {
        use wordsight_engines::EngineError;
        use wordsight_engines::gpu::GpuError;
        matches!(
            reason.downcast_ref(),
            Some(EngineError::Gpu { reason: GpuError::Driver(_) | GpuError::Cuda { .. }, .. })
        )
    }
    #[cfg(not(feature = "tensorrt"))]
    {
        let _ = reason;
        false
    }
}
