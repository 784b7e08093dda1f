//! From a frame to the engine's input: the letterbox, on a thread of its own.
//!
//! In flows a captured frame, out flow the three planes of the student's input and the placing that
//! leads boxes back. A camera's YUV becomes RGB within the letterbox, at the input's size: no RGB frame is made.
//!
//! The one surprising thing: evaluation resizes RGB by whole numbers, this by floats, as a GPU does; a test of
//! `wordsight-detection` holds the two to two grey levels. It is what makes the stage free of allocations, and equal
//! whichever engine runs.
//!
//! An engine that takes whole frames letterboxes them itself; only the placing is left then.

use wordsight_detection::{Letterbox, Resampler};

use crate::pipeline::Job;

/// The stage's state.
pub struct Preprocess {
    resampler: Resampler,
    input_size: (usize, usize),
    /// How many frames are letterboxed; behind them only the placing is done.
    letterboxed: u64,
}

impl Preprocess {
    /// For a student whose input is `input_width` by `input_height` pixels; the first `letterboxed` frames
    /// are letterboxed.
    pub fn new(input_width: usize, input_height: usize, letterboxed: u64) -> Self {
        let resampler = Resampler::new(input_width, input_height);
        Self { resampler, input_size: (input_width, input_height), letterboxed }
    }

    /// Fills the job's `image` and `letterbox` from its `frame`.
    pub fn run(&mut self, job: &mut Job) {
        let frame = &job.frame;
        if self.letterboxed == 0 {
            job.image.clear();
            job.letterbox = Letterbox::new((frame.width, frame.height), self.input_size);
            return;
        }
        self.letterboxed -= 1;
        job.image.resize(3 * self.input_size.0 * self.input_size.1, 0);
        job.letterbox = self.resampler.run(&frame.view(), &mut job.image);
    }
}
