//! The letterbox stage: from a frame to the engine's input.
//!
//! Turns a captured frame into the three planes of the student's input, and keeps the placing that leads boxes back. A
//! camera's YUV becomes RGB within the letterbox, at the input's size: no RGB frame is made.
//!
//! RGB is resized by whole numbers, exactly as in training and evaluation, and what a camera gives in other formats by
//! floats, exactly as on a GPU; a test of `wordsight-detection` holds the two to two grey levels.
//!
//! An engine that takes whole frames letterboxes them itself; the placing and the thumbnail are left then.

use wordsight_detection::{Letterbox, PixelFormat, Preprocessor, Resampler, ResizeSettings};

use crate::job::{Job, Thumbnail};

/// The stage's state.
pub struct Preprocess {
    preprocessor: Preprocessor,
    resampler: Resampler,
    resize: ResizeSettings,
    /// How many frames are letterboxed; behind them only the placing is done.
    letterboxed: u64,
}

impl Preprocess {
    /// For a student that wants frames so; the first `letterboxed` frames are letterboxed.
    pub fn new(resize: ResizeSettings, letterboxed: u64) -> Self {
        let (preprocessor, resampler) = (Preprocessor::new(resize), Resampler::new(resize));
        Self { preprocessor, resampler, resize, letterboxed }
    }

    /// Fills the job's `image`, `letterbox` and `thumbnail` from its `frame`.
    pub fn run(&mut self, job: &mut Job) {
        let frame = &job.frame;
        job.thumbnail = Thumbnail::of(&frame.view());
        if self.letterboxed == 0 {
            job.image.clear();
            job.letterbox = Letterbox::of((frame.width, frame.height), &self.resize);
            return;
        }
        self.letterboxed -= 1;
        job.image.resize(self.resize.input_len(), 0);
        job.letterbox = match frame.format {
            PixelFormat::Rgb => {
                self.preprocessor.run(&frame.bytes, frame.width, frame.height, &mut job.image)
            }
            _ => self.resampler.run(&frame.view(), &mut job.image),
        };
    }
}
