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
use crate::scoring::Words;
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

/// The last stage's state.
pub struct Publisher {
    json: Option<JsonLines>,
    table: Option<Table>,
    saver: Option<Saver>,
    frames: Option<u64>,
    words: Words,
    summary: Summary,
}

impl Publisher {
    /// Opens what is to be written; `ring` is the size of the ring to the saving thread.
    ///
    /// # Errors
    /// When the folder for pictures can't be made.
    pub fn start(outputs: Outputs, words: Words, ring: NonZeroUsize) -> Result<Self, PublishError> {
        let saver = outputs.save.map(|settings| Saver::start(settings, words.clone(), ring)).transpose()?;
        let summary = Summary::new(words.clone());
        Ok(Self {
            json: outputs.json.map(JsonLines::new),
            table: outputs.table,
            saver,
            frames: outputs.frames,
            words,
            summary,
        })
    }

    /// Tells about one frame, and how it ended; `None` when nobody reads any more.
    ///
    /// # Errors
    /// When an output fails. A reader who has gone away is no error.
    pub fn tell(&mut self, job: &Job) -> Result<Option<Ended>, PublishError> {
        let start = Instant::now();
        match self.write(job, start) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
            written => written.map_err(PublishError::Unwritable)?,
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
            // Its thread has ended, and `finish` says why.
            return Verdict::Enough;
        }
        let enough = self.frames.is_some_and(|frames| self.summary.frames() >= frames);
        if enough { Verdict::Enough } else { Verdict::Continue }
    }

    fn write(&mut self, job: &Job, now: Instant) -> io::Result<()> {
        if let Some(lines) = &mut self.json {
            lines.write(job, now - job.frame.captured_at, &self.words)?;
        }
        if let Some(table) = &mut self.table {
            table.write_rows(job, &self.words)?;
        }
        Ok(())
    }

    /// Waits for the last picture and returns what was published.
    ///
    /// # Errors
    /// When a picture could not be written.
    pub fn finish(mut self) -> anyhow::Result<Summary> {
        if let Some(saver) = self.saver.take() {
            self.summary.set_saved(saver.finish()?);
        }
        Ok(self.summary)
    }
}
