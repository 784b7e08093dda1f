//! The letterbox stage: from a frame to the engine's input.
//!
//! In flows a captured frame, out flow the three planes of the student's input and the placing that
//! leads boxes back. A camera's YUV becomes RGB within the letterbox, at the input's size: no RGB frame is made.
//!
//! RGB is resized by whole numbers, exactly as in training and evaluation, and what a camera gives in other formats by
//! floats, exactly as on a GPU; a test of `wordsight-detection` holds the two to two grey levels.
//!
//! An engine that takes whole frames letterboxes them itself; only the placing is left then.

use wordsight_detection::{Letterbox, PixelFormat, Preprocessor, Resampler};

use crate::job::{Job, Thumbnail};

/// The stage's state.
pub struct Preprocess {
    preprocessor: Preprocessor,
    resampler: Resampler,
    input_size: (usize, usize),
    /// How many frames are letterboxed; behind them only the placing is done.
    letterboxed: u64,
}

impl Preprocess {
    /// For a student whose input is `input_width` by `input_height` pixels; the first `letterboxed` frames
    /// are letterboxed.
    pub fn new(input_width: usize, input_height: usize, letterboxed: u64) -> Self {
        let preprocessor = Preprocessor::new(input_width, input_height);
        let resampler = Resampler::new(input_width, input_height);
        Self { preprocessor, resampler, input_size: (input_width, input_height), letterboxed }
    }

    /// Fills the job's `image`, `letterbox` and `thumbnail` from its `frame`.
    pub fn run(&mut self, job: &mut Job) {
        let frame = &job.frame;
        job.thumbnail = Thumbnail::of(&frame.view());
        if self.letterboxed == 0 {
            job.image.clear();
            job.letterbox = Letterbox::new((frame.width, frame.height), self.input_size);
            return;
        }
        self.letterboxed -= 1;
        job.image.resize(3 * self.input_size.0 * self.input_size.1, 0);
        job.letterbox = match frame.format {
            PixelFormat::Rgb => {
                self.preprocessor.run(&frame.bytes, frame.width, frame.height, &mut job.image)
            }
            _ => self.resampler.run(&frame.view(), &mut job.image),
        };
    }
}
