//! The governor's thread: reads the board once a second, and limits the frame rate before the board throttles.
//!
//! The thread sets the limit on the frames that are let in (`RateLimit`), and tells the log, the health and a
//! benchmark's report what was decided. The crate `board` decides, and says why.
//!
//! On a machine without sensors, such as a virtual one, the governor does nothing, at no measurable cost, and needs no
//! switch.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wordsight_board::{Decision, Governor, GovernorSettings, Look, Readings, Reason, Sampler};

use crate::health::{GovernorHealth, Health};
use crate::pipeline::Control;
use crate::settings::{Degrees, Part};
use crate::threads::locked;

/// From one look at the board to the next.
const LOOK: Duration = Duration::from_secs(1);
/// From one look at whether the stream is over to the next.
const NAP: Duration = Duration::from_millis(50);
/// A change of the limit, as a part of it, that is worth a line in the log.
const NOTABLE: f64 = 0.2;
/// Names another root than `/` for the board's files: a copy of another board's, for a test of what would happen.
const ROOT: &str = "WORDSIGHT_BOARD_ROOT";

/// `[governor]` of a configuration, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernorKeys {
    pub enabled: bool,
    pub margin_c: Degrees,
    pub least_fraction: Part,
}

impl GovernorKeys {
    /// The settings, if there is to be a governor.
    pub fn settings(&self) -> Option<GovernorSettings> {
        let settings = GovernorSettings { margin_c: self.margin_c.0, least_fraction: self.least_fraction.0 };
        self.enabled.then_some(settings)
    }
}

/// Where the board's files are.
pub fn board_root() -> PathBuf {
    std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// That the governor held the stream back because of the board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Governed {
    /// For how long, seconds, the warm-up included.
    pub seconds: f64,
    /// The lowest frame rate that it left, frames a second.
    pub least_fps: f64,
    /// Why, at that moment.
    pub reason: Option<Reason>,
}

/// A governor at work on one stream.
pub struct Governing {
    root: PathBuf,
    settings: Mutex<Option<GovernorSettings>>,
    governed: Mutex<Option<Governed>>,
}

impl Governing {
    /// A governor with these settings, or none, on the board whose files are under `root`.
    pub fn new(settings: Option<GovernorSettings>, root: &Path) -> Self {
        Self { root: root.to_owned(), settings: Mutex::new(settings), governed: Mutex::default() }
    }

    /// Other settings, from the next look on.
    pub fn set(&self, settings: Option<GovernorSettings>) {
        *locked(&self.settings) = settings;
    }

    /// Whether it has held the stream back, and for how long.
    pub fn governed(&self) -> Option<Governed> {
        *locked(&self.governed)
    }

    /// Looks at the board until the streams are over. All of them are held back by the same part of their rates.
    pub fn run(&self, streams: &dyn Fn() -> Vec<(Arc<Control>, Health)>, is_over: &dyn Fn() -> bool) {
        let sampler = Sampler::open(&self.root);
        let mut settings = *locked(&self.settings);
        let mut governor = Governor::new(settings.unwrap_or_default());
        let (mut before, mut looked) = (sampler.read(), Instant::now());
        let mut told = Told::default();
        while !is_over() {
            thread::sleep(NAP);
            if looked.elapsed() < LOOK {
                continue;
            }
            let wanted = *locked(&self.settings);
            match wanted.filter(|_| wanted != settings) {
                Some(wanted) if settings.is_some() => governor.set(wanted),
                Some(wanted) => governor = Governor::new(wanted),
                None => {}
            }
            settings = wanted;
            let now = sampler.read();
            let elapsed = std::mem::replace(&mut looked, Instant::now()).elapsed();
            let decision = match settings {
                Some(_) => governor.decide(elapsed, &Look::between(&before, &now)),
                None => Decision::FREE,
            };
            let streams = streams();
            let full_fps = streams.iter().filter_map(|(control, _)| control.rate_limit().full_fps());
            let decided = Decided::new(decision, full_fps.reduce(|sum, fps| sum + fps), &now);
            self.note(&decided, elapsed);
            told.tell(&decided);
            let held_back_s = self.governed().map_or(0.0, |governed| governed.seconds);
            for (control, health) in streams {
                let decided = Decided::new(decision, control.rate_limit().full_fps(), &now);
                control.rate_limit().set(decided.limit_fps);
                health.governed(settings.map(|_| decided.health(held_back_s)));
            }
            before = now;
        }
        streams().iter().for_each(|(control, _)| control.rate_limit().set(None));
    }

    fn note(&self, decided: &Decided<'_>, elapsed: Duration) {
        let Some(limit_fps) = decided.limit_fps else { return };
        let mut governed = locked(&self.governed);
        let governed = governed.get_or_insert(Governed { least_fps: f64::INFINITY, ..Governed::default() });
        governed.seconds += elapsed.as_secs_f64();
        if limit_fps < governed.least_fps {
            (governed.least_fps, governed.reason) = (limit_fps, decided.reason);
        }
    }
}

/// A decision, in frames.
struct Decided<'a> {
    limit_fps: Option<f64>,
    full_fps: Option<f64>,
    reason: Option<Reason>,
    hottest: Option<(&'a str, f64, f64)>,
}

impl<'a> Decided<'a> {
    /// Until the full rate is known there is nothing to take a part of: no limit.
    fn new(decision: Decision, full_fps: Option<f64>, readings: &'a Readings) -> Self {
        let is_held = decision.fraction < 1.0;
        let limit_fps = full_fps.filter(|_| is_held).map(|full| full * f64::from(decision.fraction));
        let hottest = readings.hottest().map(|(zone, margin)| (zone.zone.as_str(), zone.celsius, margin));
        Self { limit_fps, full_fps, reason: decision.reason.filter(|_| limit_fps.is_some()), hottest }
    }

    fn health(&self, held_back_s: f64) -> GovernorHealth {
        GovernorHealth {
            limit_fps: self.limit_fps,
            full_fps: self.full_fps,
            reason: self.reason,
            held_back_s,
            hottest: self.hottest.map(|(zone, _, _)| zone.to_owned()),
            margin_c: self.hottest.map(|(_, _, margin)| margin),
        }
    }
}

/// What the log says: when it begins, when it changes by much, and when it is over.
#[derive(Default)]
struct Told {
    limit_fps: Option<f64>,
    since: Option<Instant>,
}

impl Told {
    fn tell(&mut self, decided: &Decided<'_>) {
        let (zone, celsius, _) = decided.hottest.unwrap_or(("no zone", f64::NAN, f64::NAN));
        let reason = decided.reason.map(|reason| reason.to_string()).unwrap_or_default();
        match (self.limit_fps, decided.limit_fps) {
            (None, Some(limit_fps)) => {
                self.since = Some(Instant::now());
                let full_fps = decided.full_fps.unwrap_or_default();
                tracing::warn!(
                    limit_fps,
                    full_fps,
                    zone,
                    celsius,
                    "the stream is held back to {limit_fps:.1} of {full_fps:.1} frames/s: {reason}"
                );
            }
            (Some(told), Some(limit_fps)) if (limit_fps - told).abs() >= NOTABLE * told => {
                tracing::info!(
                    limit_fps,
                    zone,
                    celsius,
                    "the frame rate is limited to {limit_fps:.1} frames/s: {reason}"
                );
            }
            (Some(_), None) => {
                let held_s = self.since.map_or(0, |since| since.elapsed().as_secs());
                tracing::warn!(held_s, zone, celsius, "the stream is free again, after {held_s} s");
            }
            _ => return,
        }
        self.limit_fps = decided.limit_fps;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hot() -> Readings {
        let zone = wordsight_board::Temperature {
            zone: "gpu-thermal".try_into().unwrap(),
            celsius: 96.0,
            throttles_at: Some(99.0),
            shuts_down_at: None,
        };
        Readings { temperatures: [zone].into_iter().collect(), ..Readings::default() }
    }

    #[test]
    fn a_decision_is_a_part_of_the_full_rate_and_none_as_long_as_that_is_unknown() {
        let (readings, decision) = (hot(), Decision { fraction: 0.5, reason: Some(Reason::Hot) });
        let health = Decided::new(decision, Some(30.0), &readings).health(7.0);
        assert_eq!((health.limit_fps, health.reason), (Some(15.0), Some(Reason::Hot)));
        assert_eq!((health.hottest.as_deref(), health.margin_c), (Some("gpu-thermal"), Some(3.0)));
        let unknown = Decided::new(decision, None, &readings).health(0.0);
        assert_eq!((unknown.limit_fps, unknown.reason), (None, None));
        assert_eq!(Decided::new(Decision::FREE, Some(30.0), &readings).health(0.0).limit_fps, None);
    }

    #[test]
    fn what_it_held_back_adds_up_and_the_least_is_kept_with_its_reason() {
        let (governing, readings) = (Governing::new(None, Path::new("/")), hot());
        for (fraction, reason) in [(0.9, Reason::Hot), (0.5, Reason::OverCurrent), (0.8, Reason::Hot)] {
            let decision = Decision { fraction, reason: Some(reason) };
            governing.note(&Decided::new(decision, Some(10.0), &readings), LOOK);
        }
        governing.note(&Decided::new(Decision::FREE, Some(10.0), &readings), LOOK);
        let expected = Governed { seconds: 3.0, least_fps: 5.0, reason: Some(Reason::OverCurrent) };
        assert_eq!(governing.governed(), Some(expected));
    }
}
