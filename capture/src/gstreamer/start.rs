//! Starts GStreamer, and says which elements it has.

use std::sync::OnceLock;

use gstreamer as gst;

/// Starts GStreamer, once a process.
pub fn init() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| gst::init().map_err(|error| format!("GStreamer does not start: {error}"))).clone()
}

/// Whether an element is installed.
pub(super) fn has_element(name: &str) -> bool {
    init().is_ok() && gst::ElementFactory::find(name).is_some()
}
