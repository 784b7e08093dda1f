//! The process that finds the regions of photographs: this program once more, as `wordsight regions`.
//!
//! It reads photographs from its standard input, each behind its length (8 bytes, the lowest first), and writes for
//! each a line of JSON, [`Reply`], and behind it the regions as 32-bit floats: each of
//! [`StudentOutput::ALL`](wordsight_engines::StudentOutput::ALL) that there is. A photograph that takes all memory, or
//! breaks a decoder, takes this process and not the stream.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wordsight_capture::{CaptureError, decode_photograph};
use wordsight_detection::Letterbox;
use wordsight_engines::{CpuEngine, Engine, EngineError, Regions, StudentOutput};

use crate::http::DetectError;
use crate::job::Job;
use crate::preprocess::Preprocess;
use crate::service::file_watch::Watched;
use crate::threads::{HelperProcess, Stop, answer_of, become_helper};

/// A seventieth of what a stage of the stream gets where both want a core.
const NICE: i32 = 19;
/// What the JSON calls a photograph, which has no name.
pub const SOURCE: &str = "request";
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(120);
/// How long the process waits for another.
const IDLE: Duration = Duration::from_secs(20);

/// What came of one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// The regions stand behind this line.
    Found(Sizes),
    /// It is no usable picture.
    Unusable(String),
    /// The student can't be run.
    Failed(String),
}

/// What is to be known of a photograph beside its regions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Its width and height, pixels.
    pub size: (usize, usize),
    /// The same of the student's input.
    pub input_size: (usize, usize),
    /// How it lies in that.
    pub letterbox: Letterbox,
    /// How many regions there are.
    pub regions: usize,
    /// The numbers of an embedding.
    pub embedding_size: usize,
    /// How many numbers follow of each output, in the order of [`StudentOutput::ALL`].
    pub numbers: [usize; StudentOutput::ALL.len()],
    /// How long the letterbox took.
    pub preprocess: Duration,
    /// How long the engine took.
    pub engine: Duration,
}

/// What was found in a photograph.
pub struct Found {
    pub sizes: Sizes,
    pub regions: Regions,
}

/// The process, between two photographs.
pub struct Worker {
    helper: HelperProcess,
    pipes: Pipes,
    student: Watched,
    used: Instant,
}

struct Pipes {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(student: &Watched) -> io::Result<Self> {
        let arguments = [OsStr::new("regions"), OsStr::new("--student"), student.path().as_os_str()];
        let mut helper = HelperProcess::start(arguments)?;
        let (input, output) = helper.pipes()?;
        let pipes = Pipes { input, output: BufReader::new(output) };
        Ok(Self { helper, pipes, student: student.clone(), used: Instant::now() })
    }

    /// Whether no photograph has come for a while.
    pub fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE
    }
}

/// Has the process find the regions of a photograph. It is started where there is none yet that has opened this
/// student, and `kept` for the next photograph.
pub fn find(
    kept: &mut Option<Worker>,
    photograph: Vec<u8>,
    student: &Watched,
    stop: &Stop,
) -> Result<Found, DetectError> {
    let told =
        |what: String| DetectError::Unavailable(format!("the process that looks at photographs {what}"));
    let failed = |reason: io::Error| told(format!("can't be run: {reason}"));
    // Where memory runs out it may be killed while it waits.
    let kept_one = kept
        .take()
        .and_then(|mut worker| (worker.student == *student && worker.helper.is_alive()).then_some(worker));
    let is_new = kept_one.is_none();
    let Worker { helper, pipes, student, .. } =
        kept_one.map_or_else(|| Worker::start(student), Ok).map_err(failed)?;
    let begun = Instant::now();
    let is_given_up = || stop.is_requested() || begun.elapsed() > LONGEST;
    let answer = answer_of(move || exchange(pipes, &photograph), is_given_up).map_err(failed)?;
    let (pipes, reply, regions) = match answer {
        Some(Ok(answer)) => answer,
        Some(Err(_)) => return Err(told(helper.ended())),
        None if stop.is_requested() => return Err(told("ends with the service".to_owned())),
        None => {
            let seconds = LONGEST.as_secs();
            return Err(told(format!("took longer than {seconds} s: the stream leaves it too little time")));
        }
    };
    let sizes = match reply {
        Reply::Failed(reason) => return Err(told(format!("can't run the student: {reason}"))),
        // It may have opened a file that came meanwhile.
        _ if is_new && student.is_other() => return Err(other_student(&student)),
        Reply::Unusable(reason) => Err(DetectError::Unusable(reason)),
        Reply::Found(sizes) => Ok(sizes),
    };
    *kept = Some(Worker { helper, pipes, student, used: Instant::now() });
    sizes.map(|sizes| Found { sizes, regions })
}

/// That the student's file is no longer the one that the stream runs.
pub fn other_student(student: &Watched) -> DetectError {
    DetectError::Unavailable(format!(
        "the student {} has changed since the stream opened it: reload the configuration, then ask again",
        student.path().display()
    ))
}

fn exchange(mut pipes: Pipes, photograph: &[u8]) -> io::Result<(Pipes, Reply, Regions)> {
    pipes.input.write_all(&(photograph.len() as u64).to_le_bytes())?;
    pipes.input.write_all(photograph)?;
    pipes.input.flush()?;
    let mut line = String::new();
    pipes.output.read_line(&mut line)?;
    let reply = serde_json::from_str(&line)?;
    let mut regions = Regions::default();
    if let Reply::Found(Sizes { numbers, .. }) = &reply {
        for (output, count) in StudentOutput::ALL.into_iter().zip(numbers) {
            let mut bytes = vec![0; 4 * count];
            pipes.output.read_exact(&mut bytes)?;
            let floats = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            regions.take_output(output, &floats.collect::<Vec<f32>>());
        }
    }
    Ok((pipes, reply, regions))
}

/// Answers [`find`], in the other process, until nobody asks any more.
///
/// # Errors
/// When nobody reads the answer.
pub fn answer(student: &Path) -> anyhow::Result<()> {
    become_helper(NICE);
    let mut finder = Finder::open(student);
    let (mut input, mut output) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    while let Some(photograph) = next_photograph(&mut input)? {
        let mut job = Job::default();
        let reply = match &mut finder {
            Ok(finder) => finder.find(&photograph, &mut job),
            Err(error) => Reply::Failed(error.to_string()),
        };
        drop(photograph);
        writeln!(output, "{}", serde_json::to_string(&reply)?)?;
        if let Reply::Found(_) = reply {
            for of in StudentOutput::ALL {
                let floats = job.regions.output(of);
                floats.iter().try_for_each(|float| output.write_all(&float.to_le_bytes()))?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// The next photograph's bytes; nothing when nobody asks any more.
fn next_photograph(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (length, mut bytes) = (u64::from_le_bytes(length), Vec::new());
    let read = input.take(length).read_to_end(&mut bytes)?;
    Ok((read as u64 == length).then_some(bytes))
}

/// A student that finds regions, in the other process.
struct Finder {
    engine: CpuEngine,
    preprocess: Preprocess,
}

impl Finder {
    fn open(student: &Path) -> Result<Self, EngineError> {
        // One thread: the stream has the other cores.
        let engine = CpuEngine::open(student, 1)?;
        let facts = engine.facts();
        let preprocess = Preprocess::new(facts.resize, u64::MAX);
        Ok(Self { engine, preprocess })
    }

    fn find(&mut self, photograph: &[u8], job: &mut Job) -> Reply {
        match decode_photograph(photograph, SOURCE, &mut job.frame) {
            Ok(()) => {}
            Err(CaptureError::BadPicture { reason, .. }) => return Reply::Unusable(reason),
            Err(error) => return Reply::Unusable(error.to_string()),
        }
        let start = Instant::now();
        self.preprocess.run(job);
        let preprocessed = Instant::now();
        if let Err(error) = self.engine.infer(&job.image, &mut job.regions) {
            return Reply::Failed(error.to_string());
        }
        let facts = self.engine.facts();
        Reply::Found(Sizes {
            size: (job.frame.width, job.frame.height),
            input_size: facts.resize.input_size,
            letterbox: job.letterbox,
            regions: facts.proposals,
            embedding_size: facts.embedding_size,
            numbers: StudentOutput::ALL.map(|output| job.regions.output(output).len()),
            preprocess: preprocessed - start,
            engine: preprocessed.elapsed(),
        })
    }
}
