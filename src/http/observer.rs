//! Watches a stream once a second: rates, latest events, and a stage that is stuck.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::served_stream::ServedStream;
use crate::job::Event;
use crate::pipeline::PulseReading;
use crate::publish::DurationCounts;
use crate::threads::locked;

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
    pub fn new(stream: &ServedStream) -> Self {
        Self(Mutex::new(Observed {
            counts: VecDeque::from([Counts::of(stream)]),
            history: VecDeque::new(),
            events: VecDeque::new(),
            pulse: stream.control.pulse().read(),
            moved: Instant::now(),
            stuck: None,
        }))
    }

    /// What the stages have come to by now.
    pub fn look(&self, stream: &ServedStream, now: Instant) {
        let mut observed = locked(&self.0);
        observed.look_at_rates(Counts::of(stream));
        observed.look_at_pulse(stream.control.pulse().read(), stream.control.is_paused(), now);
    }

    pub fn remember(&self, event: Arc<Event>) {
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
    fn of(stream: &ServedStream) -> Self {
        let metrics = stream.live.metrics();
        Self { at: Instant::now(), frames: metrics.frames(), latency: metrics.latency(), age: metrics.age() }
    }
}

/// The mean of what was counted between two moments, milliseconds.
fn mean_ms(before: &DurationCounts, now: &DurationCounts) -> Option<f64> {
    let number = now.buckets.iter().sum::<u64>().checked_sub(before.buckets.iter().sum())?;
    (number > 0).then(|| rounded((now.sum_s - before.sum_s) * 1e3 / number as f64, 100.0))
}

pub(super) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::fuzz::served_stream;
    use crate::job::Stage;

    fn observed() -> (ServedStream, Observed) {
        let stream = served_stream();
        let observed = Observer::new(&stream).0.into_inner().unwrap();
        (stream, observed)
    }

    #[test]
    fn a_rate_is_what_came_in_the_last_seconds_and_there_is_no_latency_without_frames() {
        let (stream, mut observed) = observed();
        let start = Instant::now();
        let nothing = stream.live.metrics().latency();
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
        let (stream, mut observed) = observed();
        let pulse = stream.control.pulse();
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
}
