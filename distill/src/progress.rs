//! Progress bars of long work.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and time left; silent where stderr is no terminal.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let template = "{msg:>12} [{bar:32}] {pos}/{len} {per_sec} ETA {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style.progress_chars("=> ")).with_message(what)
}
