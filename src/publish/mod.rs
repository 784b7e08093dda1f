//! Publishing: outputs of all kinds, a table, viewers, and a summary at the end.
//!
//! Turns finished jobs and what has happened to tracked things into lines, messages and pictures. Each output is a
//! [`Sink`](sink::Sink) with a thread and a bounded queue of its own ([`sink`]); pictures are drawn once for all of
//! them ([`pictures`]); who only looks on is served by [`Live`].
//!
//! The stream waits for an output only where it can, which is when its source is a file. An output that fails does not
//! stop a camera's stream.

mod annotate;
mod error;
mod histogram;
mod json;
mod lines;
mod live;
mod message;
mod metrics;
mod mqtt;
mod network;
mod pictures;
mod places;
mod publisher;
mod queue;
mod retention;
mod rules;
mod save;
mod settings;
mod sink;
mod summary;
mod system_fonts;
mod table;
mod video;
mod webhook;

pub use annotate::colour_of;
pub use json::{event as event_json, line as json_line};
pub use lines::LinesKeys;
pub use live::{Live, Viewer};
pub use message::{Picture, Record};
pub use metrics::{BUCKETS_MS, DurationCounts, STAGES};
pub use mqtt::MqttKeys;
pub use places::SharedPlaces;
pub use publisher::{Outputs, Publisher, Slot, Verdict};
pub use rules::PicturesKeys;
pub use save::{PictureNames, SaveSettings};
pub use settings::{PublishKeys, SinkSettings};
pub use sink::{OutletStatus, SinkContext};
pub use system_fonts::Undrawable;
pub use table::Table;
pub use video::VideoKeys;
pub use webhook::WebhookKeys;
