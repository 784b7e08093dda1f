//! Sorts ground truths and detections by class and image: which are compared with which.
//!
//! Takes the dataset and all detections, and returns [`Cell`]s with those that the protocol looks at. Detections are
//! sorted once, over all images. Every later order by score in the reference programs (in an image, in a category,
//! under a limit) is a part of this one, because all their sorts are stable.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Category, Dataset, Detection, GroundTruth, Image, Limit, Protocol};

/// What is and what was found of one class in one image.
#[derive(Default)]
pub(crate) struct Cell {
    pub truths: Vec<Truth>,
    /// Best first.
    pub finds: Vec<Find>,
}

/// A ground truth under the protocol's rules.
pub(crate) struct Truth {
    pub box_in_image: [f64; 4],
    pub area: f64,
    /// A crowd: any number of detections may match any part of it.
    pub crowd: bool,
    /// Neither asked for nor wrong to find.
    pub ignored: bool,
}

/// A detection under the protocol's rules.
pub(crate) struct Find {
    pub box_in_image: [f64; 4],
    pub area: f64,
    pub score: f64,
    /// Whether it is not false even if it matches nothing.
    pub excused: bool,
}

/// One of the objects that precision is computed for: a category, or `None` for all taken as one.
pub(crate) type Class = Option<Category>;

/// The cells, by class and image.
pub(crate) struct Candidates {
    pub classes: Vec<Class>,
    cells: BTreeMap<(ClassKey, u64), Cell>,
}

/// A category's number, or `None` for all taken as one.
type ClassKey = Option<u64>;

impl Candidates {
    /// Sorts what the protocol looks at into cells.
    pub fn gather(dataset: &Dataset, detections: &[Detection], protocol: &Protocol) -> Self {
        let images: HashMap<u64, &Image> = dataset.images.iter().map(|image| (image.id, image)).collect();
        let categories: BTreeMap<u64, Category> =
            dataset.categories.iter().map(|&category| (category.id, category)).collect();
        let lists =
            |image: u64, category: u64| images.contains_key(&image) && categories.contains_key(&category);
        let class_of = |category: u64| (!is_class_agnostic(protocol)).then_some(category);

        let mut truths: Vec<&GroundTruth> = dataset
            .ground_truths
            .iter()
            .filter(|truth| lists(truth.image, truth.category) && admits_area(protocol, truth.area))
            .collect();
        if is_class_agnostic(protocol) {
            truths.sort_by_key(|truth| truth.category);
        }
        let present: HashSet<(u64, u64)> = truths.iter().map(|truth| (truth.image, truth.category)).collect();

        let mut cells: BTreeMap<_, Cell> = BTreeMap::new();
        for truth in truths {
            let cell = cells.entry((class_of(truth.category), truth.image)).or_default();
            cell.truths.push(Truth::of(truth, protocol));
        }
        let most = protocol.cutoffs().last().copied().unwrap_or(0);
        for detection in ranked(detections, protocol) {
            let Detection { image, category, .. } = *detection;
            let Some(known) = images.get(&image).filter(|_| lists(image, category)) else { continue };
            let is_lvis = matches!(protocol, Protocol::Lvis { .. });
            let is_known =
                present.contains(&(image, category)) || known.negative_categories.contains(&category);
            if !admits_area(protocol, detection.area()) || is_lvis && !is_known {
                continue;
            }
            let excused = is_lvis && known.not_exhaustive_categories.contains(&category);
            let cell = cells.entry((class_of(category), image)).or_default();
            if cell.finds.len() < most {
                cell.finds.push(Find::of(detection, excused));
            }
        }
        let classes = if is_class_agnostic(protocol) {
            vec![None]
        } else {
            categories.into_values().map(Some).collect()
        };
        Self { classes, cells }
    }

    /// The cells of a class, by the images' numbers.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = &Cell> {
        let key = class.map(|category| category.id);
        self.cells.range((key, 0)..=(key, u64::MAX)).map(|(_, cell)| cell)
    }
}

impl Truth {
    fn of(truth: &GroundTruth, protocol: &Protocol) -> Self {
        let (crowd, ignored) = match protocol {
            Protocol::Coco { .. } => (truth.crowd, truth.crowd),
            Protocol::Lvis { .. } => (false, truth.ignored),
        };
        Self { box_in_image: truth.box_in_image, area: truth.area, crowd, ignored }
    }
}

impl Find {
    fn of(detection: &Detection, excused: bool) -> Self {
        let Detection { box_in_image, score, .. } = *detection;
        Self { box_in_image, area: detection.area(), score, excused }
    }
}

fn is_class_agnostic(protocol: &Protocol) -> bool {
    matches!(protocol, Protocol::Coco { class_agnostic: true, .. })
}

/// LVIS asks its index for annotations by category, which also asks for an area above zero.
fn admits_area(protocol: &Protocol, area: f64) -> bool {
    match protocol {
        Protocol::Coco { .. } => true,
        Protocol::Lvis { .. } => area > 0.0 && area < f64::INFINITY,
    }
}

/// The detections within the protocol's limit, best first; of those with the same score, in the order
/// given, or by category where all categories are taken as one.
fn ranked<'a>(detections: &'a [Detection], protocol: &Protocol) -> Vec<&'a Detection> {
    let mut ranked: Vec<&Detection> = detections.iter().collect();
    if is_class_agnostic(protocol) {
        ranked.sort_by_key(|detection| detection.category);
    }
    ranked.sort_by(|a, b| best_first(a.score, b.score));
    if let Protocol::Lvis { limit } = *protocol {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        ranked.retain(|detection| {
            let (counted_by, most) = match limit {
                Limit::PerImage(most) => (detection.image, most),
                Limit::PerCategory(most) => (detection.category, most),
            };
            let count = counts.entry(counted_by).or_default();
            *count += 1;
            *count <= most
        });
    }
    ranked
}

/// Orders scores downwards, with what is not a number last.
pub(crate) fn best_first(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn detection(image: u64, category: u64, score: f64) -> Detection {
        Detection { image, category, score, box_in_image: [0.0, 0.0, 2.0, 2.0] }
    }

    fn truth(image: u64, category: u64) -> GroundTruth {
        GroundTruth { image, category, box_in_image: [0.0, 0.0, 2.0, 2.0], area: 4.0, ..Default::default() }
    }

    fn kept(detections: &[Detection], limit: Limit) -> Vec<(u64, u64)> {
        let ranked = ranked(detections, &Protocol::Lvis { limit });
        ranked.iter().map(|detection| (detection.image, detection.category)).collect()
    }

    #[test]
    fn a_limit_keeps_the_best_and_of_equals_the_first() {
        let detections =
            [detection(1, 1, 0.1), detection(1, 2, 0.5), detection(1, 3, 0.5), detection(2, 1, 0.2)];
        assert_eq!(kept(&detections, Limit::PerImage(1)), [(1, 2), (2, 1)]);
        assert_eq!(kept(&detections, Limit::PerCategory(1)), [(1, 2), (1, 3), (2, 1)]);
    }

    #[test]
    fn lvis_looks_only_where_presence_or_absence_is_known() {
        let image = Image { id: 1, negative_categories: vec![2], not_exhaustive_categories: vec![1] };
        let dataset = Dataset {
            images: vec![image],
            categories: [1, 2, 3].map(|id| Category { id, frequency: None }).to_vec(),
            ground_truths: vec![truth(1, 1)],
        };
        let detections =
            [detection(1, 1, 0.5), detection(1, 2, 0.5), detection(1, 3, 0.5), detection(1, 9, 0.5)];
        let finds = |protocol: &Protocol| {
            let candidates = Candidates::gather(&dataset, &detections, protocol);
            let cells = candidates.cells.iter().filter(|(_, cell)| !cell.finds.is_empty());
            cells.map(|((class, _), cell)| (class.unwrap(), cell.finds[0].excused)).collect::<Vec<_>>()
        };
        assert_eq!(finds(&Protocol::lvis()), [(1, true), (2, false)]);
        assert_eq!(finds(&Protocol::coco()), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn a_score_that_is_no_number_comes_last() {
        let mut scores = [f64::NAN, 0.1, 0.7];
        scores.sort_by(|a, b| best_first(*a, *b));
        assert_eq!(scores[..2], [0.7, 0.1]);
    }
}
