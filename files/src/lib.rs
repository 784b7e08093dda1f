//! Files that are written whole, and [`Inputs`], which says what a command may not write to.
//!
//! A file is written under another name and renamed: a reader finds the old one or the new one, never a part.
//! [`Durability`] says what a power cut may leave.

mod inputs;

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use inputs::{Content, Inputs, OutputError, is_named_as_picture};

/// The extension of a file that is not whole yet, behind the name that it will have.
pub const UNFINISHED: &str = ".partial";

/// What may be found of a replaced file after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The old file, the new one, or an empty one: for what is written again soon.
    Fleeting,
    /// The old file or the new one, whole: the bytes are on the disk before the name is.
    Whole,
    /// The new file, as soon as the call has returned: the folder is on the disk too.
    Kept,
}

/// Opens a file to be read whole. No pipe without a writer, which would block for ever, no device, and nothing longer
/// than `most_bytes`.
///
/// # Errors
/// When it is something of that kind, or the system refuses.
pub fn open_whole(path: &Path, most_bytes: u64) -> io::Result<File> {
    let facts = path.metadata()?;
    let kind = facts.file_type();
    // What a shell's `<(...)` makes lies in /dev, and has a writer.
    if kind.is_fifo() && !path.starts_with("/dev") {
        return Err(io::Error::other("it is a pipe, which nobody may ever write to: name a file"));
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Err(io::Error::other("it is a device, and no file"));
    }
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if facts.len() > most_bytes {
        return Err(too_long(most_bytes));
    }
    File::open(path)
}

/// The bytes of a file that [`open_whole`] opens.
///
/// # Errors
/// As [`open_whole`].
pub fn read_whole(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open_whole(path, most_bytes)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    // A pipe's length is known at its end.
    if bytes.len() as u64 > most_bytes { Err(too_long(most_bytes)) } else { Ok(bytes) }
}

/// What is said of a file that is longer than `most_bytes`.
pub fn too_long(most_bytes: u64) -> io::Error {
    let most = most_bytes >> 20;
    io::Error::other(format!("it has more than {most} MiB, and {most} at most are read"))
}

/// Replaces a file by one with these bytes.
///
/// # Errors
/// When the system refuses; the old file is there as it was.
pub fn replace(path: &Path, durability: Durability, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, durability, |output| output.write_all(bytes))
}

/// The same, by a file that only its owner and the group can read.
///
/// # Errors
/// As [`replace`].
pub fn replace_for_group(path: &Path, durability: Durability, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = Unfinished::create(path)?;
    unfinished.file.set_permissions(fs::Permissions::from_mode(0o640))?;
    unfinished.file.write_all(bytes)?;
    unfinished.finish(durability)
}

/// Replaces a file where other processes, perhaps on other machines, may replace it at the same moment: each writes under
/// a name of its own, and the last one's file stays. What a power cut leaves of such a name stays too.
///
/// # Errors
/// As [`replace`].
pub fn replace_beside_others(path: &Path, durability: Durability, bytes: &[u8]) -> io::Result<()> {
    let random = RandomState::new().build_hasher().finish();
    let mut unfinished =
        Unfinished::named(path, &format!(".{}-{random:016x}{UNFINISHED}", std::process::id()))?;
    unfinished.file.write_all(bytes)?;
    unfinished.finish(durability)
}

/// Replaces a file by what `content` writes.
///
/// # Errors
/// When `content` or the system fails; the old file is there as it was.
pub fn replace_with(
    path: &Path,
    durability: Durability,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = Unfinished::create(path)?;
    let file = filled(unfinished.file.try_clone()?, content)?;
    drop(file);
    unfinished.finish(durability)
}

/// A file that is being written beside its place; dropped before [`Self::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Unfinished {
    /// What is written to.
    pub file: File,
    path: PathBuf,
    place: PathBuf,
    is_finished: bool,
}

impl Unfinished {
    /// Begins a file that is to lie at `place`.
    ///
    /// # Errors
    /// When the system refuses, or a folder lies there.
    pub fn create(place: &Path) -> io::Result<Self> {
        Self::named(place, UNFINISHED)
    }

    /// The same, with this behind the name that it will have.
    fn named(place: &Path, suffix: &str) -> io::Result<Self> {
        if place.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder: name a file in it"));
        }
        if is_written_into(place) {
            return Err(io::Error::other(
                "it is a pipe or a device, which no file takes the place of: name a file",
            ));
        }
        let path = unfinished(place, suffix)?;
        // A link in its place would lead the bytes elsewhere.
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
            fs::remove_file(&path)?;
        }
        Ok(Self { file: File::create(&path)?, path, place: place.to_owned(), is_finished: false })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When the system refuses; what was there before still is.
    pub fn finish(mut self, durability: Durability) -> io::Result<()> {
        if durability != Durability::Fleeting {
            self.file.sync_all()?;
        }
        fs::rename(&self.path, &self.place)?;
        self.is_finished = true;
        if durability == Durability::Kept {
            File::open(folder_of(&self.place))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // What is wrong has been said; a leftover that can't be removed says no more.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Writes what a command was asked for: to the standard output for `-`, into a pipe or a device, or as a whole file.
///
/// # Errors
/// When `content` or the system fails.
pub fn write_result(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let (output, unfinished) = open_result(path)?;
    drop(filled(output, content)?);
    unfinished.map_or(Ok(()), |unfinished| unfinished.finish(Durability::Whole))
}

/// Opens the same for who writes it bit by bit: what is written to, and, for a file, what is to be finished when all is.
///
/// # Errors
/// When the system refuses.
pub fn open_result(path: &Path) -> io::Result<(Box<dyn Write + Send>, Option<Unfinished>)> {
    if is_standard_output(path) {
        return Ok((Box::new(io::stdout()), None));
    }
    if is_written_into(path) {
        return Ok((Box::new(File::options().write(true).open(path)?), None));
    }
    let unfinished = Unfinished::create(path)?;
    Ok((Box::new(unfinished.file.try_clone()?), Some(unfinished)))
}

/// Whether a pipe or a device lies there, which is written into and not replaced.
pub fn is_written_into(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Whether a path stands for the standard output.
pub fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}

/// The folder that a file lies in: the current one where the path is a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn filled<W: Write>(output: W, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<W> {
    let mut output = BufWriter::new(output);
    content(&mut output)?;
    output.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A name in the same folder: a file is renamed within one file system only.
fn unfinished(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "it has no file name");
    let mut name = path.file_name().ok_or_else(no_name)?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write_text(path: &Path, text: &str) -> io::Result<()> {
        write_result(path, |output| output.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        for text in ["a longer one", "short"] {
            write_text(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for durability in [Durability::Fleeting, Durability::Whole, Durability::Kept] {
            replace(&path, durability, b"bytes").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "bytes");
        }
        replace_for_group(&path, Durability::Fleeting, b"for some").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_many_replace_at_once_is_always_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.json");
        let texts: Vec<String> = (0..8_usize).map(|writer| writer.to_string().repeat(200_000)).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| {
                    for _ in 0..5 {
                        replace_beside_others(&path, Durability::Fleeting, text.as_bytes()).unwrap();
                        let found = fs::read_to_string(&path).unwrap();
                        assert!(texts.contains(&found), "{} bytes of several", found.len());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn pipes_and_devices_are_neither_read_whole_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let device = folder.path().join("device");
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        for path in [&pipe, &device] {
            assert!(read_whole(path, 1 << 20).is_err() && replace(path, Durability::Fleeting, b"x").is_err());
            assert!(!path.metadata().unwrap().is_file());
        }
        let long = folder.path().join("long");
        File::create(&long).unwrap().set_len((1 << 20) + 1).unwrap();
        assert!(read_whole(&long, 1 << 20).unwrap_err().to_string().contains("1 at most"));
        assert_eq!(read_whole(&long, 1 << 21).unwrap().len(), (1 << 20) + 1);
    }

    #[test]
    fn what_comes_longer_from_a_shells_pipe_is_refused() {
        use std::os::fd::AsRawFd;
        for (length, is_read) in [(1 << 20, true), ((1 << 20) + 1, false)] {
            let (reader, mut writer) = io::pipe().unwrap();
            let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
            std::thread::scope(|scope| {
                // The reader stops at what it refuses.
                scope.spawn(move || writer.write_all(&vec![b'x'; length]));
                let read = read_whole(&path, 1 << 20);
                drop(reader);
                assert_eq!(read.as_ref().map(Vec::len).ok(), is_read.then_some(length));
                assert!(read.map_or_else(|error| error.to_string().contains("more than 1 MiB"), |_| is_read));
            });
        }
    }

    #[test]
    fn what_fails_half_way_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write_text(&path, "old").unwrap();
        let half = |output: &mut dyn Write| {
            output.write_all(b"half")?;
            Err(io::Error::other("no more"))
        };
        assert!(write_result(&path, half).is_err());
        assert!(write_text(&folder.path().join("missing/report.json"), "").is_err());
        let told = write_text(folder.path(), "a folder").unwrap_err().to_string();
        assert!(told.contains("it is a folder"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(!folder.path().with_extension("partial").exists());
    }

    #[test]
    fn a_link_where_the_unfinished_file_would_be_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, photograph) = (folder.path().join("report.json"), folder.path().join("cat.jpg"));
        fs::write(&photograph, "a photograph").unwrap();
        std::os::unix::fs::symlink(&photograph, folder.path().join("report.json.partial")).unwrap();
        write_text(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&photograph).unwrap(), "a photograph");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        write_text(Path::new("/dev/null"), "text").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        assert_eq!(folder_of(Path::new("out.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("/var/out.json")), Path::new("/var"));
    }
}
