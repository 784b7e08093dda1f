//! What the methods of calibration cut off a tensor's values. `cargo run -p wordsight-calibration --example thresholds`
#![allow(missing_docs)]

use wordsight_calibration::{CalibrationError, Method, Ranges};

fn main() -> Result<(), CalibrationError> {
    // Many small values, and one that is far out.
    let mut values: Vec<f32> = (0..10_000).map(|at| (at % 100) as f32 / 100.0).collect();
    values.push(50.0);
    let mut ranges = Ranges::default();
    ranges.add("activations", &values);
    for method in Method::ALL {
        let threshold = ranges.threshold("activations", method)?;
        println!("{:>10}: {} to {}", method.name(), threshold.low, threshold.high);
    }
    Ok(())
}
