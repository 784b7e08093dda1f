//! This program once more, as a process that helps: what may fail or take memory there takes nothing from this one.
//!
//! It is asked through its standard input, answers through its standard output, has a low priority, and is the first to
//! go where memory runs out.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{let_others_go_first, named};

/// This program, though a package may have replaced its file.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// From one look at whether an answer is given up to the next.
const LOOK: Duration = Duration::from_millis(50);
/// What the kernel adds, of 1000, when it looks for a process to end where memory runs out.
const OOM_SCORE: &str = "500";

/// A process that helps; it is killed when this is dropped.
pub struct HelperProcess(Child);

impl HelperProcess {
    /// Starts this program with arguments.
    ///
    /// # Errors
    /// When the system gives no process.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> io::Result<Self> {
        let mut command = Command::new(THIS_PROGRAM);
        command.arg0("wordsight").args(arguments);
        // It is no service.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map(Self)
    }

    /// Its standard input and output, once.
    ///
    /// # Errors
    /// When they were taken already.
    pub fn pipes(&mut self) -> io::Result<(ChildStdin, ChildStdout)> {
        self.0.stdin.take().zip(self.0.stdout.take()).ok_or(io::ErrorKind::BrokenPipe.into())
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// How it has ended, which is waited for: its pipes are closed.
    pub fn ended(mut self) -> String {
        match self.0.wait() {
            Ok(status) => told(status),
            Err(error) => format!("is lost: {error}"),
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(libc::SIGKILL), _) => "was killed: there may be too little memory for it".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, code) => format!("has ended with exit code {} and no answer", code.unwrap_or_default()),
    }
}

/// Has a thread ask and wait for the answer; `None` when it `is_given_up` before. Whoever gives up ends the process, and
/// with it the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn answer_of<T: Send + 'static>(
    ask: impl FnOnce() -> T + Send + 'static,
    is_given_up: impl Fn() -> bool,
) -> io::Result<Option<T>> {
    let (tell, told) = mpsc::channel();
    named("helper").spawn(move || {
        // Whoever waits may have gone.
        drop(tell.send(ask()));
    })?;
    loop {
        match told.recv_timeout(LOOK) {
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) if !is_given_up() => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Makes this process one that helps, as nice as this, of 19.
pub fn become_helper(nice: i32) {
    let_others_go_first(nice);
    // A system that refuses leaves things as they were.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}
