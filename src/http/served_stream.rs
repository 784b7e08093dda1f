//! The parts of a stream that the server reads and controls.

use std::path::PathBuf;
use std::sync::Arc;

use super::photographs::DetectPhotograph;
use crate::health::Health;
use crate::pipeline::{Control, Counters};
use crate::publish::Live;
use crate::requests::Requests;

/// What the server shows and tells.
#[derive(Clone)]
pub struct ServedStream {
    /// Results, pictures, events, counts.
    pub live: Live,
    /// How the stream is.
    pub health: Health,
    /// What the stages counted.
    pub counters: Arc<Counters>,
    /// Whether the stages get on.
    pub control: Arc<Control>,
    /// What is in use, and the way to ask for something else.
    pub requests: Requests,
    /// What looks at photographs beside it.
    pub photographs: Arc<dyn DetectPhotograph>,
    /// Where the board's files are: `/`.
    pub board_root: PathBuf,
}
