//! The [`Engine`] trait, which every engine implements.

use std::sync::Arc;

use wordsight_detection::{FrameView, RankingTable};

use crate::{EngineError, EngineQueue, FrameMemory, Regions, StudentFacts};

/// Runs one student, one frame at a time.
///
/// An engine is owned by the thread that runs it; it is `Send` so that it can be opened on one
/// thread, where an error can still be reported to the user, and run on another.
pub trait Engine: Send {
    /// What this engine is, for logs and reports: `onnxruntime-cpu`.
    fn name(&self) -> &str;

    /// The same for people, with what it computes in: `ONNX Runtime on the processor (fp32)`.
    fn title(&self) -> &str {
        self.name()
    }

    /// What the student says of itself.
    fn facts(&self) -> &StudentFacts;

    /// Finds the regions of one frame.
    ///
    /// `image` is RGB in planes, `[3, input_height, input_width]`, one byte a channel, letterboxed
    /// to the student's input. `regions` is overwritten; its buffers are reused, so that the same
    /// `Regions` passed again costs no allocation of ours.
    ///
    /// # Errors
    /// When `image` has the wrong length or the runtime fails.
    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError>;

    /// This engine as one that does more of a frame's way than the network, if it is one.
    fn whole_frames(&mut self) -> Option<&mut dyn WholeFrames> {
        None
    }

    /// This engine as one that several streams of frames use side by side, if it is one.
    fn many_streams(&self) -> Option<&dyn ManyStreams> {
        None
    }

    /// Where this stream waits for its turn, if it shares the engine with others. A frame is to be run that has one.
    fn queue(&self) -> Option<EngineQueue> {
        None
    }
}

/// An engine whose network several threads use side by side, each with frames and words of its own.
pub trait ManyStreams: Engine {
    /// The same engine for another stream of frames.
    ///
    /// # Errors
    /// When there is no room for it.
    fn for_another(&self) -> Result<Box<dyn ManyStreams>, EngineError>;
}

/// An engine that letterboxes frames and ranks words itself: on a GPU both are near the network, and only boxes and
/// words come back.
///
/// At most two frames are under way at once: started and not finished. They finish in the order of their start.
pub trait WholeFrames {
    /// Ranks these words from the next frame on. What is under way is lost; on an error the words before stay.
    ///
    /// # Errors
    /// When there is no room for them.
    fn set_words(&mut self, words: &RankingTable) -> Result<(), EngineError>;

    /// Memory that frames are best captured into, if there is such: from elsewhere they are copied once more.
    fn frame_memory(&self) -> Option<Arc<dyn FrameMemory>> {
        None
    }

    /// Sends a frame on its way, placed as [`wordsight_detection::Letterbox`] places it. Its bytes are free again at
    /// once, unless they lie in [`Self::frame_memory`]: there they are read until the frame has finished, and whoever
    /// writes to them before spoils what is found.
    ///
    /// # Errors
    /// When the frame isn't whole or the runtime fails.
    ///
    /// # Panics
    /// When two are under way already: a mistake in the calling code.
    fn start(&mut self, frame: &FrameView<'_>) -> Result<(), EngineError>;

    /// Waits for the oldest frame under way; its regions come with the words that were set when it started, or with
    /// embeddings where none were. Without a frame under way there are none.
    ///
    /// # Errors
    /// When the runtime fails.
    fn finish(&mut self, regions: &mut Regions) -> Result<(), EngineError>;

    /// What the steps of one frame take by themselves, one after the other. What is under way is lost.
    ///
    /// # Errors
    /// As [`Self::start`].
    fn time_steps(&mut self, frame: &FrameView<'_>) -> Result<StepTimes, EngineError>;
}

/// What the steps of a frame took by the GPU's own clock, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTimes {
    /// The frame's copy to the GPU, from pinned memory.
    pub h2d_ms: f32,
    /// The letterbox, colours included.
    pub letterbox_ms: f32,
    /// The network.
    pub network_ms: f32,
    /// Ranking the words; 0 where none are set.
    pub words_ms: f32,
    /// The copy of boxes and words, or of embeddings, from the GPU.
    pub d2h_ms: f32,
}

impl StepTimes {
    /// How many there are.
    pub const STEPS: usize = 5;

    /// Their names, where they can be trtexec's words, and values.
    pub fn named(&self) -> [(&'static str, f32); Self::STEPS] {
        [
            ("H2D", self.h2d_ms),
            ("letterbox", self.letterbox_ms),
            ("GPU compute", self.network_ms),
            ("words", self.words_ms),
            ("D2H", self.d2h_ms),
        ]
    }
}
