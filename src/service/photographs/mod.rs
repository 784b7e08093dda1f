//! Photographs that are asked for over HTTP, while the stream runs.
//!
//! In flow a photograph and, if they are asked for, words; out flows a [`Record`], as `wordsight detect` makes it. The
//! regions are found by a process of its own ([`worker`]), on the processor, by one thread at the lowest priority:
//! between two frames the stream's engine would make the stream wait for a photograph as long as for a frame, and lose
//! that frame where the engine is busy all the time, and a second engine on the GPU would share it with the stream's.
//! The words are the stream's own, which are in memory once, and are compared here.
//!
//! The process is started by the first photograph, and ended when none has come for a while.

mod detector;
mod files;
mod region;
mod worker;

pub use detector::{PhotographTarget, Photographs};
pub use files::{check_files, show_files};
pub use worker::answer;
