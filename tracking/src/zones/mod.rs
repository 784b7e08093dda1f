//! Zones and lines: which object is in a polygon, for how long, and which has crossed a line to which side.
//!
//! A [`ZoneWatch`] takes the tracks of each frame and returns what has changed at its zones and lines. An object is where
//! its [`Anchor`] is. Boxes tremble, so a border has a width: an object has changed sides when it is further away from
//! the border than a tenth of its own size, or, at a zone, when it has been on the other side for half a second. The times
//! that are told are nevertheless those at which the border itself was crossed, between two frames if need be.
//!
//! ```
//! use std::time::Duration;
//! use wordsight_tracking::zones::{Anchor, What, Zone, ZoneWatch};
//! use wordsight_tracking::{Observation, Tracker, TrackingSettings};
//!
//! let right_half = vec![[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
//! let zone = Zone { points: right_half, words: None, anchor: Anchor::Bottom, dwell: None };
//! let mut watch = ZoneWatch::new(vec![zone], Vec::new());
//! let mut tracker = Tracker::new(TrackingSettings::default());
//! let mut changes = Vec::new();
//! for frame in 0..30_u16 {
//!     let left = 20.0 * f32::from(frame);
//!     let seen = Observation { word: 7, score: 0.6, box_in_frame: [left, 100.0, left + 50.0, 140.0], is_weak: false };
//!     let update = tracker.update(Duration::from_millis(33) * u32::from(frame), &[seen]);
//!     changes.extend_from_slice(watch.update([640.0, 480.0], update.tracks));
//! }
//! assert_eq!(changes.len(), 1);
//! assert_eq!((changes[0].track.id, changes[0].what), (1, What::Entered { zone: 0 }));
//! ```

pub mod geometry;
mod watch;

use std::time::Duration;

use crate::Track;
pub use geometry::Point;
pub use watch::ZoneWatch;

/// The last place before the right and lower edge of a picture.
const INNERMOST: f64 = 1.0 - 1e-9;

/// The point of an object's box that counts as its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The middle of the lower edge: where something stands on the ground.
    #[default]
    Bottom,
    /// The middle of the box.
    Centre,
}

impl Anchor {
    /// The anchor of a box, in parts of the frame's width and height. One on or beyond the frame's edge, as of a thing that is
    /// cut off there, is just inside of it: a zone that reaches the edge has it.
    pub fn of(self, box_in_frame: [f32; 4], [width, height]: [f64; 2]) -> Point {
        let [left, top, right, bottom] = box_in_frame.map(f64::from);
        let y = match self {
            Self::Bottom => bottom,
            Self::Centre => (top + bottom) / 2.0,
        };
        [(left + right) / 2.0 / width, y / height].map(|part| part.clamp(0.0, INNERMOST))
    }
}

/// A polygon that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its corners, three or more.
    pub points: Vec<Point>,
    /// The words that it is about; none: all.
    pub words: Option<Vec<usize>>,
    /// Where an object is.
    pub anchor: Anchor,
    /// After how long in it that is told.
    pub dwell: Option<Duration>,
}

/// A line that is watched, from a point to another.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossingLine {
    /// Its ends.
    pub ends: [Point; 2],
    /// The words that it is about; none: all.
    pub words: Option<Vec<usize>>,
    /// Where an object is.
    pub anchor: Anchor,
}

/// What has happened at a zone or a line, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// An object is in the zone.
    Entered {
        /// The zone.
        zone: usize,
    },
    /// It is not any more, or has ended there.
    Exited {
        /// The zone.
        zone: usize,
        /// How long it was in it.
        stayed: Duration,
    },
    /// It has been in it for as long as [`Zone::dwell`] says.
    Dwelled {
        /// The zone.
        zone: usize,
        /// How long so far.
        stayed: Duration,
    },
    /// It is still in it, and has another word by now.
    Renamed {
        /// The zone.
        zone: usize,
        /// The word that it had.
        from: usize,
    },
    /// It has crossed the line.
    Crossed {
        /// The line.
        line: usize,
        /// Whether it is on the right-hand side of the line now, for someone who goes along the line.
        to_right: bool,
    },
}

/// A change, and whose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The object's track.
    pub track: Track,
    /// The word by which it counts: of one that leaves a zone, the one that it had there.
    pub word: usize,
    /// What has happened.
    pub what: What,
}
