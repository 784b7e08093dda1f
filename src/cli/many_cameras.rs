//! `wordsight bench --cameras N`: measures several cameras on one engine.
//!
//! In flow a source and a number; out flow the rates, the ages and the fairness of so many cameras that all see that source,
//! beside what one camera alone gets that gives frames as fast as they are taken.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use wordsight_capture::Pacing;
use wordsight_engines::{Engine, SharedEngine};

use super::flags::CommonArgs;
use super::installed::INSTALLED;
use super::measure::{Wanted, config_of, measurement, open_source, slowed};
use crate::bench::{CameraRates, CamerasMeasured, CamerasReport, Mode, Recorder, Statistics};
use crate::config::Config;
use crate::health::Health;
use crate::pipeline::{Control, Pipeline, Report};
use crate::publish::{Outputs, Publisher};
use crate::service::{EngineTarget, WordsTarget, of_usage};
use crate::threads::{Stop, locked, named};
use crate::tracking::Tracking;

/// Frames a second that no engine takes: the one camera that is measured alone always has a new one.
const AS_FAST_AS_TAKEN: f64 = 1000.0;

/// Measures so many cameras.
pub(super) fn measure_cameras(
    common: &CommonArgs,
    wanted: &Wanted<'_>,
    cameras: usize,
) -> anyhow::Result<CamerasReport> {
    let wanted = Wanted { mode: Mode::Live, ..*wanted };
    let config = config_of(common, &wanted)?;
    let stop = Stop::on_signals()?;
    let engine = EngineTarget::of(&config)?.open(&INSTALLED, &stop, &|| ())?;
    let engine = SharedEngine::new(slowed(engine, wanted.least_inference))?;
    let name = engine.name().to_owned();
    let of_source = open_source(&wanted, &config, &Health::default(), &stop)?.name;
    let faster = Pacing::Camera { period: Duration::from_secs_f64(AS_FAST_AS_TAKEN.recip()) };
    let bench = CamerasBench { config: &config, wanted: &wanted, engine: &engine, stop: &stop };
    let alone = bench.run(1, Some(faster))?;
    let rates = bench.run(cameras, None)?;
    Ok(CamerasReport::of(CamerasMeasured {
        engine: name,
        source: of_source,
        camera_fps: config.source.fps.get(),
        measured: wanted.seconds,
        one_camera_fps: alone.iter().map(|camera| camera.fps).sum(),
        cameras: rates,
    }))
}

struct CamerasBench<'a> {
    config: &'a Config,
    wanted: &'a Wanted<'a>,
    engine: &'a SharedEngine,
    stop: &'a Stop,
}

impl CamerasBench<'_> {
    /// Runs so many cameras at once, at the pace of the configuration or at another.
    fn run(&self, cameras: usize, pacing: Option<Pacing>) -> anyhow::Result<Vec<CameraRates>> {
        let pipelines = (0..cameras).map(|_| self.pipeline(pacing)).collect::<anyhow::Result<Vec<_>>>()?;
        let stop = self.stop;
        thread::scope(|scope| {
            let mut running = Vec::new();
            for (pipeline, recorder) in pipelines {
                let run = move || pipeline.run(stop, &Control::default());
                running.push((named("camera").spawn_scoped(scope, run)?, recorder));
            }
            let rates = running.into_iter().enumerate().map(|(number, (running, recorder))| {
                let report = running
                    .join()
                    .map_err(|_| anyhow::anyhow!("a stream panicked; this is a bug in wordsight"))??;
                rates_of(format!("camera {}", number + 1), report, &recorder)
            });
            rates.collect()
        })
    }

    fn pipeline(&self, pacing: Option<Pacing>) -> anyhow::Result<(Pipeline, Arc<Mutex<Recorder>>)> {
        let engine = self.engine.for_another()?;
        let words = WordsTarget::of(self.config)?.tracked(self.config);
        let scorer = words.open(engine.facts(), self.stop)?.scorer;
        let source = open_source(self.wanted, self.config, &Health::default(), self.stop)?;
        let outputs = Outputs { json: Some(Box::new(std::io::sink())), ..Outputs::default() };
        let recorder = Arc::new(Mutex::new(Recorder::for_run_of(self.wanted.seconds)));
        let pipeline = Pipeline {
            repeat: true,
            tracking: Tracking::new(self.config.tracking.settings()),
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

fn rates_of(name: String, report: Report, recorder: &Mutex<Recorder>) -> anyhow::Result<CameraRates> {
    if let Some(error) = report.given_up {
        return Err(of_usage(error));
    }
    let recorder = locked(recorder);
    let rates = report.rates.context("nothing was measured; this is a bug in wordsight")?;
    let frames = recorder.frames();
    Ok(CameraRates {
        name,
        frames,
        fps: frames as f64 / rates.stream.time.as_secs_f64(),
        age_ms: Statistics::of(recorder.rows().iter().map(|row| row.age)),
        dropped: report.counters.drops(true).before.iter().sum(),
        allocations_per_frame: report.counters.allocations().iter().sum::<u64>() as f64
            / frames.max(1) as f64,
    })
}
