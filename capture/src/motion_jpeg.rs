//! A Motion-JPEG file: one JPEG after another, as many cameras write them.
//!
//! Reads the file through a [`Framer`] and gives its frames. A torn frame, most often the last one of a recording that
//! was cut off, is an error of that frame alone.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::decode;
use crate::{CaptureError, Captured, Frame, Source};
use wordsight_pictures::framing::{Framer, FramingError};

/// An open Motion-JPEG file.
pub struct MotionJpeg {
    path: PathBuf,
    source: Arc<str>,
    framer: Framer<BufReader<File>>,
    /// The frame at hand, still compressed.
    jpeg: Vec<u8>,
    /// Frames met in this pass, torn ones included.
    met: u64,
    /// The file cannot be read on.
    broken: bool,
}

impl MotionJpeg {
    /// Opens a file; `display` stands for it in results.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path, display: &str) -> Result<Self, CaptureError> {
        Ok(Self {
            path: path.to_path_buf(),
            source: Arc::from(display),
            framer: Framer::new(open_file(path)?),
            jpeg: Vec::new(),
            met: 0,
            broken: false,
        })
    }

    fn bad_frame(&self, reason: String) -> CaptureError {
        CaptureError::BadPicture {
            name: format!("frame {} of {}", self.met - 1, self.path.display()),
            reason,
        }
    }
}

impl Source for MotionJpeg {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        if self.broken {
            return Ok(Captured::End);
        }
        let found = self.framer.next_jpeg(&mut self.jpeg);
        if matches!(found, Ok(false)) {
            let empty = self.met == 0;
            self.broken = empty;
            return if empty { Err(CaptureError::EmptyStream(self.path.clone())) } else { Ok(Captured::End) };
        }
        self.met += 1;
        frame.stamp(&self.source);
        match found {
            Ok(_) => decode(&self.jpeg, frame).map_err(|reason| self.bad_frame(reason))?,
            Err(FramingError::Io(reason)) => {
                self.broken = true;
                return Err(CaptureError::Unreadable { path: self.path.clone(), reason });
            }
            Err(torn) => return Err(self.bad_frame(torn.to_string())),
        }
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.framer = Framer::new(open_file(&self.path)?);
        self.met = 0;
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<BufReader<File>, CaptureError> {
    let file =
        File::open(path).map_err(|reason| CaptureError::Unreadable { path: path.to_path_buf(), reason })?;
    Ok(BufReader::with_capacity(1 << 16, file))
}
