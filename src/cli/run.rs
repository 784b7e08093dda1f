//! `wordsight run`: a stream in, one JSON line a frame and a summary out.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgAction, Args};
use wordsight_detection::FrameView;
use wordsight_engines::{Cosines, Regions, StepTimes};

use super::agreement::Bound;
use super::flags::{CommonArgs, SourceArgs, put};
use super::installed::INSTALLED;
use crate::config::{ChosenCameras, Config, ConfigError, Environment};
use crate::http::parse_address;
use crate::job::Stage;
use crate::pipeline::{Report, run_alone};
use crate::service::{
    CameraService, DeviceTarget, EngineTarget, Engines, GpuWait, Service, Target, kept_configuration,
    of_usage,
};
use crate::threads::Stop;

/// How long a stream may take to end when it is asked to. One whose results are read takes two seconds at most.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(5);

/// Inputs kept for `--compare-engine`: enough that they don't all stay in the processor's cache.
const INPUTS_TO_COMPARE: usize = 64;
/// Frames whose steps are timed on a GPU for `--compare-engine`, after as many others as warm it up.
const STEPS_TIMED: usize = 200;
const STEPS_WARM_UP: usize = 50;
/// Inputs that ONNX Runtime sees too: enough regions for a median, and seconds on a small board.
const INPUTS_TO_AGREE_ON: usize = 8;
/// The longest that the engine runs alone for `--compare-engine`.
const LONGEST_COMPARISON: Duration = Duration::from_secs(20);

/// Names the things in a stream.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    source: SourceArgs,
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
    /// A file that always holds how the stream is, as JSON
    #[arg(long, value_name = "FILE")]
    health: Option<PathBuf>,
    /// Serve the live page at this address, as 127.0.0.1:8620
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    http: Option<SocketAddr>,
    /// Afterwards, run the engine alone on the same frames, tell how near the stream came to it, and whether TensorRT
    /// finds what ONNX Runtime finds
    #[arg(long)]
    compare_engine: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl RunArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let stop = Stop::on_signals()?;
        if self.has_cameras()? {
            return self.run_cameras(stop);
        }
        let service = Service {
            load: &|text| Ok(self.target(text)?),
            configuration: self.common.config.clone(),
            frames: self.frames.map(NonZeroU64::get),
            inputs_to_keep: if self.compare_engine { INPUTS_TO_COMPARE } else { 0 },
            longest_stop: LONGEST_STOP,
            stop: stop.clone(),
            engines: &INSTALLED,
            gpu_wait: GpuWait::SERVICE,
        };
        let mut report = service.run()?;
        print_summary(&report);
        if self.compare_engine && !stop.is_requested() {
            let inputs = std::mem::take(&mut report.kept_inputs);
            compare_engine(&mut report, &inputs, &stop)?;
            if report.engine.name().starts_with("TensorRT") {
                let target = EngineTarget::of(&self.common.load_config()?)?;
                compare_with_processor(&mut report, &inputs, &target)?;
            }
        }
        if let Some(error) = report.given_up {
            return Err(of_usage(error));
        }
        // A stream with a torn frame is a stream; one without a single good frame is a failure.
        let failed = report.frames.captured == 0 && report.frames.unreadable > 0;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Whether the configuration lists cameras. One that is wrong says so when it is loaded.
    fn has_cameras(&self) -> anyhow::Result<bool> {
        let path = self.common.config.as_deref();
        let has_cameras = |config: &Config| !config.cameras().is_empty();
        Ok(match Config::load(path) {
            Ok(config) => has_cameras(&config),
            Err(_) => kept_configuration()
                .zip(path)
                .and_then(|(text, path)| Config::parse(&text, path).ok())
                .is_some_and(|config| has_cameras(&config)),
        })
    }

    /// Runs several cameras on one engine.
    fn run_cameras(self, stop: Stop) -> anyhow::Result<ExitCode> {
        if self.compare_engine {
            return Err(ConfigError::FlagOfOneSource("--compare-engine").into());
        }
        let service = CameraService {
            load: &|text, chosen| Ok(self.device(text, chosen)?),
            configuration: self.common.config.clone().unwrap_or_default(),
            frames: self.frames.map(NonZeroU64::get),
            longest_stop: LONGEST_STOP,
            stop,
            engines: &INSTALLED,
            gpu_wait: GpuWait::SERVICE,
        };
        let reports = service.run()?;
        for (name, report) in &reports {
            tell!("camera    {name}");
            print_summary(report);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// No flags but a configuration.
    pub(super) fn of_configuration(file: Option<PathBuf>) -> Self {
        Self::of_parts(SourceArgs::default(), CommonArgs { config: file, ..CommonArgs::default() })
    }

    /// No flags but those that other commands have too.
    pub(super) fn of_parts(source: SourceArgs, common: CommonArgs) -> Self {
        Self { source, common, ..Self::default() }
    }

    /// What these flags ask for, over the configuration's file, or over this text in its place.
    pub(super) fn target(&self, text: Option<&str>) -> Result<Target, ConfigError> {
        let config = self.config(text)?;
        if !config.cameras().is_empty() {
            return Err(ConfigError::Cameras("they are new, and take a restart of wordsight".to_owned()));
        }
        self.target_of(config)
    }

    fn config(&self, text: Option<&str>) -> Result<Config, ConfigError> {
        match (text, self.common.config.as_deref()) {
            (Some(text), Some(path)) => Config::parse_over(text, path, &Environment::of_process()?),
            (_, path) => Config::load(path),
        }
    }

    /// What these flags ask of all cameras, or of the one source that there is.
    pub(super) fn device_or_single(&self) -> Result<DeviceTarget, ConfigError> {
        let config = self.config(None)?;
        if !config.cameras().is_empty() {
            return self.device_of(config);
        }
        Ok(DeviceTarget::of_single(self.target_of(config)?))
    }

    /// What these flags ask of several cameras, over the configuration's file, or over this text in its place, and over what
    /// was chosen beside it.
    pub(super) fn device(
        &self,
        text: Option<&str>,
        chosen: &ChosenCameras,
    ) -> Result<DeviceTarget, ConfigError> {
        let path = self.common.config.as_deref().unwrap_or(Path::new(""));
        let text = text.map_or_else(|| Config::text_of(path), |text| Ok(text.to_owned()))?;
        self.device_of(Config::parse_with(&text, path, &Environment::of_process()?, chosen)?)
    }

    /// The same over a configuration.
    fn device_of(&self, mut config: Config) -> Result<DeviceTarget, ConfigError> {
        if let Some(flag) = self.source.flag().or(self.repeat.then_some("--loop")) {
            return Err(ConfigError::FlagOfOneSource(flag));
        }
        if config.cameras().is_empty() {
            let reason = "there is none any more: one source alone takes a restart of wordsight";
            return Err(ConfigError::Cameras(reason.to_owned()));
        }
        config.cameras_mut().iter_mut().for_each(|camera| self.apply(camera));
        self.apply(&mut config);
        DeviceTarget::of(&config)
    }

    /// What these flags ask for, over a configuration.
    pub(super) fn target_of(&self, mut config: Config) -> Result<Target, ConfigError> {
        self.source.apply(&mut config);
        config.source.repeat |= self.repeat;
        self.apply(&mut config);
        Target::of(&config)
    }

    /// Puts these flags, those of the source apart, over a configuration.
    fn apply(&self, config: &mut Config) {
        self.common.apply(config);
        put(&mut config.publish.json, self.json.clone());
        put(&mut config.publish.save_every, self.save_every);
        put(&mut config.publish.save, self.save.clone().map(Some));
        put(&mut config.publish.health, self.health.clone().map(Some));
        put(&mut config.http.listen, self.http.map(|address| address.to_string()));
    }
}

fn print_summary(report: &Report) {
    tell!("engine    {}", report.engine.name());
    tell!("{}", report.publisher.summary().to_string().trim_end());
    let drops = report.counters.drops(false);
    let places: Vec<String> = std::iter::once(("the camera", drops.camera))
        .chain(Stage::ALL.map(|stage| (stage.name(), drops.before[stage as usize])))
        .filter(|(_, number)| *number > 0)
        .map(|(place, number)| format!("{place} {number}"))
        .collect();
    if !places.is_empty() {
        tell!("dropped   (before) {}", places.join(", "));
    }
    if drops.held_back > 0 {
        tell!("held back {} frames, for the board's sake or by max_fps", drops.held_back);
    }
    // Those that were under way when it was enough.
    let dropped = drops.held_back + drops.before.iter().sum::<u64>();
    let left = report.frames.captured.saturating_sub(report.publisher.summary().frames() + dropped);
    if left > 0 {
        tell!("left      {left} frames that were under way at the end");
    }
    if report.frames.unreadable > 0 {
        tell!("unreadable {} frames, named above", report.frames.unreadable);
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
    tell!(
        "steps     {} ms (medians of {STEPS_TIMED}, {width}x{height} RGB, without a graph)",
        medians.join(", ")
    );
    Ok(())
}

/// Runs the engine alone on the stream's own inputs, as many times as the stream had frames.
fn compare_engine(report: &mut Report, inputs: &[Vec<u8>], stop: &Stop) -> anyhow::Result<()> {
    let wanted = report.publisher.summary().frames();
    if inputs.is_empty() || wanted == 0 {
        return Ok(());
    }
    let is_enough = |runs, elapsed| runs >= wanted || elapsed > LONGEST_COMPARISON || stop.is_requested();
    let alone = run_alone(&mut *report.engine, inputs, &mut Regions::default(), is_enough)?;
    print_steps(report)?;
    let engine_fps = alone.per_second();
    let stream_fps = report.publisher.summary().frames_per_second();
    let name = report.engine.name();
    tell!(
        "alone     {name} {engine_fps:.1} frames/s; the stream reaches {:.2} of it",
        stream_fps / engine_fps
    );
    Ok(())
}

/// Has ONNX Runtime run the student on the stream's first inputs.
///
/// # Errors
/// When the engine finds something else: its plan doesn't compute the student.
fn compare_with_processor(
    report: &mut Report,
    inputs: &[Vec<u8>],
    target: &EngineTarget,
) -> anyhow::Result<()> {
    let mut processor = INSTALLED.on_processor(target)?;
    let size = report.engine.facts().embedding_size;
    let (mut reference, mut other, mut cosines) =
        (Regions::default(), Regions::default(), Cosines::default());
    let inputs = &inputs[..inputs.len().min(INPUTS_TO_AGREE_ON)];
    for input in inputs {
        processor.infer(input, &mut reference)?;
        report.engine.infer(input, &mut other)?;
        cosines.add(&reference, &other, size);
    }
    let (agreement, name) = (cosines.agreement(), report.engine.name());
    tell!("agreement {agreement}: {name} beside ONNX Runtime, {} inputs", inputs.len());
    if let Some(missed) = Bound::of(name).missed(agreement) {
        bail!(
            "{name} does not find what ONNX Runtime finds: {missed}. Build the plan again with `{} --rebuild`; if that does \
             not help, set engine.precision = \"fp32\", or engine.kind = \"onnxruntime\"",
            target.plan_command()
        );
    }
    Ok(())
}
