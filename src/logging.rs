//! Where the log goes: to stderr, or under systemd to the journal, with a field for each value.
//!
//! The journal is only used where stderr is its stream (`JOURNAL_STREAM`, systemd.exec(5)), so that a redirected stderr
//! still gets everything. `journalctl -o json -u wordsight` shows the fields, `WORDSIGHT_` in front of each.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// What each field's name begins with.
const FIELD_PREFIX: &str = "WORDSIGHT";

/// Starts the log. What is told is in `RUST_LOG`: warnings and errors without, and under systemd what happens too.
pub fn start() {
    let journal = is_stderr_the_journal().then(tracing_journald::layer).and_then(Result::ok);
    let level = if journal.is_some() { "info,ort=warn" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let registry = Registry::default().with(filter);
    match journal {
        Some(journal) => registry.with(journal.with_field_prefix(Some(FIELD_PREFIX.to_owned()))).init(),
        None => {
            let stderr = tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                // They would be told by `eprintln!`, which panics where nobody reads.
                .log_internal_errors(false);
            registry.with(stderr).init();
        }
    }
}

/// Whether stderr is the stream to the journal that systemd opened: "device:inode" says which that is.
fn is_stderr_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
