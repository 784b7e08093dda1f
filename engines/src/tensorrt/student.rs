//! Runs a student with TensorRT: finds or builds its plan, loads it, and puts it between the GPU's kernels.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{BuildPolicy, BuildSettings, Library, LoadedPlan, PlanRequest, PlanStore, Step, TensorRtError};
use crate::gpu::GpuEngine;
use crate::{EngineError, StudentFacts, nvidia};

/// Where TensorRT and its plans are, and whether plans may be built.
#[derive(Debug, Clone)]
pub struct TensorRtSettings {
    /// The folder of TensorRT's libraries; without it the system's loader looks for them.
    pub libraries: Option<PathBuf>,
    /// The state directory ([`PlanStore::default_state`]).
    pub state: PathBuf,
    /// Builds a plan where none fits, which takes minutes; or else says what differs and how to build one.
    pub builds_plans: bool,
    /// How it is built.
    pub build: BuildSettings,
}

/// A student that TensorRT runs.
pub type TensorRtEngine = GpuEngine<LoadedPlan>;

impl TensorRtEngine {
    /// Opens a student file: finds or builds its plan for the first GPU and loads it. `progress` is called during a build.
    ///
    /// # Errors
    /// When there is no GPU or no TensorRT, the file is no student, or there is no plan and none can be built.
    pub fn open<F: Fn(Step<'_>) -> ControlFlow<()> + Sync>(
        student: &Path,
        settings: &TensorRtSettings,
        progress: &F,
    ) -> Result<Self, EngineError> {
        // In the order of what is missing most often: what to do is another thing each time.
        let gpu = match nvidia::gpus() {
            Ok(gpus) => gpus.first().copied(),
            Err(nvidia::DriverError::Missing) => None,
            Err(error) => {
                return Err(EngineError::Gpu { engine: "TensorRT".to_owned(), reason: error.into() });
            }
        };
        let Some(gpu) = gpu else {
            return Err(TensorRtError::NoDriver {
                what_to_do: "`--engine onnxruntime` runs the student on the processor",
            }
            .into());
        };
        let library = Library::open(settings.libraries.as_deref())?;
        let bytes = wordsight_files::read_whole(student, wordsight_onnx::LONGEST_FILE)
            .map_err(|reason| EngineError::Unreadable { path: student.to_owned(), reason })?;
        let name = student.display().to_string();
        let model = wordsight_onnx::decode(&bytes)
            .map_err(|reason| EngineError::NotAModel { model: name.clone(), reason: reason.to_string() })?;
        let facts = StudentFacts::of_model(&model, &name)?;
        drop(model);

        let store = PlanStore::in_state(&settings.state);
        let request = |policy| PlanRequest {
            library: &library,
            model: student,
            bytes: &bytes,
            settings: &settings.build,
            gpu: Some(gpu),
            policy,
        };
        let policy = if settings.builds_plans { BuildPolicy::IfMissing } else { BuildPolicy::Never };
        let plan = store.obtain(&request(policy), None, progress)?;
        let precision = &plan.manifest.key.precision;
        tracing::info!(plan = %plan.path.display(), precision, because = plan.manifest.precision_because, "the plan");
        let engine_name = format!("{} ({precision})", library.name());
        GpuEngine::new(&engine_name, facts, || {
            match LoadedPlan::load(&library, &plan.path, &plan.bytes) {
                // A new driver can refuse what an old one took.
                Err(TensorRtError::WontLoad { path, reason, .. })
                    if settings.builds_plans && !plan.is_new =>
                {
                    tracing::warn!(plan = %path.display(), reason, "TensorRT will not load the plan: building it again");
                    let plan = store.obtain(&request(BuildPolicy::Replace), None, progress)?;
                    Ok(LoadedPlan::load(&library, &plan.path, &plan.bytes)?)
                }
                loaded => Ok(loaded?),
            }
        })
    }
}
