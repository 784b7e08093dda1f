//! The publishing stage: scores regions, tracks what is found, and tells the outputs.

use std::time::Instant;

use super::context::Context;
use super::measurement::OnFrame;
use crate::allocations;
use crate::health::Health;
use crate::job::{Lease, Stage};
use crate::publish::{Publisher, Verdict};
use crate::scoring::FrameScorer;
use crate::threads::Receiver;
use crate::tracking::Tracking;

/// The fourth thread, which is the caller's: regions to named things, and out.
pub(super) struct PublishStage<'a> {
    pub scorer: Box<FrameScorer>,
    pub tracking: Tracking,
    /// Of the vocabulary that `scorer` has.
    pub version: u64,
    pub publisher: Publisher,
    pub on_frame: Option<OnFrame>,
    pub health: Health,
    pub context: Context<'a>,
}

impl PublishStage<'_> {
    pub(super) fn run(mut self, inferred: Receiver<Lease>) -> anyhow::Result<(Self, bool)> {
        let mut is_enough = false;
        while let Ok(mut job) = inferred.recv() {
            let allocations = allocations::on_this_thread();
            self.context.control.pulse().begin(Stage::Publish);
            self.swap_words(job.vocabulary_version);
            self.scorer.run(&mut job);
            let events = self.tracking.run(&mut job);
            let ended = self.publisher.tell(&job, events)?;
            self.publisher.live().metrics().set_present(self.tracking.present());
            self.health.published();
            self.context.control.rate_limit().published(Instant::now());
            if let Some(ended) = ended.filter(|_| job.measured_at.is_some())
                && let Some(on_frame) = &mut self.on_frame
            {
                on_frame(&job, &ended);
            }
            let verdict = match ended {
                Some(_) => self.publisher.pass_on(job, self.tracking.events())?,
                None => Verdict::Enough,
            };
            self.context.control.pulse().done(Stage::Publish);
            self.context.counters.allocated(Stage::Publish, allocations::on_this_thread() - allocations);
            if verdict == Verdict::Enough {
                is_enough = true;
                break;
            }
        }
        // Before the pictures are waited for: the stages behind need not go on meanwhile.
        drop(inferred);
        self.publisher.end()?;
        Ok((self, is_enough))
    }

    /// Names the things from this frame on by the words that it carries.
    fn swap_words(&mut self, version: u64) {
        if version == self.version {
            return;
        }
        let start = Instant::now();
        self.version = version;
        if let Some(scorer) = self.context.control.scorer_of(version) {
            self.context.control.retire(std::mem::replace(&mut self.scorer, scorer));
            self.context.counters.swapped(start.elapsed());
        }
    }
}
