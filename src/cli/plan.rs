//! `wordsight plan`: builds, shows and lists TensorRT plans.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use wordsight_engines::nvidia::gpus;
use wordsight_engines::tensorrt::{
    BuildPolicy, BuildSettings, Library, LoadedPlan, Manifest, PlanPort, PlanRequest, PlanStore, Step,
    TensorRtError,
};

use crate::config::ConfigError;
use crate::files::{Content, Inputs};
use crate::pipeline::Precision;
use crate::service::BuildProgress;
use crate::threads::Stop;

/// Builds, shows and lists TensorRT plans.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(subcommand)]
    command: PlanCommand,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Builds the plan of a student, unless it is there
    Build {
        /// The student (or any other ONNX model with fixed shapes)
        #[arg(value_name = "STUDENT.onnx")]
        student: PathBuf,
        /// Compute capability of the GPU to build for, 89 for 8.9; without it the GPU that is there.
        /// Only TensorRT for RTX builds for others: 75, 80, 86, 89, 120, 121
        #[arg(long, value_name = "CC")]
        target: Option<u32>,
        /// The plan's file; without it a name of its own in the state directory
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The most scratch memory, MiB: lower it where the build is killed for memory. Without it 512, or a quarter of
        /// what is free where that is less
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
        workspace: Option<u32>,
        /// What a student in FP32 becomes, as `precision` of the configuration
        #[arg(long, default_value = "auto")]
        precision: Precision,
        /// Build it even if it is there
        #[arg(long)]
        rebuild: bool,
        /// Print what was built as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        places: Places,
    },
    /// Shows what a plan is, and whether this machine takes it
    Inspect {
        /// The plan
        #[arg(value_name = "FILE.plan")]
        plan: PathBuf,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        places: Places,
    },
    /// Lists the plans in the state directory
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        /// The state directory, as of `build`
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Places {
    /// The folder of TensorRT's libraries; without it the system's loader looks for them
    #[arg(long, value_name = "DIR")]
    tensorrt: Option<PathBuf>,
    /// The state directory; by default $STATE_DIRECTORY, for root the installed service's, or wordsight in the user's own
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl PlanArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            PlanCommand::Build { student, target, out, workspace, precision, rebuild, json, places } => {
                let settings =
                    BuildSettings { workspace_mib: workspace, target, precision: precision.into() };
                let policy = if rebuild { BuildPolicy::Always } else { BuildPolicy::IfMissing };
                build(&student, &settings, out.as_deref(), policy, json, &places)
            }
            PlanCommand::Inspect { plan, json, places } => inspect(&plan, json, &places),
            PlanCommand::List { json, state } => list(&store(state.as_deref()), json),
        }
    }
}

fn store(state: Option<&Path>) -> PlanStore {
    PlanStore::in_state(&state.map_or_else(PlanStore::default_state, Path::to_owned))
}

fn build(
    student: &Path,
    settings: &BuildSettings,
    out: Option<&Path>,
    policy: BuildPolicy,
    json: bool,
    places: &Places,
) -> anyhow::Result<ExitCode> {
    if let Some(out) = out {
        Inputs::of([student]).check(out, Content::Plan).map_err(ConfigError::from)?;
    }
    let library = Library::open(places.tensorrt.as_deref())?;
    let stop = Stop::on_signals()?;
    let bar = BuildBar::new(student)?;
    let bytes =
        fs::read(student).map_err(|reason| TensorRtError::Unreadable { path: student.to_owned(), reason })?;
    let (library, bytes) = (&library, &bytes);
    let request = PlanRequest { library, model: student, bytes, settings, gpu: first_gpu(), policy };
    let plan = store(places.state.as_deref()).obtain(&request, out, &|step| {
        bar.show(step);
        if stop.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(bar);
    let plan = plan?;
    if json {
        let shown =
            serde_json::json!({ "plan": plan.path, "is_new": plan.is_new, "manifest": plan.manifest });
        print_json(&shown)?;
    } else {
        let manifest = &plan.manifest;
        let megabytes = manifest.plan_bytes as f64 / 1e6;
        let what = if plan.is_new {
            format!("built in {:.1} s", manifest.build_seconds)
        } else {
            "there already".to_owned()
        };
        writeln!(
            std::io::stdout(),
            "{} ({megabytes:.1} MB): {what}\n{}, {}",
            plan.path.display(),
            manifest.key.precision,
            manifest.precision_because
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How far a build is, on a terminal; nothing where nothing is built.
struct BuildBar {
    bar: ProgressBar,
    ticking: Once,
}

impl BuildBar {
    /// For the plan of a student.
    fn new(student: &Path) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template("{spinner} {elapsed} [{wide_bar}] {pos}/{len} {msg}")?;
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.set_message(format!("TensorRT builds {}", student.display()));
        Ok(Self { bar, ticking: Once::new() })
    }

    /// Shows a step.
    fn show(&self, step: Step<'_>) {
        self.ticking.call_once(|| self.bar.enable_steady_tick(std::time::Duration::from_millis(200)));
        self.bar.set_length(u64::from(step.done.1));
        self.bar.set_position(u64::from(step.done.0));
        self.bar.set_message(step.phase.to_owned());
    }
}

/// Shows the build of a student's plan on a terminal.
pub(super) fn show_build(student: &Path) -> anyhow::Result<BuildProgress> {
    let bar = BuildBar::new(student)?;
    Ok(Box::new(move |step| bar.show(step)))
}

impl Drop for BuildBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn inspect(path: &Path, json: bool, places: &Places) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(path)?;
    let plan = manifest.read_plan(path)?;
    let here = verdict(path, &manifest, &plan, places);
    if json {
        let here = here.as_ref().map_or_else(|reason| format!("{reason}"), |()| "loads".to_owned());
        print_json(&serde_json::json!({ "plan": path, "manifest": manifest, "here": here }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = &manifest.key;
    let ports = |ports: &[PlanPort]| {
        let ports: Vec<String> = ports
            .iter()
            .map(|port| format!("{} {} {:?}", port.name, port.element_type, port.shape))
            .collect();
        ports.join(", ")
    };
    let rows = [
        ("model", format!("{} ({})", manifest.model, &key.model_sha256[..key.model_sha256.len().min(12)])),
        ("precision", format!("{}, {}", key.precision, manifest.precision_because)),
        ("built by", format!("{} {}, in {:.1} s", key.flavour, key.version, manifest.build_seconds)),
        ("for", format!("compute capability {}, {}", key.gpu, key.platform)),
        ("board", key.board.clone().unwrap_or_else(|| "any".to_owned())),
        ("workspace", format!("{} MiB", manifest.workspace_mib)),
        ("size", format!("{:.1} MB", manifest.plan_bytes as f64 / 1e6)),
        ("inputs", ports(&manifest.inputs)),
        ("outputs", ports(&manifest.outputs)),
        ("here", here.map_or_else(|reason| reason.to_string(), |()| "it loads".to_owned())),
    ];
    let mut output = std::io::stdout().lock();
    for (name, value) in rows {
        writeln!(output, "{name:<10} {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The compute capability of the first GPU, if there is one.
fn first_gpu() -> Option<u32> {
    gpus().ok()?.first().copied()
}

/// Whether this machine takes a whole plan, and if not, why.
fn verdict(path: &Path, manifest: &Manifest, plan: &[u8], places: &Places) -> Result<(), TensorRtError> {
    let library = Library::open(places.tensorrt.as_deref())?;
    let here = manifest.key.here(&library, first_gpu());
    let differences = manifest.key.differences(&here);
    if !differences.is_empty() {
        let rebuild = format!("wordsight plan build {}", manifest.model);
        return Err(TensorRtError::StalePlan { path: path.to_owned(), differences, rebuild });
    }
    let loaded = LoadedPlan::load(&library, path, plan)?;
    let (inputs, outputs) = loaded.ports();
    if (inputs.len(), outputs.len()) != (manifest.inputs.len(), manifest.outputs.len()) {
        let reason = "its ports are not those of its manifest".to_owned();
        return Err(TensorRtError::DamagedPlan { path: path.to_owned(), reason });
    }
    Ok(())
}

fn list(store: &PlanStore, json: bool) -> anyhow::Result<ExitCode> {
    let plans = store.list()?;
    if json {
        let plans: Vec<serde_json::Value> = plans
            .iter()
            .map(|(path, manifest)| match manifest {
                Ok(manifest) => serde_json::json!({ "plan": path, "manifest": manifest }),
                Err(error) => serde_json::json!({ "plan": path, "error": error.to_string() }),
            })
            .collect();
        print_json(&serde_json::Value::from(plans))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut output = std::io::stdout().lock();
    if plans.is_empty() {
        writeln!(output, "no plans yet: `wordsight plan build STUDENT.onnx` makes one")?;
    }
    for (path, manifest) in &plans {
        match manifest {
            Ok(manifest) => {
                let key = &manifest.key;
                writeln!(
                    output,
                    "{}  {:.1} MB  {}  {} {}  compute capability {}",
                    path.display(),
                    manifest.plan_bytes as f64 / 1e6,
                    key.precision,
                    key.flavour,
                    key.version,
                    key.gpu
                )?;
            }
            Err(error) => writeln!(output, "{}  {error}", path.display())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(value)?)?;
    Ok(())
}
