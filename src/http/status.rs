//! How the stream is, in numbers of the last seconds and in words.
//!
//! In flow counts, health and events; out flow rates with their history, reasons why something is not as it should be, and
//! the events of late. An [`Observer`] looks once a second, whoever asks, and however many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::shared::{Parts, Shared};
use crate::health::{HealthReport, SourceState};
use crate::job::Event;
use crate::pipeline::PulseReading;
use crate::publish::{DurationCounts, OutletStatus};
use crate::threads::locked;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Over so many looks rates are averaged: those of a slow stream would jump.
const SMOOTHED: usize = 3;
/// So many seconds of rates are kept.
const HISTORY: usize = 120;
/// So many events are kept for whoever comes later.
const EVENTS_KEPT: usize = 64;
/// A stage that is at the same thing for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long the parts of a stream may take to be changed.
const LONGEST_CHANGE: Duration = Duration::from_secs(60);
/// A stream whose last frame is so old gives none.
const NO_FRAMES_AFTER_S: f64 = 10.0;

/// Rates of the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Frames published a second.
    pub fps: f64,
    /// What the stages took for a frame, milliseconds; nothing without frames.
    pub latency_ms: Option<f64>,
    /// How old results were when they were published, milliseconds.
    pub age_ms: Option<f64>,
}

/// The counts of a moment.
struct Counts {
    at: Instant,
    frames: u64,
    latency: DurationCounts,
    age: DurationCounts,
}

/// What looks at the stream, once a second.
pub struct Observer(Mutex<Observed>);

struct Observed {
    counts: VecDeque<Counts>,
    history: VecDeque<Rates>,
    events: VecDeque<Arc<Event>>,
    pulse: PulseReading,
    /// When the stages were seen to move last.
    moved: Instant,
    stuck: Option<String>,
}

impl Observer {
    pub fn new(parts: &Parts) -> Self {
        Self(Mutex::new(Observed {
            counts: VecDeque::from([Counts::of(parts)]),
            history: VecDeque::new(),
            events: VecDeque::new(),
            pulse: parts.control.pulse().read(),
            moved: Instant::now(),
            stuck: None,
        }))
    }

    /// What the stages have come to by now.
    fn look(&self, parts: &Parts, now: Instant) {
        let mut observed = locked(&self.0);
        observed.look_at_rates(Counts::of(parts));
        observed.look_at_pulse(parts.control.pulse().read(), parts.control.is_paused(), now);
    }

    fn remember(&self, event: Arc<Event>) {
        let events = &mut locked(&self.0).events;
        if events.len() == EVENTS_KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The rates of the last seconds.
    pub fn rates(&self) -> Rates {
        locked(&self.0).history.back().copied().unwrap_or_default()
    }

    /// One for each of the last two minutes' seconds, the newest last.
    pub fn history(&self) -> Vec<Rates> {
        locked(&self.0).history.iter().copied().collect()
    }

    /// What has happened of late, the newest last.
    pub fn events(&self) -> Vec<Arc<Event>> {
        locked(&self.0).events.iter().cloned().collect()
    }

    /// Which stage gets no further, if one doesn't.
    pub fn stuck(&self) -> Option<String> {
        locked(&self.0).stuck.clone()
    }
}

impl Observed {
    fn look_at_rates(&mut self, now: Counts) {
        if let Some(before) = self.counts.front() {
            let frames = now.frames - before.frames;
            let seconds = (now.at - before.at).as_secs_f64();
            let rates = Rates {
                fps: if seconds > 0.0 { rounded(frames as f64 / seconds, 10.0) } else { 0.0 },
                latency_ms: mean_ms(&before.latency, &now.latency),
                age_ms: mean_ms(&before.age, &now.age),
            };
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(rates);
        }
        if self.counts.len() == SMOOTHED {
            self.counts.pop_front();
        }
        self.counts.push_back(now);
    }

    fn look_at_pulse(&mut self, pulse: PulseReading, is_paused: bool, now: Instant) {
        let stuck = pulse.stuck_since(&self.pulse);
        let still_for = now - self.moved;
        if is_paused {
            let is_too_long = still_for > LONGEST_CHANGE;
            self.stuck =
                is_too_long.then(|| "the stream has been changing its parts for too long".to_owned());
            return;
        }
        match stuck {
            None => (self.pulse, self.moved, self.stuck) = (pulse, now, None),
            Some(stage) if still_for >= STUCK_AFTER => {
                self.stuck = Some(format!("the {} stage gets no further", stage.name()));
            }
            Some(_) => {}
        }
    }
}

impl Counts {
    fn of(parts: &Parts) -> Self {
        let metrics = parts.live.metrics();
        Self { at: Instant::now(), frames: metrics.frames(), latency: metrics.latency(), age: metrics.age() }
    }
}

/// The mean of what was counted between two moments, milliseconds.
fn mean_ms(before: &DurationCounts, now: &DurationCounts) -> Option<f64> {
    let number = now.buckets.iter().sum::<u64>().checked_sub(before.buckets.iter().sum())?;
    (number > 0).then(|| rounded((now.sum_s - before.sum_s) * 1e3 / number as f64, 100.0))
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// Looks until the server stops.
pub(super) async fn observe(shared: Arc<Shared>) {
    let mut events = shared.parts.live.events();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = shared.stopped() => return,
            _ = looks.tick() => shared.observer.look(&shared.parts, Instant::now()),
            event = events.recv() => match event {
                Ok(event) => {
                    shared.observer.remember(event);
                    // What came with it, without going around again.
                    loop {
                        match events.try_recv() {
                            Ok(event) => shared.observer.remember(event),
                            Err(TryRecvError::Lagged(_)) => {}
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Why the stream isn't as it should be, in sentences for people; the first are those that keep frames away.
pub(super) struct Reasons {
    /// Why the process is as good as dead.
    pub stuck: Vec<String>,
    /// Why no frames come.
    pub no_frames: Vec<String>,
    /// What else is wrong.
    pub troubles: Vec<String>,
}

impl Reasons {
    pub fn of(shared: &Shared, report: &HealthReport, outputs: &[OutletStatus]) -> Self {
        let mut troubles: Vec<String> = outputs
            .iter()
            .filter_map(|output| Some(format!("{}: {}", output.name, output.trouble.as_ref()?)))
            .collect();
        if let Some(error) = &report.reload.last_error {
            troubles.push(format!("what was loaded last is refused, and what was before goes on: {error}"));
        }
        let governor = report.governor.as_ref();
        if let Some((limit, reason)) = governor.and_then(|governor| governor.limit_fps.zip(governor.reason)) {
            troubles.push(format!("held back to {limit:.1} frames/s: {reason}"));
        }
        Self {
            stuck: shared.observer.stuck().into_iter().collect(),
            no_frames: no_frames(report).into_iter().collect(),
            troubles,
        }
    }

    pub fn all(self) -> Vec<String> {
        let Self { mut stuck, no_frames, troubles } = self;
        stuck.extend(no_frames);
        stuck.extend(troubles);
        stuck
    }
}

/// Why no frames come, if none do.
fn no_frames(report: &HealthReport) -> Option<String> {
    let source = &report.source;
    match report.state {
        SourceState::Starting => Some(format!("waiting for the first frame of {source}")),
        SourceState::Lost => {
            let reason = report.reason.as_deref().unwrap_or("no frame comes");
            Some(format!("{source} is lost, and asked for again and again: {reason}"))
        }
        SourceState::Ended => Some(format!("{source} has ended")),
        SourceState::Running => {
            let silent = report.last_published_s.filter(|seconds| *seconds > NO_FRAMES_AFTER_S)?;
            Some(format!("no frame was published for {silent:.0} s"))
        }
    }
}

/// All that is to be said of the stream at once.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    /// What the stream is called.
    name: String,
    /// Whether frames come and nothing else is wrong.
    is_well: bool,
    /// Whether frames come.
    is_ready: bool,
    /// What is wrong.
    reasons: Vec<String>,
    in_use: InUse,
    rates: Rates,
    frames: u64,
    tracked: u64,
    dropped: u64,
    held_back: u64,
    viewers: usize,
    pictures: u64,
    outputs: Vec<OutletStatus>,
    health: HealthReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<Rates>>,
}

/// What is in use.
#[derive(Serialize)]
pub(super) struct InUse {
    /// The vocabulary's name, as it is asked for.
    vocabulary: String,
    /// Whether the vocabulary lies in the folder of those that may be switched to.
    is_in_folder: bool,
    words: usize,
    score_threshold: f64,
    is_as_configured: bool,
    student: String,
    engine: String,
}

impl InUse {
    pub fn of(shared: &Shared) -> Self {
        let in_use = shared.parts.requests.current();
        let name = |path: &std::path::Path, without: &str| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(without).unwrap_or(&name).to_owned()
        };
        Self {
            vocabulary: name(&in_use.vocabulary, ".safetensors"),
            is_in_folder: shared.folder.holds(&in_use.vocabulary),
            words: in_use.words.len(),
            score_threshold: rounded(in_use.score_threshold.into(), 1e4),
            is_as_configured: in_use.is_as_configured,
            student: name(&in_use.student, ""),
            engine: in_use.engine,
        }
    }
}

impl Status {
    pub fn of(shared: &Shared, with_history: bool) -> Self {
        let parts = &shared.parts;
        let (report, metrics) = (parts.health.report(), parts.live.metrics());
        let outputs: Vec<OutletStatus> = parts.live.outlets().iter().map(|outlet| outlet.status()).collect();
        let reasons = Reasons::of(shared, &report, &outputs);
        let is_ready = reasons.stuck.is_empty() && reasons.no_frames.is_empty();
        let reasons = reasons.all();
        let drops = parts.counters.drops(false);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            name: parts.requests.current().stream,
            is_well: reasons.is_empty(),
            is_ready,
            reasons,
            in_use: InUse::of(shared),
            rates: shared.observer.rates(),
            frames: metrics.frames(),
            tracked: metrics.present(),
            dropped: drops.camera + drops.before.iter().sum::<u64>(),
            held_back: drops.held_back,
            viewers: parts.live.viewers(),
            pictures: metrics.pictures(),
            outputs,
            health: report,
            history: with_history.then(|| shared.observer.history()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_capture::SourceObserver;

    use super::*;
    use crate::http::fuzz::parts;
    use crate::job::Stage;

    fn observed() -> (Parts, Observed) {
        let parts = parts();
        let observed = Observer::new(&parts).0.into_inner().unwrap();
        (parts, observed)
    }

    #[test]
    fn a_rate_is_what_came_in_the_last_seconds_and_there_is_no_latency_without_frames() {
        let (parts, mut observed) = observed();
        let start = Instant::now();
        let nothing = parts.live.metrics().latency();
        for second in 0..6_u64 {
            let mut latency = nothing.clone();
            latency.buckets[3] = second * 10;
            latency.sum_s = second as f64 * 0.05;
            let at = start + Duration::from_secs(second);
            observed.counts.retain(|_| second > 0);
            observed.look_at_rates(Counts { at, frames: 10 * second, latency, age: nothing.clone() });
        }
        let expected = Rates { fps: 10.0, latency_ms: Some(5.0), age_ms: None };
        assert_eq!(observed.history.back(), Some(&expected));
        assert_eq!(observed.history.len(), 5);
    }

    #[test]
    fn a_stage_that_is_at_the_same_frame_for_ten_seconds_is_stuck_until_it_moves() {
        let (parts, mut observed) = observed();
        let pulse = parts.control.pulse();
        let start = observed.moved;
        let at = |seconds| start + Duration::from_secs(seconds);
        pulse.begin(Stage::Engine);
        pulse.done(Stage::Capture);
        observed.look_at_pulse(pulse.read(), false, at(100));
        pulse.done(Stage::Capture);
        observed.look_at_pulse(pulse.read(), false, at(105));
        assert_eq!(observed.stuck, None);
        pulse.done(Stage::Capture);
        observed.look_at_pulse(pulse.read(), false, at(111));
        assert_eq!(observed.stuck.as_deref(), Some("the engine stage gets no further"));
        pulse.done(Stage::Engine);
        observed.look_at_pulse(pulse.read(), false, at(112));
        assert_eq!(observed.stuck, None);
    }

    #[test]
    fn frames_that_do_not_come_have_a_reason() {
        let health = parts().health;
        health.of_source("test://bars");
        assert!(no_frames(&health.report()).unwrap().contains("first frame of test://bars"));
        health.published();
        assert_eq!(no_frames(&health.report()), None);
        let silent = HealthReport { last_published_s: Some(12.3), ..health.report() };
        assert_eq!(no_frames(&silent).unwrap(), "no frame was published for 12 s");
        health.lost("unplugged", 2);
        assert!(no_frames(&health.report()).unwrap().ends_with("unplugged"));
    }
}
