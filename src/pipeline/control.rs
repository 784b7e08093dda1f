//! What may be asked of a stream while it runs: other words from one frame to the next, a pause to change its other parts,
//! and whether it is alive.
//!
//! In flow an edition of words from whoever read them, out flows to the stages which one is the newest. The engine's stage
//! writes an edition's number on each frame, and the publishing stage scores a frame by the edition that it carries: a
//! frame whose words an engine has ranked on a GPU is never named by another vocabulary.
//!
//! A swap exchanges one pointer, and the stages don't drop the old scorer: freeing twenty thousand words takes longer
//! than the rest of the swap. It is retired, and dropped by whoever brought the new one ([`Control::drop_retired`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use wordsight_detection::WordTable;

use super::rate_limit::RateLimit;
use crate::job::Stage;
use crate::scoring::Scoring;
use crate::threads::locked;

/// One edition of the words.
struct Edition {
    number: u64,
    scoring: Box<Scoring>,
    /// For an engine that ranks words itself.
    table: Option<WordTable>,
}

/// Shared by a stream and whoever looks after it.
#[derive(Default)]
pub struct Control {
    newest: AtomicU64,
    editions: Mutex<Editions>,
    retired: Mutex<Retired>,
    /// Why words were not taken.
    refusal: Mutex<Option<String>>,
    pauses: AtomicBool,
    pulse: Pulse,
    rate_limit: RateLimit,
}

/// Boxed, so that a stage moves a pointer into it and not all that is behind it.
type Retired = Vec<Box<Scoring>>;

#[derive(Default)]
struct Editions {
    waiting: VecDeque<Edition>,
    /// The newest that a frame may carry.
    taken_up: u64,
}

impl Control {
    fn editions(&self) -> MutexGuard<'_, Editions> {
        locked(&self.editions)
    }

    fn retired(&self) -> MutexGuard<'_, Retired> {
        locked(&self.retired)
    }

    /// Has the next frame that reaches the engine, and all after it, scored by other words.
    ///
    /// They must fit the student. Returns at once; where no frame comes, the newest of several editions is taken when one does.
    pub fn swap_words(&self, scoring: Scoring, for_ranking: bool) {
        let table = for_ranking.then(|| scoring.table());
        let scoring = Box::new(scoring);
        let mut editions = self.editions();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        let taken_up = editions.taken_up;
        let replaced = editions.waiting.iter().position(|edition| edition.number > taken_up);
        let replaced = replaced.map(|first| editions.waiting.split_off(first));
        editions.waiting.push_back(Edition { number, scoring, table });
        self.newest.store(number, Ordering::Release);
        drop(editions);
        drop(replaced);
    }

    /// The number of the newest edition; 0 is what the stream began with.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The newest edition's number, which frames carry from now on, and its table for an engine that wants it.
    pub(super) fn take_up(&self) -> (u64, Option<WordTable>) {
        let mut editions = self.editions();
        let newest = editions.waiting.back_mut().map(|edition| (edition.number, edition.table.take()));
        let (number, table) = newest.unwrap_or((self.newest(), None));
        editions.taken_up = number;
        (number, table)
    }

    /// Takes an edition back that no frame carries after all.
    pub(super) fn withdraw(&self, number: u64, reason: String) {
        *locked(&self.refusal) = Some(reason);
        let mut editions = self.editions();
        if editions.waiting.back().is_some_and(|edition| edition.number == number)
            && let Some(edition) = editions.waiting.pop_back()
        {
            self.retire(edition.scoring);
        }
    }

    /// The scoring of an edition that a frame carries; older ones that no frame came for are retired.
    pub(super) fn scoring_of(&self, number: u64) -> Option<Box<Scoring>> {
        let mut editions = self.editions();
        while editions.waiting.front().is_some_and(|edition| edition.number <= number) {
            let edition = editions.waiting.pop_front()?;
            if edition.number == number {
                return Some(edition.scoring);
            }
            self.retire(edition.scoring);
        }
        None
    }

    /// The newest edition that waits, if one does, for a stream that begins.
    pub(super) fn begin(&self) -> (u64, Option<Box<Scoring>>) {
        let (number, _) = self.take_up();
        (number, self.scoring_of(number))
    }

    /// Why the engine didn't take the newest words, told once.
    pub fn take_refusal(&self) -> Option<String> {
        locked(&self.refusal).take()
    }

    /// Drops the editions that no frame has come for. For whoever has the stream pause.
    pub fn discard_waiting(&self) {
        if let (_, Some(scoring)) = self.begin() {
            self.retire(scoring);
        }
    }

    /// Keeps words that are not used any more, to be dropped beside the stream.
    pub(super) fn retire(&self, scoring: Box<Scoring>) {
        self.retired().push(scoring);
    }

    /// Drops what was retired and is in nobody's hands any more.
    pub fn drop_retired(&self) {
        let mut free = Retired::new();
        {
            let mut retired = self.retired();
            let mut at = 0;
            while at < retired.len() {
                // A frame on its way may still carry these words, and its stage would be the one to free them.
                if retired[at].is_only_owner_of_words() {
                    free.push(retired.swap_remove(at))
                } else {
                    at += 1
                }
            }
        }
        drop(free);
    }

    /// Has the stream end as at the end of its source, but with all its parts kept for another.
    pub fn pause(&self) {
        self.pauses.store(true, Ordering::Relaxed);
    }

    /// Lets the next stream run.
    pub fn resume(&self) {
        self.pauses.store(false, Ordering::Relaxed);
    }

    /// Whether the stream is to pause, or has.
    pub fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Relaxed)
    }

    /// How many frames are let in.
    pub fn rate_limit(&self) -> &RateLimit {
        &self.rate_limit
    }

    /// How the stages get on.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

/// What the stages do of their own accord: the proof that a stream is alive.
#[derive(Default)]
pub struct Pulse([Beat; Stage::ALL.len()]);

#[derive(Default)]
struct Beat {
    turns: AtomicU64,
    is_busy: AtomicBool,
}

/// The pulse at a moment: of each stage how often it was done, and whether it is at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PulseReading([(u64, bool); Stage::ALL.len()]);

impl Pulse {
    /// All stages wait: a stream begins.
    pub(super) fn rest(&self) {
        self.0.iter().for_each(|beat| beat.is_busy.store(false, Ordering::Relaxed));
    }

    /// A stage has something to do.
    pub fn begin(&self, stage: Stage) {
        self.0[stage as usize].is_busy.store(true, Ordering::Relaxed);
    }

    /// A stage is done with it, or has looked in vain for something to do.
    pub fn done(&self, stage: Stage) {
        let beat = &self.0[stage as usize];
        beat.turns.fetch_add(1, Ordering::Relaxed);
        beat.is_busy.store(false, Ordering::Relaxed);
    }

    /// How it is now.
    pub fn read(&self) -> PulseReading {
        PulseReading(std::array::from_fn(|stage| {
            let beat = &self.0[stage];
            (beat.turns.load(Ordering::Relaxed), beat.is_busy.load(Ordering::Relaxed))
        }))
    }
}

impl PulseReading {
    /// The stage that is at work on the same thing as when `before` was read; where none is and none has done anything
    /// either, the first: it is the one that never rests.
    pub fn stuck_since(&self, before: &Self) -> Option<Stage> {
        let pairs = || self.0.iter().zip(&before.0).zip(Stage::ALL);
        let at_the_same = pairs().find(|((now, before), _)| now == before && now.1).map(|(_, stage)| stage);
        let nothing_done = pairs().all(|((now, before), _)| now.0 == before.0);
        at_the_same.or(nothing_done.then_some(Stage::Capture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(stages: [(u64, bool); 4]) -> PulseReading {
        PulseReading(stages)
    }

    #[test]
    fn a_stage_that_is_at_the_same_thing_for_long_is_stuck_and_one_that_waits_is_not() {
        let before = reading([(7, true), (7, false), (5, true), (5, false)]);
        let engine_hangs = reading([(9, true), (8, false), (5, true), (5, false)]);
        assert_eq!(engine_hangs.stuck_since(&before), Some(Stage::Engine));
        let camera_is_gone = reading([(99, true), (7, false), (6, false), (6, false)]);
        assert_eq!(camera_is_gone.stuck_since(&before), None);
    }

    #[test]
    fn where_nothing_at_all_is_done_capture_is_what_should_do_something() {
        let idle = reading([(7, false), (7, false), (5, false), (5, false)]);
        assert_eq!(idle.stuck_since(&idle), Some(Stage::Capture));
    }

    #[test]
    fn a_slow_engine_that_has_done_a_frame_meanwhile_is_alive() {
        let before = reading([(7, false), (7, false), (5, true), (5, false)]);
        let after = reading([(7, false), (7, false), (6, true), (6, false)]);
        assert_eq!(after.stuck_since(&before), None);
    }
}
