//! HTTP: the live page, metrics, health and an interface for programs.
//!
//! Serves a page, pictures, numbers and events of a stream ([`ServedStream`]). It hands change requests to the
//! reloader, which applies them as it takes over a configuration, and photographs to be looked at beside the stream.
//! The parts: [`settings`] says what is served and to whom, `server` lets connections in and out, `security` decides
//! who may ask for what, `routes` lists what there is.
//!
//! Connections are served on one thread, with a lower priority than the stream's; a few others wait for files, change
//! requests and photographs. However many clients there are and however slow, they never slow detection; on a busy
//! machine the page stutters instead.

mod answer;
mod api;
mod board;
mod body;
mod camera_list;
mod detect;
mod device;
mod events;
mod examples;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod json_body;
mod login;
mod metrics;
mod observer;
mod page;
mod photographs;
mod routes;
mod security;
mod served_stream;
mod server;
mod settings;
mod state;
mod status;
mod stream;
mod vocabularies;
mod vocabulary_files;
mod zone_counts;
mod zones;

pub use photographs::{DetectError, DetectPhotograph, Photograph, Thing};
pub use served_stream::{ServedCameras, ServedStream};
pub use server::Server;
pub use settings::{HttpKeys, HttpSettings, parse_address};
pub use vocabularies::VocabularyFolder;
