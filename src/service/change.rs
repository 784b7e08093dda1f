//! A change of a stream's parts: the reloader makes it, and the stream takes it while it pauses.

use std::sync::{Mutex, mpsc};

use wordsight_capture::Source;
use wordsight_engines::Engine;
use wordsight_tracking::TrackingSettings;

use super::target::SourceTarget;
use crate::publish::Slot;
use crate::scoring::FrameScorer;
use crate::tracking::ZoneSettings;

/// Parts to be exchanged while the stream pauses.
pub struct Change {
    pub engine: Option<Box<dyn Engine>>,
    pub scorer: Option<FrameScorer>,
    /// The new one, and the one that is there.
    pub source: Option<(NewSource, SourceTarget)>,
    pub tracking: Option<Option<TrackingSettings>>,
    pub zones: Option<ZoneSettings>,
    /// All outputs, those that stay among them.
    pub sinks: Option<Vec<Slot>>,
}

impl Change {
    /// Whether it is more than other words.
    pub fn needs_pause(&self) -> bool {
        let is_followed_otherwise = self.tracking.is_some() || self.zones.is_some();
        self.engine.is_some() || self.source.is_some() || self.sinks.is_some() || is_followed_otherwise
    }
}

/// A change that waits to be taken, and where it is told what became of it.
pub type Waiting = Mutex<Option<(Change, Done)>>;

/// A source to come.
pub struct NewSource {
    pub target: SourceTarget,
    /// A file, which can be open beside another. A live one is opened when the old one is closed.
    pub opened: Option<Box<dyn Source>>,
}

/// Where it is told what became of a change.
pub struct Done(pub mpsc::Sender<anyhow::Result<()>>);

impl Done {
    pub fn tell(self, outcome: anyhow::Result<()>) {
        // Whoever waits may have gone: the stream ends.
        drop(self.0.send(outcome));
    }
}
