//! The health of a stream: its state and counters, as a report and as a file for other programs.
//!
//! Collects what the stages notice: a source that is lost or back, frames that come and go. It gives a
//! [`HealthReport`], to be read at any time from any thread, and writes a file that always holds the latest one
//! ([`HealthFile`]).
//!
//! A stream whose camera is lost is still alive, and `state` says that the camera is lost. A process that has died
//! writes nothing more, and `written_at` shows that.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use wordsight_board::Reason;
use wordsight_capture::SourceObserver;

use crate::files::{Durability, replace_for_group};
use crate::threads::clock::since_1970;
use crate::threads::{locked, named};

/// From one look at the health to the next.
const LOOK: Duration = Duration::from_millis(100);
/// A file is written anew after so long even if nothing has changed, so that its age says that the process lives.
const REFRESH: Duration = Duration::from_secs(1);

/// How the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// There was no frame yet.
    #[default]
    Starting,
    /// Frames come.
    Running,
    /// The source is gone, and is asked for again and again.
    Lost,
    /// The stream has ended.
    Ended,
}

/// The words in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VocabularyHealth {
    /// The file they came from.
    pub path: PathBuf,
    /// How many they are.
    pub words: usize,
}

/// What runs the student.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EngineHealth {
    /// The engine and what it computes in: "TensorRT 10.3.0 (fp16)". Empty until one is open.
    pub name: String,
    /// Why it isn't TensorRT, where that was to be tried first and didn't come up.
    pub instead_of_tensorrt: Option<String>,
}

/// What came of loading the configuration and the vocabulary again.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReloadHealth {
    /// How often something else was taken over.
    pub count: u64,
    /// How often it was refused, and what was before went on.
    pub refused: u64,
    /// Why, if the last one was refused.
    pub last_error: Option<String>,
}

/// What the governor does.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GovernorHealth {
    /// Frames a second that are let in; nothing while all are.
    pub limit_fps: Option<f64>,
    /// Frames a second that come when nothing is held back.
    pub full_fps: Option<f64>,
    /// Why frames are held back.
    pub reason: Option<Reason>,
    /// For how long the stream was held back since the start, seconds.
    pub held_back_s: f64,
    /// The zone that is nearest to where the board is slowed for its heat.
    pub hottest: Option<String>,
    /// By how many degrees it is away from that.
    pub margin_c: Option<f64>,
}

/// How the stream is at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthReport {
    /// The source, as it was written, without a password.
    pub source: String,
    /// How the source is.
    pub state: SourceState,
    /// For how long it has been so, seconds.
    pub for_s: f64,
    /// Why it is lost.
    pub reason: Option<String>,
    /// How often a lost source was asked for since it was lost.
    pub attempts: u64,
    /// How often the source was lost since the start.
    pub losses: u64,
    /// Frames that were published since the start.
    pub published: u64,
    /// Since the last one was published, seconds.
    pub last_published_s: Option<f64>,
    /// What runs the student.
    pub engine: EngineHealth,
    /// The words in use.
    pub vocabulary: VocabularyHealth,
    /// What came of loading the configuration again.
    pub reload: ReloadHealth,
    /// What the governor does; nothing where there is none.
    pub governor: Option<GovernorHealth>,
    /// When this was written, seconds since 1970.
    pub written_at: f64,
}

/// The health of one stream, shared by its stages.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<Noticed>>);

#[derive(Debug)]
struct Noticed {
    source: String,
    engine: EngineHealth,
    vocabulary: VocabularyHealth,
    reload: ReloadHealth,
    governor: Option<GovernorHealth>,
    state: SourceState,
    since: Instant,
    reason: Option<String>,
    attempts: u64,
    losses: u64,
    published: u64,
    last_published: Option<Instant>,
    /// Counts changes of everything above but frames.
    changes: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Noticed {
            source: String::new(),
            engine: EngineHealth::default(),
            vocabulary: VocabularyHealth::default(),
            reload: ReloadHealth::default(),
            governor: None,
            state: SourceState::default(),
            since: Instant::now(),
            reason: None,
            attempts: 0,
            losses: 0,
            published: 0,
            last_published: None,
            changes: 0,
        })))
    }
}

impl Health {
    fn noticed(&self) -> MutexGuard<'_, Noticed> {
        locked(&self.0)
    }

    /// Frames are to come from this source, and none has come yet.
    pub fn of_source(&self, name: &str) {
        let mut noticed = self.noticed();
        name.clone_into(&mut noticed.source);
        noticed.turn(SourceState::Starting);
        (noticed.reason, noticed.attempts) = (None, 0);
    }

    /// The student is run by this engine from now on.
    pub fn of_engine(&self, engine: EngineHealth) {
        let mut noticed = self.noticed();
        noticed.engine = engine;
        noticed.changes += 1;
    }

    /// Things are to be named by so many words of this file.
    pub fn of_vocabulary(&self, path: &Path, words: usize) {
        let mut noticed = self.noticed();
        noticed.vocabulary = VocabularyHealth { path: path.to_owned(), words };
        noticed.changes += 1;
    }

    /// What was loaded again is in use.
    pub fn reloaded(&self) {
        let mut noticed = self.noticed();
        noticed.reload.count += 1;
        noticed.reload.last_error = None;
        noticed.changes += 1;
    }

    /// What was loaded again is as it was.
    pub fn unchanged(&self) {
        let mut noticed = self.noticed();
        noticed.reload.last_error = None;
        noticed.changes += 1;
    }

    /// What was loaded again doesn't work, and isn't used.
    pub fn reload_refused(&self, reason: &str) {
        let mut noticed = self.noticed();
        noticed.reload.refused += 1;
        noticed.reload.last_error = Some(reason.to_owned());
        noticed.changes += 1;
    }

    /// What the governor does. It is told every second, as the file is written anyway.
    pub fn governed(&self, governor: Option<GovernorHealth>) {
        self.noticed().governor = governor;
    }

    /// The stream could not be started, and is tried again.
    pub fn could_not_start(&self, reason: &str) {
        let mut noticed = self.noticed();
        noticed.turn(SourceState::Lost);
        noticed.reason = Some(reason.to_owned());
        noticed.attempts += 1;
    }

    /// The stream has ended.
    pub fn ended(&self) {
        self.noticed().turn(SourceState::Ended);
    }

    /// A frame was published.
    pub fn published(&self) {
        let mut noticed = self.noticed();
        // A file has nobody who says that it runs.
        if noticed.state == SourceState::Starting {
            noticed.turn(SourceState::Running);
        }
        noticed.published += 1;
        noticed.last_published = Some(Instant::now());
    }

    /// How the stream is now.
    pub fn report(&self) -> HealthReport {
        let noticed = self.noticed();
        HealthReport {
            source: noticed.source.clone(),
            engine: noticed.engine.clone(),
            vocabulary: noticed.vocabulary.clone(),
            reload: noticed.reload.clone(),
            governor: noticed.governor.clone(),
            state: noticed.state,
            for_s: noticed.since.elapsed().as_secs_f64(),
            reason: noticed.reason.clone(),
            attempts: noticed.attempts,
            losses: noticed.losses,
            published: noticed.published,
            last_published_s: noticed.last_published.map(|at| at.elapsed().as_secs_f64()),
            written_at: since_1970().as_secs_f64(),
        }
    }
}

/// What a file tells of.
pub trait Reported: Send + 'static {
    /// Counts changes of everything but frames.
    fn changes(&self) -> u64;

    /// The report.
    ///
    /// # Errors
    /// Never: all of it can be written.
    fn json(&self) -> serde_json::Result<Vec<u8>>;
}

impl Reported for Health {
    fn changes(&self) -> u64 {
        self.noticed().changes
    }

    fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.report())
    }
}

/// How several cameras are at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceReport {
    /// How the cameras are: lost where one is, starting where one is and none is lost, ended where all are.
    pub state: SourceState,
    /// Frames that were published since the start, of all cameras that there are.
    pub published: u64,
    /// What came of loading the list of cameras again.
    pub reload: ReloadHealth,
    /// Each camera, in the order of the configuration.
    pub cameras: Vec<CameraReport>,
    /// When this was written, seconds since 1970.
    pub written_at: f64,
}

/// How a camera is at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraReport {
    /// What it is called.
    pub name: String,
    /// How its stream is.
    #[serde(flatten)]
    pub health: HealthReport,
}

/// The health of several cameras.
#[derive(Debug, Clone, Default)]
pub struct DeviceHealth(Arc<Mutex<Device>>);

#[derive(Debug, Default)]
struct Device {
    cameras: Vec<(String, Health)>,
    reload: ReloadHealth,
    changes: u64,
}

impl DeviceHealth {
    /// These are the cameras from now on.
    pub fn set(&self, cameras: Vec<(String, Health)>) {
        let mut device = locked(&self.0);
        device.cameras = cameras;
        device.changes += 1;
    }

    /// The list of cameras that was loaded again is in use.
    pub fn reloaded(&self) {
        let mut device = locked(&self.0);
        device.reload.count += 1;
        device.reload.last_error = None;
        device.changes += 1;
    }

    /// The list that was loaded again is wrong, and isn't used.
    pub fn reload_refused(&self, reason: &str) {
        let mut device = locked(&self.0);
        device.reload.refused += 1;
        device.reload.last_error = Some(reason.to_owned());
        device.changes += 1;
    }

    /// How all are now.
    pub fn report(&self) -> DeviceReport {
        let device = locked(&self.0);
        let report =
            |(name, health): &(String, Health)| CameraReport { name: name.clone(), health: health.report() };
        let cameras: Vec<CameraReport> = device.cameras.iter().map(report).collect();
        let is = |state| cameras.iter().any(|camera| camera.health.state == state);
        let in_order = [SourceState::Lost, SourceState::Starting, SourceState::Running];
        DeviceReport {
            state: in_order.into_iter().find(|state| is(*state)).unwrap_or(SourceState::Ended),
            published: cameras.iter().map(|camera| camera.health.published).sum(),
            reload: device.reload.clone(),
            cameras,
            written_at: since_1970().as_secs_f64(),
        }
    }
}

impl Reported for DeviceHealth {
    fn changes(&self) -> u64 {
        let device = locked(&self.0);
        device.changes + device.cameras.iter().map(|(_, health)| health.changes()).sum::<u64>()
    }

    fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.report())
    }
}

impl SourceObserver for Health {
    fn running(&self) {
        let mut noticed = self.noticed();
        if noticed.state != SourceState::Running {
            noticed.turn(SourceState::Running);
            noticed.reason = None;
            noticed.attempts = 0;
        }
    }

    fn lost(&self, reason: &str, attempts: u64) {
        let mut noticed = self.noticed();
        if noticed.state != SourceState::Lost {
            noticed.losses += 1;
            noticed.turn(SourceState::Lost);
        }
        noticed.changes += 1;
        noticed.attempts = attempts;
        noticed.reason = Some(reason.to_owned());
    }
}

impl Noticed {
    fn turn(&mut self, state: SourceState) {
        self.state = state;
        self.since = Instant::now();
        self.changes += 1;
    }
}

/// A file that holds the latest report, for as long as this lives.
pub struct HealthFile {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HealthFile {
    /// Writes the file, and keeps it fresh.
    ///
    /// # Errors
    /// When the file can't be written now. Later failures go to the log: the stream is worth more than its health.
    pub fn start(health: impl Reported, path: PathBuf) -> std::io::Result<Self> {
        write(&health, &path)?;
        let (stop, stopped) = mpsc::channel();
        let work = move || keep_fresh(&health, &path, &stopped);
        let thread = named("health").spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for HealthFile {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

fn keep_fresh(health: &impl Reported, path: &Path, stopped: &mpsc::Receiver<()>) {
    let (mut written, mut changes, mut has_failed) = (Instant::now(), health.changes(), false);
    loop {
        let is_last = stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected);
        if is_last || health.changes() != changes || written.elapsed() >= REFRESH {
            (written, changes) = (Instant::now(), health.changes());
            match write(health, path) {
                Ok(()) => has_failed = false,
                // Once: a full disk stays full for a while.
                Err(error) if !std::mem::replace(&mut has_failed, true) => {
                    tracing::warn!("cannot write the health to {}: {error}", path.display());
                }
                Err(_) => {}
            }
        }
        if is_last {
            return;
        }
    }
}

/// Writes the report whole or not at all: a reader never sees half of it.
fn write(health: &impl Reported, path: &Path) -> std::io::Result<()> {
    let mut text = health.json()?;
    text.push(b'\n');
    // A source's address and reasons of its loss are nobody's but the owner's and the group's.
    replace_for_group(path, Durability::Fleeting, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_loss_is_counted_once_however_often_it_is_told_and_is_over_with_the_next_frame() {
        let health = Health::default();
        health.running();
        health.lost("unplugged", 0);
        health.lost("not there", 3);
        let report = health.report();
        assert_eq!((report.state, report.losses, report.attempts), (SourceState::Lost, 1, 3));
        assert_eq!(report.reason.as_deref(), Some("not there"));
        health.running();
        let report = health.report();
        assert_eq!((report.state, report.losses, report.reason), (SourceState::Running, 1, None));
    }

    #[test]
    fn the_file_holds_what_changed_soon_after_and_the_end_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        let health = Health::default();
        let file = HealthFile::start(health.clone(), path.clone()).unwrap();
        let read = || {
            let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            value["state"].as_str().unwrap().to_owned()
        };
        assert_eq!(read(), "starting");
        health.lost("unplugged", 1);
        // What is not there by then never comes, on the busiest machine.
        let until = Instant::now() + Duration::from_secs(120);
        while read() != "lost" {
            assert!(Instant::now() < until, "{}", read());
            std::thread::sleep(Duration::from_millis(5));
        }
        health.ended();
        drop(file);
        assert_eq!(read(), "ended");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_the_start() {
        assert!(HealthFile::start(Health::default(), "/nowhere/health.json".into()).is_err());
    }
}
