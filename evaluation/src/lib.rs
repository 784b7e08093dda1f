//! Average precision as COCO and LVIS compute it, to the last tie; how well tracks keep their identity ([`identity`]).
//!
//! [`evaluate`] takes a [`Dataset`] (it reads COCO's and LVIS's annotation files), a detector's [`Detection`]s and a
//! [`Protocol`]. It returns an [`Evaluation`], which gives means over any categories, and a [`Summary`] of it. Numbers are
//! those of `pycocotools` 2.0 and of `lvis` 0.5.3 for boxes; `tests/reference.rs` compares this crate with both.
//!
//! Much of the outcome is convention and not mathematics: which of two detections with the same score comes first, that
//! a ground truth's size is the area of its mask while a detection's is that of its box, that LVIS leaves out boxes
//! without area and COCO does not. All of it is as in the two reference programs, because only then can numbers be
//! compared.
//!
//! ```
//! use wordsight_evaluation::{Area, Category, Dataset, Detection, GroundTruth, Image, Over, Protocol, evaluate};
//!
//! let box_in_image = [10.0, 10.0, 40.0, 40.0];
//! let dataset = Dataset {
//!     images: vec![Image { id: 1, ..Image::default() }],
//!     categories: vec![Category { id: 3, frequency: None }],
//!     ground_truths: vec![GroundTruth { image: 1, category: 3, box_in_image, area: 1600.0, ..Default::default() }],
//! };
//! let found = [Detection { image: 1, category: 3, score: 0.9, box_in_image }];
//! let evaluation = evaluate(&dataset, &found, &Protocol::coco());
//! assert!(evaluation.summary().ap > Some(0.999));
//! let threes = evaluation.of_categories(|category| category.id == 3);
//! assert_eq!(threes.average_recall(Over { iou: Some(0.5), area: Area::Medium, ..Over::default() }), Some(1.0));
//! assert_eq!(threes.average_recall(Over { area: Area::Small, ..Over::default() }), None);
//! ```

mod candidates;
mod dataset;
pub mod identity;
mod matching;
mod precision;
mod results;

pub use dataset::{Category, Dataset, Detection, Frequency, GroundTruth, Image};
pub use results::{Evaluation, Over, Summary};

use candidates::Candidates;
use matching::judge;
use precision::Accuracy;
use results::ClassResult;
use serde::Serialize;

/// The rules of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Protocol {
    /// Those of `pycocotools.cocoeval.COCOeval`.
    Coco {
        /// How many detections of a category in an image count, best first; each of these numbers is
        /// evaluated.
        max_detections: Vec<usize>,
        /// Whether all categories are taken as one (`useCats = 0`), as for the recall of proposals. The
        /// numbers of detections are then of all categories together.
        class_agnostic: bool,
    },
    /// Those of `lvis.LVISEval`: a detection counts only where its category is known to be present or
    /// absent in the image, and a false one only where the category is annotated exhaustively.
    Lvis {
        /// Which detections are used.
        limit: Limit,
    },
}

/// Which detections the LVIS protocol uses, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Limit {
    /// So many of an image, of all categories together.
    PerImage(usize),
    /// So many of a category in the whole set, however many in an image.
    PerCategory(usize),
}

impl Protocol {
    /// COCO's, with 1, 10 and 100 detections an image.
    pub fn coco() -> Self {
        Self::Coco { max_detections: vec![1, 10, 100], class_agnostic: false }
    }

    /// LVIS's, with 300 detections an image.
    pub fn lvis() -> Self {
        Self::Lvis { limit: Limit::PerImage(300) }
    }

    /// "Fixed AP" (Dave et al., 2021, arXiv 2102.01066): LVIS's, but with 10,000 detections a category
    /// over the whole set, so that categories no longer compete for an image's 300 places.
    pub fn lvis_fixed() -> Self {
        Self::Lvis { limit: Limit::PerCategory(10_000) }
    }

    /// The numbers of detections of one class in one image to evaluate, ascending. LVIS limits the
    /// detections before they are divided by class and has none.
    fn cutoffs(&self) -> Vec<usize> {
        match self {
            Self::Coco { max_detections, .. } => {
                let mut cutoffs = max_detections.clone();
                cutoffs.sort_unstable();
                cutoffs
            }
            Self::Lvis { .. } => vec![usize::MAX],
        }
    }
}

/// The sizes of objects that are evaluated apart from each other, by area in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Area {
    /// Any, up to the square of 100,000 pixels.
    #[default]
    All,
    /// Up to the square of 32 pixels.
    Small,
    /// From the square of 32 to that of 96 pixels; both ends belong to two sizes.
    Medium,
    /// From the square of 96 pixels.
    Large,
}

impl Area {
    /// Every size, in the order of their numbers.
    const EVERY: [Self; 4] = [Self::All, Self::Small, Self::Medium, Self::Large];

    fn contains(self, area: f64) -> bool {
        let (least, most) = match self {
            Self::All => (0.0, 1e10),
            Self::Small => (0.0, 1024.0),
            Self::Medium => (1024.0, 9216.0),
            Self::Large => (9216.0, 1e10),
        };
        !(area < least || area > most)
    }
}

/// How many IoUs a detection is judged at.
const IOUS: usize = 10;

/// The IoUs that a detection is judged at: 0.5 to 0.95 by 0.05, the very numbers that numpy makes.
pub fn iou_thresholds() -> [f64; IOUS] {
    linspace(0.5, 0.95)
}

/// `numpy.linspace(start, stop, N)`, bit by bit.
fn linspace<const N: usize>(start: f64, stop: f64) -> [f64; N] {
    let step = (stop - start) / (N - 1) as f64;
    std::array::from_fn(|i| if i == N - 1 { stop } else { i as f64 * step + start })
}

/// Compares detections with ground truths.
///
/// Detections in an image or of a category that the dataset doesn't list are left out, so that a part of a
/// set is evaluated by listing that part.
pub fn evaluate(dataset: &Dataset, detections: &[Detection], protocol: &Protocol) -> Evaluation {
    let cutoffs = protocol.cutoffs();
    let candidates = Candidates::gather(dataset, detections, protocol);
    let classes = candidates.classes.iter().map(|&class| {
        let by_area = Area::EVERY.map(|area| {
            let judged = judge(candidates.of_class(class), area);
            cutoffs.iter().map(|&cutoff| Accuracy::of(&judged, cutoff)).collect()
        });
        ClassResult { category: class, by_area }
    });
    Evaluation { classes: classes.collect(), cutoffs, protocol: protocol.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_numpys_and_not_the_nearest_decimals() {
        assert_eq!(iou_thresholds()[..8], [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85]);
        assert_eq!(iou_thresholds()[8..], [0.8999999999999999, 0.95]);
        let recalls: [f64; 101] = linspace(0.0, 1.0);
        assert_eq!((recalls[7], recalls[35], recalls[57]), (0.07, 0.35000000000000003, 0.5700000000000001));
        assert_eq!((recalls[0], recalls[50], recalls[100]), (0.0, 0.5, 1.0));
    }

    #[test]
    fn sizes_share_their_borders() {
        assert!(Area::Small.contains(1024.0) && Area::Medium.contains(1024.0));
        assert!(Area::Medium.contains(9216.0) && Area::Large.contains(9216.0));
        assert!(!Area::Small.contains(1024.1) && !Area::All.contains(1.1e10));
    }
}
