//! Atomic replacement of files, the state directory, and `-` for the standard output.
//!
//! How a file is replaced, and what may not be written to, is in the crate `wordsight-files`, for both programs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use wordsight_files::{
    Content, Durability, Inputs, OutputError, UNFINISHED, folder_of, is_standard_output, is_written_into,
    open_result, read_whole, replace, replace_for_group, write_result,
};

/// Finds out whether a file can be written, by a neighbour that is removed again.
///
/// # Errors
/// What keeps it from being written.
pub fn try_file(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder: name a file in it"));
    }
    if is_written_into(path) {
        return File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop);
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        // systemd makes this one when the service starts.
        if folder.starts_with("/run/wordsight") {
            return Ok(());
        }
        let told = format!("the folder of {} is not there: make it, or name another file", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, told));
    }
    try_folder(folder)
}

/// Finds out whether files can be written into a folder that may have to be made; what was made for that is removed again.
///
/// # Errors
/// What keeps them from being written.
pub fn try_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .filter(|folder| !folder.as_os_str().is_empty())
        .take_while(|folder| !folder.exists())
        .collect();
    let tried = fs::create_dir_all(folder).and_then(|()| {
        let neighbour = folder.join(format!(".wordsight-check.{}", std::process::id()));
        File::create(&neighbour).and_then(|_| fs::remove_file(&neighbour))
    });
    for made in missing {
        // The inner ones first; what isn't there wasn't made.
        let _ = fs::remove_dir(made);
    }
    tried
}

/// A folder for what must outlive the program: systemd's, or else the user's.
pub fn state_folder() -> PathBuf {
    systemd_state_folder()
        .or_else(|| Some(set_path("XDG_STATE_HOME")?.join("wordsight")))
        .or_else(|| Some(set_path("HOME")?.join(".local/state/wordsight")))
        .unwrap_or_else(|| std::env::temp_dir().join("wordsight"))
}

/// The state directory that systemd gave this process, if it did: the first of several, by colons.
pub fn systemd_state_folder() -> Option<PathBuf> {
    let folders = set_path("STATE_DIRECTORY")?;
    std::env::split_paths(&folders).next()
}

fn set_path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
