//! `wordsight run`: a stream in, one JSON line a frame and a summary out.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use wordsight_detection::FrameView;
use wordsight_engines::{Regions, StepTimes};

use super::CommonArgs;
use super::config::{Config, ConfigError, FramesPerSecond, PacingName};
use super::parts::{is_standard_output, open_output};
use crate::capture::{self, CaptureError, Pacing, Source};
use crate::pipeline::{Pipeline, Report, Stop};
use crate::publish::{Outputs, PictureNames, SaveSettings};

/// Inputs kept for `--compare-engine`: enough that they don't all stay in the processor's cache.
const INPUTS_TO_COMPARE: usize = 64;
/// Frames whose steps are timed on a GPU for `--compare-engine`, after as many others as warm it up.
const STEPS_TIMED: usize = 200;
const STEPS_WARM_UP: usize = 50;
/// The longest that the engine runs alone for `--compare-engine`.
const LONGEST_COMPARISON: Duration = Duration::from_secs(20);

/// Names the things in a stream.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A Motion-JPEG file, a folder of photographs or a photograph
    #[arg(long, value_name = "URI")]
    source: Option<PathBuf>,
    /// How the frames of a file follow one another
    #[arg(long)]
    pacing: Option<PacingName>,
    /// Frames per second, with the pacing of a camera
    #[arg(long, value_name = "X")]
    fps: Option<FramesPerSecond>,
    /// Begin again at the end of the source, until stopped
    #[arg(long = "loop", action = ArgAction::SetTrue)]
    repeat: bool,
    /// Stop after this many frames
    #[arg(long, value_name = "N")]
    frames: Option<NonZeroU64>,
    /// Where the JSON lines go: a file, or - for the standard output
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// A folder for annotated pictures
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Of how many frames one is saved
    #[arg(long, value_name = "N")]
    save_every: Option<NonZeroUsize>,
    /// Afterwards, run the engine alone on the same frames and tell how near the stream came to it
    #[arg(long)]
    compare_engine: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl RunArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.common.load_config()?;
        let stop = Stop::on_signals()?;
        let engine = self.common.open_engine(&config, &stop)?;
        let scoring = self.common.open_scoring(&config, &*engine)?;
        let pipeline = Pipeline {
            source: self.open_source(&config)?,
            pacing: self.pacing(&config)?,
            repeat: config.or(self.repeat.then_some(true), |keys| keys.source.repeat)?,
            engine,
            scoring,
            outputs: self.open_outputs(&config)?,
            inputs_to_keep: if self.compare_engine { INPUTS_TO_COMPARE } else { 0 },
        };
        let mut report = pipeline.run(&stop)?;
        print_summary(&report);
        if self.compare_engine && !stop.is_requested() {
            compare_engine(&mut report)?;
        }
        // A stream with a torn frame is a stream; one without a single good frame is a failure.
        let failed = report.captured == 0 && report.unreadable > 0;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn open_source(&self, config: &Config) -> anyhow::Result<Box<dyn Source>> {
        let written = config.or(self.source.clone(), |keys| keys.source.uri.clone())?;
        let path = match &self.source {
            Some(source) => without_scheme(source),
            None => config.path("source", |keys| Some(without_scheme(keys.source.uri.as_ref()?)))?,
        };
        let opened = capture::open(&path, &written.display().to_string());
        opened.map_err(|error| match error {
            CaptureError::UnknownKind(_) => ConfigError::UnknownSource(error).into(),
            other => other.into(),
        })
    }

    fn pacing(&self, config: &Config) -> anyhow::Result<Pacing> {
        let name = config.or(self.pacing, |keys| keys.source.pacing)?;
        Ok(name.at(config.or(self.fps, |keys| keys.source.fps)?))
    }

    fn open_outputs(&self, config: &Config) -> anyhow::Result<Outputs> {
        let json = match &self.json {
            Some(json) => json.clone(),
            None => configured_json(config)?,
        };
        let every = config.or(self.save_every, |keys| keys.publish.save_every)?;
        let folder = self.save.clone().or_else(|| config.own_path(|keys| keys.publish.save.clone()));
        let save = folder.map(|folder| SaveSettings { folder, every, names: PictureNames::Numbers });
        let frames = self.frames.map(NonZeroU64::get);
        Ok(Outputs { json: Some(open_output(&json)?), table: None, save, frames })
    }
}

/// `publish.json`, where `-` is no path and so relative to nothing.
fn configured_json(config: &Config) -> Result<PathBuf, ConfigError> {
    let written = config.or(None, |keys| keys.publish.json.clone())?;
    if is_standard_output(&written) {
        return Ok(written);
    }
    Ok(config.own_path(|keys| keys.publish.json.clone()).unwrap_or(written))
}

/// `file:///a/b` and `/a/b` are the same file.
fn without_scheme(uri: &Path) -> PathBuf {
    uri.to_str()
        .and_then(|text| text.strip_prefix("file://"))
        .map_or_else(|| uri.to_path_buf(), PathBuf::from)
}

fn print_summary(report: &Report) {
    eprintln!("engine    {}", report.engine.name());
    eprint!("{}", report.summary);
    let dropped = report.captured - report.summary.frames();
    if dropped > 0 {
        eprintln!("dropped   {dropped} frames, for newer ones or at the end");
    }
    if report.unreadable > 0 {
        eprintln!("unreadable {} frames, named above", report.unreadable);
    }
}

/// What the steps of a frame take on a GPU, in trtexec's manner: medians after a warm-up.
fn print_steps(report: &mut Report) -> anyhow::Result<()> {
    let (width, height) = report.frame_size;
    let Some(engine) = report.engine.whole_frames() else { return Ok(()) };
    let bytes = vec![wordsight_detection::PADDING; 3 * width * height];
    let frame = FrameView::rgb(&bytes, width, height);
    let mut steps: [Vec<f32>; StepTimes::STEPS] = Default::default();
    for run in 0..STEPS_WARM_UP + STEPS_TIMED {
        let times = engine.time_steps(&frame)?.named();
        if run >= STEPS_WARM_UP {
            steps.iter_mut().zip(times).for_each(|(step, (_, ms))| step.push(ms));
        }
    }
    let medians = steps.iter_mut().zip(StepTimes::default().named()).map(|(step, (name, _))| {
        step.sort_by(f32::total_cmp);
        format!("{name} {:.3}", step[step.len() / 2])
    });
    let medians: Vec<String> = medians.collect();
    eprintln!(
        "steps     {} ms (medians of {STEPS_TIMED}, {width}x{height} RGB, without a graph)",
        medians.join(", ")
    );
    Ok(())
}

/// Runs the engine alone on the stream's own inputs, as many times as the stream had frames.
fn compare_engine(report: &mut Report) -> anyhow::Result<()> {
    let inputs = std::mem::take(&mut report.kept_inputs);
    let mut regions = Regions::default();
    let mut runs = 0;
    let start = Instant::now();
    for input in inputs.iter().cycle().take(report.summary.frames() as usize) {
        report.engine.infer(input, &mut regions)?;
        runs += 1;
        if start.elapsed() > LONGEST_COMPARISON {
            break;
        }
    }
    if runs == 0 {
        return Ok(());
    }
    print_steps(report)?;
    let engine_fps = f64::from(runs) / start.elapsed().as_secs_f64();
    let stream_fps = report.summary.frames_per_second();
    let name = report.engine.name();
    eprintln!(
        "alone     {name} {engine_fps:.1} frames/s; the stream reaches {:.2} of it",
        stream_fps / engine_fps
    );
    Ok(())
}
