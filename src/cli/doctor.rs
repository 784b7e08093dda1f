//! `wordsight doctor`: everything that can be wrong on a device, in order, each with what to do.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::flags::{CommonArgs, SourceArgs};
use super::print::print;
use super::run::RunArgs;
use crate::bench;
use crate::config::{ChosenCameras, Config, ConfigError};
use crate::doctor::{Device, Finding, State, examine};
use crate::governor::board_root;
use crate::service::{DeviceTarget, KeptCameras, Target};

/// Where the service's configuration is, and what it keeps.
const SERVICE: &str = "etc/wordsight/wordsight.toml";
const STATE: &str = "var/lib/wordsight";

/// Looks at everything that can be wrong on a device, and says what to do: configuration, student, vocabulary, source,
/// permissions, releases, TensorRT, power and heat, disk, clock, service. Exit code 1 when something is wrong.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl DoctorArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = board_root();
        // The service's, on a device that has one.
        let file =
            self.common.config.clone().or_else(|| Some(root.join(SERVICE)).filter(|path| path.exists()));
        let chosen = match file.as_deref() == Some(&root.join(SERVICE)) {
            true => KeptCameras::of_state(&root.join(STATE)).read(),
            false => ChosenCameras::default(),
        };
        let run = RunArgs::of_parts(self.source, CommonArgs { config: file.clone(), ..self.common });
        let configured = Config::load(file.as_deref()).and_then(|config| targets(&run, config, &chosen));
        let (configured, others) = match configured {
            Ok((first, others)) => (Ok(first), others),
            Err(error) => (Err(error), Vec::new()),
        };
        let findings = examine(&Device { file, configured, others, chosen, root, now: SystemTime::now() });
        if self.json {
            print(&(serde_json::to_string_pretty(&findings)? + "\n"))?;
        } else {
            print(&table(&findings))?;
        }
        let is_wrong = findings.iter().any(|finding| finding.state == State::Wrong);
        Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The stream of a configuration, or the first of its cameras and the others, with those that were asked for over HTTP.
fn targets(
    run: &RunArgs,
    config: Config,
    chosen: &ChosenCameras,
) -> Result<(Target, Vec<Target>), ConfigError> {
    if config.cameras().is_empty() {
        return Ok((run.target_of(config)?, Vec::new()));
    }
    let DeviceTarget { cameras, http, health, governor } = run.device(None, chosen)?;
    let mut cameras = cameras.into_iter();
    let first = cameras.next().ok_or_else(|| ConfigError::Cameras("there is none".to_owned()))?;
    Ok((Target { http, health, governor, ..first }, cameras.collect()))
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, state, found, todo } in findings {
        // A text has room for everything.
        let _ = bench::row(&mut text, state.name(), &format!("{about}: {}", found.trim_end()));
        if let Some(todo) = todo {
            let _ = bench::row(&mut text, "", &format!("-> {todo}"));
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let _ = bench::row(
        &mut text,
        "",
        &format!(
            "{} looked at, {} wrong, {} to be warned of",
            findings.len(),
            count(State::Wrong),
            count(State::Warning)
        ),
    );
    text
}
