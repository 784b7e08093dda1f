//! A disk that loses unflushed writes when its power is cut, as a real one does.
//!
//! QEMU reaches it as a network block device over a local socket. Writes are kept in memory, over the image that the
//! device began with, so each device starts from the same disk and the image stays as it is. A write that was answered
//! is durable only after the flush that follows it: until then it is in the disk's own cache, in no order.
//! [`Disk::lose_power`] keeps any part of that cache and loses the rest. Killing QEMU alone would lose only what the
//! device's kernel had not written yet, and would hide a missing flush.
//!
//! Not modelled: a torn block of 4 KiB, a disk that lies about flushes, and flash that loses data beside what it was
//! writing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::chance::Chance;

const BLOCK: usize = 4096;

type Block = Arc<[u8; BLOCK]>;

/// A disk; a clone is a copy of it as it is.
#[derive(Clone)]
pub struct Disk {
    image: Arc<File>,
    size: u64,
    /// What survives, over the image.
    durable: HashMap<u64, Block>,
    /// What was written since the last flush, the oldest first.
    cached: Vec<(u64, Block)>,
    /// What is read: the durable with the cached over it.
    seen: HashMap<u64, Block>,
}

impl Disk {
    pub fn of_image(path: &Path) -> io::Result<Self> {
        let image = File::open(path)?;
        let size = image.metadata()?.len();
        Ok(Self {
            image: Arc::new(image),
            size,
            durable: HashMap::new(),
            cached: Vec::new(),
            seen: HashMap::new(),
        })
    }

    fn block(&self, number: u64) -> io::Result<Block> {
        if let Some(block) = self.seen.get(&number) {
            return Ok(block.clone());
        }
        let mut bytes = [0; BLOCK];
        self.image.read_exact_at(&mut bytes, number * BLOCK as u64)?;
        Ok(Arc::new(bytes))
    }

    /// The parts of blocks that a stretch of the disk consists of: which block, from where in it, how much.
    fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let from = (at % BLOCK as u64) as usize;
            let count = (BLOCK - from).min(length - done);
            done += count;
            (count > 0).then_some((at / BLOCK as u64, from, count))
        })
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        for (number, from, count) in Self::parts(offset, bytes.len()) {
            bytes[done..done + count].copy_from_slice(&self.block(number)?[from..from + count]);
            done += count;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        for (number, from, count) in Self::parts(offset, bytes.len()) {
            let mut block = *self.block(number)?;
            block[from..from + count].copy_from_slice(&bytes[done..done + count]);
            let block = Arc::new(block);
            self.seen.insert(number, block.clone());
            self.cached.push((number, block));
            done += count;
        }
        Ok(())
    }

    /// All that was written is durable.
    pub fn flush(&mut self) {
        self.durable.extend(self.cached.drain(..));
    }

    /// The power is cut: of what was not flushed some is kept and the rest is lost. Returns how many blocks were kept, of
    /// how many.
    pub fn lose_power(&mut self, chance: &mut Chance) -> (usize, usize) {
        let cached = std::mem::take(&mut self.cached);
        let (total, share) = (cached.len(), chance.upto(101));
        let kept: Vec<_> = cached.into_iter().filter(|_| chance.upto(100) < share).collect();
        let count = kept.len();
        self.durable.extend(kept);
        self.seen = self.durable.clone();
        (count, total)
    }

    /// The whole of it as it is now, in a file without the empty parts.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size)?;
        for number in 0..self.size / BLOCK as u64 {
            let block = self.block(number)?;
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(&block[..], number * BLOCK as u64)?;
            }
        }
        Ok(())
    }
}

/// Serves a disk to QEMU until that hangs up.
pub struct Served {
    disk: Arc<Mutex<Disk>>,
    /// With so many blocks in its cache the disk falls silent.
    fuse: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<()>>,
}

/// A disk that doesn't fall silent.
const NO_FUSE: usize = usize::MAX;

impl Served {
    /// At this path, to the one that connects first.
    pub fn at(path: &Path, disk: Disk) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let disk = Arc::new(Mutex::new(disk));
        let fuse = Arc::new(AtomicUsize::new(NO_FUSE));
        let (served, blown_at) = (disk.clone(), fuse.clone());
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            serve(stream, &served, &blown_at)
        });
        Ok(Self { disk, fuse, thread })
    }

    /// Has the disk fall silent in the middle of writing: once so many blocks are in its cache, or after a while.
    pub fn fall_silent(&self, blocks: usize, longest: Duration) {
        self.fuse.store(blocks, Ordering::Relaxed);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < longest {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The disk, after QEMU has ended.
    pub fn end(self) -> Disk {
        // How QEMU hung up is no matter: it may have been killed in the middle of a write.
        drop(self.thread.join());
        Arc::try_unwrap(self.disk).ok().and_then(|disk| disk.into_inner().ok()).unwrap()
    }
}

// The protocol's numbers, from https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const REPLY_TO_OPTION: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Newstyle without padding.
const HANDSHAKE: u16 = 0b11;
/// Flags are there, and flushes are known.
const FLAGS: u16 = 0b101;
const OPTION_EXPORT: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNKNOWN: u32 = (1 << 31) + 1;
const READ: u16 = 0;
const WRITE: u16 = 1;
const HANG_UP: u16 = 2;
const FLUSH: u16 = 3;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Agrees on what is served; whether anything is.
fn shake_hands(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    stream.write_all(&[&b"NBDMAGIC"[..], &OPTION_MAGIC.to_be_bytes(), &HANDSHAKE.to_be_bytes()].concat())?;
    take::<4>(stream)?;
    let export = [&size.to_be_bytes()[..], &FLAGS.to_be_bytes()].concat();
    loop {
        take::<8>(stream)?;
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        stream.read_exact(&mut vec![0; length as usize])?;
        let mut reply = |kind: u32, data: &[u8]| {
            let head = [option, kind, data.len() as u32].map(u32::to_be_bytes);
            stream.write_all(&[&REPLY_TO_OPTION.to_be_bytes(), head.as_flattened(), data].concat())
        };
        match option {
            OPTION_EXPORT => {
                stream.write_all(&export)?;
                return Ok(true);
            }
            OPTION_GO | OPTION_INFO => {
                reply(REPLY_INFO, &[&[0, 0], &export[..]].concat())?;
                reply(REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => return reply(REPLY_ACK, &[]).map(|()| false),
            _ => reply(REPLY_UNKNOWN, &[])?,
        }
    }
}

fn serve(mut stream: UnixStream, disk: &Mutex<Disk>, fuse: &AtomicUsize) -> io::Result<()> {
    let size = disk.lock().unwrap().size;
    if !shake_hands(&mut stream, size)? {
        return Ok(());
    }
    loop {
        let head: [u8; 28] = take(&mut stream)?;
        let number = |from: usize, to: usize| {
            head[from..to].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        };
        assert_eq!(number(0, 4), u64::from(REQUEST));
        let (kind, offset, length) = (number(6, 8) as u16, number(16, 24), number(24, 28) as usize);
        let mut data = Vec::new();
        let outcome = match kind {
            READ => {
                data.resize(length, 0);
                disk.lock().unwrap().read(offset, &mut data)
            }
            WRITE => {
                let mut written = vec![0; length];
                stream.read_exact(&mut written)?;
                let mut disk = disk.lock().unwrap();
                let outcome = disk.write(offset, &written);
                if disk.cached.len() >= fuse.load(Ordering::Relaxed) {
                    return Ok(());
                }
                outcome
            }
            FLUSH => {
                disk.lock().unwrap().flush();
                Ok(())
            }
            HANG_UP => return Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        let error = match outcome {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => EINVAL,
            Err(_) => EIO,
        };
        if error != 0 {
            data.clear();
        }
        stream.write_all(&[&REPLY.to_be_bytes(), &error.to_be_bytes(), &head[8..16], &data].concat())?;
    }
}
