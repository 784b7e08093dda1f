//! The clock that waits for a source are measured by; a test has one of its own, which only moves when it is told to.

use std::time::{Duration, Instant};

/// A monotonic clock.
pub(crate) trait Clock: Send {
    /// The time.
    fn now(&self) -> Instant;

    /// Lets time pass.
    fn sleep(&self, duration: Duration);
}

/// The system's.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock on which time passes only by [`Clock::sleep`], at once.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct TestClock {
    start: Instant,
    passed: std::sync::Arc<std::sync::Mutex<Duration>>,
}

#[cfg(test)]
impl TestClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), passed: std::sync::Arc::default() }
    }

    /// How much time has passed.
    pub(crate) fn passed(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.start + self.passed()
    }

    fn sleep(&self, duration: Duration) {
        *self.passed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += duration;
    }
}
