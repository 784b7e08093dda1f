//! Means over classes, sizes and IoUs: the numbers that papers print.
//!
//! A class with nothing to find has no average precision (`None`, not 0), and takes no part in a mean. (The reference
//! programs write -1.)

use std::collections::BTreeMap;

use serde::Serialize;

use crate::candidates::Class;
use crate::precision::Accuracy;
use crate::{Area, Category, Frequency, IOUS, Limit, Protocol, iou_thresholds};

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub(crate) classes: Vec<ClassResult>,
    /// Numbers of detections, ascending.
    pub(crate) cutoffs: Vec<usize>,
    pub(crate) protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassResult {
    pub category: Class,
    /// By size, as [`Area::EVERY`] has them; and for each, by cutoff.
    pub by_area: [Vec<Option<Accuracy>>; 4],
}

/// What a mean is taken over, beside the categories. The default is what is called AP.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Over {
    /// One of [`iou_thresholds`]; `None` for all of them.
    pub iou: Option<f64>,
    /// The objects asked for.
    pub area: Area,
    /// One of COCO's numbers of detections; `None` for the largest, which LVIS has alone.
    pub max_detections: Option<usize>,
}

/// The usual numbers, serialized under their usual names. Where COCO's protocol has several numbers of
/// detections, all but `ar` are at the largest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Over IoUs from 0.5 to 0.95.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// At an IoU of 0.5.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// At an IoU of 0.75.
    #[serde(rename = "AP75")]
    pub ap75: Option<f64>,
    /// Of small objects.
    #[serde(rename = "APs")]
    pub ap_small: Option<f64>,
    /// Of medium objects.
    #[serde(rename = "APm")]
    pub ap_medium: Option<f64>,
    /// Of large objects.
    #[serde(rename = "APl")]
    pub ap_large: Option<f64>,
    /// Of LVIS's rare categories.
    #[serde(rename = "APr", skip_serializing_if = "Option::is_none")]
    pub ap_rare: Option<f64>,
    /// Of LVIS's common categories.
    #[serde(rename = "APc", skip_serializing_if = "Option::is_none")]
    pub ap_common: Option<f64>,
    /// Of LVIS's frequent categories.
    #[serde(rename = "APf", skip_serializing_if = "Option::is_none")]
    pub ap_frequent: Option<f64>,
    /// Average recall by number of detections, named `AR100` for 100; just `AR` where an image's are not
    /// limited.
    #[serde(flatten)]
    pub ar: BTreeMap<String, Option<f64>>,
    /// Average recall of small objects.
    #[serde(rename = "ARs")]
    pub ar_small: Option<f64>,
    /// Average recall of medium objects.
    #[serde(rename = "ARm")]
    pub ar_medium: Option<f64>,
    /// Average recall of large objects.
    #[serde(rename = "ARl")]
    pub ar_large: Option<f64>,
}

impl Evaluation {
    /// The same for some of the categories only: the novel ones, or a single one. None of them is left
    /// where all were taken as one.
    pub fn of_categories(&self, wanted: impl Fn(&Category) -> bool) -> Self {
        let is_wanted = |class: &&ClassResult| class.category.as_ref().is_some_and(&wanted);
        Self { classes: self.classes.iter().filter(is_wanted).cloned().collect(), ..self.clone() }
    }

    /// Mean average precision; `None` where there was nothing to find, or for an IoU or a number of
    /// detections that was not evaluated.
    pub fn average_precision(&self, over: Over) -> Option<f64> {
        self.mean(over, |accuracy| &accuracy.average_precision)
    }

    /// Mean recall; `None` where [`Self::average_precision`] is.
    pub fn average_recall(&self, over: Over) -> Option<f64> {
        self.mean(over, |accuracy| &accuracy.recall)
    }

    /// The usual numbers.
    pub fn summary(&self) -> Summary {
        let at_iou = |iou| self.average_precision(Over { iou: Some(iou), ..Over::default() });
        let of_area = |area| self.average_precision(Over { area, ..Over::default() });
        let recall_of_area = |area| self.average_recall(Over { area, ..Over::default() });
        let of_frequency = |frequency| {
            self.of_categories(|category| category.frequency == Some(frequency))
                .average_precision(Over::default())
        };
        let recalls = self.cutoffs.iter().map(|&cutoff| {
            let over = Over { max_detections: Some(cutoff), ..Over::default() };
            (self.recall_name(cutoff), self.average_recall(over))
        });
        Summary {
            ap: self.average_precision(Over::default()),
            ap50: at_iou(0.5),
            ap75: at_iou(0.75),
            ap_small: of_area(Area::Small),
            ap_medium: of_area(Area::Medium),
            ap_large: of_area(Area::Large),
            ap_rare: of_frequency(Frequency::Rare),
            ap_common: of_frequency(Frequency::Common),
            ap_frequent: of_frequency(Frequency::Frequent),
            ar: recalls.collect(),
            ar_small: recall_of_area(Area::Small),
            ar_medium: recall_of_area(Area::Medium),
            ar_large: recall_of_area(Area::Large),
        }
    }

    fn recall_name(&self, cutoff: usize) -> String {
        match self.protocol {
            Protocol::Coco { .. } => format!("AR{cutoff}"),
            Protocol::Lvis { limit: Limit::PerImage(most) } => format!("AR{most}"),
            Protocol::Lvis { limit: Limit::PerCategory(_) } => "AR".into(),
        }
    }

    fn mean(&self, over: Over, value: impl Fn(&Accuracy) -> &[f64; IOUS]) -> Option<f64> {
        let cutoff = match over.max_detections {
            Some(wanted) => self.cutoffs.iter().position(|&cutoff| cutoff == wanted)?,
            None => self.cutoffs.len().checked_sub(1)?,
        };
        let is_wanted = |threshold: f64| over.iou.is_none_or(|iou| (iou - threshold).abs() < 1e-6);
        let wanted = iou_thresholds().map(is_wanted);

        let (mut sum, mut count) = (0.0, 0.0);
        for class in &self.classes {
            let Some(accuracy) = &class.by_area[over.area as usize][cutoff] else { continue };
            for (value, _) in value(accuracy).iter().zip(wanted).filter(|(_, wanted)| *wanted) {
                sum += value;
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum / count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn class(id: u64, frequency: Frequency, accuracy: Option<f64>) -> ClassResult {
        let accuracy =
            accuracy.map(|value| Accuracy { average_precision: [value; IOUS], recall: [value / 2.0; IOUS] });
        let category = Some(Category { id, frequency: Some(frequency) });
        ClassResult { category, by_area: [vec![accuracy], vec![None], vec![None], vec![None]] }
    }

    fn evaluation() -> Evaluation {
        let classes = vec![
            class(1, Frequency::Rare, Some(0.2)),
            class(2, Frequency::Common, Some(0.6)),
            class(3, Frequency::Common, None),
        ];
        Evaluation { classes, cutoffs: vec![usize::MAX], protocol: Protocol::lvis() }
    }

    #[test]
    fn a_class_with_nothing_to_find_takes_no_part_in_a_mean() {
        let summary = evaluation().summary();
        assert!((summary.ap.unwrap() - 0.4).abs() < 1e-12);
        assert!((summary.ap_common.unwrap() - 0.6).abs() < 1e-12);
        assert_eq!((summary.ap_frequent, summary.ap_small), (None, None));
    }

    #[test]
    fn a_part_of_the_categories_has_its_own_mean() {
        let novel = evaluation().of_categories(|category| category.id == 1);
        assert!((novel.average_precision(Over::default()).unwrap() - 0.2).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_evaluated_has_no_mean() {
        let evaluation = evaluation();
        assert_eq!(evaluation.average_precision(Over { iou: Some(0.52), ..Over::default() }), None);
        assert_eq!(evaluation.average_recall(Over { max_detections: Some(7), ..Over::default() }), None);
    }

    #[test]
    fn a_summary_is_written_under_the_usual_names() {
        let written = serde_json::to_value(evaluation().summary()).unwrap();
        let names: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            ["AP", "AP50", "AP75", "APc", "APl", "APm", "APr", "APs", "AR300", "ARl", "ARm", "ARs"]
        );
    }
}
