//! What a measurement comes to: times of frames in; a table, JSON, a picture and a comparison out.
//!
//! `recorder` keeps the times while frames run, the crate `board` says what they ran on, `report` makes statistics of both
//! and is what the JSON file holds; `compare` and `plot` read reports, new ones and old ones alike.
//!
//! The one surprising thing: nothing here runs a pipeline. All of it works on a report, so that a file from a Jetson
//! is compared and drawn on a PC.

mod compare;
mod estimate;
mod json;
mod plot;
mod recorder;
mod report;
mod swaps;
mod table;

pub use compare::{Dice, compare};
pub use estimate::{Board, Estimate};
pub use plot::{PlotPath, draw};
pub use recorder::{FrameTimes, Recorder};
pub use report::{
    Allocations, Cpu, Drops, Frame, Measured, Memory, Mode, Report, ReportError, Settings, StartAndEnd,
    Student, Vocabulary,
};
pub use swaps::{Percentiles, SwapReport, Swaps, microseconds};

pub use table::row;

#[cfg(test)]
pub(crate) use report::tests::report as example;
