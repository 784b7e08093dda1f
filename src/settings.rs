//! Checked numbers for keys and flags, and the error for a wrong setting.
//!
//! Every stage builds its own keys of these; what knows all the keys is `config`, above.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A value that can't be what it is, by itself or beside the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration's [{section}] is wrong: {reason}")]
pub struct SettingError {
    /// The section that it stands in, `http`; `[mqtt]` of a section that there may be any number of.
    pub section: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A number type of a range, with the words for a number outside of it.
macro_rules! number_within {
    ($(#[$doc:meta])* $name:ident($bounds:expr), $wrong:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
        #[serde(try_from = "f64")]
        pub struct $name(pub f32);

        impl TryFrom<f64> for $name {
            type Error = String;
            fn try_from(value: f64) -> Result<Self, String> {
                if $bounds.contains(&value) { Ok(Self(value as f32)) } else { Err(format!("{value} {}", $wrong)) }
            }
        }
    };
}

number_within! {
    /// A number from 0 to 1.
    Fraction(0.0..=1.0), "is not between 0 and 1"
}

number_within! {
    /// A part of something, from a hundredth of it to all.
    Part(0.01..=1.0), "is not between 0.01 and 1"
}

number_within! {
    /// Degrees between two temperatures, Celsius.
    Degrees(0.0..=50.0), "is no number of degrees to keep away by (0 to 50)"
}

number_within! {
    /// How many turns a stream gets beside others.
    Priority(0.01..=100.0), "is no priority (0.01 to 100; 1 is that of a camera of which nobody says otherwise)"
}

number_within! {
    /// The most frames per second; 0: as many as come.
    RateOrAll(0.0..=1e6), "is no number of frames per second (0 for all, to 1000000)"
}

impl FromStr for Fraction {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>().map_err(|error| error.to_string())?.try_into()
    }
}

/// Frames per second, above 0.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct FramesPerSecond(f64);

impl TryFrom<f64> for FramesPerSecond {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        // Below one frame in a day a period would overflow long before it made sense.
        if (1e-5..=1e6).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is no number of frames per second (0.00001 to 1000000)"))
        }
    }
}

impl FromStr for FramesPerSecond {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>().map_err(|error| error.to_string())?.try_into()
    }
}

impl FramesPerSecond {
    /// The number itself.
    pub fn get(self) -> f64 {
        self.0
    }

    /// From one frame to the next.
    pub fn period(self) -> Duration {
        Duration::from_secs_f64(self.0.recip())
    }
}

/// A duration in seconds, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(pub Duration);

impl TryFrom<f64> for Seconds {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        // A year: more would be a mistake, and far more would overflow.
        let duration = Duration::try_from_secs_f64(value).ok().filter(|_| value <= 31_536_000.0);
        duration.map(Self).ok_or_else(|| format!("{value} is no number of seconds (0 to a year)"))
    }
}

/// A duration in seconds that is long enough to do something in.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct LongSeconds(pub Duration);

impl TryFrom<f64> for LongSeconds {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        let Seconds(duration) = value.try_into()?;
        if duration < Duration::from_millis(50) {
            return Err(format!("{value} is too short: it takes 0.05 seconds or more"));
        }
        Ok(Self(duration))
    }
}
