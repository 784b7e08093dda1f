//! The jobs of a stream, each in the pool or leased, and the buffers of its frames.
//!
//! A [`Lease`] is a pointer to a job, which never moves; dropping it returns the job to its pool.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use wordsight_engines::FrameBuffer;

use super::Job;
use crate::threads::locked;

/// Buffers of frames that nobody looks at any more.
///
/// Behind the letterbox a frame's bytes are of use only to whoever draws on them. Where nobody does, they go back to capture
/// from there, and not with their job from the end of the line: a stream holds as many frames as there may be before the
/// letterbox, and not as many as it has jobs, which at 1920x1080 are 6 MB each.
pub struct FrameBuffers(Mutex<Spare>);

struct Spare {
    buffers: Vec<FrameBuffer>,
    /// How many frames are still to allocate their own: all at the beginning, so that none does later.
    to_be_made: usize,
}

impl FrameBuffers {
    /// So many.
    pub fn new(number: usize) -> Self {
        Self(Mutex::new(Spare { buffers: Vec::with_capacity(number), to_be_made: number }))
    }

    /// Takes a frame's buffer.
    pub fn take_from(&self, job: &mut Job) {
        let buffer = std::mem::take(&mut job.frame.bytes);
        let mut spare = locked(&self.0);
        if buffer.capacity() > 0 {
            // While somebody watched there were more than there is place for.
            if spare.buffers.len() < spare.buffers.capacity() {
                spare.buffers.push(buffer);
            }
        } else {
            // No frame came that would have made it.
            spare.to_be_made += 1;
        }
    }

    /// Gives a buffer to a frame that has none.
    pub fn give_to(&self, job: &mut Job) {
        if job.frame.bytes.capacity() > 0 {
            return;
        }
        let mut spare = locked(&self.0);
        if spare.to_be_made > 0 {
            spare.to_be_made -= 1;
        } else if let Some(buffer) = spare.buffers.pop() {
            job.frame.bytes = buffer;
        }
    }
}

/// A fixed number of jobs, each in the pool or leased.
#[derive(Clone)]
pub struct Pool(Arc<Slots>);

struct Slots {
    idle: Mutex<Idle>,
    changed: Condvar,
}

struct Idle {
    /// Boxed, since a lease is a pointer to a job, which never moves. Taken in turns, so that all have room for a frame when
    /// a stream has run for a moment, and none takes it when it is needed for the first time much later.
    slots: VecDeque<Box<Slot>>,
    closed: bool,
}

/// A job in the one place in memory that it has.
struct Slot {
    job: Job,
    /// The pool that it returns to, while it is leased. In the pool it would keep that alive for ever.
    pool: Option<Arc<Slots>>,
}

impl Pool {
    /// A pool of `count` jobs, each made by `make`.
    pub fn new(count: usize, make: impl Fn() -> Job) -> Self {
        let slot = || Box::new(Slot { job: make(), pool: None });
        let slots = std::iter::repeat_with(slot).take(count).collect();
        let idle = Mutex::new(Idle { slots, closed: false });
        Self(Arc::new(Slots { idle, changed: Condvar::new() }))
    }

    /// A job, as soon as one is in the pool; `None` once the pool is closed.
    pub fn take(&self) -> Option<Lease> {
        let mut idle = locked(&self.0.idle);
        loop {
            if idle.closed {
                return None;
            }
            if let Some(mut slot) = idle.slots.pop_front() {
                slot.pool = Some(Arc::clone(&self.0));
                return Some(Lease(ManuallyDrop::new(slot)));
            }
            idle = self.0.changed.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the pool has been closed.
    pub fn is_closed(&self) -> bool {
        locked(&self.0.idle).closed
    }

    /// Something that closes the pool when it is dropped. Every stage behind capture holds one: a
    /// stage that ends, by whatever way, ends the stream, even while capture waits for a job.
    pub fn closer(&self) -> impl Drop + use<> {
        struct Closer(Pool);
        impl Drop for Closer {
            fn drop(&mut self) {
                locked(&self.0.0.idle).closed = true;
                self.0.0.changed.notify_all();
            }
        }
        Closer(self.clone())
    }
}

/// The right to use a job; dropping it returns the job to the pool.
pub struct Lease(ManuallyDrop<Box<Slot>>);

// A ring of one holds it without an allocation only if it is as large as a pointer, whether it is there or not.
const _: () = assert!(size_of::<Option<Lease>>() == size_of::<usize>());

impl Deref for Lease {
    type Target = Job;
    fn deref(&self) -> &Job {
        &self.0.job
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Job {
        &mut self.0.job
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: nothing looks at the slot any more: a lease is dropped once, and this is where.
        let mut slot = unsafe { ManuallyDrop::take(&mut self.0) };
        // A frame that was given up is not run.
        slot.job.turn = None;
        let Some(pool) = slot.pool.take() else { return };
        locked(&pool.idle).slots.push_back(slot);
        pool.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_job_returns_to_the_pool_with_its_buffers() {
        let pool = Pool::new(1, Job::default);
        pool.take().unwrap().image = vec![7; 100];
        assert_eq!(pool.take().unwrap().image, [7; 100]);
    }

    #[test]
    fn who_finds_the_pool_empty_waits_until_a_job_returns() {
        let pool = Pool::new(1, Job::default);
        let lease = pool.take().unwrap();
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().map(|lease| lease.number)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(lease);
        assert_eq!(waiting.join().unwrap(), Some(0));
    }

    #[test]
    fn closing_the_pool_wakes_who_waits() {
        let pool = Pool::new(1, Job::default);
        let _lease = pool.take().unwrap();
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().is_none()
        });
        drop(pool.closer());
        assert!(waiting.join().unwrap());
    }
}
