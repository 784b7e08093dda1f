//! Tar files whose members are photographs.
//!
//! The headers of all shards are read once, past the pictures, into an index of names and offsets; a picture is then one
//! read. A photograph's name is its member's path. WebDataset keeps what belongs together under one key, the path up to
//! the first dot of its last part, so a photograph is also found by its key, where only one has it: annotations of
//! `000123.jpg` are those of the member `000123.jpeg`.
//!
//! A member that is no file, or whose name leads out of a folder, is an error only where that photograph is needed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow, bail, ensure};
use rayon::prelude::*;
use tar::{Archive, EntryType};
use wordsight_pictures::{MOST_BYTES, is_hidden, is_picture};

use crate::photographs::{ShardError, Unreadable};

/// Shards that are kept open.
const KEPT_OPEN: usize = 64;
/// Bytes of a header, and what members are rounded up to.
const BLOCK: u64 = 512;

/// The photographs of some tar files.
#[derive(Debug)]
pub(super) struct Shards {
    paths: Vec<PathBuf>,
    /// What is wrong with some of them, by their places in `paths`.
    damages: Vec<(usize, String)>,
    /// In the order in which they lie in the files.
    members: Vec<Member>,
    /// Places in `members`, by name.
    by_name: Vec<u32>,
    /// Places in `members`, by key.
    by_key: Vec<u32>,
    open: Mutex<VecDeque<(u32, Arc<File>)>>,
}

#[derive(Debug)]
struct Member {
    name: Box<str>,
    shard: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Where its bytes lie, and how many.
    At(u64, u64),
    /// Why it can't be read.
    Unusable(Box<str>),
}

impl Shards {
    /// Reads the headers of tar files.
    ///
    /// # Errors
    /// When one is not there, or none can be read.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self> {
        let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
        if let Some(first) = missing.first() {
            bail!("{} of {} shards are not there, the first {}", missing.len(), paths.len(), first.display());
        }
        let read: Vec<(Vec<Member>, Option<String>)> =
            paths.par_iter().enumerate().map(|(shard, path)| members_of(path, shard as u32)).collect();
        let (mut members, mut damages) = (Vec::new(), Vec::new());
        for (place, (found, damage)) in read.into_iter().enumerate() {
            members.extend(found);
            damages.extend(damage.map(|damage| (place, damage)));
        }
        if let Some((place, damage)) = damages.first() {
            ensure!(!members.is_empty(), "{} {damage}", paths[*place].display());
        }
        ensure!(
            u32::try_from(members.len()).is_ok(),
            "the shards have {} photographs, more than can be numbered: name fewer",
            members.len()
        );
        let places = || (0_u32..).take(members.len());
        let mut by_name: Vec<u32> = places().collect();
        by_name.par_sort_by_key(|&place| &*members[place as usize].name);
        let mut by_key: Vec<u32> = places().collect();
        by_key.par_sort_by_key(|&place| key_of(&members[place as usize].name));
        let mut shards = Self { paths, damages, members, by_name, by_key, open: Mutex::default() };
        shards.mark_those_there_twice();
        Ok(shards)
    }

    /// Of two members with one name nobody can tell which is meant.
    fn mark_those_there_twice(&mut self) {
        let same: Vec<[u32; 2]> = self
            .by_name
            .array_windows::<2>()
            .filter(|[a, b]| self.members[*a as usize].name == self.members[*b as usize].name)
            .copied()
            .collect();
        for [first, second] in same {
            let shard = |place: u32| self.paths[self.members[place as usize].shard as usize].display();
            let reason: Box<str> =
                if self.members[first as usize].shard == self.members[second as usize].shard {
                    format!("its shard {} has two members of this name: remove one", shard(first)).into()
                } else {
                    format!("{} and {} both have it: rename one", shard(first), shard(second)).into()
                };
            for place in [first, second] {
                self.members[place as usize].content = Content::Unusable(reason.clone());
            }
        }
    }

    /// The names of all photographs, in the order of the shards.
    ///
    /// # Errors
    /// When a shard is damaged and may not be left out.
    pub fn names(&self, unreadable: Unreadable) -> Result<Vec<String>> {
        for (place, damage) in &self.damages {
            let (path, reason) = (self.paths[*place].clone(), damage.clone());
            unreadable.take::<()>(Err(ShardError { path, reason }.into()))?;
        }
        Ok(self.members.iter().map(|member| member.name.to_string()).collect())
    }

    /// Whether a photograph of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A photograph's shard with its member behind it.
    pub fn path_of(&self, name: &str) -> Option<PathBuf> {
        let member = self.find(name)?;
        Some(self.paths[member.shard as usize].join(member.name.trim_start_matches('/')))
    }

    /// The bytes of a photograph's file.
    ///
    /// # Errors
    /// When it is not there, is no file, or can't be read.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let Some(member) = self.find(name) else { return Err(self.is_missing()) };
        match &member.content {
            Content::Unusable(reason) => Err(io::Error::other(&**reason)),
            Content::At(_, size) if *size > MOST_BYTES => Err(wordsight_files::too_long(MOST_BYTES)),
            Content::At(offset, size) => {
                let mut bytes = vec![0; *size as usize];
                self.file(member.shard)?.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes)
            }
        }
    }

    fn is_missing(&self) -> io::Error {
        let told = match self.damages.first() {
            Some((place, damage)) => {
                format!("no shard has a member of this name, and {} {damage}", self.paths[*place].display())
            }
            None => "no shard has a member of this name".to_owned(),
        };
        io::Error::new(io::ErrorKind::NotFound, told)
    }

    fn find(&self, name: &str) -> Option<&Member> {
        let name = normal(name);
        let place = self.by_name.binary_search_by_key(&name, |&place| &*self.members[place as usize].name);
        if let Ok(place) = place {
            return Some(&self.members[self.by_name[place] as usize]);
        }
        let key = |place: &u32| key_of(&self.members[*place as usize].name);
        let first = self.by_key.partition_point(|place| key(place) < key_of(name));
        let mut of_key = self.by_key[first..].iter().take_while(|place| key(place) == key_of(name));
        match (of_key.next(), of_key.next()) {
            (Some(place), None) => Some(&self.members[*place as usize]),
            _ => None,
        }
    }

    /// A shard's file. Those that were read last stay open.
    fn file(&self, shard: u32) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(place, _)| *place == shard) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(&self.paths[shard as usize])?);
        open.push_back((shard, Arc::clone(&file)));
        if open.len() > KEPT_OPEN {
            open.pop_front();
        }
        Ok(file)
    }
}

/// A member's name as annotations would have it: `./a.jpg` is `a.jpg`.
fn normal(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    name
}

/// What WebDataset calls a member's key: its path up to the first dot of its last part.
fn key_of(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find('.').map_or(name, |dot| &name[..last + dot])
}

/// The photographs of a tar file, and what is wrong with it.
fn members_of(path: &Path, shard: u32) -> (Vec<Member>, Option<String>) {
    let mut members = Vec::new();
    let damage = read_members(path, shard, &mut members).err().map(|error| error.to_string());
    (members, damage)
}

/// # Errors
/// What is wrong with the shard, as it stands behind its name; the members before are there.
fn read_members(path: &Path, shard: u32, members: &mut Vec<Member>) -> Result<()> {
    let unreadable = |reason: io::Error| anyhow!("cannot be read: {reason}");
    let file = wordsight_files::open_whole(path, u64::MAX).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    refuse_compressed(&file)?;
    let mut archive = Archive::new(&file);
    // Two tars that were joined are read as one.
    archive.set_ignore_zeros(true);
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(unreadable)? {
        let entry = entry.map_err(|reason| match end {
            0 => anyhow!("is no tar file: {reason}"),
            _ => anyhow!("is damaged or cut off behind {end} bytes ({reason}): copy it again"),
        })?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let kind = entry.header().entry_type();
        let bytes = entry.path_bytes();
        end = offset.saturating_add(stored(&entry)).div_ceil(BLOCK).saturating_mul(BLOCK);
        let is_whole = offset.saturating_add(stored(&entry)) <= length;
        let name = String::from_utf8_lossy(&bytes);
        if is_picture(Path::new(&*name)) && !is_hidden(Path::new(&*name)) && kind != EntryType::Directory {
            let content = match why_unusable(kind, &name, std::str::from_utf8(&bytes).is_ok()) {
                Some(reason) => Content::Unusable(reason.into()),
                None if !is_whole => {
                    Content::Unusable("its shard is cut off in it: copy the shard again".into())
                }
                None => Content::At(offset, size),
            };
            members.push(Member { name: normal(&name).into(), shard, content });
        }
        ensure!(is_whole, "is cut off in its member {name}: copy it again");
    }
    // A tar ends in blocks of zeros.
    ensure!(end.saturating_add(BLOCK) <= length, "is cut off: it has no end; copy it again");
    Ok(())
}

/// The bytes that a member takes in its shard.
fn stored<R: Read>(entry: &tar::Entry<'_, R>) -> u64 {
    match entry.header().entry_type() {
        EntryType::GNUSparse => entry.header().entry_size().unwrap_or_default(),
        _ => entry.size(),
    }
}

fn refuse_compressed(mut file: &File) -> Result<()> {
    let mut start = [0; 4];
    let read = file.read(&mut start)?;
    file.rewind()?;
    let kind = match start[..read] {
        [] => bail!("is empty: copy it again"),
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        [b'B', b'Z', b'h', _] => "bzip2",
        [0xfd, b'7', b'z', b'X'] => "xz",
        _ => return Ok(()),
    };
    bail!("is compressed by {kind}: unpack it, pictures get no smaller by it")
}

/// Why a member can't be a photograph, if it can't.
fn why_unusable(kind: EntryType, name: &str, is_text: bool) -> Option<&'static str> {
    let is_inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match kind {
        _ if !is_text => Some("its member's name is no UTF-8"),
        _ if !Path::new(name).components().all(is_inside) => {
            Some("its member's name is absolute or leads upwards: make the shard with relative names")
        }
        EntryType::Regular | EntryType::Continuous => None,
        EntryType::Symlink | EntryType::Link => {
            Some("its member is a link: make the shard with `tar --dereference --hard-dereference`")
        }
        EntryType::GNUSparse => {
            Some("its member is stored as a sparse file: make the shard without `--sparse`")
        }
        _ => Some("its member is no file"),
    }
}
