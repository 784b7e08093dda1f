//! The program's modules as a library, for the fuzzers: what they try is in `fuzzing`.
//!
//! The one surprising thing: this is `src/main.rs` once more. A program has no library that another could call, and its
//! modules speak of one another as `crate::`, so they are compiled into this crate under the same names.
#![allow(dead_code, unused_imports, missing_docs, reason = "only what the fuzzers call is called")]

macro_rules! tell {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

#[path = "../src/allocations.rs"]
mod allocations;
#[path = "../src/bench/mod.rs"]
mod bench;
#[path = "../src/capture/mod.rs"]
mod capture;
#[path = "../src/cli/mod.rs"]
mod cli;
#[path = "../src/config/mod.rs"]
mod config;
#[path = "../src/doctor/mod.rs"]
mod doctor;
#[path = "../src/files.rs"]
mod files;
#[path = "../src/fuzzing.rs"]
pub mod fuzzing;
#[path = "../src/governor.rs"]
mod governor;
#[path = "../src/health.rs"]
mod health;
#[path = "../src/http/mod.rs"]
mod http;
#[path = "../src/job/mod.rs"]
mod job;
#[path = "../src/logging.rs"]
mod logging;
#[path = "../src/pipeline/mod.rs"]
mod pipeline;
#[path = "../src/preprocess/mod.rs"]
mod preprocess;
#[path = "../src/publish/mod.rs"]
mod publish;
#[path = "../src/scoring/mod.rs"]
mod scoring;
#[path = "../src/service/mod.rs"]
mod service;
#[path = "../src/settings.rs"]
mod settings;
#[path = "../src/threads/mod.rs"]
mod threads;
#[path = "../src/tracking/mod.rs"]
mod tracking;
