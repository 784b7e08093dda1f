//! The preprocess stage: the letterbox, on a thread of its own.

use std::time::Instant;

use super::context::Context;
use crate::allocations;
use crate::job::{Lease, Stage};
use crate::preprocess::Preprocess;
use crate::publish::Live;
use crate::threads::{Disconnected, Receiver, Sender};

/// The second thread: frames to the engine's inputs.
pub(super) struct PreprocessStage<'a> {
    pub preprocess: Preprocess,
    /// Whoever watches wants the frame until the end of the line.
    pub live: Live,
    pub context: Context<'a>,
}

impl PreprocessStage<'_> {
    pub(super) fn run(mut self, captured: &Receiver<Lease>, preprocessed: &Sender<Lease>) {
        let Context { buffers, control, ref counters, .. } = self.context;
        while let Ok(mut job) = captured.recv() {
            let (start, allocations) = (Instant::now(), allocations::on_this_thread());
            control.pulse().begin(Stage::Preprocess);
            self.preprocess.run(&mut job);
            if let Some(buffers) = buffers.filter(|_| !self.live.is_watched()) {
                buffers.take_from(&mut job);
            }
            job.times.preprocess = start.elapsed();
            match preprocessed.send(job) {
                Ok(pushed_out) => counters.dropped_before(Stage::Engine, &pushed_out),
                Err(Disconnected) => break,
            }
            control.pulse().done(Stage::Preprocess);
            counters.allocated(Stage::Preprocess, allocations::on_this_thread() - allocations);
        }
    }
}
