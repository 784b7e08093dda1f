//! What a board reports about itself (power, temperature, clocks, alarms), and how many frames it can stand.
//!
//! Everything is read from files of `/proc`, `/sys`, `/etc` and `/var` under a root, which is `/` or a test's folder.
//! [`Machine`] is what stays the same while a program runs, [`Readings`] are power, temperature and clocks at one
//! moment (taken by a [`Sampler`]), and [`Process`] is this program's time and memory. A [`Governor`] turns readings
//! into a frame rate that the board keeps up without being slowed by its own protection.
//!
//! Nothing here fails. A PC has no power mode, a virtual machine no clocks, and a sensor of a sleeping Jetson answers
//! "try again": what can't be read is absent, and no stream ends because of it. No other program is run either:
//! `nvpmodel -q` and `tegrastats` print what is in these files, and need root on some releases.
//!
//! [`Readings`] and [`Governor`] need neither an operating system nor an allocator: without the feature `std` this
//! crate is `no_std`. With it, a [`Sampler`] allocates nothing once it is open.
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
