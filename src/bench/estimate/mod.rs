//! Estimates what a student's network would take on a board that isn't there.
//!
//! Takes a student's graph and gives a range of milliseconds for each precision: the sum, over the graph's kernels, of
//! the time to move what a kernel moves or to multiply what it multiplies, whichever is longer, and of a fixed time for
//! each. It counts the network alone, without letterbox, words and copies.
//!
//! The result is a range because how much of its peak a board reaches is not known before it is measured. Both ends are
//! printed, with what they assume.

mod boards;
mod kernels;
mod shapes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;
use wordsight_onnx::proto::ModelProto;

pub use boards::Board;
use boards::{Limits, Precision};
use kernels::{Kernel, kernels};

use super::table::row;

/// How much of its peak a board reaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Assumptions {
    /// Of the memory's bandwidth, 0 to 1.
    pub bandwidth_share: f64,
    /// Of the multiplications, 0 to 1.
    pub compute_share: f64,
    /// What each kernel takes beside, microseconds.
    pub kernel_us: f64,
}

/// A board that does well, and one that does not.
const LOW: Assumptions = Assumptions { bandwidth_share: 0.75, compute_share: 0.5, kernel_us: 3.0 };
const HIGH: Assumptions = Assumptions { bandwidth_share: 0.5, compute_share: 0.2, kernel_us: 6.0 };

/// What takes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Moving values and weights.
    Bandwidth,
    /// Multiplying.
    Compute,
    /// Starting kernels.
    Kernels,
}

impl Bound {
    fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Compute => "compute",
            Self::Kernels => "number of kernels",
        }
    }
}

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct End {
    /// Milliseconds.
    pub ms: f64,
    /// Of these, in kernels that wait for memory longer than for products.
    pub bandwidth_ms: f64,
    /// In the others.
    pub compute_ms: f64,
    /// For starting them.
    pub kernels_ms: f64,
    /// Which of the three is the longest.
    pub bound_by: Bound,
}

/// What a student takes in one precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Range {
    /// In what it computes.
    pub precision: Precision,
    /// Where the board does well.
    pub low: End,
    /// Where it does not.
    pub high: End,
}

/// What is known of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Multiplications, each with its addition.
    pub macs: u64,
    /// Kernels, if all fuses that can.
    pub kernels: usize,
    /// Values read and written, constants left out.
    pub activations: u64,
    /// Constants read.
    pub weights: u64,
}

/// An estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The layout of the file.
    pub format: u32,
    /// "estimate": what no measurement is.
    pub kind: &'static str,
    /// The student's file.
    pub student: String,
    /// The board, with its clocks locked at their highest.
    pub board: Limits,
    /// What is counted in the graph.
    pub counts: Counts,
    /// What the lower end assumes.
    pub low_assumes: Assumptions,
    /// What the higher end assumes.
    pub high_assumes: Assumptions,
    /// By precision.
    pub ranges: Vec<Range>,
}

impl Estimate {
    /// Of a student's graph on a board.
    ///
    /// # Errors
    /// When the graph has an operator that isn't known here.
    pub fn of(model: &ModelProto, student: &str, board: Board) -> Result<Self, String> {
        let graph = model.graph.as_ref().ok_or("there is no graph in it")?;
        let (kernels, board) = (kernels(graph)?, board.limits());
        let sum = |of: fn(&Kernel) -> u64| kernels.iter().map(of).sum();
        let counts = Counts {
            macs: sum(|kernel| kernel.macs),
            kernels: kernels.len(),
            activations: sum(|kernel| kernel.activations + kernel.byte_activations),
            weights: sum(|kernel| kernel.weights),
        };
        let ranges = Precision::ALL.map(|precision| {
            let end = |assumptions| end(&kernels, &board, precision, assumptions);
            Range { precision, low: end(LOW), high: end(HIGH) }
        });
        Ok(Self {
            format: 1,
            kind: "estimate",
            student: student.to_owned(),
            board,
            counts,
            low_assumes: LOW,
            high_assumes: HIGH,
            ranges: ranges.to_vec(),
        })
    }

    /// Writes it as JSON, to a file or for `-` to the standard output.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        super::json::write(self, path)
    }
}

fn end(kernels: &[Kernel], board: &Limits, precision: Precision, assumptions: Assumptions) -> End {
    let (mut bandwidth_ms, mut compute_ms) = (0.0, 0.0);
    for kernel in kernels {
        let values = kernel.activations + kernel.weights;
        let bytes = (values * precision.bytes() + kernel.byte_activations) as f64;
        let moving_ms = bytes / (board.memory_gb_s * 1e6 * assumptions.bandwidth_share);
        let peak = board.macs_per_second(kernel.unit, precision);
        let multiplying_ms = kernel.macs as f64 * 1e3 / (peak * assumptions.compute_share);
        if moving_ms >= multiplying_ms { bandwidth_ms += moving_ms } else { compute_ms += multiplying_ms }
    }
    let kernels_ms = kernels.len() as f64 * assumptions.kernel_us / 1e3;
    let terms =
        [(Bound::Bandwidth, bandwidth_ms), (Bound::Compute, compute_ms), (Bound::Kernels, kernels_ms)];
    let longest = terms.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    End {
        ms: bandwidth_ms + compute_ms + kernels_ms,
        bandwidth_ms,
        compute_ms,
        kernels_ms,
        bound_by: longest.map_or(Bound::Kernels, |(bound, _)| bound),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { name, multiprocessors, gpu_mhz, memory_gb_s } = self.board;
        writeln!(
            f,
            "An estimate, and nothing measured: the network alone, without letterbox, words and copies."
        )?;
        writeln!(f)?;
        row(f, "student", &self.student)?;
        row(f, "board", name)?;
        let clocks = format!(
            "GPU {gpu_mhz} MHz, {multiprocessors} multiprocessors; memory {memory_gb_s} GB/s; locked (`jetson_clocks`)"
        );
        row(f, "clocks", &clocks)?;
        let Counts { macs, kernels, activations, weights } = self.counts;
        let millions = |count: u64| count as f64 / 1e6;
        let graph = format!(
            "{:.2} G products, {kernels} kernels if all fuses, {:.1} M values moved, {:.1} M weights",
            millions(macs) / 1e3,
            millions(activations),
            millions(weights)
        );
        row(f, "graph", &graph)?;
        for (end, of) in [("low", self.low_assumes), ("high", self.high_assumes)] {
            let assumes = format!(
                "{:.0} % of the bandwidth, {:.0} % of the products' peak, {} us for each kernel",
                100.0 * of.bandwidth_share,
                100.0 * of.compute_share,
                of.kernel_us
            );
            row(f, &format!("{end} assumes"), &assumes)?;
        }
        writeln!(f)?;
        writeln!(f, "{:<20}{:>16}   longest term (low; high)", "", "ms, low to high")?;
        for Range { precision, low, high } in &self.ranges {
            let range = format!("{:.1} to {:.1}", low.ms, high.ms);
            let bound = format!("{}; {}", told(low), told(high));
            writeln!(f, "{:<20}{range:>16}   {bound}", precision.name())?;
        }
        Ok(())
    }
}

/// The longest term, and how much of the whole it is.
fn told(end: &End) -> String {
    let longest = end.bandwidth_ms.max(end.compute_ms).max(end.kernels_ms);
    format!("{} {:.0} %", end.bound_by.name(), 100.0 * longest / end.ms)
}
