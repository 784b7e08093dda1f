//! The teacher in a process of its own: this program once more, as `wordsight words embed`.
//!
//! It reads captions as JSON from its standard input, and writes a line of JSON, [`Reply`], and behind it the captions
//! as a vocabulary. It ends with its embeddings: the stream's process never holds a teacher.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wordsight_detection::Vocabulary;
use wordsight_teacher::{Caption, TeacherError, TextTeacher};

use crate::threads::{HelperProcess, Stop, answer_of, become_helper};

/// A quarter of what a stage of the stream gets where both want a core. At 19 it is a seventieth: half a second of work
/// took 23 on a busy machine.
const NICE: i32 = 6;

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
    let arguments = ["words", "embed", "--teacher"].map(OsStr::new);
    let mut helper =
        HelperProcess::start(arguments.into_iter().chain([folder.as_os_str()])).map_err(failed)?;
    let (input, output) = helper.pipes().map_err(failed)?;
    let ask = move || exchange(input, &request, output);
    match answer_of(ask, || stop.is_requested()).map_err(failed)? {
        None => Err(TeacherError::Elsewhere("the embedding of words was stopped".to_owned())),
        Some(Ok((Reply::Embedded, bytes))) => {
            Ok(Vocabulary::of_bytes(&bytes, Path::new("what was embedded"))?)
        }
        Some(Ok((Reply::UnknownName(name), _))) => Err(TeacherError::UnknownName(name)),
        Some(Ok((Reply::Failed(reason), _))) => Err(TeacherError::Elsewhere(reason)),
        Some(Err(_)) => {
            Err(TeacherError::Elsewhere(format!("the process that embeds words {}", helper.ended())))
        }
    }
}

fn exchange(mut input: impl Write, request: &[u8], output: impl Read) -> io::Result<(Reply, Vec<u8>)> {
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

/// Answers [`embed_elsewhere`], in the other process.
///
/// # Errors
/// When nobody asks, or nobody reads the answer.
pub fn answer(folder: &Path) -> anyhow::Result<()> {
    become_helper(NICE);
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
    let mut teacher = TextTeacher::open_at(folder, 1)?;
    Ok(teacher.vocabulary_of(captions)?.to_bytes()?)
}
