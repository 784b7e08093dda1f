//! `[tracking]` of a configuration.

use std::num::NonZeroU32;

use serde::Deserialize;
use wordsight_tracking::TrackingSettings;

use crate::settings::{LongSeconds, Part};

/// `[tracking]`, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingKeys {
    pub enabled: bool,
    pub confirm_after: NonZeroU32,
    pub forget_after_s: LongSeconds,
    pub vote_half_life_s: LongSeconds,
    pub weak_fraction: Part,
}

impl TrackingKeys {
    /// The settings, if anything is to be followed.
    pub fn settings(&self) -> Option<TrackingSettings> {
        let settings = TrackingSettings {
            confirm_after: self.confirm_after.get(),
            forget_after: self.forget_after_s.0,
            vote_half_life: self.vote_half_life_s.0,
        };
        self.enabled.then_some(settings)
    }
}
