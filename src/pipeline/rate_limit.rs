//! The rate limit: how many frames a second are let in, by the configuration and by the governor.
//!
//! The capture stage asks it whether to pass a frame on; the lower of the two limits holds. The governor's limit is a
//! part of the full rate: how many frames a second the publishing stage gets when nothing is held back.
//!
//! The full rate is measured at the end of the pipeline and not at the camera: behind an engine that does ten frames a
//! second, letting half of a camera's thirty in would hold nothing back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::threads::locked;

/// Intervals over which the full rate is smoothed, and before which it isn't told.
const SMOOTHED_OVER: u32 = 16;
/// An interval that is so much longer than others is a pause: a camera was lost, or the engine was measured alone.
const PAUSE: f64 = 4.0;
/// Unless there are so many of them.
const MOST_PAUSES: u32 = 8;

/// Shared by a stream and its governor.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// From one frame to the next at least, nanoseconds; 0: there is no limit.
    governed_ns: AtomicU64,
    /// The same, as it is configured.
    configured_ns: AtomicU64,
    natural: Mutex<Natural>,
}

/// How frames follow one another when nothing is held back.
#[derive(Debug, Default)]
struct Natural {
    last: Option<Instant>,
    intervals: u32,
    mean_s: f64,
    pauses: u32,
}

impl RateLimit {
    /// Lets so many frames a second in; nothing: all that come. This is the governor's.
    pub fn set(&self, fps: Option<f64>) {
        self.governed_ns.store(period_ns(fps), Ordering::Relaxed);
    }

    /// The same, by the configuration: the lower of both limits holds.
    pub fn set_configured(&self, fps: Option<f64>) {
        self.configured_ns.store(period_ns(fps), Ordering::Relaxed);
    }

    /// Frames a second that come out when nothing is held back, as soon as that is known.
    pub fn full_fps(&self) -> Option<f64> {
        let natural = self.natural();
        (natural.intervals >= SMOOTHED_OVER).then(|| natural.mean_s.recip()).filter(|fps| fps.is_finite())
    }

    /// From one frame to the next at least.
    pub(super) fn period(&self) -> Option<Duration> {
        let governed = self.governed_ns.load(Ordering::Relaxed);
        let longer = governed.max(self.configured_ns.load(Ordering::Relaxed));
        Some(longer).filter(|ns| *ns > 0).map(Duration::from_nanos)
    }

    /// A frame came out.
    pub(super) fn published(&self, at: Instant) {
        // What the configuration leaves is the full rate.
        let is_limited = self.governed_ns.load(Ordering::Relaxed) > 0;
        self.natural().see(at, is_limited);
    }

    fn natural(&self) -> MutexGuard<'_, Natural> {
        locked(&self.natural)
    }
}

/// From one frame to the next at so many a second; 0 where there is no limit. None at all are as few as this can say.
fn period_ns(fps: Option<f64>) -> u64 {
    fps.map_or(0, |fps| (1e9 / fps.max(0.0)).clamp(1.0, u64::MAX as f64) as u64)
}

impl Natural {
    fn see(&mut self, at: Instant, is_limited: bool) {
        let Some(last) = self.last.replace(at).filter(|_| !is_limited) else { return };
        let interval_s = at.saturating_duration_since(last).as_secs_f64();
        if self.intervals > 0 && interval_s > PAUSE * self.mean_s && self.pauses < MOST_PAUSES {
            self.pauses += 1;
            return;
        }
        if self.pauses >= MOST_PAUSES {
            self.intervals = 0;
        }
        (self.pauses, self.intervals) = (0, self.intervals.saturating_add(1));
        self.mean_s += (interval_s - self.mean_s) / f64::from(self.intervals.min(SMOOTHED_OVER));
    }
}

/// Says of each frame whether it is let in.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// When the next one may come.
    due: Option<Instant>,
}

impl Gate {
    /// Whether a frame that came at this time is let in. On average as many are as may be, whatever rhythm they come in.
    pub fn lets_in(&mut self, at: Instant, period: Option<Duration>) -> bool {
        let Some(period) = period else {
            self.due = None;
            return true;
        };
        // A limit that was lower before keeps nobody waiting any more.
        let due = self.due.map_or(at, |due| due.min(at + period));
        if at < due {
            return false;
        }
        // One that comes late by more than a period starts anew from then.
        self.due = Some(if at < due + period { due + period } else { at + period });
        true
    }

    /// How long a source that waits for us is to wait with its next frame, seen from `now`.
    pub fn wait_from(&mut self, now: Instant, period: Option<Duration>) -> Duration {
        let wait = period.and(self.due).map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        let wait = period.map_or(Duration::ZERO, |period| wait.min(period));
        self.lets_in(now + wait, period);
        wait
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How many frames of a camera are let in within ten seconds.
    fn let_in(camera_fps: u32, limit: f64) -> usize {
        let (limited, start) = (RateLimit::default(), Instant::now());
        limited.set(Some(limit));
        let mut gate = Gate::default();
        let frames = (0..10 * camera_fps).map(|frame| start + frame * Duration::from_secs(1) / camera_fps);
        frames.filter(|at| gate.lets_in(*at, limited.period())).count()
    }

    #[test]
    fn as_many_frames_are_let_in_as_the_limit_says_in_whatever_rhythm_they_come() {
        assert_eq!((let_in(30, 20.0), let_in(30, 7.0), let_in(30, 29.0)), (200, 70, 290));
        assert_eq!(let_in(30, 60.0), 300, "a limit that is none");
    }

    #[test]
    fn without_a_limit_and_as_soon_as_there_is_none_any_more_all_are_let_in() {
        let (limited, start) = (RateLimit::default(), Instant::now());
        let mut gate = Gate::default();
        limited.set(Some(0.1));
        assert!(gate.lets_in(start, limited.period()) && !gate.lets_in(start + 9000 * MS, limited.period()));
        limited.set(Some(1.0));
        assert!(!gate.lets_in(start + 9001 * MS, limited.period()));
        assert!(gate.lets_in(start + 10_002 * MS, limited.period()), "the new limit holds at once");
        limited.set(None);
        assert!(gate.lets_in(start + 10_003 * MS, limited.period()));
    }

    #[test]
    fn the_lower_of_both_limits_holds_and_the_configured_one_is_no_throttling() {
        let (limited, start) = (RateLimit::default(), Instant::now());
        limited.set_configured(Some(10.0));
        assert_eq!(limited.period(), Some(100 * MS));
        (0..40).for_each(|frame| limited.published(start + frame * 100 * MS));
        assert_eq!(limited.full_fps().map(f64::round), Some(10.0));
        limited.set(Some(5.0));
        assert_eq!(limited.period(), Some(200 * MS));
        limited.set(Some(20.0));
        assert_eq!(limited.period(), Some(100 * MS));
        limited.set_configured(None);
        assert_eq!(limited.period(), Some(50 * MS));
    }

    #[test]
    fn a_file_waits_for_its_turn() {
        let (limited, start) = (RateLimit::default(), Instant::now());
        let mut gate = Gate::default();
        assert_eq!(gate.wait_from(start, limited.period()), Duration::ZERO);
        limited.set(Some(10.0));
        assert_eq!(gate.wait_from(start, limited.period()), Duration::ZERO);
        assert_eq!(gate.wait_from(start + 30 * MS, limited.period()), 70 * MS);
        assert_eq!(gate.wait_from(start + 120 * MS, limited.period()), 80 * MS);
        assert_eq!(
            gate.wait_from(start + 900 * MS, limited.period()),
            Duration::ZERO,
            "no burst after a pause"
        );
    }

    #[test]
    fn the_full_rate_is_learned_while_nothing_is_held_back_and_pauses_are_none_of_it() {
        let (limited, mut at) = (RateLimit::default(), Instant::now());
        let mut come = |number: u32, every: Duration| {
            for _ in 0..number {
                limited.published(at);
                at += every;
            }
            limited.full_fps().map(f64::round)
        };
        assert_eq!(come(10, 50 * MS), None);
        assert_eq!(come(20, 50 * MS), Some(20.0));
        come(1, 2000 * MS);
        assert_eq!(come(1, 50 * MS), Some(20.0));
        assert_eq!(come(100, 500 * MS), Some(2.0), "a camera that is slower now");
        limited.set(Some(1.0));
        let mut come = |number: u32, every: Duration| {
            for _ in 0..number {
                limited.published(at);
                at += every;
            }
            limited.full_fps().map(f64::round)
        };
        assert_eq!(come(50, 1000 * MS), Some(2.0), "a limit says nothing of what could be");
    }
}
