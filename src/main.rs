//! The program: see the library of the same name.

use std::process::ExitCode;

/// Counts what each thread allocates: a benchmark tells that a frame in steady state allocates nothing.
#[global_allocator]
static ALLOCATOR: wordsight::Counting = wordsight::Counting;

fn main() -> ExitCode {
    wordsight::run()
}
