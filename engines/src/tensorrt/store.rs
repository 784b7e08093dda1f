//! Plans on disk: each is found by what it was built from and for, is built once, and is never read half-written.
//!
//! A plan and its manifest are two files. The plan is renamed into place first and the manifest after it, and the
//! manifest contains the plan's hash: so a kill at any moment leaves a pair that matches, or one that is found not to
//! match and is built again. The folder is locked during a build: of two processes the second waits, and uses the
//! first one's plan if it wanted the same.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use wordsight_onnx::proto::ModelProto;

use super::attempts::Attempt;
use super::builder::{default_workspace_mib, lacks_memory};
use super::state::give_to_owner;
use super::{
    BuildSettings, Decided, Library, Manifest, PlanBuilder, PlanKey, Precision, Step, TensorRtError, state,
};

/// A folder of plans.
#[derive(Debug, Clone)]
pub struct PlanStore {
    folder: PathBuf,
}

/// A plan to build, unless it is there.
#[derive(Debug)]
pub struct PlanRequest<'a> {
    /// What builds it.
    pub library: &'a Library,
    /// The model's file, for names.
    pub model: &'a Path,
    /// What it holds.
    pub bytes: &'a [u8],
    /// How.
    pub settings: &'a BuildSettings,
    /// The compute capability of the GPU that is there, if one is.
    pub gpu: Option<u32>,
    /// Whether to build it.
    pub policy: BuildPolicy,
}

/// When a plan is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildPolicy {
    /// When none is there that fits.
    IfMissing,
    /// Even if one is there, and whatever builds were killed: a user's wish.
    Always,
    /// In the place of the one that is there, which TensorRT refuses.
    Replace,
    /// Never: the error says in what an existing plan differs.
    Never,
}

/// A plan that is there.
#[derive(Debug)]
pub struct Plan {
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// What the file holds; its manifest is of these bytes.
    pub bytes: Vec<u8>,
    /// Whether it was built just now.
    pub is_new: bool,
}

impl PlanRequest<'_> {
    fn decode(&self) -> Result<ModelProto, TensorRtError> {
        wordsight_onnx::decode(self.bytes).map_err(|reason| TensorRtError::NotAModel {
            model: name_of(self.model),
            library: self.library.name(),
            reason: reason.to_string(),
        })
    }

    /// The command that builds the plan that is asked for.
    fn command(&self) -> String {
        let precision = match self.settings.precision {
            Precision::Auto => String::new(),
            other => format!(" --precision {}", other.name()),
        };
        format!("wordsight plan build {}{precision}", self.model.display())
    }
}

impl PlanStore {
    /// The store in a state directory.
    pub fn in_state(folder: &Path) -> Self {
        Self { folder: folder.join("plans") }
    }

    /// The state directory: what systemd gives a service (`STATE_DIRECTORY`); for root and the service's user the
    /// service's, where this program is installed with it; or else the user's own (`XDG_STATE_HOME`, `~/.local/state`).
    pub fn default_state() -> PathBuf {
        state::default_folder()
    }

    /// The plans that are there, in the order of their names, those with a bad manifest among them.
    ///
    /// # Errors
    /// When the folder can't be read; one that isn't there has no plans.
    #[allow(clippy::type_complexity)]
    pub fn list(&self) -> Result<Vec<(PathBuf, Result<Manifest, TensorRtError>)>, TensorRtError> {
        let unreadable = |reason| TensorRtError::Unreadable { path: self.folder.clone(), reason };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(unreadable)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "plan"));
        paths.sort();
        Ok(paths.into_iter().map(|path| (path.clone(), Manifest::read(&path))).collect())
    }

    /// The plan of a request: the one that is there, or a new one. `out` is a file of the caller's
    /// choice, instead of the store's own name.
    ///
    /// # Errors
    /// When the model can't be built, the plan can't be written, or none is there that fits and none
    /// may be built.
    pub fn obtain<F: Fn(Step<'_>) -> ControlFlow<()> + Sync>(
        &self,
        request: &PlanRequest<'_>,
        out: Option<&Path>,
        progress: &F,
    ) -> Result<Plan, TensorRtError> {
        request.settings.check(request.library)?;
        let gpu =
            request.settings.target.or(request.gpu).ok_or(TensorRtError::NoDriver {
                what_to_do: "build the plan on the device that will run it",
            })?;
        let model = request.decode()?;
        let decided = Decided::of(&model, request.settings.precision, gpu);
        let named = |decided: Decided| self.named(request, decided, gpu, out);
        let wanted = named(decided);
        let folder = wanted.folder();
        let unwritable = |reason| TensorRtError::Unwritable { path: wanted.path.clone(), reason };
        let _lock = lock(folder).map_err(unwritable)?;
        remove_leftovers(folder, &wanted.path);

        if !matches!(request.policy, BuildPolicy::Always | BuildPolicy::Replace) {
            // Integers that TensorRT couldn't build once are not tried again each time.
            let instead =
                wanted.decided.is_in_integers().then(|| named(Decided::without_integers("an earlier build")));
            if let Some(plan) = wanted.read().or_else(|| instead?.read()) {
                return Ok(plan);
            }
        }
        self.look_at_nearest(request, &wanted.key)?;
        match self.build(request, &model, &wanted, progress) {
            Err(TensorRtError::Refused { reason, .. })
                if wanted.decided.is_in_integers() && !lacks_memory(&reason) =>
            {
                tracing::warn!(
                    model = %request.model.display(), reason,
                    "TensorRT can't build the student in INT8 here: building it in FP16, which takes more time a frame"
                );
                let instead = named(Decided::without_integers(&reason));
                remove_leftovers(folder, &instead.path);
                self.build(request, &model, &instead, progress)
            }
            built => built,
        }
    }

    /// What a plan of a request is known by, where it is to compute in what was decided.
    fn named(&self, request: &PlanRequest<'_>, decided: Decided, gpu: u32, out: Option<&Path>) -> Named {
        let key = PlanKey::new(request.library, request.bytes, &decided.precision, gpu);
        let path = out.map_or_else(|| self.path_of(request.model, &key), Path::to_owned);
        Named { decided, key, path }
    }

    /// Tells in what a plan that is there differs from the one that is to be built.
    ///
    /// # Errors
    /// When none may be built.
    fn look_at_nearest(&self, request: &PlanRequest<'_>, key: &PlanKey) -> Result<(), TensorRtError> {
        let nearest = self.nearest(request.model, key);
        match (request.policy, nearest) {
            (BuildPolicy::Never, Some((path, differences))) => {
                Err(TensorRtError::StalePlan { path, differences, rebuild: request.command() })
            }
            (BuildPolicy::Never, None) => {
                Err(TensorRtError::NoPlan { model: request.model.to_owned(), build: request.command() })
            }
            (BuildPolicy::IfMissing, Some((path, differences))) => {
                let differences = differences.join("; ");
                tracing::info!(plan = %path.display(), differences, "a plan that is there does not fit: building another");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Builds a plan and puts it and its manifest in their places.
    fn build<F: Fn(Step<'_>) -> ControlFlow<()> + Sync>(
        &self,
        request: &PlanRequest<'_>,
        model: &ModelProto,
        wanted: &Named,
        progress: &F,
    ) -> Result<Plan, TensorRtError> {
        let Named { decided, key, path } = wanted;
        let name = name_of(request.model);
        let began = Instant::now();
        let again = request.policy == BuildPolicy::Always;
        let workspace_mib = request.settings.workspace_mib.unwrap_or_else(default_workspace_mib);
        let attempt = Attempt::begin(path, workspace_mib, again, request.model)?;
        let settings =
            BuildSettings { workspace_mib: Some(attempt.workspace_mib), ..request.settings.clone() };
        let given = wordsight_onnx::encode(&decided.model(model));
        let mut builder = PlanBuilder::parse(request.library, &given, &name, settings)?;
        let cache = self.timing_cache(key);
        let timed = fs::read(&cache).unwrap_or_default();
        let uses_cache = builder.use_timing_cache(&timed);
        let bytes = builder.build(&|step: Step<'_>| {
            let going = progress(step);
            if going == ControlFlow::Break(()) {
                attempt.is_to_stop();
            }
            going
        })?;
        if uses_cache && let Some(timed) = builder.timing_cache() {
            let kept = fs::create_dir_all(&self.folder).and_then(|()| replace(&self.folder, &cache, &timed));
            if let Err(error) = kept {
                tracing::warn!(path = %cache.display(), %error, "the timing cache was not kept: the next build takes longer");
            }
        }
        let ports = (builder.inputs(), builder.outputs());
        let seconds = began.elapsed().as_secs_f64();
        let manifest =
            Manifest::new(key.clone(), (&name, decided), attempt.workspace_mib, ports, &bytes, seconds);
        let unwritable = |reason| TensorRtError::Unwritable { path: path.clone(), reason };
        replace(wanted.folder(), path, &bytes).map_err(unwritable)?;
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| unwritable(error.into()))?;
        replace(wanted.folder(), &Manifest::path_of(path), &text).map_err(unwritable)?;
        Ok(Plan { path: path.clone(), manifest, bytes, is_new: true })
    }

    /// Of the plans of a model of that name, the one that differs least from a key, and in what.
    fn nearest(&self, model: &Path, key: &PlanKey) -> Option<(PathBuf, Vec<String>)> {
        let name = name_of(model);
        let plans = self.list().ok()?.into_iter();
        plans
            .filter_map(|(path, manifest)| manifest.ok().map(|manifest| (path, manifest)))
            .filter(|(_, manifest)| manifest.model == name)
            .map(|(path, manifest)| (path, manifest.key.differences(key)))
            .filter(|(_, differences)| !differences.is_empty())
            .min_by_key(|(_, differences)| differences.len())
    }

    fn path_of(&self, model: &Path, key: &PlanKey) -> PathBuf {
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        self.folder.join(format!("{stem}-{}.plan", key.digest()))
    }

    /// One for each TensorRT and GPU.
    fn timing_cache(&self, key: &PlanKey) -> PathBuf {
        let name = format!("{}-{}-{}.timing", key.flavour, key.version, key.gpu);
        self.folder.join(name.replace(' ', "-").to_lowercase())
    }
}

/// A plan that may be there or be built: what it is to compute in, what it is known by, and where it lies.
struct Named {
    decided: Decided,
    key: PlanKey,
    path: PathBuf,
}

impl Named {
    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
    }

    /// The plan, where it is there, whole, and what it is to be.
    fn read(&self) -> Option<Plan> {
        let manifest = Manifest::read(&self.path).ok().filter(|manifest| manifest.key == self.key)?;
        let bytes = manifest.read_plan(&self.path).ok()?;
        Some(Plan { path: self.path.clone(), manifest, bytes, is_new: false })
    }
}

/// Makes a folder where there is none and locks it as long as the file lives.
fn lock(folder: &Path) -> std::io::Result<File> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        give_to_owner(folder);
    }
    let lock = File::open(folder)?;
    if lock.try_lock().is_err() {
        tracing::warn!(folder = %folder.display(), "another process builds plans here: waiting for it");
        lock.lock()?;
    }
    Ok(lock)
}

/// What the bytes of a plan are written under until they are whole.
const PARTIAL: &str = ".partial";

/// Writes beside the old file, then takes its place.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let prefix = format!(".{}.", name_of(path));
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(PARTIAL)
        // A plan is no secret, and the service that runs it is often not the user who built it.
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    give_to_owner(path);
    Ok(())
}

/// Removes what earlier builds of this very plan left when they were killed; its lock is held.
fn remove_leftovers(folder: &Path, path: &Path) {
    let prefix = format!(".{}.", name_of(path));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(PARTIAL) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
