//! Annotated pictures, drawn and compressed beside the stream.
//!
//! In flow finished jobs through a ring, out flow JPEG files. For a camera the ring drops pictures
//! that the disk or the processor can't keep up with; for a file it drops none, and the stream
//! waits.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use jpeg_encoder::{ColorType, Encoder};
use wordsight_detection::PixelFormat;

use super::{PublishError, annotate};
use crate::pipeline::{Job, Lease, Receiver, Sender, ring};

/// JPEG quality, 1 to 100: no visible blocks around text.
const QUALITY: u8 = 90;

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

/// What came of it.
#[derive(Debug)]
pub struct Saved {
    folder: PathBuf,
    pictures: u64,
    dropped: u64,
}

impl Saved {
    /// As many more, in the folder of the later ones.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            folder: later.folder,
            pictures: self.pictures + later.pictures,
            dropped: self.dropped + later.dropped,
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pictures in {}", self.pictures, self.folder.display())?;
        if self.dropped > 0 {
            write!(f, " ({} more dropped to keep up)", self.dropped)?;
        }
        Ok(())
    }
}

/// The stream's end of the saving thread.
pub(super) struct Saver {
    settings: SaveSettings,
    to_thread: Sender<Lease>,
    thread: JoinHandle<Result<u64, PublishError>>,
    dropped: u64,
}

impl Saver {
    pub(super) fn start(
        settings: SaveSettings,
        size: NonZeroUsize,
        outlives_failures: bool,
    ) -> Result<Self, PublishError> {
        let folder = &settings.folder;
        std::fs::create_dir_all(folder)
            .map_err(|reason| PublishError::NoFolder { path: folder.clone(), reason })?;
        let (to_thread, jobs) = ring(size);
        let names = Names { folder: folder.clone(), style: settings.names, given: HashSet::new() };
        let thread = std::thread::Builder::new()
            .name("save".into())
            .spawn(move || save_all(&jobs, names, outlives_failures))
            .map_err(PublishError::NoThread)?;
        Ok(Self { settings, to_thread, thread, dropped: 0 })
    }

    /// Takes a job if it is one to be saved; `false` when the thread has ended.
    pub(super) fn offer(&mut self, job: Lease) -> bool {
        if !job.number.is_multiple_of(self.settings.every.get() as u64) {
            return true;
        }
        match self.to_thread.send(job) {
            Ok(pushed_out) => {
                self.dropped += u64::from(pushed_out.is_some());
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for the last picture.
    pub(super) fn finish(self) -> Result<Saved, PublishError> {
        let Self { settings, to_thread, thread, dropped } = self;
        drop(to_thread);
        let pictures = thread.join().unwrap_or_else(|_| {
            Err(PublishError::UnwritablePicture {
                path: settings.folder.clone(),
                reason: "the saving thread panicked; this is a bug in wordsight".into(),
            })
        })?;
        Ok(Saved { folder: settings.folder, pictures, dropped })
    }
}

fn save_all(jobs: &Receiver<Lease>, mut names: Names, outlives_failures: bool) -> Result<u64, PublishError> {
    let (mut pictures, mut converted, mut has_failed) = (0, Vec::new(), false);
    while let Ok(mut lease) = jobs.recv() {
        let job = &mut *lease;
        let path = names.next(job);
        let size = (job.frame.width, job.frame.height);
        let rgb = if job.frame.format == PixelFormat::Rgb {
            &mut job.frame.bytes
        } else {
            job.frame.view().write_rgb(&mut converted);
            &mut converted
        };
        annotate::draw(rgb, size, &job.found, &job.words);
        match write_jpeg(rgb, size, &path) {
            Ok(()) => {
                pictures += 1;
                has_failed = false;
            }
            Err(reason) => {
                // Half a picture is none, and takes room.
                drop(std::fs::remove_file(&path));
                let error = PublishError::UnwritablePicture { path, reason };
                if !outlives_failures {
                    return Err(error);
                }
                // Once: a full disk stays full for a while.
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::error!("{error}; the stream goes on without");
                }
            }
        }
    }
    Ok(pictures)
}

fn write_jpeg(rgb: &[u8], (width, height): (usize, usize), path: &Path) -> Result<(), String> {
    let side = |pixels: usize| {
        u16::try_from(pixels).map_err(|_| "JPEG has no more than 65535 pixels a side".to_owned())
    };
    let encoder = Encoder::new_file(path, QUALITY).map_err(|error| error.to_string())?;
    encoder.encode(rgb, side(width)?, side(height)?, ColorType::Rgb).map_err(|error| error.to_string())
}

/// Gives each picture a path of its own.
struct Names {
    folder: PathBuf,
    style: PictureNames,
    given: HashSet<PathBuf>,
}

impl Names {
    fn next(&mut self, job: &Job) -> PathBuf {
        match self.style {
            PictureNames::Numbers => self.folder.join(format!("{:06}.jpg", job.number)),
            PictureNames::Photographs => self.photograph(Path::new(&*job.frame.source)),
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
