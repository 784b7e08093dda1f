//! Compares two engines: the regions that they find in the same inputs, and the cosines between their embeddings.

use std::fmt;

use serde::Serialize;
use wordsight_detection::iou;

use crate::Regions;

/// Regions of two engines are of the same thing from this overlap (IoU) on.
const SAME_PLACE: f32 = 0.7;

/// How close an engine is to a reference engine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The median cosine between their embeddings of the same region, over both embeddings.
    pub median_cosine: f32,
    /// A tenth of the cosines are below this.
    pub lowest_tenth: f32,
    /// The share of the reference's regions that the other proposes too.
    pub regions_kept: f32,
}

impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median_cosine, lowest_tenth, regions_kept } = self;
        let percent = 100.0 * regions_kept;
        write!(
            out,
            "median cosine {median_cosine:.4}, a tenth below {lowest_tenth:.4}, {percent:.0}% of regions"
        )
    }
}

/// The cosines that an [`Agreement`] is of, gathered input by input.
#[derive(Clone, Debug, Default)]
pub struct Cosines {
    values: Vec<f32>,
    /// Regions of the reference.
    regions: usize,
    /// Those of them that the other has too.
    kept: usize,
}

impl Cosines {
    /// Adds what both found in one input; `size` numbers are an embedding.
    pub fn add(&mut self, reference: &Regions, other: &Regions, size: usize) {
        self.regions += reference.boxes_in_input.len();
        for (at, corners) in reference.boxes_in_input.iter().enumerate() {
            let overlaps = other.boxes_in_input.iter().map(|there| iou(*corners, *there)).enumerate();
            let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((place, _)) = best.filter(|(_, overlap)| *overlap >= SAME_PLACE) else { continue };
            self.kept += 1;
            for (ours, theirs) in [
                (&reference.text_embeddings, &other.text_embeddings),
                (&reference.image_embeddings, &other.image_embeddings),
            ] {
                // Of a head that isn't there.
                if ours.is_empty() {
                    continue;
                }
                let rows = ours.iter().skip(at * size).zip(theirs.iter().skip(place * size));
                let cosine: f32 = rows.take(size).map(|(a, b)| a * b).sum();
                // What is no number agrees with nothing.
                self.values.push(if cosine.is_finite() { cosine } else { -1.0 });
            }
        }
    }

    /// The mean of 1 - cosine; 0 where no region is at the same place.
    pub fn mean_error(&self) -> f32 {
        self.values.iter().map(|cosine| 1.0 - cosine).sum::<f32>() / self.values.len().max(1) as f32
    }

    /// The share of the reference's regions that the other proposes too.
    pub fn regions_kept(&self) -> f32 {
        self.kept as f32 / self.regions.max(1) as f32
    }

    /// The result; cosines are 0 where no region is at the same place.
    pub fn agreement(mut self) -> Agreement {
        self.values.sort_by(f32::total_cmp);
        let at = |share: usize| self.values.get(self.values.len() / share).copied().unwrap_or(0.0);
        Agreement { median_cosine: at(2), lowest_tenth: at(10), regions_kept: self.regions_kept() }
    }
}
