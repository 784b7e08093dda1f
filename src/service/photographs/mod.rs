//! Photographs that are asked for over HTTP, while the stream runs.
//!
//! Answers a photograph, with words if they are asked for, with a [`Record`](crate::publish::Record) as `wordsight
//! detect` makes it. A process of its own ([`worker`]) finds the regions, on the processor, with one thread at the
//! lowest priority: between two frames the stream's engine would make the stream wait for a photograph as long as for a
//! frame, and lose that frame where the engine is busy all the time, and a second engine on the GPU would share it with
//! the stream's. The words are the stream's own, which are in memory once, and are compared here.
//!
//! The process is started by the first photograph, and ended when none has come for a while.

mod detector;
mod files;
mod region;
mod worker;

pub use detector::{PhotographTarget, Photographs};
pub use files::{check_files, show_files};
pub use worker::answer;
