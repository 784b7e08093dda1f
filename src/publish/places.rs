//! Where JSON lines go: the standard output, a file that is rotated, or a Unix socket; each open once.
//!
//! Streams that write to the same place write whole lines by turns.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use anyhow::Context;

use super::json::Lines;
use crate::threads::locked;

/// How long a reader of a socket may keep a line.
const LONGEST_WRITE: Duration = Duration::from_millis(250);
/// The most readers of a socket.
const MOST_READERS: usize = 16;

/// Where the JSON lines or the table are written.
pub type Output = Box<dyn Write + Send>;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The standard output.
    StandardOutput,
    /// A file, rotated when it is larger than so many bytes, with so many old ones kept as `FILE.1`, `FILE.2`...; 0: never.
    File {
        /// The file.
        path: PathBuf,
        /// After how many bytes it is rotated; 0: never.
        rotate_bytes: u64,
        /// How many rotated ones are kept.
        keep: u32,
    },
    /// A Unix socket that readers connect to.
    Socket(PathBuf),
}

impl Place {
    /// Opens it; a file that is there is gone on with, or begun anew.
    fn open(&self, appends: bool) -> anyhow::Result<OpenedPlace> {
        let (name, output) = match self {
            Self::StandardOutput => ("standard output".to_owned(), Opened::Other(Box::new(io::stdout()))),
            Self::File { path, rotate_bytes, keep } => {
                let shown = path.display().to_string();
                let file = RotatingFile::open(path, *rotate_bytes, *keep, appends);
                let file = file.with_context(|| format!("cannot write {shown}"))?;
                (shown, Opened::File(file))
            }
            Self::Socket(path) => {
                let shown = format!("unix:{}", path.display());
                let socket = Readers::listen(path).with_context(|| format!("cannot listen on {shown}"))?;
                (shown, Opened::Socket(socket))
            }
        };
        Ok(OpenedPlace { name, output: Mutex::new((output, Lines::default())) })
    }

    /// The same by the one name that its file has, however it was written and whatever links lead there.
    fn by_its_path(&self) -> Self {
        let real = |path: &Path| {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let in_folder = || Some(fs::canonicalize(folder).ok()?.join(path.file_name()?));
            fs::canonicalize(path).ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
        };
        match self {
            Self::StandardOutput => Self::StandardOutput,
            Self::File { path, rotate_bytes, keep } => {
                Self::File { path: real(path), rotate_bytes: *rotate_bytes, keep: *keep }
            }
            Self::Socket(path) => Self::Socket(real(path)),
        }
    }

    /// The files that a rotated one is put aside to.
    pub fn put_aside(&self) -> Vec<PathBuf> {
        match self {
            Self::File { path, rotate_bytes, keep } if *rotate_bytes > 0 => {
                (1..=*keep).map(|number| numbered(path, number)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A file's name with a number behind it.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    path.with_file_name(name)
}

/// A place that is open, and what it is called.
pub struct OpenedPlace {
    name: String,
    output: Mutex<(Opened, Lines)>,
}

impl OpenedPlace {
    /// Something else that lines go to.
    pub(super) fn of_output(name: &str, output: Output) -> Self {
        Self { name: name.to_owned(), output: Mutex::new((Opened::Other(output), Lines::default())) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a line, and flushes it.
    pub(super) fn write(&self, line: &impl serde::Serialize) -> io::Result<()> {
        let (output, lines) = &mut *locked(&self.output);
        output.write(lines, line)
    }
}

/// The places that are open: streams that write to the same one write whole lines by turns. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedPlaces(Arc<Mutex<Vec<KnownPlace>>>);

/// A place, and whether it is open.
type KnownPlace = (Place, Weak<OpenedPlace>);

impl SharedPlaces {
    /// A place that is open already, or is opened now.
    ///
    /// # Errors
    /// When it can't be opened.
    pub(super) fn opened(&self, place: &Place, appends: bool) -> anyhow::Result<Arc<OpenedPlace>> {
        let place = &place.by_its_path();
        let mut places = locked(&self.0);
        places.retain(|(_, opened)| opened.strong_count() > 0);
        let is_there = places.iter().find(|(known, _)| known == place);
        if let Some(opened) = is_there.and_then(|(_, opened)| opened.upgrade()) {
            return Ok(opened);
        }
        let opened = Arc::new(place.open(appends)?);
        places.push((place.clone(), Arc::downgrade(&opened)));
        Ok(opened)
    }
}

enum Opened {
    Other(Output),
    File(RotatingFile),
    Socket(Readers),
}

impl Opened {
    fn write(&mut self, lines: &mut Lines, line: &impl serde::Serialize) -> io::Result<()> {
        match self {
            Self::Other(output) => lines.write(output, line).map(drop),
            Self::File(file) => {
                file.make_room(lines)?;
                let written = lines.write(&mut file.file, line)?;
                file.size += written as u64;
                Ok(())
            }
            Self::Socket(readers) => lines.write(readers, line).map(drop),
        }
    }
}

/// A file that is put aside when it is large.
struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_bytes: u64,
    keep: u32,
}

impl RotatingFile {
    fn open(path: &Path, rotate_bytes: u64, keep: u32, appends: bool) -> io::Result<Self> {
        let file = if appends { append_to(path)? } else { File::create(path)? };
        // What can't be measured, such as a pipe, isn't rotated either.
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let rotate_bytes = if is_file { rotate_bytes } else { 0 };
        Ok(Self { path: path.to_owned(), file, size, rotate_bytes, keep })
    }

    /// Puts the file aside if it is full, and one that was taken away (`logrotate` does that) is begun anew.
    fn make_room(&mut self, lines: &mut Lines) -> io::Result<()> {
        if self.rotate_bytes == 0 || self.size < self.rotate_bytes {
            return Ok(());
        }
        // It ends with a whole line.
        lines.finish_torn(&mut self.file)?;
        for number in (1..self.keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            if from.exists() {
                fs::rename(from, to)?;
            }
        }
        if self.keep > 0 {
            fs::rename(&self.path, self.numbered(1))?;
        }
        lines.forget_torn();
        self.file = File::create(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        numbered(&self.path, number)
    }
}

/// Opens a file for more lines; one that a power cut tore stays one of its own.
fn append_to(path: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).append(true).create(true).open(path)?;
    // What can't be sought has no end that may be torn.
    if file.seek(SeekFrom::End(-1)).is_ok() {
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Whoever has connected to a socket.
struct Readers {
    path: PathBuf,
    listener: UnixListener,
    streams: Vec<UnixStream>,
}

impl Readers {
    fn listen(path: &Path) -> io::Result<Self> {
        // What a process that was killed has left; a socket that somebody listens on is not ours to take.
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
        }
        let is_socket = fs::symlink_metadata(path)
            .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
        if is_socket {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), listener, streams: Vec::with_capacity(MOST_READERS) })
    }

    fn let_in(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let is_ready = stream.set_write_timeout(Some(LONGEST_WRITE)).is_ok();
            if is_ready && self.streams.len() < MOST_READERS {
                self.streams.push(stream);
            }
        }
    }
}

impl Write for Readers {
    /// A line goes to each reader whole; who doesn't take it within a moment is let go.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.let_in();
        self.streams.retain_mut(|stream| stream.write_all(line).is_ok());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn a_file_is_put_aside_when_it_is_full_and_no_line_is_lost_but_with_the_oldest_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let mut output = Opened::File(RotatingFile::open(&path, 20, 2, false).unwrap());
        let mut lines = Lines::default();
        for number in 0..10 {
            output.write(&mut lines, &format!("line {number}")).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let text = |numbers: std::ops::Range<u32>| -> String {
            numbers.map(|number| format!("\"line {number}\"\n")).collect()
        };
        assert_eq!(read("results.jsonl"), text(9..10));
        assert_eq!(read("results.jsonl.1"), text(6..9));
        assert_eq!(read("results.jsonl.2"), text(3..6));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn two_outputs_to_one_file_write_whole_lines_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        std::os::unix::fs::symlink("lines.jsonl", folder.path().join("link.jsonl")).unwrap();
        let places = SharedPlaces::default();
        let spelled = [path.clone(), folder.path().join("./lines.jsonl"), folder.path().join("link.jsonl")];
        let opened = spelled
            .map(|path| places.opened(&Place::File { path, rotate_bytes: 0, keep: 0 }, false).unwrap());
        for (number, place) in opened.iter().enumerate() {
            place.write(&format!("line {number}")).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "\"line 0\"\n\"line 1\"\n\"line 2\"\n");
    }

    #[test]
    fn readers_of_a_socket_come_and_go_and_one_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.sock");
        let mut readers = Readers::listen(&path).unwrap();
        readers.write_all(b"nobody hears this\n").unwrap();
        let reader = UnixStream::connect(&path).unwrap();
        let _sleeper = UnixStream::connect(&path).unwrap();
        readers.write_all(b"one\n").unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(reader);
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        // More than a socket holds.
        let reading = std::thread::spawn(move || reader.lines().count());
        let long = vec![b'x'; 100_000];
        for _ in 0..20 {
            readers.write_all(&long).unwrap();
            readers.write_all(b"\n").unwrap();
        }
        assert_eq!(readers.streams.len(), 1, "the sleeper is let go");
        drop(readers);
        assert_eq!(reading.join().unwrap(), 20);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_another_program_listens_on_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.sock");
        let first = Readers::listen(&path).unwrap();
        assert!(Readers::listen(&path).is_err());
        std::mem::forget(first);
        // As after a kill: there, and nobody listens.
        drop(fs::remove_file(&path));
        drop(UnixListener::bind(&path).unwrap());
        Readers::listen(&path).unwrap();
    }
}
