//! Counters of the stages: dropped frames by stage, allocations, swaps of words.
//!
//! Everything is counted twice: in all, and of the measured part alone, for a benchmark.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::job::Stage;
use crate::threads::locked;

/// The most moments of drops that are noted.
const MOST_MOMENTS: usize = 20_000;

/// What the stages count, shared by their threads.
#[derive(Debug, Default)]
pub struct Counters {
    is_measuring: AtomicBool,
    missed: [AtomicU64; 2],
    unreadable: [AtomicU64; 2],
    held_back: [AtomicU64; 2],
    dropped: [[AtomicU64; 2]; 4],
    allocations: [AtomicU64; 4],
    /// How long each swap of words took, as many as there is room for.
    swaps: Mutex<Vec<Duration>>,
    /// When frames were dropped, as many as there is room for; there is none where nothing is measured.
    dropped_at: Mutex<Vec<Instant>>,
}

/// Where frames were left out: in all, or of the measured part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Lost by the camera or its driver, by their own count.
    pub camera: u64,
    /// There, and not to be read.
    pub unreadable: u64,
    /// Not let in, for the board's sake.
    pub held_back: u64,
    /// Pushed out by a newer frame while they waited for the stage, in the order of [`Stage::ALL`]; the first, which
    /// waits for the camera, has none.
    pub before: [u64; 4],
}

impl Counters {
    /// What is counted under "all", and under "measured" too while it is measured.
    fn add(&self, counts: &[AtomicU64; 2], number: u64) {
        if number > 0 {
            counts[0].fetch_add(number, Ordering::Relaxed);
            counts[1].fetch_add(number * u64::from(self.is_measuring()), Ordering::Relaxed);
        }
    }

    fn is_measuring(&self) -> bool {
        self.is_measuring.load(Ordering::Relaxed)
    }

    /// Whether what comes from now on is of the measured part.
    pub(super) fn measure(&self, is_measuring: bool) {
        self.is_measuring.store(is_measuring, Ordering::Relaxed);
    }

    /// The camera says that so many frames are missing.
    pub fn missed(&self, number: u64) {
        self.add(&self.missed, number);
    }

    /// A frame came, and could not be read.
    pub fn unreadable(&self) {
        self.add(&self.unreadable, 1);
    }

    /// Makes room for so many swaps of words.
    pub fn note_swaps(&self, number: usize) {
        self.swaps().reserve_exact(number);
    }

    fn swaps(&self) -> MutexGuard<'_, Vec<Duration>> {
        locked(&self.swaps)
    }

    /// How long each swap of words took, as far as there was room to note it.
    pub fn swaps_took(&self) -> Vec<Duration> {
        self.swaps().clone()
    }

    /// The publishing stage has swapped its words.
    pub(super) fn swapped(&self, took: Duration) {
        let mut swaps = self.swaps();
        if swaps.len() < swaps.capacity() {
            swaps.push(took);
        }
    }

    /// A frame came, and was not let in.
    pub fn held_back(&self) {
        self.add(&self.held_back, 1);
    }

    /// Makes room for the moments of drops.
    pub(super) fn note_moments(&self) {
        self.moments().reserve_exact(MOST_MOMENTS);
    }

    fn moments(&self) -> MutexGuard<'_, Vec<Instant>> {
        locked(&self.dropped_at)
    }

    /// When frames of the measured part were dropped, as far as there was room to note it.
    pub fn dropped_at(&self) -> Vec<Instant> {
        self.moments().clone()
    }

    /// A frame that waited for a stage was pushed out, if it was.
    pub fn dropped_before<T>(&self, stage: Stage, pushed_out: &Option<T>) {
        if pushed_out.is_none() {
            return;
        }
        if self.is_measuring() {
            let mut moments = self.moments();
            if moments.len() < moments.capacity() {
                moments.push(Instant::now());
            }
        }
        self.add(&self.dropped[stage as usize], 1);
    }

    /// A stage allocated so often for a frame.
    pub fn allocated(&self, stage: Stage, number: u64) {
        if self.is_measuring() {
            self.allocations[stage as usize].fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Frames that were left out, of the measured part or of all.
    pub fn drops(&self, measured: bool) -> Drops {
        let which = usize::from(measured);
        Drops {
            camera: self.missed[which].load(Ordering::Relaxed),
            unreadable: self.unreadable[which].load(Ordering::Relaxed),
            held_back: self.held_back[which].load(Ordering::Relaxed),
            before: Stage::ALL.map(|stage| self.dropped[stage as usize][which].load(Ordering::Relaxed)),
        }
    }

    /// Allocations of the measured part, in the order of [`Stage::ALL`].
    pub fn allocations(&self) -> [u64; 4] {
        Stage::ALL.map(|stage| self.allocations[stage as usize].load(Ordering::Relaxed))
    }
}
