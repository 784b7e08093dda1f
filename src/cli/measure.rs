//! The measuring half of `wordsight bench`: a stream, run with a recorder at its end.
//!
//! In the mode `throughput`, of a source that isn't live, the bench measures the engine alone too, in slices between
//! those of the stream, so that the pipeline's efficiency compares two speeds of the same seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wordsight_board::{Machine, Process, Readings};
use wordsight_capture::{Held, Pacing, Source};
use wordsight_engines::cpu::library;
use wordsight_engines::{Engine, EngineError, Regions, StudentFacts};

use super::flags::{CommonArgs, put};
use super::installed::INSTALLED;
use crate::bench::{
    Allocations, Cpu, Drops, Frame, FrameTimes, Measured, Memory, Mode, Recorder, Report, Settings,
    StartAndEnd, Student, Vocabulary,
};
use crate::config::{Config, ConfigError};
use crate::governor::{Governed, Governing, board_root};
use crate::health::Health;
use crate::job::Stage;
use crate::pipeline::{Control, Measurement, MeasurementSettings, Pipeline, Rates, Report as Run, Slices};
use crate::publish::{Outputs, Publisher};
use crate::service::{EngineTarget, SourceTarget, WordsTarget, of_usage};
use crate::settings::FramesPerSecond;
use crate::source::PacingName;
use crate::threads::{Stop, locked};
use crate::tracking::Tracking;

/// The stream's slice and the engine's, by turns: short, so that both see the same moods of the machine, and long enough
/// for the frames that settle the stream after each change to be few.
const SLICES: Slices = Slices { stream: Duration::from_millis(800), alone: Duration::from_millis(700) };
/// Inputs that the engine alone is given: enough that they don't all stay in the processor's cache.
const INPUTS_ALONE: usize = 64;
/// When a stream whose measurement doesn't end, for no frame comes, is stopped.
const LONGEST_OVERRUN: Duration = Duration::from_secs(10);
/// From one look at the time to the next.
const TICK: Duration = Duration::from_millis(100);
/// Where the kernel tells about this process.
const ROOT: &str = "/";

/// What to measure.
pub(super) struct Wanted<'a> {
    pub seconds: Duration,
    pub warm_up: Duration,
    pub mode: Mode,
    pub fps: Option<FramesPerSecond>,
    pub source: Option<&'a str>,
    /// Whether a file's frames are decoded anew each time.
    pub decodes: bool,
    /// How long each inference is made to take at least.
    pub least_inference: Option<Duration>,
}

/// Runs a stream and reports what it took.
pub(super) fn measure(common: &CommonArgs, wanted: &Wanted<'_>) -> anyhow::Result<Report> {
    let config = config_of(common, wanted)?;
    let stop = Stop::on_signals()?;
    let board = board_root();
    let before = Before::look(&board);

    let engine = EngineTarget::of(&config)?.open(&INSTALLED, &stop, &|| ())?;
    let scorer = WordsTarget::of(&config)?.tracked(&config).open(engine.facts(), &stop)?.scorer;
    let engine = slowed(engine, wanted.least_inference);
    let health = Health::default();
    let source = open_source(wanted, &config, &health, &stop)?;
    let mut settings = settings(&config, wanted, &*engine, &source, scorer.words().len())?;

    let recorder = Arc::new(Mutex::new(Recorder::for_run_of(wanted.seconds)));
    let is_stream_the_only_one = wanted.mode == Mode::Live || source.is_live;
    let slices = (!is_stream_the_only_one).then_some(SLICES);
    let outputs = Outputs { json: Some(Box::new(std::io::sink())), ..Outputs::default() };
    let publisher = Publisher::new(outputs)?;
    let mut tracking = Tracking::new(config.tracking.settings());
    tracking.set_zones(config.zones()?);
    let pipeline = Pipeline {
        repeat: true,
        tracking,
        inputs_to_keep: if is_stream_the_only_one { 0 } else { INPUTS_ALONE },
        health: health.clone(),
        measurement: Some(measurement(wanted, slices, &recorder)),
        ..Pipeline::new(source.source, source.pacing, engine, scorer, publisher)
    };
    let (control, governing) =
        (Arc::new(Control::default()), Governing::new(config.governor.settings(), &board));
    let is_over = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        scope.spawn(|| {
            let governed = || vec![(Arc::clone(&control), health.clone())];
            governing.run(&governed, &|| is_over.load(Ordering::Relaxed));
        });
        let _over = Over(&is_over);
        with_progress(wanted, &stop, || pipeline.run(&stop, &control))
    })??;
    if let Some(error) = run.given_up {
        return Err(of_usage(error));
    }
    let recorder = locked(&recorder);
    anyhow::ensure!(
        recorder.frames() > 0,
        "no frame was measured in {:.0} s: {} frames were captured; measure longer (--seconds), or look at the source",
        wanted.seconds.as_secs_f64(),
        run.frames.captured
    );
    if stop.is_requested() {
        tracing::warn!("stopped before the time was over: what there is so far is reported");
    }
    let (width, height) = run.frame_size;
    settings.frame = Frame { width, height, format: format!("{:?}", run.frame_format).to_uppercase() };
    let measured = measured(&run, &recorder, before, Readings::read(&board), governing.governed());
    Ok(Report::new(settings, measured))
}

/// What there was before the first frame.
struct Before {
    machine: Machine,
    readings: Readings,
    started_at: SystemTime,
}

impl Before {
    fn look(board: &Path) -> Self {
        Self { machine: Machine::read(board), readings: Readings::read(board), started_at: SystemTime::now() }
    }
}

/// How the stream is measured, and the engine alone in between, if it is.
pub(super) fn measurement(
    wanted: &Wanted<'_>,
    slices: Option<Slices>,
    recorder: &Arc<Mutex<Recorder>>,
) -> Measurement {
    Measurement {
        settings: MeasurementSettings {
            warm_up: wanted.warm_up,
            duration: wanted.seconds,
            slices,
            cpu_time: || Process::read(Path::new(ROOT)).cpu_time,
        },
        on_frame: record_into(Arc::clone(recorder)),
    }
}

/// What a run came to; `readings` are the board's after it.
fn measured<'a>(
    run: &Run,
    recorder: &'a Recorder,
    before: Before,
    readings: Readings,
    governed: Option<Governed>,
) -> Measured<'a> {
    let Before { machine, readings: start, started_at } = before;
    let rates = run.rates.unwrap_or_default();
    let process = Process::read(Path::new(ROOT));
    let allocations = run.counters.allocations();
    let by_stage = Stage::ALL.map(|stage| (stage.name(), allocations[stage as usize]));
    tracing::info!(?by_stage, "allocations");
    Measured {
        started_at,
        duration: rates.stream.time,
        recorder,
        bare_engine_fps: (rates.alone.frames > 0).then(|| rates.alone.per_second()),
        drops: drops(run),
        drops_at: drops_at(run, &rates),
        cpu: rates.cpu_time.and_then(|used| {
            let process = |cpu_time| Process { cpu_time: Some(cpu_time), ..Process::default() };
            let cores = machine.cores_allowed.or(machine.cores).unwrap_or(1);
            Cpu::between(&process(Duration::ZERO), &process(used), rates.stream.time, cores)
        }),
        memory: process
            .resident_mib
            .zip(process.peak_mib)
            .map(|(resident_mib, peak_mib)| Memory { resident_mib, peak_mib }),
        allocations: Some(Allocations::new(allocations.iter().sum(), recorder.frames())),
        machine,
        readings: StartAndEnd { start, end: readings },
        governed,
    }
}

/// A source that is open.
pub(super) struct OpenSource {
    pub source: Box<dyn Source>,
    pub pacing: Pacing,
    /// As it was written, without a password.
    pub name: String,
    pub is_live: bool,
}

/// The configuration, with what is wanted over it: a source that begins again and again, at the pace of the mode.
pub(super) fn config_of(common: &CommonArgs, wanted: &Wanted<'_>) -> Result<Config, ConfigError> {
    let mut config = common.load_config()?;
    if let Some(written) = wanted.source {
        config.set_source(written);
    }
    at_pace_of(wanted, &mut config);
    Ok(config)
}

/// Has a source begin again and again, at the pace of the mode.
pub(super) fn at_pace_of(wanted: &Wanted<'_>, config: &mut Config) {
    config.source.pacing = if wanted.mode == Mode::Live { PacingName::Camera } else { PacingName::Auto };
    config.source.repeat = true;
    put(&mut config.source.fps, wanted.fps);
}

/// Opens the source; a file's frames are decoded now.
pub(super) fn open_source(
    wanted: &Wanted<'_>,
    config: &Config,
    health: &Health,
    stop: &Stop,
) -> anyhow::Result<OpenSource> {
    let asked = SourceTarget::of(config)?;
    let mut source = OpenSource {
        source: asked.open(health, stop).map_err(of_usage)?,
        pacing: asked.pacing,
        name: asked.uri.display().to_owned(),
        is_live: asked.uri.is_live(),
    };
    if !source.is_live && !wanted.decodes {
        let held = Held::read(&mut *source.source)?;
        source.name = format!("{}, {} frames held in memory", source.name, held.frames());
        source.source = Box::new(held);
    }
    Ok(source)
}

/// How the measurement is made, as far as that is known before it.
fn settings(
    config: &Config,
    wanted: &Wanted<'_>,
    engine: &dyn Engine,
    source: &OpenSource,
    words: usize,
) -> anyhow::Result<Settings> {
    let (engine_wanted, words_wanted) = (EngineTarget::of(config)?, WordsTarget::of(config)?);
    let (student, vocabulary) = (engine_wanted.student, words_wanted.vocabulary);
    let on_processor = engine.name().starts_with("onnxruntime");
    let threads = match engine_wanted.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    let detection = words_wanted.detection;
    let camera_fps = match wanted.mode {
        Mode::Live if !source.is_live => Some(config.source.fps.get()),
        _ => None,
    };
    Ok(Settings {
        // A camera sets the pace itself, and its newest frame wins, whatever was asked for.
        mode: if source.is_live { Mode::Live } else { wanted.mode },
        camera_fps,
        warm_up_seconds: wanted.warm_up.as_secs_f64(),
        source: source.name.clone(),
        frame: Frame::default(),
        engine: engine.name().to_owned(),
        // TensorRT's stands in its engine's name.
        engine_version: library::loaded_version()
            .filter(|_| on_processor)
            .map(|version| format!("ONNX Runtime {version}")),
        precision: precision_of(engine.name(), &student)?.to_uppercase(),
        threads: on_processor.then_some(threads),
        student: Student::of(&student)
            .with_context(|| format!("cannot read the student {}", student.display()))?,
        vocabulary: Vocabulary { file: vocabulary.display().to_string(), words },
        config: BTreeMap::from([
            ("detection.max_detections".to_owned(), json!(detection.max_detections)),
            ("detection.nms_iou".to_owned(), json!(detection.nms_iou)),
            ("detection.score_threshold".to_owned(), json!(detection.score_threshold)),
            ("detection.voting_iou".to_owned(), json!(detection.voting_iou)),
            ("detection.words_per_region".to_owned(), json!(detection.words_per_region)),
        ]),
    })
}

/// What the student is computed in: a plan has its own precision, which stands in its engine's name.
fn precision_of(engine: &str, student: &Path) -> anyhow::Result<String> {
    let named = engine.split_once(" (").filter(|_| engine.starts_with("TensorRT"));
    // More may follow, as how long each inference is held.
    if let Some((precision, _)) = named.and_then(|(_, rest)| rest.split_once(')')) {
        return Ok(precision.to_owned());
    }
    Ok(wordsight_onnx::precision_of(&wordsight_onnx::read(student)?).to_owned())
}

/// What notes each measured frame. Only the publishing thread calls it, so its lock is always free.
fn record_into(recorder: Arc<Mutex<Recorder>>) -> crate::pipeline::OnFrame {
    Box::new(move |job, ended| {
        let times = &job.times;
        locked(&recorder).record(&FrameTimes {
            at: job.measured_at.unwrap_or_default(),
            capture: times.capture,
            preprocess: times.preprocess,
            engine: times.engine,
            scoring: times.scoring,
            nms: times.nms,
            publish: ended.publish,
            end_to_end: times.capture + times.latency() + ended.publish,
            age: ended.age,
        });
    })
}

/// Where frames were lost.
fn drops(run: &Run) -> Drops {
    let drops = run.counters.drops(true);
    let before = |stage: Stage| drops.before[stage as usize];
    Drops {
        camera: drops.camera,
        unreadable: drops.unreadable,
        governor: drops.held_back,
        before_preprocess: before(Stage::Preprocess),
        before_engine: before(Stage::Engine),
        before_publish: before(Stage::Publish),
    }
}

/// When frames were lost. Without slices for the engine alone the clock of the measurement never stands still; with them
/// the source is a file, and nothing is lost.
fn drops_at(run: &Run, rates: &Rates) -> Vec<Duration> {
    let moments = run.counters.dropped_at();
    let since = rates.since;
    moments.into_iter().filter_map(|at| at.checked_duration_since(since?)).collect()
}

/// Says that the stream is over however it ends, a panic included.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the stream with a bar on the terminal, and stops one that doesn't end by itself.
fn with_progress<T>(wanted: &Wanted<'_>, stop: &Stop, run: impl FnOnce() -> T) -> anyhow::Result<T> {
    let total = wanted.warm_up + wanted.seconds;
    let style = ProgressStyle::with_template("{spinner} {msg} [{wide_bar}] {elapsed} of {len} s")?;
    let bar = ProgressBar::new(total.as_secs()).with_style(style);
    let is_over = AtomicBool::new(false);
    let out = thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let elapsed = start.elapsed();
                bar.set_message(if elapsed < wanted.warm_up { "warming up" } else { "measuring" });
                bar.set_position(elapsed.min(total).as_secs());
                bar.tick();
                if elapsed > total + LONGEST_OVERRUN {
                    stop.request();
                }
                thread::sleep(TICK);
            }
        });
        let _over = Over(&is_over);
        run()
    });
    bar.finish_and_clear();
    Ok(out)
}

/// An engine that takes its time: what a slower one would do to age and drops.
struct Slowed {
    engine: Box<dyn Engine>,
    name: String,
    least: Duration,
}

/// The engine, held to at least so long an inference, if that is asked for.
pub(super) fn slowed(engine: Box<dyn Engine>, least: Option<Duration>) -> Box<dyn Engine> {
    match least {
        Some(least) => Box::new(Slowed { name: slowed_name(&*engine, least), engine, least }),
        None => engine,
    }
}

fn slowed_name(engine: &dyn Engine, least: Duration) -> String {
    format!("{}, each inference held to {} ms", engine.name(), least.as_millis())
}

impl Engine for Slowed {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&self) -> &StudentFacts {
        self.engine.facts()
    }

    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        let start = Instant::now();
        self.engine.infer(image, regions)?;
        thread::sleep(self.least.saturating_sub(start.elapsed()));
        Ok(())
    }
}
