//! `[detection]` of a configuration: thresholds, NMS, how many detections.

use std::num::NonZeroUsize;

use serde::Deserialize;
use wordsight_detection::DetectionSettings;

use crate::settings::Fraction;

/// `[detection]`, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionKeys {
    pub score_threshold: Fraction,
    pub nms_iou: Fraction,
    pub voting_iou: Fraction,
    pub max_detections: NonZeroUsize,
    pub words_per_region: NonZeroUsize,
}

impl DetectionKeys {
    /// The settings, by which nothing is found that isn't sure enough to be told.
    pub fn settings(&self) -> DetectionSettings {
        DetectionSettings {
            score_threshold: self.score_threshold.0,
            nms_iou: self.nms_iou.0,
            voting_iou: self.voting_iou.0,
            max_detections: self.max_detections.get(),
            words_per_region: self.words_per_region.get(),
            weak_fraction: 1.0,
        }
    }
}
