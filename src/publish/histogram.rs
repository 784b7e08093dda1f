//! Percentiles of durations in a fixed amount of memory, however long the stream.
//!
//! Buckets grow by 2 % each, so a percentile is right to within 1 % and never exact; a list of all values would be
//! exact and grow for ever.

use std::time::Duration;

/// The upper end of the first bucket.
const SMALLEST_MS: f64 = 0.01;
/// From one bucket to the next.
const GROWTH: f64 = 1.02;
/// Reaches from 10 microseconds to over two minutes.
const BUCKETS: usize = 840;

/// Counts of durations.
pub(super) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0 }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, duration: Duration) {
        let ratio = (duration.as_secs_f64() * 1e3 / SMALLEST_MS).max(1.0);
        let bucket = (ratio.ln() / GROWTH.ln()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// The duration in milliseconds below which `percent` of all lie, 0 when there are none.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        let rank = ((percent / 100.0 * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return SMALLEST_MS * GROWTH.powf(bucket as f64 + 0.5);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_within_a_hundredth() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        for (percent, expected) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0)] {
            let found = histogram.percentile_ms(percent);
            assert!((found / expected - 1.0).abs() < 0.0101, "p{percent} is {found}");
        }
    }

    #[test]
    fn one_value_is_every_percentile_and_none_is_zero() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ms(50.0), 0.0);
        histogram.add(Duration::from_millis(20));
        assert_eq!(histogram.percentile_ms(1.0), histogram.percentile_ms(99.0));
    }

    #[test]
    fn the_longest_duration_has_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_secs(86_400));
        assert!(histogram.percentile_ms(50.0) > 100_000.0);
    }
}
