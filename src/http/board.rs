//! The board's readings over HTTP: power, heat, clocks.
//!
//! The board is read only when a client asks, and once a second at most: some sensors take milliseconds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use wordsight_board::{Machine, Process, Readings, Sampler};

use crate::threads::locked;

/// For how long readings are new.
const FRESH: Duration = Duration::from_millis(900);

/// Reads the board when somebody asks.
pub struct BoardReader {
    root: PathBuf,
    state: Mutex<Option<State>>,
}

struct State {
    sampler: Sampler,
    board: Option<String>,
    taken: Option<(Instant, Arc<Taken>)>,
    /// When the processor's time was read last, and what was read.
    cpu: (Instant, Option<Duration>),
}

/// The board at a moment.
pub struct Taken {
    pub board: Option<String>,
    pub readings: Readings,
    pub process: Process,
    /// How much of one core this program took of late, percent.
    pub cpu_percent: Option<f64>,
}

impl BoardReader {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), state: Mutex::default() }
    }

    /// The board now; nothing where there is no thread to read it.
    pub async fn read(self: &Arc<Self>) -> Option<Arc<Taken>> {
        let board = Arc::clone(self);
        tokio::task::spawn_blocking(move || board.take()).await.ok()
    }

    /// Reads what isn't new any more; takes its time.
    fn take(&self) -> Arc<Taken> {
        let mut state = locked(&self.state);
        let state = state.get_or_insert_with(|| State {
            sampler: Sampler::open(&self.root),
            board: Machine::read(&self.root).board,
            taken: None,
            cpu: (Instant::now(), Process::read(Path::new("/")).cpu_time),
        });
        if let Some((at, taken)) = &state.taken
            && at.elapsed() < FRESH
        {
            return Arc::clone(taken);
        }
        let process = Process::read(Path::new("/"));
        let now = Instant::now();
        let (before, cpu_before) = std::mem::replace(&mut state.cpu, (now, process.cpu_time));
        let seconds = (now - before).as_secs_f64();
        let cpu = process.cpu_time.zip(cpu_before).filter(|_| seconds > 0.5);
        let cpu_percent = cpu.map(|(now, before)| {
            let percent = now.saturating_sub(before).as_secs_f64() / seconds * 100.0;
            (percent * 10.0).round() / 10.0
        });
        let readings = state.sampler.read();
        let taken = Arc::new(Taken { board: state.board.clone(), readings, process, cpu_percent });
        state.taken = Some((now, Arc::clone(&taken)));
        taken
    }
}

/// The board as it is told.
#[derive(Serialize)]
pub(super) struct BoardJson<'a> {
    board: Option<&'a str>,
    /// All power together, watts.
    watts: Option<f64>,
    hottest: Option<Hottest<'a>>,
    is_throttled: bool,
    over_current_events: u64,
    process: ProcessJson,
    readings: &'a Readings,
}

/// The zone that is nearest to where the board is slowed for it.
#[derive(Serialize)]
struct Hottest<'a> {
    zone: &'a str,
    celsius: f64,
    margin_c: f64,
}

#[derive(Serialize)]
struct ProcessJson {
    cpu_time_s: Option<f64>,
    cpu_percent: Option<f64>,
    resident_mib: Option<f64>,
    peak_mib: Option<f64>,
}

impl<'a> BoardJson<'a> {
    pub fn of(taken: &'a Taken) -> Self {
        let Taken { board, readings, process, cpu_percent } = taken;
        let hottest = readings.hottest().map(|(zone, margin_c)| Hottest {
            zone: &zone.zone,
            celsius: zone.celsius,
            margin_c,
        });
        Self {
            board: board.as_deref(),
            watts: readings.watts(),
            hottest,
            is_throttled: readings.is_throttled(),
            over_current_events: readings.over_current_events(),
            process: ProcessJson {
                cpu_time_s: process.cpu_time.map(|time| time.as_secs_f64()),
                cpu_percent: *cpu_percent,
                resident_mib: process.resident_mib,
                peak_mib: process.peak_mib,
            },
            readings,
        }
    }
}
