//! Tells whether a file has changed since it was last read.
//!
//! A change counts when the file is at rest: editors write in place, or write another file and rename it, and a copy
//! over a network takes its time. So files are looked at five times a second, and two looks must have seen the same.
//! Notices of the kernel (inotify) would come sooner, and not at all where a file lies on a network file system, is
//! bound into a container or reached through a link whose target is exchanged.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// After how many looks a file that is gone counts as changed: one that is replaced may be away for a moment.
const GONE_AFTER: u32 = 8;

/// What is different after a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// One file, as it was when it was read, and as it was at the last look.
#[derive(Debug, Clone)]
pub struct Watched {
    path: PathBuf,
    read: Option<Stamp>,
    seen: Option<Stamp>,
    /// For how many looks it has been as `seen`.
    looks: u32,
}

/// The same file, not written between the two readings.
impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.read) == (&other.path, other.read)
    }
}

impl Watched {
    /// A file that is about to be read.
    pub fn new(path: &Path) -> Self {
        let now = stamp(path);
        Self { path: path.to_owned(), read: now, seen: now, looks: 0 }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the file is another than when it was read, and at rest.
    pub fn has_changed(&mut self) -> bool {
        let now = stamp(&self.path);
        self.looks = if now == self.seen { self.looks + 1 } else { 0 };
        self.seen = now;
        now != self.read && self.looks >= if now.is_some() { 1 } else { GONE_AFTER }
    }

    /// Whether the file is now another than when it was read.
    pub fn is_other(&self) -> bool {
        stamp(&self.path) != self.read
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.safetensors");
        fs::write(&path, "one").unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_that_is_written_in_place_has_changed_when_it_is_at_rest() {
        let (_folder, path) = file();
        let mut watched = Watched::new(&path);
        assert!(!watched.has_changed() && !watched.has_changed());
        fs::write(&path, "two, and more").unwrap();
        assert!(!watched.has_changed(), "it may still be written");
        assert!(watched.has_changed() && watched.is_other());
        assert!(!Watched::new(&path).has_changed(), "and read again it is as it was");
    }

    #[test]
    fn a_file_that_another_is_renamed_over_has_changed_though_it_looks_the_same() {
        let (folder, path) = file();
        let mut watched = Watched::new(&path);
        let other = folder.path().join("words.part");
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!watched.has_changed());
        assert!(watched.has_changed());
    }

    #[test]
    fn a_file_that_grows_is_waited_for() {
        let (_folder, path) = file();
        let mut watched = Watched::new(&path);
        for size in 10..20 {
            fs::write(&path, "x".repeat(size)).unwrap();
            assert!(!watched.has_changed());
        }
        assert!(watched.has_changed());
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_has_not_changed_and_one_that_is_gone_has() {
        let (_folder, path) = file();
        let mut watched = Watched::new(&path);
        fs::remove_file(&path).unwrap();
        let looks = (0..20).position(|_| watched.has_changed());
        assert_eq!(looks, Some(GONE_AFTER as usize));
    }

    #[test]
    fn a_link_whose_target_is_exchanged_has_changed() {
        let (folder, path) = file();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut watched = Watched::new(&link);
        let other = folder.path().join("other");
        fs::write(&other, "two").unwrap();
        let next = folder.path().join("next");
        std::os::unix::fs::symlink(&other, &next).unwrap();
        fs::rename(&next, &link).unwrap();
        assert!(!watched.has_changed());
        assert!(watched.has_changed());
    }
}
