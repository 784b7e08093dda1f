//! Jobs and where they live.
//!
//! A [`Job`] is one frame with every buffer that its way through the stages needs. All jobs of a
//! stream are made at its start; a stage holds one through a [`Lease`], and dropping the lease, be
//! it at the end of the line or pushed out of a ring, brings the job home with its buffers.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wordsight_detection::Letterbox;
use wordsight_engines::{Regions, StudentFacts};

use crate::capture::Frame;
use crate::scoring::{Found, Words};
use crate::threads::locked;
use crate::tracking::Thumbnail;

/// One frame on its way, and what the stages make of it.
pub struct Job {
    /// The frame's place in the stream, unreadable ones counted; from 0.
    pub number: u64,
    /// By capture: the frame.
    pub frame: Frame,
    /// By capture: since the one before, as far as that is known; a live source's next frame is due after as long.
    pub interval: Option<Duration>,
    /// By preprocess: the engine's input, three planes.
    pub image: Vec<u8>,
    /// By preprocess: how the frame lies in the input.
    pub letterbox: Letterbox,
    /// By preprocess: what the frame looks like, for whoever follows things through cuts.
    pub thumbnail: Thumbnail,
    /// By the engine: the edition of the words that it is to be named by.
    pub edition: u64,
    /// By the engine: what it found.
    pub regions: Regions,
    /// By scoring: the named things, best first.
    pub found: Vec<Found>,
    /// By scoring: the words that `found` names.
    pub words: Words,
    /// By each stage: how long it worked on this frame.
    pub times: StageTimes,
    /// By the engine's stage: when in a measurement it was inferred, if that takes this frame into account.
    pub measured_at: Option<Duration>,
}

/// How long the stages worked on a frame, without the waiting between them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageTimes {
    /// From the moment that the bytes were there: decoding.
    pub capture: Duration,
    /// The letterbox.
    pub preprocess: Duration,
    /// From the engine's input to its output; where the engine letterboxes and ranks words, these too.
    pub engine: Duration,
    /// From regions to named candidates.
    pub scoring: Duration,
    /// From candidates to things.
    pub nms: Duration,
}

impl StageTimes {
    /// What the frame took between capture and publishing, without waiting.
    pub fn latency(&self) -> Duration {
        self.preprocess + self.engine + self.scoring + self.nms
    }
}

impl Job {
    /// A job with room for all that behind capture is made of a frame; `ranks` says whether the engine ranks words.
    pub fn with_room(student: &StudentFacts, most_found: usize, ranks: bool) -> Self {
        let (regions, values) = (student.proposals, student.proposals * student.embedding_size);
        let mut job = Self::default();
        job.found.reserve(most_found);
        job.regions.boxes_in_input.reserve(regions);
        job.regions.objectness.reserve(regions);
        if ranks {
            job.regions.ranked = Some(Vec::with_capacity(regions));
        } else {
            job.image.reserve(3 * student.input_width * student.input_height);
            job.regions.text_embeddings.reserve(values);
            job.regions.image_embeddings.reserve(values);
        }
        job
    }
}

impl Default for Job {
    fn default() -> Self {
        Self {
            number: 0,
            frame: Frame::default(),
            interval: None,
            image: Vec::new(),
            letterbox: Letterbox::new((1, 1), (1, 1)),
            thumbnail: Thumbnail::default(),
            edition: 0,
            regions: Regions::default(),
            found: Vec::new(),
            words: Words::default(),
            times: StageTimes::default(),
            measured_at: None,
        }
    }
}

/// Room for frames that nobody looks at any more.
///
/// Behind the letterbox a frame's bytes are of use only to whoever draws on them. Where nobody does, they go back to capture
/// from there, and not with their job from the end of the line: a stream holds as many frames as there may be before the
/// letterbox, and not as many as it has jobs, which at 1920x1080 are 6 MB each.
pub struct Rooms(Mutex<Spare>);

struct Spare {
    rooms: Vec<Vec<u8>>,
    /// How many frames are still to make room for themselves: all at the beginning, so that none does later.
    to_be_made: usize,
}

impl Rooms {
    /// So many.
    pub fn new(number: usize) -> Self {
        Self(Mutex::new(Spare { rooms: Vec::with_capacity(number), to_be_made: number }))
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        locked(&self.0)
    }

    /// Takes a frame's room.
    pub fn take_from(&self, job: &mut Job) {
        let room = std::mem::take(&mut job.frame.bytes);
        let mut spare = self.spare();
        if room.capacity() > 0 {
            // While somebody watched there were more than there is place for.
            if spare.rooms.len() < spare.rooms.capacity() {
                spare.rooms.push(room);
            }
        } else {
            // No frame came that would have made it.
            spare.to_be_made += 1;
        }
    }

    /// Gives room to a frame that has none.
    pub fn give_to(&self, job: &mut Job) {
        if job.frame.bytes.capacity() > 0 {
            return;
        }
        let mut spare = self.spare();
        if spare.to_be_made > 0 {
            spare.to_be_made -= 1;
        } else if let Some(room) = spare.rooms.pop() {
            job.frame.bytes = room;
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
    /// Boxed, since a lease is a pointer to a job, which never moves. Taken in turns, so that all have room for a frame when
    /// a stream has run for a moment, and none takes it when it is needed for the first time much later.
    jobs: VecDeque<Box<Place>>,
    closed: bool,
}

/// A job in the one place in memory that it has.
struct Place {
    job: Job,
    /// Where it belongs, while it is leased. At home it would hold its own house.
    pool: Option<Arc<Shared>>,
}

impl Shared {
    fn home(&self) -> MutexGuard<'_, Home> {
        locked(&self.home)
    }
}

impl Pool {
    /// A pool of `count` jobs, each made by `make`.
    pub fn new(count: usize, make: impl Fn() -> Job) -> Self {
        let place = || Box::new(Place { job: make(), pool: None });
        let jobs = std::iter::repeat_with(place).take(count).collect();
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
            if let Some(mut place) = home.jobs.pop_front() {
                place.pool = Some(Arc::clone(&self.0));
                return Some(Lease(ManuallyDrop::new(place)));
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
pub struct Lease(ManuallyDrop<Box<Place>>);

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
        // SAFETY: nothing looks at the place any more: a lease is dropped once, and this is where.
        let mut place = unsafe { ManuallyDrop::take(&mut self.0) };
        let Some(pool) = place.pool.take() else { return };
        pool.home().jobs.push_back(place);
        pool.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_job_comes_home_with_its_buffers() {
        let pool = Pool::new(1, Job::default);
        pool.take().unwrap().image = vec![7; 100];
        assert_eq!(pool.take().unwrap().image, [7; 100]);
    }

    #[test]
    fn who_finds_the_pool_empty_waits_until_a_job_comes_home() {
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
