//! Threads and what they share: names and priorities, locks, rings between two stages, requests to stop, the clock, and
//! processes that help.
//!
//! Every other room of the program stands on this one, and it knows none of them.

pub mod clock;
mod helper;
mod locks;
mod ring;
mod stop;

use std::thread;

pub use helper::{HelperProcess, answer_of, become_helper};
pub use locks::locked;
pub use ring::{Disconnected, Receiver, Sender, ring};
pub use stop::Stop;

/// A thread with a name, for `top -H` and a debugger.
pub fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

/// Makes the calling thread as nice as this, of 19.
pub fn let_others_go_first(nice: i32) {
    // SAFETY: it takes three numbers; 0 is the calling thread. A system that refuses leaves things as they were.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
