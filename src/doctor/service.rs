//! Findings about the service, by its health file.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::finding::{Device, Finding};

/// A health file that is older than this was written by something that is gone. It is written every second.
const STALE: Duration = Duration::from_secs(10);

const ABOUT: &str = "service";
const SEE_JOURNAL: &str = "see `journalctl -u wordsight -n 50`";

/// What the service says of itself.
pub enum Service {
    /// It says nothing.
    Silent(PathBuf),
    /// It has said nothing for so long.
    Stale(PathBuf, Duration),
    /// It said this just now.
    Says(Value),
}

impl Service {
    pub fn look(device: &Device) -> Self {
        let configured = device.configured.as_ref().ok().and_then(|configured| configured.health.clone());
        let path = configured.unwrap_or_else(|| device.root.join("run/wordsight/health.json"));
        let read = std::fs::read(&path).ok();
        let Some(health) = read.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else {
            return Self::Silent(path);
        };
        let now = device.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let written = Duration::try_from_secs_f64(health["written_at"].as_f64().unwrap_or_default());
        match now.saturating_sub(written.unwrap_or_default()) {
            age if age > STALE && health["state"] != "ended" => Self::Stale(path, age),
            _ => Self::Says(health),
        }
    }

    pub fn runs(&self) -> bool {
        matches!(self, Self::Says(health) if health["state"] != "ended")
    }

    pub fn findings(&self, root: &Path) -> Vec<Finding> {
        match self {
            Self::Says(health) => {
                [Some(stream(health)), reload(health), governor(health)].into_iter().flatten().collect()
            }
            Self::Stale(path, age) => {
                let age = age.as_secs();
                let found = format!(
                    "{} was written last {age} s ago: what wrote it is gone or hangs",
                    path.display()
                );
                vec![Finding::wrong(ABOUT, found, SEE_JOURNAL)]
            }
            Self::Silent(path) => vec![not_running(path, root)],
        }
    }
}

fn not_running(path: &Path, root: &Path) -> Finding {
    let units = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
    let is_installed = units.iter().any(|folder| root.join(folder).join("wordsight.service").exists());
    let found = format!("not running: there is no {}", path.display());
    if !is_installed {
        return Finding::ok(ABOUT, format!("{found}, and it is not installed"));
    }
    let todo = format!("start it with `systemctl enable --now wordsight`, and {SEE_JOURNAL}");
    Finding::warning(ABOUT, found, todo)
}

fn stream(health: &Value) -> Finding {
    match text(&health["state"]) {
        "lost" => Finding::wrong(
            ABOUT,
            format!(
                "its source is lost since {:.0} s: {}",
                health["for_s"].as_f64().unwrap_or_default(),
                text(&health["reason"])
            ),
            "look at the camera, its cable and its network; detection goes on by itself when it is back",
        ),
        "ended" => Finding::warning(
            ABOUT,
            "its stream has ended",
            format!("start it again with `systemctl restart wordsight`, and {SEE_JOURNAL}"),
        ),
        state => {
            let published = health["published"].as_u64().unwrap_or_default();
            let engine = match text(&health["engine"]["name"]) {
                "" => String::new(),
                name => format!(" by {name}"),
            };
            Finding::ok(ABOUT, format!("{state}{engine}, {published} frames published"))
        }
    }
}

fn reload(health: &Value) -> Option<Finding> {
    let error = health["reload"]["last_error"].as_str()?;
    Some(Finding::warning(
        "reload",
        format!("the last one was refused, and what was before goes on: {error}"),
        "put the file right: it is loaded again by itself",
    ))
}

fn governor(health: &Value) -> Option<Finding> {
    let limit_fps = health["governor"]["limit_fps"].as_f64()?;
    let reason = text(&health["governor"]["reason"]);
    Some(Finding::warning(
        "governor",
        format!("the stream is held back to {limit_fps:.1} frames/s ({reason})"),
        "give the board more air, a fan, a stronger supply or a lower power mode",
    ))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
