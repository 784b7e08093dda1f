//! The ranges of tensors, and the thresholds at which they are clipped.
//!
//! One pass over the photographs fills a histogram of magnitudes for each tensor. When a larger value comes, the
//! histogram widens by merging its bins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CalibrationError;

/// Cells of a histogram. TensorRT's entropy calibration has as many.
const CELLS: usize = 2048;
/// Steps of one sign that an integer has.
const LEVELS: usize = 128;
/// Thresholds that [`Method::Mse`] tries, as shares of the largest magnitude.
const MSE_SHARES: std::ops::RangeInclusive<usize> = 15..=100;

/// How thresholds are chosen: what is beyond one is cut off, and the rest is divided into 127 or 255
/// steps. A lower one has finer steps and cuts off more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The largest magnitude: nothing is cut off.
    Max,
    /// The magnitude below which 99.99% lie.
    Percentile,
    /// The least mean square error.
    Mse,
    /// The least Kullback-Leibler divergence between the values and what is left of them (Migacz,
    /// "8-bit inference with TensorRT", GTC 2017).
    Entropy,
}

impl Method {
    /// All of them, as a report has them.
    pub const ALL: [Self; 4] = [Self::Max, Self::Percentile, Self::Mse, Self::Entropy];

    /// Its name, as on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        }
    }
}

/// What a tensor is quantised between; `low <= 0 <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Values below are cut off.
    pub low: f32,
    /// Values above are cut off.
    pub high: f32,
}

/// What the tensors of a model held.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    tensors: BTreeMap<String, Histogram>,
}

impl Ranges {
    /// Takes what a tensor holds for one photograph. Values that are no numbers are left out.
    pub fn add(&mut self, tensor: &str, values: &[f32]) {
        if !self.tensors.contains_key(tensor) {
            self.tensors.insert(tensor.to_owned(), Histogram::default());
        }
        if let Some(histogram) = self.tensors.get_mut(tensor) {
            histogram.add(values);
        }
    }

    /// Where a tensor is cut off.
    ///
    /// # Errors
    /// When the tensor was never seen.
    pub fn threshold(&self, tensor: &str, method: Method) -> Result<Threshold, CalibrationError> {
        let histogram = self.tensors.get(tensor).filter(|histogram| histogram.total > 0);
        let histogram = histogram.ok_or_else(|| CalibrationError::NeverSeen(tensor.to_owned()))?;
        let magnitude = match method {
            Method::Max => histogram.largest(),
            Method::Percentile => histogram.percentile(0.9999),
            Method::Mse => histogram.least_square_error(),
            Method::Entropy => histogram.least_divergence(),
        };
        Ok(Threshold { low: histogram.low.max(-magnitude), high: histogram.high.min(magnitude) })
    }
}

/// Magnitudes in equal cells from 0 to `width`, which is a power of two.
#[derive(Debug, Clone)]
struct Histogram {
    low: f32,
    high: f32,
    width: f32,
    total: u64,
    cells: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { low: 0.0, high: 0.0, width: f32::MIN_POSITIVE, total: 0, cells: vec![0; CELLS] }
    }
}

impl Histogram {
    fn add(&mut self, values: &[f32]) {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = finite().fold((0.0_f32, 0.0_f32), |(low, high), x| (low.min(x), high.max(x)));
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        self.widen(self.largest());
        let scale = CELLS as f32 / self.width;
        for value in finite() {
            let cell = (value.abs() * scale) as usize;
            self.cells[cell.min(CELLS - 1)] += 1;
            self.total += 1;
        }
    }

    /// Doubles the cells' width until `magnitude` has one.
    fn widen(&mut self, magnitude: f32) {
        if self.total == 0 {
            while self.width < magnitude {
                self.width *= 2.0;
            }
        }
        while self.width < magnitude {
            for cell in 0..CELLS / 2 {
                self.cells[cell] = self.cells[2 * cell] + self.cells[2 * cell + 1];
            }
            self.cells[CELLS / 2..].fill(0);
            self.width *= 2.0;
        }
    }

    fn largest(&self) -> f32 {
        self.high.max(-self.low)
    }

    fn edge(&self, cells: usize) -> f32 {
        self.width * cells as f32 / CELLS as f32
    }

    fn percentile(&self, share: f64) -> f32 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut below = 0;
        let cell = self.cells.iter().position(|count| {
            below += count;
            below >= wanted
        });
        cell.map_or(self.largest(), |cell| self.edge(cell + 1)).min(self.largest())
    }

    /// Tries thresholds; the error of a value inside is that of rounding, uniform over a step.
    fn least_square_error(&self) -> f32 {
        let largest = self.largest();
        let error = |threshold: f32| -> f64 {
            let step = f64::from(threshold) / LEVELS as f64;
            let centres = self.cells.iter().enumerate().filter(|(_, count)| **count > 0);
            centres
                .map(|(cell, &count)| {
                    let beyond = f64::from(self.edge(cell) + self.edge(1) / 2.0 - threshold).max(0.0);
                    let error = if beyond > 0.0 { beyond * beyond } else { step * step / 12.0 };
                    count as f64 * error
                })
                .sum()
        };
        let thresholds = MSE_SHARES.map(|share| largest * share as f32 / 100.0);
        thresholds.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(largest)
    }

    /// TensorRT's calibration: for every threshold the distribution below it, with all that is beyond
    /// in its last cell, against the same in 128 steps. Zero is exact whatever the threshold, so the many
    /// zeros behind an activation must not count: their cell is given its neighbour's height.
    fn least_divergence(&self) -> f32 {
        let mut this = self.clone();
        this.cells[0] = this.cells[1];
        this.total = this.cells.iter().sum::<u64>().max(1);
        this.least_divergence_of_all()
    }

    fn least_divergence_of_all(&self) -> f32 {
        let last = self.cells.iter().rposition(|&count| count > 0).map_or(CELLS, |cell| cell + 1);
        let mut best = (f64::INFINITY, last);
        for cells in (LEVELS..=last.max(LEVELS)).step_by(8) {
            let divergence = self.divergence(cells.min(CELLS));
            if divergence < best.0 {
                best = (divergence, cells);
            }
        }
        self.edge(best.1).min(self.largest())
    }

    fn divergence(&self, cells: usize) -> f64 {
        let inside = &self.cells[..cells];
        let beyond: u64 = self.cells[cells..].iter().sum();
        let mut divergence = 0.0;
        // Cells go into steps of equal width; a step's mass is shared by its cells that have any.
        let kept: u64 = inside.iter().sum();
        if kept == 0 {
            return f64::INFINITY;
        }
        for level in 0..LEVELS {
            let (from, to) = (level * cells / LEVELS, (level + 1) * cells / LEVELS);
            let step = &inside[from..to];
            let mass: u64 = step.iter().sum();
            let filled = step.iter().filter(|&&count| count > 0).count();
            for (at, &count) in step.iter().enumerate() {
                let is_last = from + at + 1 == cells;
                let count = count + if is_last { beyond } else { 0 };
                if count == 0 {
                    continue;
                }
                let p = count as f64 / self.total as f64;
                // What was beyond may fall into a step that has nothing of its own.
                let q = (mass as f64 / filled.max(1) as f64 / kept as f64).max(1e-12);
                divergence += p * (p / q).ln();
            }
        }
        divergence
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A bell of 200,000 values of spread 1, and one value far away.
    fn bell_and_stray(stray: f32) -> Ranges {
        let mut ranges = Ranges::default();
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        for _ in 0..20 {
            let values: Vec<f32> =
                (0..10_000).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
            ranges.add("x", &values);
        }
        ranges.add("x", &[stray]);
        ranges
    }

    #[test]
    fn a_stray_value_stretches_the_maximum_alone() {
        let ranges = bell_and_stray(100.0);
        let high = |method| ranges.threshold("x", method).unwrap().high;
        assert_eq!(high(Method::Max), 100.0);
        for method in [Method::Percentile, Method::Entropy] {
            let high = high(method);
            assert!((1.5..=20.0).contains(&high), "{method:?}: {high}");
        }
        // 200,000 (T/127)^2/12 + (100 - T)^2 is least at T = 49.2.
        assert!((high(Method::Mse) - 49.2).abs() < 1.5, "{}", high(Method::Mse));
        // 99.99% of a bell lie within 3.9 spreads; cells are 128/2048 wide.
        assert!((high(Method::Percentile) - 3.9).abs() < 0.3);
    }

    #[test]
    fn what_is_never_negative_is_cut_off_above_only() {
        let mut ranges = Ranges::default();
        ranges.add("x", &[0.0, 1.0, 2.0, 6.0]);
        for method in Method::ALL {
            assert_eq!(ranges.threshold("x", method).unwrap().low, 0.0);
        }
        assert_eq!(ranges.threshold("x", Method::Max).unwrap().high, 6.0);
    }

    #[test]
    fn the_order_of_photographs_does_not_matter() {
        let (mut ascending, mut descending) = (Ranges::default(), Ranges::default());
        let photographs: Vec<Vec<f32>> = (1..60)
            .map(|scale| (0..500).map(|at| (at as f32 - 200.0) * scale as f32 / 300.0).collect())
            .collect();
        photographs.iter().for_each(|values| ascending.add("x", values));
        photographs.iter().rev().for_each(|values| descending.add("x", values));
        for method in Method::ALL {
            let [a, b] = [&ascending, &descending].map(|ranges| ranges.threshold("x", method).unwrap());
            // Cells that were merged early are where merged ones end up, to a cell's width.
            assert!(
                (a.high - b.high).abs() < 0.05 && (a.low - b.low).abs() < 0.05,
                "{method:?}: {a:?} {b:?}"
            );
        }
    }

    #[test]
    fn numbers_that_are_none_are_left_out_and_unseen_tensors_are_named() {
        let mut ranges = Ranges::default();
        ranges.add("x", &[f32::NAN, f32::INFINITY, 2.0]);
        assert_eq!(ranges.threshold("x", Method::Max).unwrap(), Threshold { low: 0.0, high: 2.0 });
        assert!(ranges.threshold("y", Method::Max).unwrap_err().to_string().contains("`y`"));
    }
}
