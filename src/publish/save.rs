//! Annotated pictures in a folder.
//!
//! Writes pictures that were drawn ([`pictures`](super::pictures)) as JPEG files.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::PublishError;
use super::message::{Message, Record};
use super::sink::{Chooser, Inbox, Interests, Sink};
use crate::files::{Durability, replace};
use crate::job::Event;

/// What to save, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveSettings {
    /// The folder; it is made if it isn't there.
    pub folder: PathBuf,
    /// Of how many frames one is saved.
    pub every: NonZeroUsize,
    /// How pictures are named.
    pub names: PictureNames,
}

/// How pictures are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureNames {
    /// By the frame's number: `000042.jpg`.
    Numbers,
    /// As the photograph: `cat.jpg`, and `cat-2.jpg` for the next `cat`.
    Photographs,
}

impl SaveSettings {
    /// Makes the output.
    pub fn open(&self) -> Box<dyn Sink> {
        Box::new(SaveSink { settings: self.clone() })
    }
}

struct SaveSink {
    settings: SaveSettings,
}

/// Every so many frames.
struct Every(u64);

impl Chooser for Every {
    fn wants(&mut self, record: &Record, _: &[Arc<Event>]) -> bool {
        record.frame.is_multiple_of(self.0)
    }
}

impl Sink for SaveSink {
    fn name(&self) -> String {
        self.settings.folder.display().to_string()
    }

    fn interests(&mut self) -> Interests {
        let chooser = Every(self.settings.every.get() as u64);
        Interests { pictures: Some(Box::new(chooser)), ..Interests::default() }
    }

    fn queue_size(&self) -> usize {
        8
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let SaveSettings { folder, names, .. } = self.settings;
        let mut names = Names { folder: folder.clone(), style: names, given: HashSet::new() };
        let mut is_first = true;
        while let Some(message) = inbox.next() {
            let Message::Picture(picture) = message else { continue };
            // Not before: whether the stream outlives what fails is not known until it begins.
            if std::mem::take(&mut is_first) {
                make_folder(&folder, inbox)?;
            }
            let path = names.next(&picture.record);
            match replace(&path, Durability::Fleeting, &picture.jpeg) {
                Ok(()) => {
                    inbox.sent(1);
                    inbox.recovered();
                }
                Err(reason) => {
                    let error = PublishError::UnwritablePicture { path, reason: reason.to_string() };
                    if !inbox.outlives_failures() {
                        return Err(error);
                    }
                    inbox.lost(1);
                    inbox.failed(&error.to_string());
                }
            }
        }
        Ok(())
    }
}

/// Makes the folder, unless the stream is worth more than its pictures.
fn make_folder(folder: &Path, inbox: &Inbox) -> Result<(), PublishError> {
    match std::fs::create_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(reason) => {
            let error = PublishError::NoFolder { path: folder.to_owned(), reason };
            if !inbox.outlives_failures() {
                return Err(error);
            }
            inbox.failed(&error.to_string());
            Ok(())
        }
    }
}

/// Gives each picture a path of its own.
struct Names {
    folder: PathBuf,
    style: PictureNames,
    given: HashSet<PathBuf>,
}

impl Names {
    fn next(&mut self, record: &Record) -> PathBuf {
        match self.style {
            PictureNames::Numbers => self.folder.join(format!("{:06}.jpg", record.frame)),
            PictureNames::Photographs => self.photograph(Path::new(&*record.source)),
        }
    }

    fn photograph(&mut self, photograph: &Path) -> PathBuf {
        let stem = photograph.file_stem().unwrap_or_default().to_string_lossy();
        let mut path = self.folder.join(format!("{stem}.jpg"));
        let mut copy = 2;
        while !self.given.insert(path.clone()) {
            path = self.folder.join(format!("{stem}-{copy}.jpg"));
            copy += 1;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_of_one_name_get_pictures_of_their_own() {
        let mut names =
            Names { folder: "out".into(), style: PictureNames::Photographs, given: HashSet::new() };
        let found = ["a/cat.jpg", "b/cat.png", "dog.jpg"].map(|path| names.photograph(Path::new(path)));
        assert_eq!(found, ["out/cat.jpg", "out/cat-2.jpg", "out/dog.jpg"].map(PathBuf::from));
    }
}
