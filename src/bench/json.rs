//! JSON for people and programs alike, in a file that is whole or not there.
//!
//! The one surprising thing: objects are indented and lists are not. A report has columns of thousands of numbers, and
//! a line for each would bury what one looks for in the file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Writes a value to a file, by way of another beside it, or for `-` to the standard output.
pub(super) fn write(value: &impl Serialize, path: &Path) -> io::Result<()> {
    if path == Path::new("-") {
        return write_to(io::stdout().lock(), value);
    }
    // A pipe or a device is written to, not replaced.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return write_to(File::options().write(true).open(path)?, value);
    }
    let beside = beside(path)?;
    let written = write_file(&beside, value).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is wrong has been said; a leftover that can't be removed says no more.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A name in the same folder, for a file is renamed within one file system only.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn write_file(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let file = File::create(path)?;
    write_to(&file, value)?;
    file.sync_all()
}

fn write_to(output: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    let layout = ObjectsOnly(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(&mut output, layout))?;
    output.write_all(b"\n")?;
    output.flush()
}

/// Indents objects; lists are as serde_json writes them by default, on one line.
struct ObjectsOnly(PrettyFormatter<'static>);

impl Formatter for ObjectsOnly {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_indented_and_lists_stay_on_a_line() {
        let mut text = Vec::new();
        write_to(&mut text, &serde_json::json!({ "a": { "b": [1, 2, 3], "c": {} }, "d": [] })).unwrap();
        let expected = "{\n  \"a\": {\n    \"b\": [1,2,3],\n    \"c\": {}\n  },\n  \"d\": []\n}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        for value in ["a longer one", "short"] {
            write(&value, &path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("\"{value}\"\n"));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_either() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&1, &folder.path().join("missing/report.json")).is_err());
        assert!(write(&1, folder.path()).is_err(), "a folder");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        write(&1, Path::new("/dev/null")).unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
