//! Photographs as the student's input.

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use wordsight_detection::{Preprocessor, ResizeSettings};

use crate::student::Student;

/// Letterboxes photographs of any size, as the device does.
pub struct InputMaker {
    preprocessor: Preprocessor,
    planes: Vec<u8>,
    side: usize,
}

impl InputMaker {
    /// For inputs of `side` by `side` pixels.
    pub fn new(side: usize) -> Self {
        let preprocessor = Preprocessor::new(ResizeSettings::letterbox(side, side));
        let planes = vec![0; preprocessor.output_len()];
        Self { preprocessor, planes, side }
    }

    /// A photograph as an exported student takes it, uint8 `[1,3,S,S]`.
    pub fn planes(&mut self, picture: &RgbImage) -> &[u8] {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        self.preprocessor.run(picture.as_raw(), width, height, &mut self.planes);
        &self.planes
    }

    /// A photograph as the student's model takes it, normalised `[1,S,S,3]`.
    pub fn tensor(&mut self, picture: &RgbImage, device: &Device) -> Tensor<4> {
        let cells = self.side * self.side;
        let planes = self.planes(picture);
        let pixels: Vec<u8> = (0..3 * cells).map(|place| planes[place % 3 * cells + place / 3]).collect();
        Student::normalised(&pixels, self.side, device)
    }
}
