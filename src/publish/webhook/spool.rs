//! The spool: batches of events on disk, from when they were gathered until the server has them.
//!
//! Keeps the bodies of requests and gives them oldest first, also in another run and after a power cut. A batch is a
//! file that is written beside, synced and renamed, so that it is there whole or not at all. A file that can't be read
//! as a batch is set aside.
//!
//! Batches are numbered on from the largest number that is there, and not by the time: a device without a battery for
//! its clock may wake up in 1970.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::{Durability, replace};
use crate::job::run_id;

/// How many batches are kept that the server refused, and how many files that can't be batches.
const MOST_ASIDE: usize = 100;
/// What a file takes of a disk at least, bytes.
const BLOCK: u64 = 4_096;

/// Makes the folder; an error if it can't be written into.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // The very file that keeps others out.
    lock_file(folder).map(drop)
}

fn lock_file(folder: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(folder.join("lock"))
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// What it is known by to the server, the same however often it is sent.
    pub id: String,
    pub events: usize,
    number: u64,
    bytes: u64,
}

/// All of them.
pub(super) struct Spool {
    folder: PathBuf,
    batches: VecDeque<Batch>,
    next_number: u64,
    bytes: u64,
    most_bytes: u64,
    /// Keeps other programs out as long as it is open.
    _lock: File,
}

/// What is looked for in a file.
#[derive(Deserialize)]
struct Body {
    events: Vec<serde::de::IgnoredAny>,
}

impl Spool {
    /// Opens what is there.
    pub(super) fn open(folder: &Path, most_bytes: u64) -> Result<Self, String> {
        let fail = |error: io::Error| format!("cannot open the spool {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(fail)?;
        let lock = lock_file(folder).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "the spool {} is used by another output, here or in another wordsight: two outputs to one url take a \
                     `spool` each",
                    folder.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let mut spool = Self {
            folder: folder.to_owned(),
            batches: VecDeque::new(),
            next_number: 1,
            bytes: 0,
            most_bytes,
            _lock: lock,
        };
        spool.read().map_err(fail)?;
        if !spool.batches.is_empty() {
            tracing::warn!(
                "{} batches of events wait in {} from before, and are sent",
                spool.batches.len(),
                folder.display()
            );
        }
        Ok(spool)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                // Not whole, and so never taken.
                Some("partial" | "new") => drop(fs::remove_file(&path)),
                Some("json") => match batch_of(&path) {
                    Ok(batch) => found.push(batch),
                    Err(why) => {
                        tracing::error!("{} is no batch of events and is set aside: {why}", path.display());
                        self.set_aside(&path, "garbage")?;
                    }
                },
                _ => {}
            }
        }
        found.sort_by(|one, other| (one.number, &one.id).cmp(&(other.number, &other.id)));
        self.bytes = found.iter().map(|batch| batch.bytes).sum();
        self.next_number = found.last().map_or(1, |batch| batch.number.saturating_add(1));
        self.batches = found.into();
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, batch: &Batch) -> PathBuf {
        self.folder.join(format!("{}.json", batch.id))
    }

    /// Takes in a batch; when this returns it is there for good. Returns how many events are lost for it, the oldest.
    pub(super) fn put(&mut self, body: &[u8], events: usize) -> io::Result<u64> {
        let number = self.next_number;
        let id = format!("{number:012}-{}", run_id());
        let batch = Batch { id, events, number, bytes: (body.len() as u64).max(BLOCK) };
        let mut lost = 0;
        while self.bytes + batch.bytes > self.most_bytes
            && let Some(oldest) = self.batches.front().cloned()
        {
            lost += oldest.events as u64;
            self.remove(&oldest);
        }
        if let Err(error) = replace(&self.path(&batch), Durability::Kept, body) {
            // It is gathered again, and not to be sent twice.
            drop(fs::remove_file(self.path(&batch)));
            return Err(error);
        }
        self.next_number = number.saturating_add(1);
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        if lost > 0 {
            tracing::warn!("the spool {} is full: {lost} events are lost, the oldest", self.folder.display());
        }
        Ok(lost)
    }

    /// The oldest batch.
    pub(super) fn oldest(&self) -> Option<&Batch> {
        self.batches.front()
    }

    /// What is to be sent of a batch.
    pub(super) fn body(&self, batch: &Batch) -> io::Result<Vec<u8>> {
        fs::read(self.path(batch))
    }

    /// The server has a batch, or nobody wants it any more.
    pub(super) fn remove(&mut self, batch: &Batch) {
        if let Err(error) = fs::remove_file(self.path(batch))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                "{}: cannot be removed, and may be sent again: {error}",
                self.path(batch).display()
            );
        }
        self.forget(batch);
    }

    fn forget(&mut self, batch: &Batch) {
        if let Some(place) = self.batches.iter().position(|other| other.id == batch.id) {
            self.batches.remove(place);
            self.bytes = self.bytes.saturating_sub(batch.bytes);
        }
    }

    /// The server will never take a batch.
    pub(super) fn refuse(&mut self, batch: &Batch) {
        if let Err(error) = self.set_aside(&self.path(batch), "refused") {
            tracing::warn!("{}: cannot be set aside: {error}", self.path(batch).display());
            drop(fs::remove_file(self.path(batch)));
        }
        self.forget(batch);
    }

    /// Puts a file into a folder beside the batches, of which only the newest are kept.
    fn set_aside(&self, path: &Path, folder: &str) -> io::Result<()> {
        let folder = self.folder.join(folder);
        fs::create_dir_all(&folder)?;
        fs::rename(path, folder.join(path.file_name().unwrap_or_default()))?;
        let mut aside: Vec<PathBuf> =
            fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        aside.sort();
        for old in aside.iter().take(aside.len().saturating_sub(MOST_ASIDE)) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// How many events wait.
    pub(super) fn events(&self) -> usize {
        self.batches.iter().map(|batch| batch.events).sum()
    }
}

/// What a file is, if it is a batch.
fn batch_of(path: &Path) -> Result<Batch, String> {
    let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let parts = id.split_once('-').filter(|(number, run)| is_plain(number) && is_plain(run));
    let number = parts.and_then(|(number, _)| number.parse().ok());
    let number = number.ok_or("its name is not like 000000000001-17ab….json")?;
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let body: Body = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(Batch { id: id.to_owned(), events: body.events.len(), number, bytes: (bytes.len() as u64).max(BLOCK) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn body(number: usize) -> Vec<u8> {
        format!("{{\"events\":[{number},{number}]}}").into_bytes()
    }

    fn open(folder: &Path) -> Spool {
        Spool::open(folder, 1 << 20).unwrap()
    }

    #[test]
    fn batches_come_out_as_they_went_in_also_of_another_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        for number in 0..3 {
            assert_eq!(spool.put(&body(number), 2).unwrap(), 0);
        }
        let first = spool.oldest().unwrap().clone();
        spool.remove(&first);
        drop(spool);
        let mut spool = open(folder.path());
        assert_eq!(spool.events(), 4);
        spool.put(&body(3), 2).unwrap();
        for number in 1..4 {
            let oldest = spool.oldest().unwrap().clone();
            assert_eq!(spool.body(&oldest).unwrap(), body(number));
            spool.remove(&oldest);
        }
        assert_eq!((spool.oldest(), spool.bytes), (None, 0));
    }

    #[test]
    fn a_full_spool_loses_its_oldest_and_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 3 * BLOCK).unwrap();
        let lost: Vec<u64> = (0..5).map(|number| spool.put(&body(number), 2).unwrap()).collect();
        assert_eq!(lost, [0, 0, 0, 2, 2]);
        assert_eq!(spool.body(spool.oldest().unwrap()).unwrap(), body(2));
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 4, "three batches and the lock");
    }

    #[test]
    fn what_cannot_be_a_batch_is_set_aside_and_what_was_never_whole_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.put(&body(0), 2).unwrap();
        drop(spool);
        for (name, bytes) in [
            ("000000000002-aa.json", &b"{\"events\":[1,"[..]),
            ("000000000003-aa.json", b""),
            ("notes.json", b"{\"events\":[]}"),
            ("000000000004-aa.json", &[0; 100]),
            ("000000000005-aa.new", b"{\"events\":[1]}"),
        ] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let spool = open(folder.path());
        assert_eq!(spool.batches.len(), 1);
        assert_eq!(fs::read_dir(folder.path().join("garbage")).unwrap().count(), 4);
        assert!(!folder.path().join("000000000005-aa.new").exists());
    }

    #[test]
    fn refused_batches_are_kept_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        for number in 0..MOST_ASIDE + 3 {
            spool.put(&body(number), 2).unwrap();
            let oldest = spool.oldest().unwrap().clone();
            spool.refuse(&oldest);
        }
        assert_eq!(fs::read_dir(folder.path().join("refused")).unwrap().count(), MOST_ASIDE);
        assert_eq!((spool.events(), spool.bytes), (0, 0));
    }

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        let error = Spool::open(folder.path(), 1).err().unwrap();
        assert!(error.contains("`spool`"), "{error}");
        drop(first);
        open(folder.path());
    }
}
