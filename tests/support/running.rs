//! A running program under test: one process, one way to wait, one timeout.
//!
//! A test waits with [`until`]: a busy machine takes longer, and only a hang reaches the end of [`PATIENCE`]. What has
//! to happen within a time is tried by [`in_one_of_some_tries`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::json_lines;

/// After this long nothing will come any more, on the busiest machine: a guard against tests that hang, and no bar.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(20);
/// How often a bar in seconds is tried.
const TRIES: usize = 5;

/// Waits until something is there; `or_else` tells what to say when it never comes.
#[track_caller]
pub fn until<T>(mut look: impl FnMut() -> Option<T>, mut or_else: impl FnMut() -> String) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {}", or_else());
        thread::sleep(LOOK);
    }
}

/// Waits until something is so; `or_else` tells what to say when it never is.
#[track_caller]
pub fn until_so(mut is_so: impl FnMut() -> bool, or_else: impl FnMut() -> String) {
    until(|| is_so().then_some(()), or_else);
}

/// Tries what must be done within a time, or at a rate, until it is: a busy machine misses now and then what is possible,
/// a program that is too slow misses it always. An attempt's error says by how much.
#[track_caller]
pub fn in_one_of_some_tries<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let mut misses = Vec::new();
    while misses.len() < TRIES {
        match attempt() {
            Ok(found) => return found,
            Err(miss) => misses.push(miss),
        }
    }
    panic!("missed {TRIES} times: {misses:#?}")
}

/// What took longer than its bar is a miss.
pub fn within(bar: Duration, took: Duration) -> Result<Duration, String> {
    if took < bar { Ok(took) } else { Err(format!("it took {took:?}, and {bar:?} is the bar")) }
}

/// A process that is killed when the test is over, however that ends. Its stderr is the file `stderr` in its folder.
pub struct Process {
    /// For its stdin and stdout, where they are pipes.
    pub child: Child,
    folder: PathBuf,
}

impl Process {
    /// Starts a program of which the files `stderr`, `health.json` and `events.jsonl` will be in a folder.
    pub fn start(mut command: Command, folder: &Path) -> Self {
        let child = command.stderr(File::create(folder.join("stderr")).unwrap()).spawn().unwrap();
        Self { child, folder: folder.to_owned() }
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    #[track_caller]
    pub fn await_said(&self, what: &str) {
        until_so(|| self.stderr().contains(what), || format!("no {what:?} in {}", self.stderr()));
    }

    /// What the file `health.json` says; null before it is written.
    pub fn health(&self) -> Value {
        let read = fs::read(self.folder.join("health.json")).unwrap_or_default();
        serde_json::from_slice(&read).unwrap_or_default()
    }

    /// Waits until the file `health.json` says something.
    #[track_caller]
    pub fn health_when(&self, what: impl Fn(&Value) -> bool) -> Value {
        let look = || Some(self.health()).filter(|health| !health.is_null() && what(health));
        until(look, || format!("the health is {}; {}", self.health(), self.stderr()))
    }

    /// Frames published so far, as its health has them.
    pub fn published(&self) -> u64 {
        self.health()["published"].as_u64().unwrap_or(0)
    }

    /// The stream goes on, whatever its outputs do.
    #[track_caller]
    pub fn assert_goes_on(&self) {
        let before = self.published();
        until_so(|| self.published() > before + 10, || format!("no frames come: {}", self.stderr()));
    }

    /// The ids of the events so far, as the file `events.jsonl` has them.
    pub fn event_ids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("events.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        json_lines(whole).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    /// So many more things happen.
    #[track_caller]
    pub fn await_events(&self, more: usize) {
        let before = self.event_ids().len();
        until_so(|| self.event_ids().len() >= before + more, || self.stderr());
    }

    /// Sends a signal of `libc`'s.
    pub fn signal(&self, signal: i32) {
        // SAFETY: it takes two numbers, the first of which is that of a child nobody has waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), signal) }, 0);
    }

    /// As by a power cut.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to end, by SIGTERM. It ends well; returns how long that took.
    #[track_caller]
    pub fn terminate(&mut self) -> Duration {
        let asked = Instant::now();
        self.signal(libc::SIGTERM);
        let status = until(|| self.child.try_wait().unwrap(), || "it doesn't end".to_owned());
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
        took
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
