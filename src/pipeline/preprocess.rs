//! The preprocess stage: the letterbox, on a thread of its own.

use std::sync::Arc;
use std::time::Instant;

use wordsight_capture::Pacing;
use wordsight_engines::EngineQueue;

use super::context::Context;
use crate::allocations;
use crate::job::{Lease, Stage};
use crate::preprocess::Preprocess;
use crate::publish::Live;
use crate::threads::{Disconnected, Receiver, Sender, Stop};

/// The second thread: frames to the engine's inputs.
pub(super) struct PreprocessStage<'a> {
    pub preprocess: Preprocess,
    /// Whoever watches wants the frame until the end of the line.
    pub live: Live,
    /// Where frames wait for an engine that several streams share.
    pub queue: Option<EngineQueue>,
    pub stop: Stop,
    pub context: Context<'a>,
}

impl PreprocessStage<'_> {
    pub(super) fn run(mut self, captured: &Receiver<Lease>, preprocessed: &Sender<Lease>) {
        let Context { buffers, control, .. } = self.context;
        let counters = Arc::clone(&self.context.counters);
        while let Ok(mut job) = captured.recv() {
            if !self.has_turn(&mut job, captured) {
                continue;
            }
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            control.pulse().begin(Stage::Preprocess);
            self.preprocess.run(&mut job);
            if let Some(buffers) = buffers.filter(|_| !self.live.is_watched()) {
                buffers.take_from(&mut job);
            }
            job.times.preprocess = start.elapsed();
            if let Some(turn) = &mut job.turn {
                turn.ready();
            }
            match preprocessed.send(job) {
                Ok(pushed_out) => counters.dropped_before(Stage::Engine, &pushed_out),
                Err(Disconnected) => break,
            }
            control.pulse().done(Stage::Preprocess);
            counters.allocated(Stage::Preprocess, allocations::on_this_thread() - allocations);
        }
    }

    /// Waits until a shared engine is about to be free for this stream, and takes the newest frame then. A camera's frame is
    /// given up where the stream is to end.
    fn has_turn(&self, job: &mut Lease, captured: &Receiver<Lease>) -> bool {
        let Some(queue) = &self.queue else { return true };
        let Context { pacing, buffers, control, counters, .. } = &self.context;
        let Some(turn) = queue.wait(control.priority(), &|| self.stop.is_requested()) else { return false };
        while let Some(newer) = (*pacing != Pacing::Lossless).then(|| captured.try_recv()).flatten() {
            let mut stale = std::mem::replace(job, newer);
            if let Some(buffers) = buffers {
                buffers.take_from(&mut stale);
            }
            counters.dropped_before(Stage::Preprocess, &Some(stale));
        }
        job.turn = Some(turn);
        true
    }
}
