//! Tests that need what not every machine has.

use std::io::Write;

/// Says in one line what is skipped, what for and what would run it.
///
/// # Panics
/// Where `WORDSIGHT_REQUIRE_REFERENCE` is set, as `make check` and CI have it: there nothing is skipped.
#[track_caller]
pub fn skip(what: &str, missing: &str, remedy: &str) {
    let line = format!("SKIPPED: {what}: {missing} ({remedy})");
    assert!(std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_none(), "{line}");
    skip_anywhere(&line);
}

/// Says that something is skipped that no machine of CI has, either.
pub fn skip_anywhere(line: &str) {
    // Not by eprintln!, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
}
