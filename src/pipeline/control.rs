//! What may be asked of a stream while it runs: other words from one frame to the next, a pause to change its other
//! parts, and whether it is alive.
//!
//! Takes scorers, each of another version of the vocabulary, and tells the stages which is the newest. The engine's
//! stage writes a version's number on each frame, and the publishing stage scores a frame by the version that it
//! carries: a frame whose words an engine has ranked on a GPU is never named by another vocabulary.
//!
//! Whoever wants to name something else by the words of the newest frame gets a scorer of them, beside the stream's
//! own.
//!
//! A swap exchanges one pointer, and the stages don't drop the old scorer: freeing twenty thousand words takes longer
//! than the rest of the swap. It is retired, and dropped by whoever brought the new one ([`Control::drop_retired`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use wordsight_detection::RankingTable;

use super::rate_limit::RateLimit;
use crate::job::Stage;
use crate::scoring::FrameScorer;
use crate::threads::locked;

/// One version of the vocabulary, ready to score.
struct Version {
    number: u64,
    scorer: Box<FrameScorer>,
    /// For whoever names by the same words beside the stream.
    beside: Box<FrameScorer>,
    /// For an engine that ranks words itself.
    table: Option<RankingTable>,
}

/// Shared by a stream and whoever looks after it.
#[derive(Default)]
pub struct Control {
    newest: AtomicU64,
    versions: Mutex<Versions>,
    retired: Mutex<Retired>,
    /// Scorers of the same words as others that are retired or in use: nothing is freed with them but their buffers.
    retired_beside: Mutex<Retired>,
    /// Why words were not taken.
    refusal: Mutex<Option<String>>,
    pauses: AtomicBool,
    pulse: Pulse,
    rate_limit: RateLimit,
    /// The bits of a number; 0: nobody has set it.
    priority: AtomicU64,
}

/// Boxed, so that a stage moves a pointer into it and not all that is behind it.
type Retired = Vec<Box<FrameScorer>>;

#[derive(Default)]
struct Versions {
    waiting: VecDeque<Version>,
    /// The newest that a frame may carry.
    taken_up: u64,
    /// Of the words that name frames now.
    beside: Option<Box<FrameScorer>>,
}

impl Control {
    fn versions(&self) -> MutexGuard<'_, Versions> {
        locked(&self.versions)
    }

    fn retired(&self) -> MutexGuard<'_, Retired> {
        locked(&self.retired)
    }

    /// Has the next frame that reaches the engine, and all after it, scored by other words.
    ///
    /// They must fit the student. Returns at once; where no frame comes, the newest of several versions is taken when one does.
    pub fn swap_words(&self, scorer: FrameScorer, for_ranking: bool) {
        let table = for_ranking.then(|| scorer.table());
        let (beside, scorer) = (Box::new(scorer.of_same_words()), Box::new(scorer));
        let mut versions = self.versions();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        let taken_up = versions.taken_up;
        let replaced = versions.waiting.iter().position(|version| version.number > taken_up);
        let replaced = replaced.map(|first| versions.waiting.split_off(first));
        versions.waiting.push_back(Version { number, scorer, beside, table });
        self.newest.store(number, Ordering::Release);
        drop(versions);
        drop(replaced);
    }

    /// The number of the newest version; 0 is what the stream began with.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The newest version's number, which frames carry from now on, and its table for an engine that wants it.
    pub(super) fn take_up(&self) -> (u64, Option<RankingTable>) {
        let mut versions = self.versions();
        let newest = versions.waiting.back_mut().map(|version| (version.number, version.table.take()));
        let (number, table) = newest.unwrap_or((self.newest(), None));
        versions.taken_up = number;
        (number, table)
    }

    /// Takes a version back that no frame carries after all.
    pub(super) fn withdraw(&self, number: u64, reason: String) {
        *locked(&self.refusal) = Some(reason);
        let mut versions = self.versions();
        if versions.waiting.back().is_some_and(|version| version.number == number)
            && let Some(version) = versions.waiting.pop_back()
        {
            self.retire(version.scorer);
            self.retire_beside(Some(version.beside));
        }
    }

    /// The scorer of the version that a frame carries; older ones that no frame came for are retired.
    pub(super) fn scorer_of(&self, number: u64) -> Option<Box<FrameScorer>> {
        let mut versions = self.versions();
        while versions.waiting.front().is_some_and(|version| version.number <= number) {
            let version = versions.waiting.pop_front()?;
            if version.number == number {
                self.retire_beside(versions.beside.replace(version.beside));
                return Some(version.scorer);
            }
            self.retire(version.scorer);
            self.retire_beside(Some(version.beside));
        }
        None
    }

    /// Tells what names frames from now on: a stream begins.
    pub(super) fn names_by(&self, scorer: &FrameScorer) {
        let beside = Box::new(scorer.of_same_words());
        self.retire_beside(self.versions().beside.replace(beside));
    }

    /// A scorer of the words that name frames now, to be used beside the stream; none before the first stream begins.
    pub fn scorer(&self) -> Option<FrameScorer> {
        self.versions().beside.as_ref().map(|beside| beside.of_same_words())
    }

    /// The newest version that waits, if one does, for a stream that begins.
    pub(super) fn begin(&self) -> (u64, Option<Box<FrameScorer>>) {
        let (number, _) = self.take_up();
        (number, self.scorer_of(number))
    }

    /// Why the engine didn't take the newest words, told once.
    pub fn take_refusal(&self) -> Option<String> {
        locked(&self.refusal).take()
    }

    /// Drops the versions that no frame has come for. For whoever has the stream pause.
    pub fn discard_waiting(&self) {
        if let (_, Some(scorer)) = self.begin() {
            self.retire(scorer);
        }
    }

    /// Keeps words that are not used any more, to be dropped beside the stream.
    pub(super) fn retire(&self, scorer: Box<FrameScorer>) {
        self.retired().push(scorer);
    }

    fn retire_beside(&self, scorer: Option<Box<FrameScorer>>) {
        locked(&self.retired_beside).extend(scorer);
    }

    /// Drops what was retired and is in nobody's hands any more.
    pub fn drop_retired(&self) {
        drop(std::mem::take(&mut *locked(&self.retired_beside)));
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

    /// Whether all that was retired is dropped.
    #[cfg(test)]
    pub(super) fn has_nothing_retired(&self) -> bool {
        self.retired().is_empty() && locked(&self.retired_beside).is_empty()
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

    /// Sets how many turns the stream gets beside others that share its engine, each of which has 1 where nobody says
    /// otherwise.
    pub fn set_priority(&self, priority: f64) {
        self.priority.store(priority.to_bits(), Ordering::Relaxed);
    }

    /// How many turns it gets beside others.
    pub(super) fn priority(&self) -> f64 {
        match self.priority.load(Ordering::Relaxed) {
            0 => 1.0,
            bits => f64::from_bits(bits),
        }
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
    /// How often a stage was done with something.
    #[cfg(test)]
    pub(super) fn turns(&self, stage: Stage) -> u64 {
        self.0[stage as usize].0
    }

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
