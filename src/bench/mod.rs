//! Reports of measurements: statistics, a table, JSON, a plot and a comparison.
//!
//! `recorder` keeps the times while frames run, the crate `board` says what they ran on, `report` makes statistics of both
//! and is what the JSON file holds; `compare` and `plot` read reports, new ones and old ones alike.
//!
//! Nothing here runs a pipeline: a report from a Jetson is compared and plotted on a PC.

mod cameras;
mod compare;
mod estimate;
mod json;
mod plot;
mod recorder;
mod report;
mod swaps;
mod table;

pub use cameras::{CameraRates, CameraSetup, CamerasMeasured, CamerasReport};
pub use compare::{Dice, compare};
pub use estimate::{Board, Estimate};
pub use plot::{PlotPath, draw};
pub use recorder::{FrameTimes, Recorder};
pub use report::{
    Allocations, Cpu, Drops, Frame, Measured, Memory, Mode, Report, ReportError, Settings, StartAndEnd,
    Statistics, Student, Vocabulary,
};
pub use swaps::{Percentiles, SwapReport, Swaps, microseconds};

pub use table::row;

#[cfg(test)]
pub(crate) use report::tests::report as example;
