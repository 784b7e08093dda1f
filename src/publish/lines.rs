//! JSON lines: to the standard output, a file that is rotated, or a Unix socket.
//!
//! In flow records and events, out flow lines, each flushed while it is new.
//!
//! With a Unix socket this program is the server, since it is the one that always runs. Readers come and go (`socat
//! UNIX-CONNECT:/run/wordsight/results.sock -`), and one that doesn't read is disconnected.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::error::PublishError;
use super::json::{self, Lines};
use super::message::Message;
use super::sink::{Inbox, Interests, Sink};
use crate::files::{is_standard_output, try_file};
use crate::settings::SettingError;

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

/// One `[[lines]]` of a configuration, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesKeys {
    to: String,
    frames: Option<bool>,
    events: Option<bool>,
    rotate_mib: Option<u32>,
    keep: Option<u32>,
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
    pub fn open(&self, appends: bool) -> anyhow::Result<Box<dyn Sink>> {
        let (name, output) = match &self.place {
            Place::StandardOutput => ("standard output".to_owned(), Opened::Other(Box::new(io::stdout()))),
            Place::File { path, rotate_bytes, keep } => {
                let shown = path.display().to_string();
                let file = RotatingFile::open(path, *rotate_bytes, *keep, appends);
                let file = file.with_context(|| format!("cannot write {shown}"))?;
                (shown, Opened::File(file))
            }
            Place::Socket(path) => {
                let shown = format!("unix:{}", path.display());
                let socket = Readers::listen(path).with_context(|| format!("cannot listen on {shown}"))?;
                (shown, Opened::Socket(socket))
            }
        };
        Ok(Box::new(LinesSink { name, output, frames: self.frames, events: self.events }))
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
    Box::new(LinesSink {
        name: "results".to_owned(),
        output: Opened::Other(output),
        frames: true,
        events: false,
    })
}

struct LinesSink {
    name: String,
    output: Opened,
    frames: bool,
    events: bool,
}

enum Opened {
    Other(Output),
    File(RotatingFile),
    Socket(Readers),
}

impl Sink for LinesSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn interests(&mut self) -> Interests {
        Interests { frames: self.frames, events: self.events, pictures: None }
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let Self { mut output, .. } = *self;
        let mut lines = Lines::default();
        let mut lost = 0;
        while let Some(message) = inbox.next() {
            let written = match &message {
                Message::Frame(record) => output.write(&mut lines, &json::line(record)),
                Message::Event(event) => output.write(&mut lines, &json::event(event)),
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
