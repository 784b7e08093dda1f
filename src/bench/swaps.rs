//! What swaps of the vocabulary cost a stream, as a table and as JSON.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::report::nearest_rank;

/// What was measured of vocabularies of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swaps {
    /// Words in each vocabulary.
    pub words: usize,
    /// How often they were swapped.
    pub swaps: usize,
    /// Frames that were captured while they were.
    pub frames: u64,
    /// Frames of these that were never published.
    pub lost: u64,
    /// How long the publishing stage took to exchange one vocabulary for another, microseconds.
    pub pause_us: Percentiles,
    /// By how much longer a frame took to be scored when it was the first with new words than the others did in the
    /// median, microseconds.
    pub first_frame_us: Percentiles,
    /// How long it took beside the stream to make a vocabulary ready, milliseconds, in the median.
    pub made_ms: f64,
}

/// Of a number of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of these values; zeros where there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let percentile = |percent| values.get(nearest_rank(percent, values.len())).copied().unwrap_or(0.0);
        Self { p50: percentile(50.0), p99: percentile(99.0), max: percentile(100.0) }
    }
}

/// Microseconds.
pub fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// All sizes that were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwapReport {
    /// What ran the student.
    pub engine: String,
    /// How frames followed one another.
    pub mode: String,
    /// By size.
    pub sizes: Vec<Swaps>,
}

impl SwapReport {
    /// Writes it as JSON, to a file or for `-` to the standard output.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        super::json::write(self, path)
    }
}

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "swaps of words while {} runs, {}", self.engine, self.mode)?;
        writeln!(f)?;
        writeln!(
            f,
            "{:>7} {:>6} {:>7} {:>5}   {:>24}   {:>24}   {:>8}",
            "", "", "", "", "exchange, us", "first frame's more, us", ""
        )?;
        writeln!(
            f,
            "{:>7} {:>6} {:>7} {:>5}   {:>8}{:>8}{:>8}   {:>8}{:>8}{:>8}   {:>8}",
            "words", "swaps", "frames", "lost", "p50", "p99", "most", "p50", "p99", "most", "made, ms"
        )?;
        for size in &self.sizes {
            write!(f, "{:>7} {:>6} {:>7} {:>5}", size.words, size.swaps, size.frames, size.lost)?;
            for Percentiles { p50, p99, max } in [size.pause_us, size.first_frame_us] {
                write!(f, "   {p50:>8.1}{p99:>8.1}{max:>8.1}")?;
            }
            writeln!(f, "   {:>8.1}", size.made_ms)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_there_were() {
        let values = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Percentiles::of(values), Percentiles { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Percentiles::of(Vec::new()), Percentiles { p50: 0.0, p99: 0.0, max: 0.0 });
    }

    #[test]
    fn the_table_is_as_wide_as_a_terminal_and_has_a_row_for_each_size() {
        let percentiles = Percentiles { p50: 0.5, p99: 999.9, max: 9999.9 };
        let size = |words| Swaps {
            words,
            swaps: 100,
            frames: 4_000,
            lost: 0,
            pause_us: percentiles,
            first_frame_us: percentiles,
            made_ms: 120.0,
        };
        let report = SwapReport {
            engine: "onnxruntime".to_owned(),
            mode: "throughput".to_owned(),
            sizes: vec![size(10), size(20_000)],
        };
        let table = report.to_string();
        assert_eq!(table.lines().count(), 6);
        assert!(table.lines().all(|line| line.len() <= 100), "{table}");
    }
}
