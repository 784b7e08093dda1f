//! Pacing: how fast a file is played.
//!
//! A file has no clock of its own. Either every frame counts and the slowest stage sets the pace,
//! or the file stands in for a camera and its frames come when a camera's would.

use std::time::{Duration, Instant};

/// How frames follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pacing {
    /// Every frame is processed; capture waits for the other stages.
    Lossless,
    /// A frame each period; what the other stages can't take is dropped, the oldest first.
    Camera {
        /// From one frame to the next.
        period: Duration,
    },
    /// The source has a clock of its own. What the other stages can't take is dropped, the oldest first.
    Live,
}

/// Says when the next frame is due.
pub struct Metronome {
    due: Option<Instant>,
    pacing: Pacing,
}

impl Metronome {
    /// The first frame is due at once.
    pub fn new(pacing: Pacing) -> Self {
        Self { due: None, pacing }
    }

    /// How long to wait for the next frame, seen from `now`.
    ///
    /// A reader that comes late by more than a period starts anew from then: a camera doesn't send
    /// in a burst what nobody fetched.
    pub fn wait_from(&mut self, now: Instant) -> Duration {
        let Pacing::Camera { period } = self.pacing else {
            return Duration::ZERO;
        };
        let due = match self.due {
            Some(last) if now < last + 2 * period => last + period,
            _ => now,
        };
        self.due = Some(due);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    #[test]
    fn a_lossless_source_never_waits() {
        let mut metronome = Metronome::new(Pacing::Lossless);
        let now = Instant::now();
        assert_eq!([metronome.wait_from(now), metronome.wait_from(now)], [Duration::ZERO; 2]);
    }

    #[test]
    fn a_camera_keeps_its_beat_however_long_the_reading_takes() {
        let mut metronome = Metronome::new(Pacing::Camera { period: PERIOD });
        let start = Instant::now();
        assert_eq!(metronome.wait_from(start), Duration::ZERO);
        assert_eq!(metronome.wait_from(start + Duration::from_millis(30)), Duration::from_millis(70));
        assert_eq!(metronome.wait_from(start + Duration::from_millis(130)), Duration::from_millis(70));
    }

    #[test]
    fn a_reader_that_overslept_gets_one_frame_and_no_burst() {
        let mut metronome = Metronome::new(Pacing::Camera { period: PERIOD });
        let start = Instant::now();
        metronome.wait_from(start);
        let late = start + 10 * PERIOD;
        assert_eq!(metronome.wait_from(late), Duration::ZERO);
        assert_eq!(metronome.wait_from(late), PERIOD);
    }
}
