//! A whole teacher: what training asks about crops and words.

use std::path::Path;

use image::RgbImage;
use wordsight_engines::Placement;

use crate::captions::{Caption, EmbedCaptions};
use crate::error::TeacherError;
use crate::identity::VISION_MODEL;
use crate::text_teacher::TextTeacher;
use crate::vision::VisionTower;

/// A vision-language model that is ready to embed.
pub struct Teacher {
    text: TextTeacher,
    vision: VisionTower,
}

impl Teacher {
    /// Opens a teacher's directory; both models run on all cores.
    ///
    /// # Errors
    /// When a file of the layout is missing or not what it should be, or ONNX Runtime is missing.
    pub fn open(directory: &Path) -> Result<Self, TeacherError> {
        Self::open_at(directory, 0)
    }

    /// As [`Self::open`], on so many threads of the processor, or elsewhere.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(directory: &Path, placement: impl Into<Placement>) -> Result<Self, TeacherError> {
        let placement = placement.into();
        // Read with the models, and looked for before them.
        for file in ["config.json", "preprocessor_config.json", VISION_MODEL] {
            if !directory.join(file).is_file() {
                return Err(TeacherError::Missing { directory: directory.into(), file });
            }
        }
        let text = TextTeacher::open_at(directory, placement)?;
        let mut vision = VisionTower::open(directory, placement)?;
        let of_images = match vision.stated_size() {
            Some(size) => size,
            None => vision.embed(&RgbImage::new(1, 1), &[[0.0, 0.0, 1.0, 1.0]])?.concat().len(),
        };
        if text.embedding_size() != of_images {
            let problem = format!(
                "the text model's embeddings have {} numbers and the vision model's {of_images}",
                text.embedding_size()
            );
            return Err(TeacherError::unusable(directory, problem));
        }
        Ok(Self { text, vision })
    }

    /// Which teacher this is: a short name and the first 12 hexadecimal digits of a SHA-256. Two teachers with one
    /// id have one embedding space.
    pub fn id(&self) -> &str {
        self.text.id()
    }

    /// The length of every embedding.
    pub fn embedding_size(&self) -> usize {
        self.text.embedding_size()
    }

    /// The half that embeds words.
    pub fn text(&mut self) -> &mut TextTeacher {
        &mut self.text
    }

    /// Boxes `[x1, y1, x2, y2]` in pixels of a photograph to embeddings of length 1, one each: the direction of the sum
    /// of two crops, the box and the box at one and a half times its size. Crops are padded to a square with the mean
    /// colour and never cut.
    ///
    /// # Errors
    /// When a box has no area inside the image, or the model fails.
    pub fn embed_crops(
        &mut self,
        image: &RgbImage,
        boxes_in_image: &[[f32; 4]],
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        self.vision.embed(image, boxes_in_image)
    }
}

impl EmbedCaptions for Teacher {
    fn id(&self) -> &str {
        self.text.id()
    }

    fn embed_captions(&mut self, captions: &[Caption]) -> Result<Vec<Vec<f32>>, TeacherError> {
        self.text.embed_captions(captions)
    }
}
