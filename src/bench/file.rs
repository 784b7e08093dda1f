//! Files that are whole or not there: written beside, and renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file as a whole, or for `-` to the standard output.
pub(super) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path == Path::new("-") {
        return filled(io::stdout().lock(), content).map(drop);
    }
    // A pipe or a device is written to, not replaced.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return filled(File::options().write(true).open(path)?, content).map(drop);
    }
    let beside = beside(path)?;
    let written = filled(File::create(&beside)?, content)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is wrong has been said; a leftover that can't be removed says no more.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn filled<W: Write>(output: W, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<W> {
    let mut output = BufWriter::new(output);
    content(&mut output)?;
    output.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A name in the same folder, for a file is renamed within one file system only.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "it has no file name");
    let mut hidden = OsString::from(".");
    hidden.push(path.file_name().ok_or_else(no_name)?);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write_text(path: &Path, text: &str) -> io::Result<()> {
        write(path, |output| output.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        for text in ["a longer one", "short"] {
            write_text(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
        assert!(write(&path, half).is_err());
        assert!(write_text(&folder.path().join("missing/report.json"), "").is_err());
        assert!(write_text(folder.path(), "a folder").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        write_text(Path::new("/dev/null"), "text").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
