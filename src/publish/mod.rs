//! Where results go: JSON lines, a table, annotated pictures, and a summary at the end.
//!
//! In flow finished jobs, out flow lines and files. The one surprising thing: pictures are drawn
//! and compressed on a thread of their own, in the very buffer that the frame was captured into,
//! so that saving costs the stream no copy and no wait beyond the processor's time.

mod annotate;
mod histogram;
mod json;
mod save;
mod summary;
mod table;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

pub use save::{PictureNames, SaveSettings};
pub use summary::Summary;
pub use table::Table;

use crate::pipeline::{Ended, Job, Lease};
use json::JsonLines;
use save::Saver;

/// Where the JSON lines or the table are written.
pub type Output = Box<dyn Write + Send>;

/// What to do with results.
#[derive(Default)]
pub struct Outputs {
    /// Where JSON lines go.
    pub json: Option<Output>,
    /// A table for people.
    pub table: Option<Table>,
    /// Annotated pictures.
    pub save: Option<SaveSettings>,
    /// After how many published frames it is enough.
    pub frames: Option<u64>,
}

/// Whether to go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More, please.
    Continue,
    /// As many frames as were wanted, or nobody reads any more.
    Enough,
}

/// Why results could not be told.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The lines can't be written.
    #[error("cannot write the results: {0}")]
    Unwritable(io::Error),
    /// A folder for pictures can't be made.
    #[error("cannot make the folder {} for annotated pictures: {reason}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The thread that saves pictures can't be started.
    #[error("cannot start a thread for annotated pictures: {0}")]
    NoThread(io::Error),
    /// A picture can't be written.
    #[error("cannot write the annotated picture {}: {reason}", path.display())]
    UnwritablePicture {
        /// The picture.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

/// The last stage's state, from one stream to the next.
pub struct Publisher {
    json: Option<JsonLines>,
    table: Option<Table>,
    save: Option<SaveSettings>,
    /// While a stream runs.
    saver: Option<Saver>,
    frames: Option<u64>,
    /// Whether the stream goes on when an output fails, and tries again with the next frame: so that a full disk costs a
    /// camera's stream the lines that don't fit, and not its life.
    outlives_failures: bool,
    failures: Failures,
    summary: Summary,
}

impl Publisher {
    /// What publishes to these outputs.
    pub fn new(outputs: Outputs) -> Self {
        Self {
            json: outputs.json.map(JsonLines::new),
            table: outputs.table,
            save: outputs.save,
            saver: None,
            frames: outputs.frames,
            outlives_failures: false,
            failures: Failures::default(),
            summary: Summary::default(),
        }
    }

    /// Writes JSON lines elsewhere, or nowhere, from now on.
    pub fn set_json(&mut self, output: Option<Output>) {
        self.json = output.map(JsonLines::new);
    }

    /// Saves pictures elsewhere, or none, from the next stream on.
    pub fn set_save(&mut self, save: Option<SaveSettings>) {
        self.save = save;
    }

    /// Whether frames are looked at, and not only what was found in them.
    pub fn draws(&self) -> bool {
        self.save.is_some()
    }

    /// Gets ready for a stream, which may outlive outputs that fail; `ring` is the size of the ring to the saving thread.
    ///
    /// # Errors
    /// When the folder for pictures can't be made.
    pub fn begin(&mut self, ring: NonZeroUsize, outlives_failures: bool) -> Result<(), PublishError> {
        self.outlives_failures = outlives_failures;
        let save = self.save.clone();
        match save.map(|save| Saver::start(save, ring, self.outlives_failures)).transpose() {
            Ok(saver) => self.saver = saver,
            Err(error) if self.outlives_failures => {
                tracing::error!("{error}; no pictures are saved until the service starts again");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells about one frame, and how it ended; `None` when nobody reads any more.
    ///
    /// # Errors
    /// When an output fails that the stream doesn't outlive. A reader who has gone away is no error.
    pub fn tell(&mut self, job: &Job) -> Result<Option<Ended>, PublishError> {
        let start = Instant::now();
        match self.write(job, start) {
            Ok(()) => self.failures.are_over(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
            Err(error) if self.outlives_failures => self.failures.note(&error),
            Err(error) => return Err(PublishError::Unwritable(error)),
        }
        let at = Instant::now();
        let ended = Ended { at, publish: at - start, age: at - job.frame.captured_at };
        self.summary.add(job, &ended);
        Ok(Some(ended))
    }

    /// Passes a frame that was told on to where pictures are saved, or home.
    pub fn pass_on(&mut self, job: Lease) -> Verdict {
        if let Some(saver) = &mut self.saver
            && !saver.offer(job)
        {
            // Its thread has ended, and `end` says why.
            return Verdict::Enough;
        }
        let enough = self.frames.is_some_and(|frames| self.summary.frames() >= frames);
        if enough { Verdict::Enough } else { Verdict::Continue }
    }

    fn write(&mut self, job: &Job, now: Instant) -> io::Result<()> {
        if let Some(lines) = &mut self.json {
            lines.write(job, now - job.frame.captured_at)?;
        }
        if let Some(table) = &mut self.table {
            table.write_rows(job)?;
        }
        Ok(())
    }

    /// Waits for the last picture of a stream.
    ///
    /// # Errors
    /// When a picture could not be written.
    pub fn end(&mut self) -> Result<(), PublishError> {
        if let Some(saver) = self.saver.take() {
            self.summary.add_saved(saver.finish()?);
        }
        Ok(())
    }

    /// What was published so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// Lines that can't be written, told once and not for every frame.
#[derive(Debug, Default)]
struct Failures {
    lost: u64,
}

impl Failures {
    fn note(&mut self, error: &io::Error) {
        if self.lost == 0 {
            tracing::error!("cannot write the results, and goes on without: {error}");
        }
        self.lost += 1;
    }

    fn are_over(&mut self) {
        if self.lost > 0 {
            tracing::warn!(
                lines = self.lost,
                "results are written again; lines that are lost: {}",
                self.lost
            );
            self.lost = 0;
        }
    }
}
