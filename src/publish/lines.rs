//! JSON lines: to the standard output, a file that is rotated, or a Unix socket.
//!
//! Writes records and events as lines, each flushed while it is new.
//!
//! With a Unix socket this program is the server, since it is the one that always runs. Readers come and go (`socat
//! UNIX-CONNECT:/run/wordsight/results.sock -`), and one that doesn't read is disconnected.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;

use super::error::PublishError;
use super::json;
use super::message::Message;
use super::places::{OpenedPlace, Output, Place};
use super::sink::{Inbox, Interests, Sink, SinkContext};
use crate::files::{is_standard_output, try_file};
use crate::settings::SettingError;

/// One `[[lines]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesKeys {
    to: String,
    frames: Option<bool>,
    events: Option<bool>,
    rotate_mib: Option<u32>,
    keep: Option<u32>,
    /// Of which cameras, where there are several; without it, of all.
    pub cameras: Option<Vec<String>>,
}

impl LinesKeys {
    /// Resolves a path, which is relative to `folder`.
    ///
    /// # Errors
    /// When no place is named.
    pub fn resolve(&self, folder: &Path) -> Result<LinesSettings, SettingError> {
        if matches!(self.to.as_str(), "" | "unix:") {
            let reason =
                "to names no place: write a file, - for the standard output, or unix:PATH".to_owned();
            return Err(SettingError { section: "[lines]", reason });
        }
        let place = match self.to.strip_prefix("unix:") {
            Some(path) => Place::Socket(folder.join(path)),
            None if is_standard_output(Path::new(&self.to)) => Place::StandardOutput,
            None => Place::File {
                path: folder.join(&self.to),
                rotate_bytes: u64::from(self.rotate_mib.unwrap_or(0)) << 20,
                keep: self.keep.unwrap_or(3),
            },
        };
        Ok(LinesSettings { place, frames: self.frames.unwrap_or(true), events: self.events.unwrap_or(false) })
    }
}

/// What lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesSettings {
    /// Where to.
    pub place: Place,
    /// Every frame's results.
    pub frames: bool,
    /// What appears and leaves.
    pub events: bool,
}

impl LinesSettings {
    /// Opens the place. A service that is started again goes on with the file that is there (`appends`); a command begins
    /// anew.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(&self, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
        let opened = context.places.opened(&self.place, context.appends)?;
        Ok(Box::new(LinesSink { opened, frames: self.frames, events: self.events }))
    }

    /// Whether the place could be opened, which is left as it is: somebody may be writing there.
    ///
    /// # Errors
    /// When it can't be.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.place {
            Place::StandardOutput => Ok(()),
            Place::File { path, .. } | Place::Socket(path) => {
                try_file(path).with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }
}

/// Frames' results as lines on any output.
pub fn lines_to(output: Output) -> Box<dyn Sink> {
    let opened = Arc::new(OpenedPlace::of_output("results", output));
    Box::new(LinesSink { opened, frames: true, events: false })
}

struct LinesSink {
    opened: Arc<OpenedPlace>,
    frames: bool,
    events: bool,
}

impl Sink for LinesSink {
    fn name(&self) -> String {
        self.opened.name().to_owned()
    }

    fn interests(&mut self) -> Interests {
        Interests { frames: self.frames, events: self.events, pictures: None }
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let mut lost = 0;
        while let Some(message) = inbox.next() {
            let written = match &message {
                Message::Frame(record) => self.opened.write(&json::line(record)),
                Message::Event(event) => self.opened.write(&json::event(event)),
                Message::Picture(_) => continue,
            };
            match written {
                Ok(()) => {
                    inbox.sent(1);
                    if lost > 0 {
                        tracing::warn!(
                            lines = lost,
                            "results are written again; lines that are lost: {lost}"
                        );
                        lost = 0;
                    }
                    inbox.recovered();
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(PublishError::ReaderGone);
                }
                Err(error) if inbox.outlives_failures() => {
                    lost += 1;
                    inbox.lost(1);
                    inbox.failed(&format!("cannot write the results, and goes on without: {error}"));
                }
                Err(error) => return Err(PublishError::Unwritable(error)),
            }
        }
        Ok(())
    }
}
