//! The parts of a stream that the server reads and controls, and the list of all streams.

use std::sync::{Arc, Mutex};

use super::photographs::DetectPhotograph;
use crate::health::Health;
use crate::pipeline::{Control, Counters};
use crate::publish::Live;
use crate::requests::{CameraRequests, Requests};
use crate::threads::locked;

/// What the server shows and tells.
#[derive(Clone)]
pub struct ServedStream {
    /// What the camera is called, where there are several.
    pub camera: Option<String>,
    /// Results, pictures, events, counts.
    pub live: Live,
    /// How the stream is.
    pub health: Health,
    /// What the stages counted.
    pub counters: Arc<Counters>,
    /// Whether the stages get on.
    pub control: Arc<Control>,
    /// What is in use, and the way to ask for something else.
    pub requests: Requests,
    /// What looks at photographs beside it.
    pub photographs: Arc<dyn DetectPhotograph>,
}

/// The streams that are served, which may come and go. Cheap to clone.
#[derive(Clone, Default)]
pub struct ServedCameras {
    streams: Arc<Mutex<Vec<ServedStream>>>,
    requests: CameraRequests,
}

impl ServedCameras {
    /// The stream of a program that has but one.
    pub fn single(stream: ServedStream) -> Self {
        Self { streams: Arc::new(Mutex::new(vec![stream])), requests: CameraRequests::default() }
    }

    /// These are the cameras from now on.
    pub fn set(&self, cameras: Vec<(String, ServedStream)>) {
        let named = |(name, stream)| ServedStream { camera: Some(name), ..stream };
        *locked(&self.streams) = cameras.into_iter().map(named).collect();
    }

    pub(super) fn get(&self) -> Vec<ServedStream> {
        locked(&self.streams).clone()
    }

    /// What is asked of the list of cameras.
    pub fn requests(&self) -> &CameraRequests {
        &self.requests
    }

    /// Whether there is but one stream, of a program that has no other.
    pub(super) fn is_single(&self) -> bool {
        matches!(locked(&self.streams).as_slice(), [stream] if stream.camera.is_none())
    }
}
