//! Exponential back-off: how long to wait before something is tried again.

use std::time::Duration;

/// Waits that double from a first to a longest one, and begin with the first again after a success.
///
/// ```
/// use std::time::Duration;
/// use wordsight_capture::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(1));
/// let waits: Vec<u128> = (0..4).map(|_| backoff.wait().as_millis()).collect();
/// assert_eq!(waits, [250, 500, 1000, 1000]);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// A back-off that has not waited yet.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// The same, 25 % less to 25 % more by a random number from 0 to 1: clients that lost one server at the same moment
    /// don't all come back at the same moment.
    pub fn jittered_wait(&mut self, random: f64) -> Duration {
        self.wait().mul_f64(0.75 + 0.5 * random)
    }

    /// Begins with the first wait again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.wait().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::from_millis(100));
    }

    #[test]
    fn jitter_takes_or_adds_a_quarter_and_does_not_grow() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        let waits = [0.0, 1.0, 0.5, 1.0].map(|random| backoff.jittered_wait(random).as_millis());
        assert_eq!(waits, [75, 250, 400, 500]);
    }
}
