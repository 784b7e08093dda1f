//! What a board says of itself, and what to do about it.
//!
//! In flow files of `/proc`, `/sys`, `/etc` and `/var` under a root that is `/` or a test's folder; out flow
//! [`Machine`] (what stays while a program runs), [`Readings`] (power, heat and clocks of one moment, by a [`Sampler`])
//! and [`Process`] (time and memory of this program). A [`Governor`] makes a frame rate of readings: one that the board
//! keeps up without being slowed by its own protection.
//!
//! The one surprising thing: nothing here fails. A PC has no power mode, a virtual machine no clocks, and a sensor of
//! a sleeping Jetson answers "try again": what isn't there is absent, and no stream ends for it. No other program is
//! run either: `nvpmodel -q` and `tegrastats` print what these files say, and want root on some releases.
//!
//! [`Readings`] and [`Governor`] need neither a system nor an allocator: without the feature `std` this crate is
//! `no_std`, and with it a [`Sampler`] allocates nothing once it is open.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
mod files;
#[cfg(feature = "fixtures")]
pub mod fixtures;
mod governor;
#[cfg(feature = "std")]
mod machine;
#[cfg(feature = "std")]
mod process;
mod readings;
#[cfg(feature = "std")]
mod sampler;

pub use governor::{Decision, Governor, GovernorSettings, Look, Reason};
#[cfg(feature = "std")]
pub use machine::{Machine, PowerMode};
#[cfg(feature = "std")]
pub use process::Process;
pub use readings::{Cooling, Fan, Name, OverCurrent, Rail, Readings, Temperature};
#[cfg(feature = "std")]
pub use sampler::Sampler;
