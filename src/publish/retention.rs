//! Retention of a rule's pictures: removes the oldest when they are too old, or all together too large.
//!
//! It looks through the folder once, at the start; after that it is told the name and size of each file that is
//! written.
//!
//! Only what a rule can have written is removed, known by its name: a day's folder, and in it a moment and a word
//! ("2026-11-27/14-03-22.123-cat-7.jpg", and the ".json" of that name). Whatever else lies there stays.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::files::UNFINISHED;
use crate::threads::clock::rfc_3339;

const DAY: Duration = Duration::from_secs(86_400);

/// What stays; 0: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetentionSettings {
    /// For so many days.
    pub days: u32,
    /// As many of the newest as fit in so many bytes.
    pub bytes: u64,
}

/// One picture, with what lies beside it.
struct Entry {
    /// "2026-11-27/14-03-22.123-cat-7": in the order of these names they were made.
    name: String,
    bytes: u64,
}

/// What a rule has written and not removed.
pub(super) struct Kept {
    folder: PathBuf,
    settings: RetentionSettings,
    /// The oldest first; `None` until the folder was looked through.
    entries: Option<VecDeque<Entry>>,
    bytes: u64,
}

impl Kept {
    pub(super) fn new(folder: PathBuf, settings: RetentionSettings) -> Self {
        Self { folder, settings, entries: None, bytes: 0 }
    }

    fn keeps_all(&self) -> bool {
        self.settings.days == 0 && self.settings.bytes == 0
    }

    /// Another one was written.
    pub(super) fn add(&mut self, day: &str, stem: &str, bytes: u64) {
        if let Some(entries) =
            self.entries.as_mut().filter(|_| self.settings.days > 0 || self.settings.bytes > 0)
        {
            let name = format!("{day}/{stem}");
            // Nearly always at the end; a clock may have been put back.
            let place = entries.partition_point(|entry| entry.name <= name);
            entries.insert(place, Entry { name, bytes });
            self.bytes += bytes;
        }
    }

    /// Removes what is too old and what is too much.
    ///
    /// # Errors
    /// In words, when a file can't be removed; the others are.
    pub(super) fn remove_old(&mut self) -> Result<(), String> {
        if self.keeps_all() {
            return Ok(());
        }
        self.remove_old_at(SystemTime::now())
    }

    fn remove_old_at(&mut self, now: SystemTime) -> Result<(), String> {
        if self.entries.is_none() {
            let found = look_through(&self.folder)
                .map_err(|error| format!("cannot look through {}: {error}", self.folder.display()))?;
            self.bytes = found.iter().map(|entry| entry.bytes).sum();
            self.entries = Some(found);
        }
        let oldest =
            now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(DAY * self.settings.days);
        let (day, time) = day_and_time(oldest.as_nanos() as u64);
        let oldest = format!("{day}/{time}");
        let mut outcome = Ok(());
        while let Some(entries) = &mut self.entries {
            let is_too_old = |entry: &Entry| self.settings.days > 0 && entry.name.as_str() < oldest.as_str();
            let is_too_much = self.settings.bytes > 0 && self.bytes > self.settings.bytes;
            // The newest stays, however large.
            let is_more_than_one = entries.len() > 1;
            let goes = |entry: &&Entry| is_too_old(entry) || (is_too_much && is_more_than_one);
            if entries.front().filter(goes).is_none() {
                break;
            }
            if let Some(entry) = entries.pop_front() {
                self.bytes -= entry.bytes.min(self.bytes);
                outcome = outcome.and(remove(&self.folder, &entry.name));
            }
        }
        outcome
    }
}

fn remove(folder: &Path, name: &str) -> Result<(), String> {
    for ending in ["jpg", "json"] {
        let path = folder.join(format!("{name}.{ending}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}, which is old: {error}", path.display()));
            }
            _ => {}
        }
    }
    // If that was the day's last. A folder that isn't empty stays.
    let day = name.split('/').next().map(|day| folder.join(day));
    drop(day.map(fs::remove_dir));
    Ok(())
}

/// A moment in UTC, as "2026-11-27" and "14-03-22.123".
pub(super) fn day_and_time(timestamp_ns: u64) -> (String, String) {
    let text = rfc_3339(UNIX_EPOCH + Duration::from_nanos(timestamp_ns));
    let (day, time) = text.trim_end_matches('Z').split_once('T').unwrap_or((&text, ""));
    (day.to_owned(), format!("{}.{:03}", time.replace(':', "-"), timestamp_ns / 1_000_000 % 1000))
}

/// All that a rule has written to a folder, the oldest first. What a power cut left unfinished is removed.
fn look_through(folder: &Path) -> io::Result<VecDeque<Entry>> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for day in entries_of(folder)? {
        let (Ok(kind), Ok(day_name)) = (day.file_type(), day.file_name().into_string()) else { continue };
        if !kind.is_dir() || !is_like(&day_name, "0000-00-00") {
            continue;
        }
        for file in entries_of(&day.path())? {
            let (Ok(metadata), Ok(name)) = (file.metadata(), file.file_name().into_string()) else {
                continue;
            };
            let Some(stem) = stem_of(name.trim_end_matches(UNFINISHED)).filter(|_| metadata.is_file()) else {
                continue;
            };
            if name.ends_with(UNFINISHED) {
                drop(fs::remove_file(file.path()));
            } else {
                *found.entry(format!("{day_name}/{stem}")).or_default() += metadata.len();
            }
        }
    }
    Ok(found.into_iter().map(|(name, bytes)| Entry { name, bytes }).collect())
}

fn entries_of(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The name without its ending, of a file that a rule has written.
fn stem_of(name: &str) -> Option<&str> {
    const MOMENT: &str = "00-00-00.000-";
    let stem = name.strip_suffix(".jpg").or_else(|| name.strip_suffix(".json"))?;
    let (moment, word) = stem.split_at_checked(MOMENT.len())?;
    (is_like(moment, MOMENT) && !word.is_empty()).then_some(stem)
}

/// Whether a text is like a pattern, in which 0 stands for any digit.
fn is_like(text: &str, pattern: &str) -> bool {
    let alike = |(byte, like): (u8, u8)| if like == b'0' { byte.is_ascii_digit() } else { byte == like };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(alike)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: [&str; 3] = [
        "2026-11-25/09-00-00.000-cat-1.jpg",
        "2026-11-26/09-00-00.000-dog.jpg",
        "2026-11-27/09-00-00.000-cat-7.jpg",
    ];
    const OTHERS: [&str; 6] = [
        "2026-11-25/holiday.jpg",
        "2026-11-25/09-00-00.000-cat-1.png",
        "2026-11-25/09-00-00.000-.jpg",
        "09-00-00.000-cat-1.jpg",
        "old/09-00-00.000-cat-1.jpg",
        "2026-11-25-x/09-00-00.000-cat-1.jpg",
    ];

    /// A folder with our files and others, of 100 bytes each, and an album of it.
    fn album(days: u32, bytes: u64) -> (tempfile::TempDir, Kept) {
        let folder = tempfile::tempdir().unwrap();
        for name in OURS.iter().chain(&OTHERS) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [0; 100]).unwrap();
        }
        let kept = Kept::new(folder.path().to_owned(), RetentionSettings { days, bytes });
        (folder, kept)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// 2026-11-27T14:03:22Z.
    const NOW: u64 = 1_795_788_202;

    fn left(folder: &Path, of: &[&str]) -> Vec<bool> {
        of.iter().map(|name| folder.join(name).exists()).collect()
    }

    #[test]
    fn what_is_older_than_so_many_days_goes_with_its_line_and_nothing_else_does() {
        let (folder, mut kept) = album(1, 0);
        let line = folder.path().join("2026-11-26/09-00-00.000-dog.json");
        fs::write(&line, "{}").unwrap();
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!(left(folder.path(), &OURS), [false, false, true]);
        assert!(!line.exists());
        assert!(!folder.path().join("2026-11-26").exists(), "an empty day goes too");
        assert_eq!(left(folder.path(), &OTHERS), [true; 6]);
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much_and_as_more_is_written() {
        let (folder, mut kept) = album(0, 250);
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!(left(folder.path(), &OURS), [false, true, true]);
        fs::write(folder.path().join("2026-11-27/10-00-00.000-cat-8.jpg"), [0; 100]).unwrap();
        kept.add("2026-11-27", "10-00-00.000-cat-8", 100);
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!(left(folder.path(), &OURS), [false, false, true]);
        kept.add("2026-11-27", "11-00-00.000-cat-9", 1000);
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!(kept.entries.unwrap().len(), 1, "the newest stays, however large");
        assert_eq!(left(folder.path(), &OTHERS), [true; 6]);
    }

    #[test]
    fn a_rule_without_limits_removes_nothing_and_what_a_power_cut_left_goes_where_there_are_limits() {
        let (folder, mut kept) = album(0, 0);
        let torn = "2026-11-27/09-00-00.000-cat-7.jpg.partial";
        fs::write(folder.path().join(torn), "").unwrap();
        kept.remove_old().unwrap();
        assert_eq!((left(folder.path(), &OURS), left(folder.path(), &[torn])), (vec![true; 3], vec![true]));
        let mut kept = Kept::new(folder.path().to_owned(), RetentionSettings { days: 0, bytes: 1 << 20 });
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!((left(folder.path(), &OURS), left(folder.path(), &[torn])), (vec![true; 3], vec![false]));
    }

    #[test]
    fn a_link_to_a_folder_elsewhere_is_not_followed() {
        let (elsewhere, _) = album(1, 0);
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("2026-11-25");
        std::os::unix::fs::symlink(elsewhere.path().join("2026-11-25"), link).unwrap();
        let mut kept = Kept::new(folder.path().to_owned(), RetentionSettings { days: 1, bytes: 1 });
        kept.remove_old_at(at(NOW)).unwrap();
        assert_eq!(left(elsewhere.path(), &OURS), [true; 3]);
    }
}
