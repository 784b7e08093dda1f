//! Decoded photographs in memory.
//!
//! A full cache keeps what it has and evicts nothing. Every epoch sees every photograph once, in another order each
//! time, so the photograph that was used longest ago is as likely to come next as any other. Evicting a random one for
//! each new one would find a fifth of the photographs where half of them fit; keeping them finds half.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use image::RgbImage;

use super::Sets;

/// The decoded photographs of some sets, up to a number of bytes.
pub(super) struct Cache {
    pictures: Vec<OnceLock<Arc<RgbImage>>>,
    bytes: AtomicU64,
    most_bytes: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(sets: &Sets, most_bytes: u64) -> Self {
        let pictures = sets.photographs.iter().map(|_| OnceLock::new()).collect();
        Self { pictures, bytes: AtomicU64::new(0), most_bytes }
    }

    /// A photograph's pixels.
    pub fn picture(&self, sets: &Sets, photograph: usize) -> Result<Arc<RgbImage>> {
        if let Some(picture) = self.pictures[photograph].get() {
            return Ok(picture.clone());
        }
        let picture = Arc::new(sets.picture(&sets.photographs[photograph])?);
        let bytes = picture.as_raw().len() as u64;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most_bytes
            || self.pictures[photograph].set(picture.clone()).is_err()
        {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(picture)
    }
}
