//! Jobs and where they live.
//!
//! A [`Job`] is one frame with every buffer that its way through the stages needs. All jobs of a
//! stream are made at its start; a stage holds one through a [`Lease`], and dropping the lease, be
//! it at the end of the line or pushed out of a ring, brings the job home with its buffers.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wordsight_detection::Letterbox;
use wordsight_engines::Regions;

use crate::capture::Frame;
use crate::scoring::Found;

/// One frame on its way, and what the stages make of it.
pub struct Job {
    /// The frame's place in the stream, unreadable ones counted; from 0.
    pub number: u64,
    /// By capture: the frame.
    pub frame: Frame,
    /// By preprocess: the engine's input, three planes.
    pub image: Vec<u8>,
    /// By preprocess: how the frame lies in the input.
    pub letterbox: Letterbox,
    /// By the engine: what it found.
    pub regions: Regions,
    /// By scoring: the named things, best first.
    pub found: Vec<Found>,
    /// What preprocess, engine and scoring took for this frame, without the waiting between them.
    pub latency: Duration,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            number: 0,
            frame: Frame::default(),
            image: Vec::new(),
            letterbox: Letterbox::new((1, 1), (1, 1)),
            regions: Regions::default(),
            found: Vec::new(),
            latency: Duration::ZERO,
        }
    }
}

/// A fixed number of jobs, each at home or leased.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    home: Mutex<Home>,
    changed: Condvar,
}

struct Home {
    jobs: Vec<Job>,
    closed: bool,
}

impl Shared {
    fn home(&self) -> MutexGuard<'_, Home> {
        // Nothing can panic while it holds this lock, so a poisoned one is still whole.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A pool of `count` jobs.
    pub fn new(count: usize) -> Self {
        let jobs = std::iter::repeat_with(Job::default).take(count).collect();
        let home = Mutex::new(Home { jobs, closed: false });
        Self(Arc::new(Shared { home, changed: Condvar::new() }))
    }

    /// A job, as soon as one is at home; `None` once the pool is closed.
    pub fn take(&self) -> Option<Lease> {
        let mut home = self.0.home();
        loop {
            if home.closed {
                return None;
            }
            if let Some(job) = home.jobs.pop() {
                return Some(Lease { job, pool: self.clone() });
            }
            home = self.0.changed.wait(home).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the pool has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.home().closed
    }

    /// Something that closes the pool when it is dropped. Every stage behind capture holds one: a
    /// stage that ends, by whatever way, ends the stream, even while capture waits for a job.
    pub fn closer(&self) -> impl Drop + use<> {
        struct Closer(Pool);
        impl Drop for Closer {
            fn drop(&mut self) {
                self.0.0.home().closed = true;
                self.0.0.changed.notify_all();
            }
        }
        Closer(self.clone())
    }
}

/// The right to use a job; dropping it brings the job home.
pub struct Lease {
    job: Job,
    pool: Pool,
}

impl Deref for Lease {
    type Target = Job;
    fn deref(&self) -> &Job {
        &self.job
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Job {
        &mut self.job
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let job = std::mem::take(&mut self.job);
        self.pool.0.home().jobs.push(job);
        self.pool.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_job_comes_home_with_its_buffers() {
        let pool = Pool::new(1);
        pool.take().unwrap().image = vec![7; 100];
        assert_eq!(pool.take().unwrap().image, [7; 100]);
    }

    #[test]
    fn who_finds_the_pool_empty_waits_until_a_job_comes_home() {
        let pool = Pool::new(1);
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
        let pool = Pool::new(1);
        let _lease = pool.take().unwrap();
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().is_none()
        });
        drop(pool.closer());
        assert!(waiting.join().unwrap());
    }
}
