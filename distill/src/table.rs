//! Rows on disk: a long computation appends them, and training maps them into memory.
//!
//! All rows have the same length in bytes. They are in one file, or in a file a shard that [`Table::merge`] joins, so
//! that many machines can share the work.
//!
//! Resuming needs no bookkeeping. Rows are appended in order, so a file's length says how far an earlier run came; a
//! row cut short by a kill is removed and computed again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wordsight_files::Durability;

use crate::progress;

/// What a folder's rows are of.
pub const MANIFEST: &str = "manifest.json";
/// Rows that one worker computes before they are written: bounds memory and what a kill can cost.
const CHUNK_PER_WORKER: usize = 16;

/// One of several equal parts of the work, written `1/4` to `4/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// The rows of this part among `count`.
    fn rows(self, count: usize) -> std::ops::Range<usize> {
        let border = |number: usize| (count as u128 * number as u128 / self.of as u128) as usize;
        border(self.number - 1)..border(self.number)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("it is i/n with i from 1 to n, as in 3/8".to_owned()),
        }
    }
}

/// A file of rows, all of one length.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where; shards lie beside it.
    pub path: PathBuf,
    /// Bytes a row.
    pub row_bytes: usize,
    /// Rows in the finished table.
    pub rows: usize,
}

impl Table {
    /// Computes the rows of a shard that its file lacks, and those that aren't current any more, each worker on its own
    /// thread; what lacks is appended in order. `is_current`: whether the bytes of a row are still what they would be.
    ///
    /// # Errors
    /// When a row can't be computed or written, or another process is writing this shard.
    pub fn append_missing<W: Send>(
        &self,
        shard: Shard,
        what: &'static str,
        workers: &mut [W],
        is_current: impl Fn(usize, &[u8]) -> bool,
        compute: impl Fn(&mut W, usize) -> Result<Vec<u8>> + Sync,
    ) -> Result<()> {
        if shard == Shard::WHOLE && !self.path.exists() && self.has_shards() {
            bail!(
                "{} lies in shards: finish them, join them by `wordsight-distill merge`, then run this again",
                self.path.display()
            );
        }
        let range = shard.rows(self.rows);
        let is_merged = shard != Shard::WHOLE && self.path.exists();
        let (path, first) =
            if is_merged { (self.path.clone(), 0) } else { (self.path_of(shard), range.start) };
        let context = || format!("cannot write {}; is the disk full?", path.display());
        let mut options = OpenOptions::new();
        let file =
            options.create(true).read(true).write(true).truncate(false).open(&path).with_context(context)?;
        let done = (file.metadata().with_context(context)?.len() as usize / self.row_bytes)
            .saturating_sub(range.start - first)
            .min(range.len());
        let stale = self.stale(&file, range.start..range.start + done, first, is_current)?;
        if is_merged && stale.is_empty() {
            tracing::info!("{} is merged already", self.path.display());
            return Ok(());
        }
        lock(&file, &path)?;
        if !is_merged {
            file.set_len((done * self.row_bytes) as u64).with_context(context)?;
        }
        let bar = progress::bar((stale.len() + range.len()) as u64, what);
        bar.set_position(done as u64);
        let missing: Vec<usize> = stale.into_iter().chain(range.skip(done)).collect();
        for chunk in missing.chunks(CHUNK_PER_WORKER * workers.len().max(1)) {
            for (row, bytes) in chunk.iter().zip(self.computed(chunk, workers, &compute, &bar)?) {
                file.write_all_at(&bytes, ((row - first) * self.row_bytes) as u64).with_context(context)?;
            }
        }
        bar.finish();
        file.sync_all().with_context(context)
    }

    /// The rows of a file that aren't current, of those that it has.
    fn stale(
        &self,
        file: &File,
        has: std::ops::Range<usize>,
        first: usize,
        is_current: impl Fn(usize, &[u8]) -> bool,
    ) -> Result<Vec<usize>> {
        if has.is_empty() {
            return Ok(Vec::new());
        }
        // SAFETY: as in `map`: the file is ours.
        let rows = unsafe { Mmap::map(file) }.context("cannot map the rows that are there")?;
        let of = |row: usize| &rows[(row - first) * self.row_bytes..(row - first + 1) * self.row_bytes];
        let stale: Vec<usize> = has.filter(|&row| !is_current(row, of(row))).collect();
        if !stale.is_empty() {
            tracing::info!("{} rows of before are computed anew: what they are of has changed", stale.len());
        }
        Ok(stale)
    }

    /// Some rows, each worker's share on its own thread.
    fn computed<W: Send>(
        &self,
        rows: &[usize],
        workers: &mut [W],
        compute: &(impl Fn(&mut W, usize) -> Result<Vec<u8>> + Sync),
        bar: &indicatif::ProgressBar,
    ) -> Result<Vec<Vec<u8>>> {
        let share = rows.len().div_ceil(workers.len().max(1));
        let row_of = |worker: &mut W, row: usize| {
            bar.inc(1);
            let bytes = compute(worker, row)?;
            let (length, expected) = (bytes.len(), self.row_bytes);
            ensure!(length == expected, "a row of {length} bytes where {expected} belong");
            Ok(bytes)
        };
        let parts: Vec<Vec<Vec<u8>>> = workers
            .par_iter_mut()
            .zip(rows.par_chunks(share))
            .map(|(worker, part)| part.iter().map(|&row| row_of(worker, row)).collect::<Result<_>>())
            .collect::<Result<_>>()?;
        Ok(parts.concat())
    }

    /// Joins finished shards into the table and removes them. Says how many rows it has.
    ///
    /// # Errors
    /// When shards are missing or unfinished: which.
    pub fn merge(&self) -> Result<usize> {
        let shards = self.shards()?;
        if !self.path.exists() {
            let partial = with_suffix(&self.path, ".partial");
            let context = || format!("cannot write {}; is the disk full?", partial.display());
            let mut all = BufWriter::new(File::create(&partial).with_context(context)?);
            for (path, shard) in &shards {
                let expected = (shard.rows(self.rows).len() * self.row_bytes) as u64;
                let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let length = file.metadata()?.len();
                ensure!(
                    length == expected,
                    "{} has {length} bytes of {expected}: run its --shard again, it goes on where it stopped",
                    path.display()
                );
                io::copy(&mut file, &mut all).with_context(context)?;
            }
            all.flush().with_context(context)?;
            all.get_ref().sync_all().with_context(context)?;
            fs::rename(&partial, &self.path).with_context(context)?;
        }
        // The table is whole now. Gone shards before that would be lost work.
        for (path, _) in shards {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(self.rows)
    }

    /// The whole table, memory-mapped.
    ///
    /// # Errors
    /// When it is not whole; says what to run.
    pub fn map(&self) -> Result<Mmap> {
        let file = File::open(&self.path).with_context(|| {
            let path = self.path.display();
            format!(
                "cannot open {path}: it was never computed, or its shards wait for `wordsight-distill merge`"
            )
        })?;
        // SAFETY: the file is ours and nothing writes to a finished table; if somebody does cut it while it
        // is mapped, the process ends on a bus error rather than reading another's memory.
        let map =
            unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", self.path.display()))?;
        let expected = self.rows * self.row_bytes;
        ensure!(
            map.len() == expected,
            "{} has {} bytes of {expected}: run the command that made it again, it goes on where it stopped",
            self.path.display(),
            map.len()
        );
        Ok(map)
    }

    fn path_of(&self, shard: Shard) -> PathBuf {
        if shard == Shard::WHOLE {
            return self.path.clone();
        }
        with_suffix(&self.path, &format!(".{}-of-{}", shard.number, shard.of))
    }

    /// Whether parts of it lie beside it.
    fn has_shards(&self) -> bool {
        let prefix = format!("{}.", self.path.file_name().unwrap_or_default().to_string_lossy());
        let entries = self.path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix(&prefix)
                .is_some_and(|rest| rest.replacen("-of-", "/", 1).parse::<Shard>().is_ok())
        })
    }

    /// The complete set of shards that lies beside the table, in order; none where it was made whole.
    fn shards(&self) -> Result<Vec<(PathBuf, Shard)>> {
        let folder = self.path.parent().context("a table lies in a folder")?;
        let prefix = format!("{}.", self.path.file_name().unwrap_or_default().to_string_lossy());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let shard: Option<Shard> =
                name.strip_prefix(&prefix).and_then(|rest| rest.replacen("-of-", "/", 1).parse().ok());
            found.extend(shard.map(|shard| (path, shard)));
        }
        found.sort_by_key(|(_, shard)| (shard.of, shard.number));
        if self.path.exists() {
            return Ok(found);
        }
        let of = found.first().map_or(0, |(_, shard)| shard.of);
        ensure!(of > 0, "there are neither {} nor shards of it", self.path.display());
        ensure!(
            found.iter().all(|(_, shard)| shard.of == of),
            "{} has shards of several divisions: remove those that don't belong",
            self.path.display()
        );
        let missing: Vec<String> = (1..=of)
            .filter(|number| found.iter().all(|(_, shard)| shard.number != *number))
            .map(|number| format!("{number}/{of}"))
            .collect();
        ensure!(missing.is_empty(), "{}: missing shards {}", self.path.display(), missing.join(", "));
        Ok(found)
    }
}

/// Keeps a file for this process.
fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            bail!("another process is writing {}: give each its own --shard", path.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}

/// Reads a folder's manifest and refuses one of other work; writes it where there is none. Several
/// processes may do so at once.
pub fn start_or_resume<M>(folder: &Path, manifest: &M, what: &str) -> Result<()>
where
    M: Serialize + DeserializeOwned + PartialEq,
{
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    if let Some(earlier) = read_manifest::<M>(folder)? {
        ensure!(
            &earlier == manifest,
            "{} holds {what} of other things or made in another way: remove it or name another folder",
            folder.display()
        );
        return Ok(());
    }
    let path = manifest_path(folder);
    let text = serde_json::to_string_pretty(manifest)?;
    wordsight_files::replace_beside_others(&path, Durability::Whole, text.as_bytes())
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}

/// A folder's manifest, where there is one.
pub fn read_manifest<M: DeserializeOwned>(folder: &Path) -> Result<Option<M>> {
    let path = manifest_path(folder);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = serde_json::from_str(&text);
    Ok(Some(
        manifest.with_context(|| format!("{} is damaged, or of another kind of folder", path.display()))?,
    ))
}

fn manifest_path(folder: &Path) -> PathBuf {
    folder.join(MANIFEST)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How many rows are computed at once.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// SHA-256 over parts and their lengths, in hexadecimal digits.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

/// Numbers as the bytes of FP16.
pub fn f16_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
}

/// Appends `count` FP16 numbers from number `start` of `bytes` on.
pub fn extend_from_f16(bytes: &[u8], start: usize, count: usize, out: &mut Vec<f32>) {
    let bytes = &bytes[start * 2..(start + count) * 2];
    out.extend(bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Mutex;

    use super::*;

    fn table(folder: &Path, rows: usize) -> Table {
        Table { path: folder.join("rows.f16"), row_bytes: 6, rows }
    }

    fn compute(_: &mut (), row: usize) -> Result<Vec<u8>> {
        Ok(f16_bytes(&[row as f32, 0.5, -1.0]))
    }

    fn shard(text: &str) -> Shard {
        text.parse().unwrap()
    }

    #[test]
    fn rows_cut_short_by_a_kill_are_computed_again_and_nothing_is_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path(), 100);
        table.append_missing(Shard::WHOLE, "test", &mut [(), ()], |_, _| true, compute).unwrap();
        let whole = fs::read(&table.path).unwrap();
        assert_eq!(whole.len(), 100 * 6);

        fs::write(&table.path, &whole[..whole.len() / 2 + 1]).unwrap();
        let computed = Mutex::new(Vec::new());
        table
            .append_missing(
                Shard::WHOLE,
                "test",
                &mut [(), ()],
                |_, _| true,
                |worker, row| {
                    computed.lock().unwrap().push(row);
                    compute(worker, row)
                },
            )
            .unwrap();
        assert_eq!(fs::read(&table.path).unwrap(), whole);
        let mut computed = computed.into_inner().unwrap();
        computed.sort_unstable();
        assert_eq!(computed, (50..100).collect::<Vec<_>>(), "only what was missing");
    }

    #[test]
    fn shards_in_any_order_merge_into_the_table_that_one_process_makes() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, shared) = (table(folder.path(), 101), folder.path().join("shared"));
        fs::create_dir(&shared).unwrap();
        let shared = table(&shared, 101);
        whole.append_missing(Shard::WHOLE, "test", &mut [()], |_, _| true, compute).unwrap();
        for part in ["3/4", "1/4", "4/4", "2/4"] {
            shared.append_missing(shard(part), "test", &mut [(), ()], |_, _| true, compute).unwrap();
        }
        assert_eq!(shared.merge().unwrap(), 101);
        assert_eq!(fs::read(&whole.path).unwrap(), fs::read(&shared.path).unwrap());
        assert_eq!(fs::read_dir(shared.path.parent().unwrap()).unwrap().count(), 1, "shards are gone");
        // Killed between the rename and the removal, merging again ends it; a late shard does no harm.
        fs::write(with_suffix(&shared.path, ".2-of-4"), b"old").unwrap();
        shared.merge().unwrap();
        assert_eq!(fs::read_dir(shared.path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_merge_names_the_shards_that_are_missing_or_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path(), 20);
        for part in ["1/4", "3/4"] {
            table.append_missing(shard(part), "test", &mut [()], |_, _| true, compute).unwrap();
        }
        let error = table.merge().unwrap_err().to_string();
        assert!(error.contains("2/4, 4/4"), "{error}");
        for part in ["2/4", "4/4"] {
            table.append_missing(shard(part), "test", &mut [()], |_, _| true, compute).unwrap();
        }
        let cut = with_suffix(&table.path, ".3-of-4");
        fs::write(&cut, &fs::read(&cut).unwrap()[..7]).unwrap();
        let error = table.merge().unwrap_err().to_string();
        assert!(error.contains("3-of-4 has 7 bytes of 30"), "{error}");
        assert!(table.map().is_err());
    }

    #[test]
    fn two_processes_do_not_write_one_shard() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path(), 4);
        let held = OpenOptions::new().create(true).append(true).open(&table.path).unwrap();
        held.lock().unwrap();
        let error = table
            .append_missing(Shard::WHOLE, "test", &mut [()], |_, _| true, compute)
            .unwrap_err()
            .to_string();
        assert!(error.contains("another process"), "{error}");
    }

    #[test]
    fn shards_divide_all_rows_and_bad_ones_are_refused() {
        for (count, of) in [(10, 3), (2, 5), (1_000_000, 7)] {
            let parts: Vec<usize> = (1..=of).flat_map(|number| Shard { number, of }.rows(count)).collect();
            assert_eq!(parts, (0..count).collect::<Vec<_>>());
        }
        for bad in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
