//! `wordsight bench` of several cameras on one engine: those of a configuration, or so many that all see one source
//! (`--cameras N`).
//!
//! Reports the rates, the ages and the fairness, and beside them, where the source is no camera, what one camera alone
//! gets that gives frames as fast as they are taken.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use wordsight_capture::Pacing;
use wordsight_engines::{Engine, SharedEngine};

use super::flags::CommonArgs;
use super::installed::INSTALLED;
use super::measure::{Wanted, at_pace_of, config_of, measurement, open_source, slowed};
use crate::bench::{CameraRates, CameraSetup, CamerasMeasured, CamerasReport, Mode, Recorder, Statistics};
use crate::config::Config;
use crate::health::Health;
use crate::pipeline::{Control, Pipeline, Report};
use crate::publish::{Outputs, Publisher};
use crate::service::{EngineTarget, Share, SourceTarget, WordsTarget, of_usage};
use crate::threads::{Stop, locked, named};
use crate::tracking::Tracking;

/// Frames a second that no engine takes: the one camera that is measured alone always has a new one.
const AS_FAST_AS_TAKEN: f64 = 1000.0;

/// Measures so many cameras with the source that there is.
pub(super) fn measure_cameras(
    common: &CommonArgs,
    wanted: &Wanted<'_>,
    cameras: usize,
) -> anyhow::Result<CamerasReport> {
    let wanted = Wanted { mode: Mode::Live, ..*wanted };
    let config = config_of(common, &wanted)?;
    let cameras = (1..=cameras).map(|number| MeasuredCamera::new(format!("camera {number}"), &config));
    measure(cameras.collect::<anyhow::Result<_>>()?, &config, &wanted)
}

/// Measures the cameras of a configuration, each with its source, words, thresholds, priority and rate. Files are decoded as
/// they are when it runs: memory has no room for those of all.
pub(super) fn measure_configured(common: &CommonArgs, wanted: &Wanted<'_>) -> anyhow::Result<CamerasReport> {
    let wanted = Wanted { mode: Mode::Live, decodes: true, ..*wanted };
    let mut config = common.load_config()?;
    for camera in config.cameras_mut() {
        common.apply(camera);
        at_pace_of(&wanted, camera);
    }
    let cameras = config.cameras().iter().map(|camera| MeasuredCamera::new(camera.name.clone(), camera));
    measure(cameras.collect::<anyhow::Result<_>>()?, &config, &wanted)
}

/// Measures these; `config` says what engine they share.
fn measure(
    cameras: Vec<MeasuredCamera<'_>>,
    config: &Config,
    wanted: &Wanted<'_>,
) -> anyhow::Result<CamerasReport> {
    let stop = Stop::on_signals()?;
    let engine = EngineTarget::of(config)?.open(&INSTALLED, &stop, &|| ())?;
    let engine = SharedEngine::new(slowed(engine, wanted.least_inference))?;
    let bench = CamerasBench { wanted, engine: &engine, stop: &stop };
    let first = cameras.first().context("there is no camera; this is a bug in wordsight")?;
    // One of the kernel's or the network's can be opened once, and gives what it gives.
    let one_camera_fps = match first.is_live {
        true => None,
        false => Some(bench.run_alone(first)?),
    };
    let rates = bench.run(&cameras)?;
    Ok(CamerasReport::of(CamerasMeasured {
        engine: engine.name().to_owned(),
        measured: wanted.seconds,
        one_camera_fps,
        cameras: rates,
    }))
}

/// A camera that is to be measured.
struct MeasuredCamera<'a> {
    name: String,
    config: &'a Config,
    source: String,
    is_live: bool,
    /// Frames a second of a source that is no camera.
    fps: f64,
    share: Share,
}

impl<'a> MeasuredCamera<'a> {
    fn new(name: String, config: &'a Config) -> anyhow::Result<Self> {
        let uri = SourceTarget::of(config)?.uri;
        let (source, is_live) = (uri.display().to_owned(), uri.is_live());
        Ok(Self { name, config, source, is_live, fps: config.source.fps.get(), share: Share::of(config) })
    }

    fn setup(&self) -> CameraSetup {
        CameraSetup {
            name: self.name.clone(),
            source: self.source.clone(),
            camera_fps: (!self.is_live).then_some(self.fps),
            priority: self.share.priority,
            max_fps: self.share.max_fps,
        }
    }
}

struct CamerasBench<'a> {
    wanted: &'a Wanted<'a>,
    engine: &'a SharedEngine,
    stop: &'a Stop,
}

impl CamerasBench<'_> {
    /// What one camera gets that is alone and gives frames as fast as they are taken, frames a second.
    fn run_alone(&self, camera: &MeasuredCamera<'_>) -> anyhow::Result<f64> {
        let faster = Pacing::Camera { period: Duration::from_secs_f64(AS_FAST_AS_TAKEN.recip()) };
        let (pipeline, recorder) = self.pipeline(camera, Some(faster))?;
        let report = pipeline.run(self.stop, &Control::default())?;
        Ok(rates_of(camera, report, &recorder)?.fps)
    }

    /// Runs cameras at once.
    fn run(&self, cameras: &[MeasuredCamera<'_>]) -> anyhow::Result<Vec<CameraRates>> {
        let pipelines = cameras.iter().map(|camera| self.pipeline(camera, None));
        let pipelines = pipelines.collect::<anyhow::Result<Vec<_>>>()?;
        let stop = self.stop;
        thread::scope(|scope| {
            let mut running = Vec::new();
            for ((pipeline, recorder), camera) in pipelines.into_iter().zip(cameras) {
                let share = camera.share;
                let run = move || {
                    let control = Control::default();
                    control.set_priority(share.priority);
                    control.rate_limit().set_configured(share.max_fps);
                    pipeline.run(stop, &control)
                };
                running.push((named("camera").spawn_scoped(scope, run)?, recorder, camera));
            }
            let rates = running.into_iter().map(|(running, recorder, camera)| {
                let report = running
                    .join()
                    .map_err(|_| anyhow::anyhow!("a stream panicked; this is a bug in wordsight"))??;
                rates_of(camera, report, &recorder)
            });
            rates.collect()
        })
    }

    fn pipeline(
        &self,
        camera: &MeasuredCamera<'_>,
        pacing: Option<Pacing>,
    ) -> anyhow::Result<(Pipeline, Arc<Mutex<Recorder>>)> {
        let (engine, config) = (self.engine.for_another()?, camera.config);
        let words = WordsTarget::of(config)?.tracked(config);
        let scorer = words.open(engine.facts(), self.stop)?.scorer;
        let source = open_source(self.wanted, config, &Health::default(), self.stop)?;
        let outputs = Outputs { json: Some(Box::new(std::io::sink())), ..Outputs::default() };
        let recorder = Arc::new(Mutex::new(Recorder::for_run_of(self.wanted.seconds)));
        let mut tracking = Tracking::new(config.tracking.settings());
        tracking.set_zones(config.zones()?);
        let pipeline = Pipeline {
            repeat: true,
            tracking,
            measurement: Some(measurement(self.wanted, None, &recorder)),
            ..Pipeline::new(
                source.source,
                pacing.unwrap_or(source.pacing),
                Box::new(engine),
                scorer,
                Publisher::new(outputs)?,
            )
        };
        Ok((pipeline, recorder))
    }
}

fn rates_of(
    camera: &MeasuredCamera<'_>,
    report: Report,
    recorder: &Mutex<Recorder>,
) -> anyhow::Result<CameraRates> {
    if let Some(error) = report.given_up {
        return Err(of_usage(error).context(format!("camera {}", camera.name)));
    }
    let recorder = locked(recorder);
    let rates = report.rates.context("nothing was measured; this is a bug in wordsight")?;
    let frames = recorder.frames();
    Ok(CameraRates {
        setup: camera.setup(),
        frames,
        fps: frames as f64 / rates.stream.time.as_secs_f64(),
        age_ms: Statistics::of(recorder.rows().iter().map(|row| row.age)),
        dropped: report.counters.drops(true).before.iter().sum(),
        allocations_per_frame: report.counters.allocations().iter().sum::<u64>() as f64
            / frames.max(1) as f64,
    })
}
