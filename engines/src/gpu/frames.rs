//! Pinned memory that frames are captured into: they are copied to the GPU from there, without another copy on the
//! processor.

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, Pinned};
use crate::{FrameBlock, FrameMemory};

/// Where the blocks lie that are in use, as addresses.
type Places = Arc<Mutex<Vec<Range<usize>>>>;

/// Pinned memory of one engine.
pub(super) struct PinnedFrames {
    device: Device,
    places: Places,
}

impl PinnedFrames {
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), places: Places::default() }
    }

    /// Whether bytes lie in it.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let Range { start, end } = bytes.as_ptr_range();
        let (start, end) = (start as usize, end as usize);
        locked(&self.places).iter().any(|place| place.start <= start && end <= place.end)
    }
}

impl FrameMemory for PinnedFrames {
    fn block(&self, bytes: usize) -> Option<Box<dyn FrameBlock>> {
        let pinned = Pinned::zeros(&self.device, bytes).inspect_err(
            |error| tracing::debug!(%error, "frames are captured into memory that is not pinned"),
        );
        let block = PinnedBlock { pinned: pinned.ok()?, places: Arc::clone(&self.places) };
        locked(&self.places).push(block.place());
        Some(Box::new(block))
    }
}

struct PinnedBlock {
    pinned: Pinned<u8>,
    places: Places,
}

impl PinnedBlock {
    fn place(&self) -> Range<usize> {
        let Range { start, end } = self.pinned.as_ptr_range();
        start as usize..end as usize
    }
}

impl FrameBlock for PinnedBlock {}

impl Deref for PinnedBlock {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.pinned
    }
}

impl DerefMut for PinnedBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.pinned
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        // Before the memory is given back, which waits for copies that are under way.
        let own = self.place();
        locked(&self.places).retain(|place| *place != own);
    }
}

fn locked(places: &Places) -> MutexGuard<'_, Vec<Range<usize>>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}
