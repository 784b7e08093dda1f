//! What a student finds in a frame.

use wordsight_detection::{Ranked, RegionsView};

use crate::StudentOutput;

/// What a student finds in one frame: K regions.
///
/// Meant to be kept and passed again for the next frame, so that its buffers are reused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regions {
    /// K boxes as left, top, right, bottom, in pixels of the student's input.
    pub boxes_in_input: Vec<[f32; 4]>,
    /// K numbers, 0 to 1: how much a region looks like a thing, whichever; 1 where the student doesn't say.
    pub objectness: Vec<f32>,
    /// `[K, D]` row-major, rows of length 1: the text head's, or the only ones.
    pub text_embeddings: Vec<f32>,
    /// `[K, D]` row-major, rows of length 1: the image head's; none where there is one head.
    pub image_embeddings: Vec<f32>,
    /// K numbers where scores are a sigmoid's, else none: what is added to cosines.
    pub logit_shift: Vec<f32>,
    /// The same: what that is multiplied by.
    pub logit_scale: Vec<f32>,
    /// The best words of each region, where the engine ranks them itself
    /// ([`crate::WholeFrames::set_words`]); there are no embeddings then.
    pub ranked: Option<Vec<Ranked>>,
}

impl Regions {
    /// Forgets the regions and keeps the buffers.
    pub fn clear(&mut self) {
        if let Some(ranked) = &mut self.ranked {
            ranked.clear();
        }
        self.boxes_in_input.clear();
        for output in StudentOutput::ALL {
            if let Some(floats) = self.floats(output) {
                floats.clear();
            }
        }
    }

    /// The regions as a scorer takes them.
    pub fn view(&self) -> RegionsView<'_> {
        RegionsView {
            boxes_in_input: &self.boxes_in_input,
            objectness: &self.objectness,
            text_embeddings: &self.text_embeddings,
            image_embeddings: &self.image_embeddings,
            logit_shift: &self.logit_shift,
            logit_scale: &self.logit_scale,
        }
    }

    /// Copies one of a student's outputs.
    pub fn take_output(&mut self, output: StudentOutput, values: &[f32]) {
        match self.floats(output) {
            Some(floats) => floats.extend_from_slice(values),
            None => self.boxes_in_input.extend_from_slice(values.as_chunks::<4>().0),
        }
    }

    /// The numbers of an output.
    pub fn output(&self, output: StudentOutput) -> &[f32] {
        match output {
            StudentOutput::Boxes => self.boxes_in_input.as_flattened(),
            StudentOutput::Objectness => &self.objectness,
            StudentOutput::TextEmbeddings => &self.text_embeddings,
            StudentOutput::ImageEmbeddings => &self.image_embeddings,
            StudentOutput::LogitShift => &self.logit_shift,
            StudentOutput::LogitScale => &self.logit_scale,
        }
    }

    /// What a student without objectness says of it, once all of its outputs are taken.
    pub fn complete(&mut self) {
        if self.objectness.is_empty() {
            self.objectness.resize(self.boxes_in_input.len(), 1.0);
        }
    }

    /// Where an output lies that is no boxes.
    fn floats(&mut self, output: StudentOutput) -> Option<&mut Vec<f32>> {
        match output {
            StudentOutput::Boxes => None,
            StudentOutput::Objectness => Some(&mut self.objectness),
            StudentOutput::TextEmbeddings => Some(&mut self.text_embeddings),
            StudentOutput::ImageEmbeddings => Some(&mut self.image_embeddings),
            StudentOutput::LogitShift => Some(&mut self.logit_shift),
            StudentOutput::LogitScale => Some(&mut self.logit_scale),
        }
    }
}
