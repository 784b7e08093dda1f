//! Photographs: files and folders of them.
//!
//! Gives one frame for each photograph at the paths, a folder's in the order of their names. The list is made at the
//! start, and a path with something wrong (missing, an empty folder) keeps its place in it, so that its error comes
//! where the photograph would.

use std::path::PathBuf;
use std::sync::Arc;

use wordsight_pictures::{pictures_in, read_bytes};

use crate::decode::decode;
use crate::{CaptureError, Captured, Frame, Source};

/// Makes a frame of the bytes of one photograph (JPEG, PNG or WebP), captured now; `name` is its source.
///
/// # Errors
/// When it is no whole picture, or claims to have more pixels than there are cameras for.
pub fn decode_photograph(bytes: &[u8], name: &str, frame: &mut Frame) -> Result<(), CaptureError> {
    frame.stamp(&Arc::from(name));
    decode(bytes, frame).map_err(|reason| CaptureError::BadPicture { name: name.to_owned(), reason })
}

/// A list of photographs.
pub struct Photographs {
    paths: Vec<PathBuf>,
    next: usize,
    folders: Vec<PathBuf>,
}

impl Photographs {
    /// The photographs at `paths`: files as they are, folders for what lies directly in them.
    pub fn open(paths: &[PathBuf]) -> Self {
        let mut list = Self { paths: Vec::new(), next: 0, folders: Vec::new() };
        for path in paths {
            match pictures_in(path).ok() {
                Some(inside) if !inside.is_empty() => list.paths.extend(inside),
                Some(_) => {
                    list.folders.push(path.clone());
                    list.paths.push(path.clone());
                }
                None => list.paths.push(path.clone()),
            }
        }
        list
    }

    /// The characters of the longest path.
    pub fn longest_name(&self) -> usize {
        self.paths.iter().map(|path| path.display().to_string().chars().count()).max().unwrap_or(0)
    }
}

impl Source for Photographs {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        let Some(path) = self.paths.get(self.next) else {
            return Ok(Captured::End);
        };
        self.next += 1;
        if self.folders.contains(path) {
            return Err(CaptureError::EmptyFolder(path.clone()));
        }
        let bytes =
            read_bytes(path).map_err(|reason| CaptureError::Unreadable { path: path.clone(), reason })?;
        decode_photograph(&bytes, &path.display().to_string(), frame)?;
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.next = 0;
        Ok(())
    }
}
