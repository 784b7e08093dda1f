//! Files and folders of tests. Shared with the host program's tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file below a folder with its bytes.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

/// Copies a program in a process of its own. What this process writes can't be run ("Text file busy") while a program
/// that another test starts has inherited the open file, from its fork until its `exec`.
pub fn copy_executable(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}
