//! The teacher in a process of its own: this program once more, as `wordsight words embed`.
//!
//! In flow captions, through its standard input as JSON; out flow a line of JSON, [`Reply`], and behind it the captions as
//! a vocabulary. It has a low priority, is the first to go where memory runs out, and ends with its embeddings:
//! the stream's process never holds a teacher.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wordsight_detection::Vocabulary;
use wordsight_teacher::{Caption, TeacherError, TextTeacher};

use crate::threads::{Stop, let_others_go_first, named};

/// This program, though a package may have replaced its file.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// From one look at whether a stop was requested to the next.
const LOOK: Duration = Duration::from_millis(50);
/// A quarter of what a stage of the stream gets where both want a core. At 19 it is a hundredth: half a second of work
/// took 23 on a busy machine.
const NICE: i32 = 6;
/// What the kernel adds, of 1000, when it looks for a process to end where memory runs out.
const OOM_SCORE: &str = "500";

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// The captions stand behind this line.
    Embedded,
    /// The teacher knows nothing of this name.
    UnknownName(String),
    /// Why there are none.
    Failed(String),
}

/// Has another process embed captions, each once, by the teacher in `folder`.
///
/// # Errors
/// What the teacher says, or why there is no answer. A stop ends the process.
pub fn embed_elsewhere(captions: &[Caption], folder: &Path, stop: &Stop) -> Result<Vocabulary, TeacherError> {
    let failed = |reason: io::Error| {
        TeacherError::Elsewhere(format!("the process that embeds words can't be run: {reason}"))
    };
    let request = serde_json::to_vec(captions).map_err(|error| failed(error.into()))?;
    let mut child = start(folder).map_err(failed)?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (tell, told) = mpsc::channel();
    let talk = move || {
        // Whoever waits may have gone.
        drop(tell.send(exchange(input, &request, output)));
    };
    if let Err(error) = named("words").spawn(talk) {
        end(&mut child);
        return Err(failed(error));
    }
    let exchanged = loop {
        match told.recv_timeout(LOOK) {
            Ok(exchanged) => break exchanged,
            Err(RecvTimeoutError::Timeout) if !stop.is_requested() => {}
            Err(_) => {
                end(&mut child);
                return Err(TeacherError::Elsewhere("the embedding of words was stopped".to_owned()));
            }
        }
    };
    let status = child.wait().map_err(failed)?;
    match exchanged {
        Ok((Reply::Embedded, bytes)) => Ok(Vocabulary::of_bytes(&bytes, Path::new("what was embedded"))?),
        Ok((Reply::UnknownName(name), _)) => Err(TeacherError::UnknownName(name)),
        Ok((Reply::Failed(reason), _)) => Err(TeacherError::Elsewhere(reason)),
        Err(_) => Err(TeacherError::Elsewhere(format!("the process that embeds words {}", ended(status)))),
    }
}

fn start(folder: &Path) -> io::Result<Child> {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("wordsight").args(["words", "embed", "--teacher"]).arg(folder);
    // It is no service.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

fn exchange(
    input: Option<ChildStdin>,
    request: &[u8],
    output: Option<impl Read>,
) -> io::Result<(Reply, Vec<u8>)> {
    let (Some(mut input), Some(output)) = (input, output) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // A process that has failed already has said why, or how it ended says it.
    let written = input.write_all(request);
    drop(input);
    let mut output = BufReader::new(output);
    let (mut line, mut bytes) = (String::new(), Vec::new());
    output.read_line(&mut line)?;
    let reply = serde_json::from_str(&line).map_err(|error| written.err().unwrap_or_else(|| error.into()))?;
    output.read_to_end(&mut bytes)?;
    Ok((reply, bytes))
}

/// Kills the process and waits until it is gone.
fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(libc::SIGKILL), _) => "was killed: there may be too little memory for the teacher".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, code) => format!("has ended with exit code {} and no answer", code.unwrap_or_default()),
    }
}

/// Answers [`embed_elsewhere`], in the other process.
///
/// # Errors
/// When nobody asks, or nobody reads the answer.
pub fn answer(folder: &Path) -> anyhow::Result<()> {
    let_others_go_first(NICE);
    // A system that refuses leaves things as they were.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut request = Vec::new();
    io::stdin().lock().read_to_end(&mut request)?;
    let captions: Vec<Caption> = serde_json::from_slice(&request)?;
    let (reply, bytes) = match embed(&captions, folder) {
        Ok(bytes) => (Reply::Embedded, bytes),
        Err(TeacherError::UnknownName(name)) => (Reply::UnknownName(name), Vec::new()),
        Err(error) => (Reply::Failed(error.to_string()), Vec::new()),
    };
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&reply)?)?;
    output.write_all(&bytes)?;
    output.flush()?;
    Ok(())
}

fn embed(captions: &[Caption], folder: &Path) -> Result<Vec<u8>, TeacherError> {
    // One thread: a stream beside it has the other cores.
    let mut teacher = TextTeacher::open_with_threads(folder, 1)?;
    Ok(teacher.vocabulary_of(captions)?.to_bytes()?)
}
