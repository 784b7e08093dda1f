//! A stream that is looked after: it starts, is told other things while it runs, and says how it is.
//!
//! In flow what a stream is to be made of ([`Target`]), and again whenever the configuration or the vocabulary changes or
//! SIGHUP comes; out flows the [`Report`] of the last of its streams. The parts: [`reload`] finds out what is to be another
//! and makes it, `systemd` tells how the stream is, `last_good` keeps what works.
//!
//! The one surprising thing: nothing is stopped for what can be exchanged. Words and thresholds are swapped between two
//! frames. For another source, student or output the stream pauses: its last frames come out, and it goes on with every
//! part that is the same, an open camera and a warm engine among them. What is new is made and tried before that, so that
//! what doesn't work never takes the place of what does.

mod change;
mod engines;
mod file_watch;
mod last_good;
mod overrides;
mod reload;
mod run;
mod start;
mod systemd;
mod target;

#[cfg(feature = "tensorrt")]
pub use engines::BuildProgress;
pub use engines::{Engines, GpuWait, Installed};
pub use start::Service;
pub use target::{EngineTarget, SourceTarget, Target, WordsTarget, of_usage, open_output};

#[cfg(all(test, feature = "tensorrt"))]
mod tests;
