//! Memory that frames are captured into.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// An engine's memory for frames, which the engine reads without copying it first.
pub trait FrameMemory: Send + Sync {
    /// A block of so many uninitialised bytes; `None` if there is none left.
    fn block(&self, bytes: usize) -> Option<Box<dyn FrameBlock>>;
}

/// Bytes of [`FrameMemory`].
pub trait FrameBlock: DerefMut<Target = [u8]> + Send + Sync {}

/// The bytes of a frame, and storage for the next one: like a `Vec<u8>`, but its storage may be an engine's memory.
#[derive(Default)]
pub struct FrameBuffer {
    storage: Storage,
    len: usize,
    /// Where storage is allocated; on the heap without it, or if it has none left.
    memory: Option<Arc<dyn FrameMemory>>,
}

enum Storage {
    Heap(Vec<u8>),
    Block(Box<dyn FrameBlock>),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Block(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Block(bytes) => bytes,
        }
    }
}

impl FrameBuffer {
    /// An empty buffer that allocates its storage in an engine's memory.
    pub fn in_memory(memory: Arc<dyn FrameMemory>) -> Self {
        Self { memory: Some(memory), ..Self::default() }
    }

    /// Removes all bytes and keeps the storage.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// How many bytes the storage holds.
    pub fn capacity(&self) -> usize {
        self.storage.bytes().len()
    }

    /// Allocates storage for exactly so many bytes in all.
    pub fn reserve(&mut self, bytes: usize) {
        if bytes <= self.capacity() {
            return;
        }
        let block = self.memory.as_ref().and_then(|memory| memory.block(bytes));
        let mut storage = block.map_or_else(|| Storage::Heap(vec![0; bytes]), Storage::Block);
        storage.bytes_mut()[..self.len].copy_from_slice(&self.storage.bytes()[..self.len]);
        self.storage = storage;
    }

    /// Adds bytes behind those that are there.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        if len > self.capacity() {
            self.reserve(len.max(2 * self.capacity()));
        }
        self.storage.bytes_mut()[self.len..len].copy_from_slice(bytes);
        self.len = len;
    }

    /// Has so many bytes; new ones are `value`.
    pub fn resize(&mut self, len: usize, value: u8) {
        self.reserve(len);
        if let Some(new) = self.storage.bytes_mut().get_mut(self.len..len) {
            new.fill(value);
        }
        self.len = len;
    }

    /// Gives back storage that no bytes are in.
    pub fn shrink_to_fit(&mut self) {
        if let Storage::Heap(bytes) = &mut self.storage {
            bytes.truncate(self.len);
            bytes.shrink_to_fit();
        }
    }
}

impl Deref for FrameBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.storage.bytes()[..self.len]
    }
}

impl DerefMut for FrameBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage.bytes_mut()[..self.len]
    }
}

impl From<Vec<u8>> for FrameBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), storage: Storage::Heap(bytes), memory: None }
    }
}

impl PartialEq for FrameBuffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.storage {
            Storage::Heap(_) => "the heap",
            Storage::Block(_) => "an engine's memory",
        };
        write!(out, "FrameBuffer({} of {} bytes, {place})", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counting {
        blocks: AtomicUsize,
        most: usize,
    }

    struct Boxed(Vec<u8>);

    impl Deref for Boxed {
        type Target = [u8];
        fn deref(&self) -> &[u8] {
            &self.0
        }
    }

    impl DerefMut for Boxed {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    impl FrameBlock for Boxed {}

    impl FrameMemory for Counting {
        fn block(&self, bytes: usize) -> Option<Box<dyn FrameBlock>> {
            let taken = self.blocks.fetch_add(1, Ordering::Relaxed);
            (taken < self.most).then(|| -> Box<dyn FrameBlock> { Box::new(Boxed(vec![0xA5; bytes])) })
        }
    }

    #[test]
    fn it_holds_what_a_vec_would_wherever_it_lies() {
        for most in [0, 1, 100] {
            let memory = Arc::new(Counting { blocks: AtomicUsize::new(0), most });
            let (mut buffer, mut vec) = (FrameBuffer::in_memory(memory), Vec::new());
            for round in 0..20_usize {
                if round % 7 == 3 {
                    buffer.clear();
                    vec.clear();
                }
                if round % 3 == 1 {
                    let len = (37 * round) % 200;
                    buffer.resize(len, 9);
                    vec.resize(len, 9);
                } else {
                    let bytes: Vec<u8> = (0..round as u8 * 3).collect();
                    buffer.extend_from_slice(&bytes);
                    vec.extend_from_slice(&bytes);
                }
                assert_eq!(*buffer, *vec, "{round}");
            }
            buffer.iter_mut().for_each(|byte| *byte = 1);
            assert!(buffer.iter().all(|byte| *byte == 1) && buffer.len() == vec.len());
        }
    }

    #[test]
    fn frames_of_one_size_make_room_once() {
        let memory = Arc::new(Counting { blocks: AtomicUsize::new(0), most: 100 });
        let mut buffer = FrameBuffer::in_memory(Arc::clone(&memory) as Arc<dyn FrameMemory>);
        for _ in 0..3 {
            buffer.clear();
            buffer.reserve(100);
            (0..10).for_each(|_| buffer.extend_from_slice(&[7; 10]));
        }
        assert_eq!((memory.blocks.load(Ordering::Relaxed), buffer.capacity()), (1, 100));
    }
}
