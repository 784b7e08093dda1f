//! The report of a measurement: what the JSON file holds.
//!
//! Makes a [`Report`] of what was measured ([`Measured`]) and how ([`Settings`]), prints it as a table
//! ([`std::fmt::Display`]) and writes it as JSON. Old files are read back as the same [`Report`].
//!
//! Percentiles are values that occurred (nearest rank), never something between two. A p99 of a hundred frames is a
//! frame that you can find in the samples and in the plot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wordsight_board::{Machine, Process, Readings};

use super::recorder::{FrameTimes, Recorder};
use crate::governor::Governed;
use crate::threads::clock::rfc_3339;

/// The version of the JSON file. It goes up when a reader of the old one would misunderstand the new one; a field
/// more is none such.
pub const FORMAT: u32 = 1;
/// The most rows of samples in a file: at nine numbers a row about a megabyte.
const MOST_SAMPLES: usize = 20_000;

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file can't be read.
    #[error("cannot read the report {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The file is something else.
    #[error("{} is no report of `wordsight bench` ({reason}): make one with `wordsight bench --json FILE`", path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is a report of another version of this program.
    #[error(
        "the report {} has format {found}, and this wordsight reads format {FORMAT}: measure again with this \
         wordsight, or compare with the wordsight that made it", path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The report can't be written.
    #[error("cannot write the report {}: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl ReportError {
    /// Whether the user named a wrong file, as against one that can't be read or written.
    pub fn is_a_mistake_of_usage(&self) -> bool {
        matches!(self, Self::NoReport { .. } | Self::OtherFormat { .. })
    }
}

/// How frames followed one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As fast as it goes, and no frame is left out
    Throughput,
    /// At a camera's rate, where the newest frame wins: latency under load
    Live,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throughput => "throughput",
            Self::Live => "live",
        })
    }
}

/// Something for each of a frame's durations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages<T> {
    /// From the source into memory.
    pub capture: T,
    /// Letterboxing.
    pub preprocess: T,
    /// Inference.
    pub engine: T,
    /// Words meet regions.
    pub scoring: T,
    /// Non-maximum suppression.
    pub nms: T,
    /// Writing the results.
    pub publish: T,
    /// The stages' work together.
    pub end_to_end: T,
    /// From capture to published.
    pub age: T,
}

impl<T> Stages<T> {
    /// With the names for people, in the order that data flows.
    pub fn named(&self) -> [(&'static str, &T); 8] {
        [
            ("capture", &self.capture),
            ("preprocess", &self.preprocess),
            ("engine", &self.engine),
            ("scoring", &self.scoring),
            ("NMS", &self.nms),
            ("publish", &self.publish),
            ("end to end", &self.end_to_end),
            ("age", &self.age),
        ]
    }

    /// What `make` makes of each of a frame's durations, which it is given a way to pick.
    fn of_frames(make: impl Fn(fn(&FrameTimes) -> Duration) -> T) -> Self {
        Self {
            capture: make(|frame| frame.capture),
            preprocess: make(|frame| frame.preprocess),
            engine: make(|frame| frame.engine),
            scoring: make(|frame| frame.scoring),
            nms: make(|frame| frame.nms),
            publish: make(|frame| frame.publish),
            end_to_end: make(|frame| frame.end_to_end),
            age: make(|frame| frame.age),
        }
    }
}

/// How durations are distributed, milliseconds; all zero when there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// Half are as short.
    pub median: f64,
    /// Of ten, nine are as short.
    pub p90: f64,
    /// Of a hundred, 95 are as short.
    pub p95: f64,
    /// Of a hundred, 99 are as short.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Statistics {
    /// The statistics of durations in any order.
    pub fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut ms: Vec<f64> = durations.map(milliseconds).collect();
        ms.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (ms.first(), ms.last()) else { return Self::default() };
        let percentile = |percent| ms[nearest_rank(percent, ms.len())];
        Self {
            min: *min,
            mean: rounded(ms.iter().sum::<f64>() / ms.len() as f64),
            median: percentile(50.0),
            p90: percentile(90.0),
            p95: percentile(95.0),
            p99: percentile(99.0),
            max: *max,
        }
    }
}

/// The place, in a sorted list of `count` values, of the least that at least `percent` of all don't exceed.
pub(super) fn nearest_rank(percent: f64, count: usize) -> usize {
    let rank = (percent / 100.0 * count as f64).ceil() as usize;
    rank.clamp(1, count.max(1)) - 1
}

/// Divided and not multiplied, so that the number is the nearest to its decimals: 20.4 and not 20.400000000000002.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// With six decimals: what is computed from nanoseconds has no more, and a reader of the JSON file wants fewer.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Frames that were not processed, by the place where they were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// The camera or its driver lost it, by their own count.
    pub camera: u64,
    /// It came, and could not be read.
    pub unreadable: u64,
    /// The governor held it back.
    #[serde(default)]
    pub governor: u64,
    /// A newer one came before it was letterboxed.
    pub before_preprocess: u64,
    /// A newer one came before the engine took it.
    pub before_engine: u64,
    /// A newer one came before it was scored and published.
    pub before_publish: u64,
}

impl Drops {
    /// With the names of the places, in the order that data flows.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("camera", self.camera),
            ("unreadable", self.unreadable),
            ("governor", self.governor),
            ("before preprocess", self.before_preprocess),
            ("before engine", self.before_engine),
            ("before publish", self.before_publish),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }
}

/// Whether frames get older while a run goes on, which they do where a queue grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Age {
    /// Median of the run's first tenth, milliseconds.
    pub first_tenth_ms: f64,
    /// Median of its last tenth.
    pub last_tenth_ms: f64,
}

impl Age {
    fn of(rows: &[FrameTimes]) -> Self {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Self::default() };
        let tenth = last.at.saturating_sub(first.at) / 10;
        let median = |is_in: &dyn Fn(&FrameTimes) -> bool| {
            Statistics::of(rows.iter().filter(|row| is_in(row)).map(|row| row.age)).median
        };
        Self {
            first_tenth_ms: median(&|row| row.at <= first.at + tenth),
            last_tenth_ms: median(&|row| row.at + tenth >= last.at),
        }
    }

    /// How many percent older the last frames are.
    pub fn growth_percent(&self) -> f64 {
        if self.first_tenth_ms > 0.0 { (self.last_tenth_ms / self.first_tenth_ms - 1.0) * 100.0 } else { 0.0 }
    }
}

/// Processor time of this process while frames ran.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// 100 is one core that never rests.
    pub percent_of_one_core: f64,
    /// 100 is all cores that never rest.
    pub percent_of_all_cores: f64,
}

impl Cpu {
    /// The processor's time between two looks at the process, on a machine with so many cores.
    pub fn between(start: &Process, end: &Process, elapsed: Duration, cores: usize) -> Option<Self> {
        let used = end.cpu_time?.checked_sub(start.cpu_time?)?;
        let of_one = 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
        of_one
            .is_finite()
            .then(|| Self { percent_of_one_core: of_one, percent_of_all_cores: of_one / cores.max(1) as f64 })
    }
}

/// Memory of this process when the run ended, MiB; the GPU's own is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident.
    pub resident_mib: f64,
    /// The most that ever was, opening the engine included.
    pub peak_mib: f64,
}

/// Allocations while frames ran, counted after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Allocations {
    /// Of an average frame.
    pub per_frame: f64,
    /// All.
    pub total: u64,
    /// In so many frames.
    pub frames: u64,
}

impl Allocations {
    /// So many, in so many frames.
    pub fn new(total: u64, frames: u64) -> Self {
        Self { per_frame: rounded(total as f64 / frames.max(1) as f64), total, frames }
    }
}

/// What the source's frames are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// How they come: "MJPG".
    pub format: String,
}

/// The student's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Student {
    /// As it was named.
    pub file: String,
    /// Of its bytes, in hexadecimal: whether somebody else has the same one.
    pub sha256: String,
}

impl Student {
    /// The student in a file.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(Self { file: path.display().to_string(), sha256: hex::encode(hash.finalize()) })
    }
}

/// The vocabulary's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// As it was named.
    pub file: String,
    /// How many words it has.
    pub words: usize,
}

/// The same at the start and at the end of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StartAndEnd<T> {
    /// Before the warm-up.
    pub start: T,
    /// After the last frame.
    pub end: T,
}

/// How a measurement was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How frames followed one another.
    pub mode: Mode,
    /// The camera's rate, where there is one.
    pub camera_fps: Option<f64>,
    /// How long frames ran before any was counted, seconds.
    pub warm_up_seconds: f64,
    /// Where frames came from, as it was named.
    pub source: String,
    /// What they are.
    pub frame: Frame,
    /// What ran the student, as it names itself: "ONNX Runtime CPU, 4 threads".
    pub engine: String,
    /// The engine's version: "ONNX Runtime 1.23.2", "TensorRT 10.3.0".
    pub engine_version: Option<String>,
    /// The student's: "FP32", "FP16", "INT8".
    pub precision: String,
    /// Threads that ran one frame together, where the engine is on the processor.
    pub threads: Option<usize>,
    /// The student.
    pub student: Student,
    /// The vocabulary.
    pub vocabulary: Vocabulary,
    /// What else of the configuration decides about speed, flags included: key and value.
    pub config: BTreeMap<String, serde_json::Value>,
}

/// What a measurement saw.
#[derive(Debug)]
pub struct Measured<'a> {
    /// When it began, the warm-up included.
    pub started_at: SystemTime,
    /// How long frames ran, without warm-up and pauses.
    pub duration: Duration,
    /// The frames' times.
    pub recorder: &'a Recorder,
    /// Frames a second of the engine alone, in the same run.
    pub bare_engine_fps: Option<f64>,
    /// What got lost.
    pub drops: Drops,
    /// When frames were lost, where that is known, on the clock of [`FrameTimes::at`].
    pub drops_at: Vec<Duration>,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Allocations.
    pub allocations: Option<Allocations>,
    /// The machine.
    pub machine: Machine,
    /// Its clocks and heat.
    pub readings: StartAndEnd<Readings>,
    /// Whether the governor held it back.
    pub governed: Option<Governed>,
}

/// Columns of numbers, a row for each of equally spaced frames, microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Of how many frames one has a row.
    pub every: u64,
    /// When it was inferred, by a clock that stands still while nothing is measured.
    pub at: Vec<u64>,
    /// What it took.
    #[serde(flatten)]
    pub stages: Stages<Vec<u64>>,
    /// When frames were lost; a list of its own, as far as that is known.
    #[serde(default)]
    pub drops_at: Vec<u64>,
}

impl Samples {
    fn of(recorder: &Recorder, drops_at: &[Duration]) -> Self {
        let step = recorder.rows().len().div_ceil(MOST_SAMPLES).max(1);
        let rows = || recorder.rows().iter().step_by(step);
        let drops_step = drops_at.len().div_ceil(MOST_SAMPLES).max(1);
        Self {
            every: recorder.every() * step as u64,
            at: rows().map(|row| microseconds(row.at)).collect(),
            stages: Stages::of_frames(|pick| rows().map(|row| microseconds(pick(row))).collect()),
            drops_at: drops_at.iter().step_by(drops_step).map(|at| microseconds(*at)).collect(),
        }
    }

    /// Whether every column has a value for every row, and time doesn't run backwards.
    fn fault(&self) -> Option<&'static str> {
        let rows = self.at.len();
        if self.stages.named().iter().any(|(_, column)| column.len() != rows) {
            return Some("the columns of its samples differ in length");
        }
        if !self.at.is_sorted() {
            return Some("its samples are not in the order of time");
        }
        (self.every == 0).then_some("its samples are of no frame")
    }
}

fn microseconds(duration: Duration) -> u64 {
    // Half a million years from now.
    u64::try_from((duration + Duration::from_nanos(500)).as_micros()).unwrap_or(u64::MAX)
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this very structure.
    pub format: u32,
    /// The program's version.
    pub wordsight: String,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// How long frames ran, without warm-up and pauses.
    pub seconds: f64,
    /// Frames published.
    pub frames: u64,
    /// Frames published a second.
    pub fps: f64,
    /// Frames a second of the engine alone, in the same run.
    pub bare_engine_fps: Option<f64>,
    /// `fps` in that: 1 is a pipeline that costs nothing.
    pub pipeline_efficiency: Option<f64>,
    /// Median of inference, milliseconds.
    pub inference_median_ms: f64,
    /// All durations, milliseconds.
    pub stages_ms: Stages<Statistics>,
    /// What got lost.
    pub drops: Drops,
    /// Whether frames got older.
    pub age: Age,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Allocations.
    pub allocations: Option<Allocations>,
    /// How it was measured.
    pub settings: Settings,
    /// What it was measured on.
    pub machine: Machine,
    /// Its clocks and heat.
    pub readings: StartAndEnd<Readings>,
    /// Whether the governor held the stream back, and for how long.
    #[serde(default)]
    pub governed: Option<Governed>,
    /// Frames one by one.
    pub samples_us: Samples,
}

/// As much of a file as tells whether it is a report.
#[derive(Deserialize)]
struct Header {
    format: Option<u64>,
    wordsight: Option<String>,
}

impl Report {
    /// What a measurement comes to.
    pub fn new(settings: Settings, measured: Measured<'_>) -> Self {
        let recorder = measured.recorder;
        let rows = recorder.rows();
        let seconds = measured.duration.as_secs_f64();
        let fps = if seconds > 0.0 { recorder.frames() as f64 / seconds } else { 0.0 };
        let stages_ms = Stages::of_frames(|pick| Statistics::of(rows.iter().map(pick)));
        let bare_engine_fps = measured.bare_engine_fps.filter(|fps| *fps > 0.0 && fps.is_finite());
        Self {
            format: FORMAT,
            wordsight: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: rfc_3339(measured.started_at),
            seconds: rounded(seconds),
            frames: recorder.frames(),
            fps: rounded(fps),
            bare_engine_fps: bare_engine_fps.map(rounded),
            pipeline_efficiency: bare_engine_fps.map(|bare| rounded(fps / bare)),
            inference_median_ms: stages_ms.engine.median,
            stages_ms,
            drops: measured.drops,
            age: Age::of(rows),
            cpu: measured.cpu,
            memory: measured.memory,
            allocations: measured.allocations,
            settings,
            machine: measured.machine,
            readings: measured.readings,
            governed: measured.governed,
            samples_us: Samples::of(recorder, &measured.drops_at),
        }
    }

    /// Reads a report back.
    ///
    /// # Errors
    /// When the file can't be read, is something else, or is of another format.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let unreadable = |reason| ReportError::Unreadable { path: path.to_owned(), reason };
        let no_report = |reason: String| ReportError::NoReport { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let header: Header =
            serde_json::from_slice(&bytes).map_err(|reason| no_report(reason.to_string()))?;
        let (Some(found), Some(_)) = (header.format, header.wordsight) else {
            return Err(no_report("it names no format".to_owned()));
        };
        if found != u64::from(FORMAT) {
            return Err(ReportError::OtherFormat { path: path.to_owned(), found });
        }
        let report: Self = serde_json::from_slice(&bytes).map_err(|reason| no_report(reason.to_string()))?;
        match report.samples_us.fault() {
            Some(fault) => Err(no_report(fault.to_owned())),
            None => Ok(report),
        }
    }

    /// Writes the report as JSON: to a file, whole or not at all, or for `-` to the standard output.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        super::json::write(self, path)
            .map_err(|reason| ReportError::Unwritable { path: path.to_owned(), reason })
    }
}

#[cfg(test)]
pub(crate) mod tests;
