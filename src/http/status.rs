//! The status of a stream: rates, and in words what is wrong.
//!
//! Reports rates with their history and reasons why something is not as it should be, from counts, health and events.
//! An [`Observer`](super::observer::Observer) looks once a second, however many clients ask, and keeps the events of
//! late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::observer::{Rates, rounded};
use super::state::AppState;
use super::zone_counts::ZoneCounts;
use crate::health::{HealthReport, SourceState};
use crate::job::Event;
use crate::publish::OutletStatus;
use crate::requests::ExampleCount;
use crate::threads::clock::since_1970;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// A stream whose last frame is so old gives none.
const NO_FRAMES_AFTER_S: f64 = 10.0;

/// Looks until the server stops.
pub(super) async fn observe(state: Arc<AppState>, mut events: Receiver<Arc<Event>>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = state.stopped() => return,
            _ = looks.tick() => state.observer.look(&state.stream, Instant::now()),
            event = events.recv() => match event {
                Ok(event) => {
                    state.observer.remember(event);
                    // What came with it, without going around again.
                    loop {
                        match events.try_recv() {
                            Ok(event) => state.observer.remember(event),
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
    /// Why no frames come: a stage that is stuck, a camera that is lost.
    pub no_frames: Vec<String>,
    /// What else is wrong.
    pub troubles: Vec<String>,
}

impl Reasons {
    pub fn of(state: &AppState, report: &HealthReport, outputs: &[OutletStatus]) -> Self {
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
        Self { no_frames: state.observer.stuck().into_iter().chain(no_frames(report)).collect(), troubles }
    }

    pub fn all(self) -> Vec<String> {
        let Self { mut no_frames, troubles } = self;
        no_frames.extend(troubles);
        no_frames
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
    /// What is counted at zones and lines, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    zones: Option<ZoneCounts>,
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
    /// Whether what was chosen also holds after a restart.
    is_kept: bool,
    /// Words that were shown examples of.
    examples: Vec<ExampleCount>,
    student: String,
    engine: String,
}

impl InUse {
    pub fn of(state: &AppState) -> Self {
        let in_use = state.stream.requests.current();
        Self {
            vocabulary: in_use.vocabulary_name(),
            is_in_folder: state.shared.folder.holds(&in_use.vocabulary),
            words: in_use.words.len(),
            score_threshold: rounded(in_use.score_threshold.into(), 1e4),
            is_as_configured: in_use.is_as_configured,
            is_kept: in_use.is_kept,
            examples: in_use.examples,
            student: in_use.student.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            engine: in_use.engine,
        }
    }
}

impl Status {
    pub fn of(state: &AppState, with_history: bool) -> Self {
        let stream = &state.stream;
        let (report, metrics) = (stream.health.report(), stream.live.metrics());
        let outputs: Vec<OutletStatus> = stream.live.outlets().iter().map(|outlet| outlet.status()).collect();
        let reasons = Reasons::of(state, &report, &outputs);
        let is_ready = reasons.no_frames.is_empty();
        let reasons = reasons.all();
        let drops = stream.counters.drops(false);
        let now_ns = with_history.then(|| since_1970().as_nanos() as u64);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            name: state.name(),
            is_well: reasons.is_empty(),
            is_ready,
            reasons,
            in_use: InUse::of(state),
            rates: state.observer.rates(),
            frames: metrics.frames(),
            tracked: metrics.present(),
            dropped: drops.camera + drops.before.iter().sum::<u64>(),
            held_back: drops.held_back,
            viewers: stream.live.viewers(),
            pictures: metrics.pictures(),
            outputs,
            health: report,
            zones: stream.live.zones().map(|zones| ZoneCounts::of(&zones, now_ns)),
            history: with_history.then(|| state.observer.history()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_capture::SourceObserver;

    use super::*;
    use crate::http::fuzz::served_stream;

    #[test]
    fn frames_that_do_not_come_have_a_reason() {
        let health = served_stream().health;
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
