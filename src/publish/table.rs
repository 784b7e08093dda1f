//! A table of photographs and their detections, for a terminal.

use std::io::{self, Write};

use super::places::Output;
use crate::job::Job;

/// The widest that a column of words or files gets; longer ones push their own row to the right.
const WIDEST_COLUMN: usize = 48;

/// A table under construction: rows come out as photographs are done.
pub struct Table {
    output: Output,
    file_width: usize,
    word_width: usize,
    has_header: bool,
}

impl Table {
    /// A table on `output`, for files and words of at most these many characters.
    pub fn new(output: Output, file_width: usize, word_width: usize) -> Self {
        let width = |wanted: usize| wanted.clamp(4, WIDEST_COLUMN);
        Self { output, file_width: width(file_width), word_width: width(word_width), has_header: false }
    }

    pub(super) fn write_rows(&mut self, job: &Job) -> io::Result<()> {
        let (file_width, word_width) = (self.file_width, self.word_width);
        if !std::mem::replace(&mut self.has_header, true) {
            writeln!(
                self.output,
                "{:<file_width$}  {:<word_width$}  score  box (left, top, right, bottom)",
                "file", "word"
            )?;
        }
        let file = &job.frame.source;
        if job.detections.is_empty() {
            writeln!(self.output, "{file:<file_width$}  (nothing found)")?;
        }
        for found in &job.detections {
            let word = job.words.get(found.word);
            let [left, top, right, bottom] = found.box_in_frame;
            writeln!(
                self.output,
                "{file:<file_width$}  {word:<word_width$}  {:>5.2}  {left:.0}, {top:.0}, {right:.0}, {bottom:.0}",
                found.score
            )?;
        }
        self.output.flush()
    }
}
