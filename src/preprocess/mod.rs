//! From a frame to the engine's input: the letterbox, on a thread of its own.
//!
//! In flows a captured frame, out flow the three planes of the student's input and the placing that
//! leads boxes back. The arithmetic is `wordsight-detection`'s, so that evaluation does the same.

use wordsight_detection::Preprocessor;

use crate::pipeline::Job;

/// The stage's state.
pub struct Preprocess {
    preprocessor: Preprocessor,
}

impl Preprocess {
    /// For a student whose input is `input_width` by `input_height` pixels.
    pub fn new(input_width: usize, input_height: usize) -> Self {
        Self { preprocessor: Preprocessor::new(input_width, input_height) }
    }

    /// Fills the job's `image` and `letterbox` from its `frame`.
    pub fn run(&mut self, job: &mut Job) {
        job.image.resize(self.preprocessor.output_len(), 0);
        let frame = &job.frame;
        job.letterbox = self.preprocessor.run(&frame.rgb, frame.width, frame.height, &mut job.image);
    }
}
