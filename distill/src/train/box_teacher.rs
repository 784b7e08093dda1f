//! A detector of fixed words as a teacher for boxes.
//!
//! Its cells lie where the student's do, so its outputs for each cell are targets as they are: an objectness and a box
//! (Hinton et al., 2015, for detectors: Chen et al., 2017). Annotations give targets for some ten cells an object; the
//! detector gives soft ones for all cells, and its features say more. In inputs of another size than its own its cells
//! lie elsewhere, and only its detections are used, for regions.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::label::yolox::{COCO_NAMES, Dense, Yolox};
use crate::sets::TrainingImage;
use crate::table;

/// Detections with a lower score teach neither a cell's box nor a region's words.
pub(super) const LEAST_TEACHING_SCORE: f32 = 0.1;

/// The detector, once a core.
pub struct BoxTeacher {
    detectors: Vec<Mutex<Yolox>>,
    side: usize,
}

impl BoxTeacher {
    /// Opens a YOLOX of COCO's words.
    ///
    /// # Errors
    /// When the file is none.
    pub fn open(path: &Path) -> Result<Self> {
        let names: Arc<[String]> = COCO_NAMES.lines().map(str::to_owned).collect();
        let detectors: Vec<Yolox> = (0..table::workers())
            .map(|_| Yolox::open_with_features(path, Arc::clone(&names)))
            .collect::<Result<_>>()?;
        let side = detectors.first().map_or(0, Yolox::side);
        ensure!(side > 0, "{}: no detector", path.display());
        Ok(Self { detectors: detectors.into_iter().map(Mutex::new).collect(), side })
    }

    /// Features of a cell that it answers from.
    pub fn features(&self) -> usize {
        self.detectors
            .first()
            .map_or(0, |detector| detector.lock().unwrap_or_else(PoisonError::into_inner).features())
    }

    /// Whether its cells lie where a student's do in inputs of this side.
    pub fn shares_cells(&self, side: usize) -> bool {
        side == self.side
    }

    /// Its outputs for each picture, resized to its own size; boxes are in pixels of the picture.
    ///
    /// # Errors
    /// When a picture is no square of its side or ONNX Runtime fails.
    pub fn answers(&self, images: &[TrainingImage]) -> Result<Vec<Dense>> {
        let of_detector = images.len().div_ceil(self.detectors.len()).max(1);
        let answers: Vec<Vec<Dense>> = images
            .par_chunks(of_detector)
            .zip(&self.detectors)
            .map(|(images, detector)| {
                let mut detector = detector.lock().unwrap_or_else(PoisonError::into_inner);
                images.iter().map(|image| detector.dense(&image.pixels, image.side)).collect()
            })
            .collect::<Result<_>>()?;
        Ok(answers.concat())
    }
}
