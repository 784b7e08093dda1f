//! The state that requests share: those of one camera, and those of all.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::board::BoardReader;
use super::observer::Observer;
use super::page::Page;
use super::photographs::PhotographQueue;
use super::security::Guard;
use super::served_stream::ServedStream;
use super::settings::HttpSettings;
use super::vocabularies::VocabularyFolder;

/// The most that have pictures sent at once.
const MOST_VIEWERS: usize = 16;
/// The most that are told of events at once.
pub(super) const MOST_LISTENERS: usize = 32;
/// The most changes that are asked for at once; each keeps a thread until it is answered.
const MOST_CHANGES: usize = 2;
/// The most photographs at once: one that is looked at, and those that wait, in memory as they came.
const MOST_PHOTOGRAPHS: usize = 4;

/// What requests of all cameras share.
pub(super) struct SharedState {
    pub guard: Guard,
    pub page: Page,
    pub cameras_page: Page,
    pub board: Arc<BoardReader>,
    pub folder: VocabularyFolder,
    pub seats: Seats,
    /// The most pictures a second that are made for whoever watches a camera.
    pub picture_fps: f64,
    /// Closed when the server is to stop.
    pub stopped: watch::Receiver<()>,
}

/// How many may do what takes its time.
pub(super) struct Seats {
    /// Seats of those who have pictures sent, who are told of events, and whose changes are under way.
    pub viewers: Arc<Semaphore>,
    pub listeners: Arc<Semaphore>,
    pub changes: Semaphore,
    pub photographs: PhotographQueue,
    /// The seat of whoever uploads a vocabulary.
    pub uploads: Arc<Semaphore>,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
            changes: Semaphore::new(MOST_CHANGES),
            photographs: PhotographQueue::new(MOST_PHOTOGRAPHS),
            uploads: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Seats {
    /// How many are told of events.
    pub(super) fn listening(&self) -> usize {
        MOST_LISTENERS - self.listeners.available_permits()
    }
}

impl SharedState {
    pub(super) fn new(
        settings: &HttpSettings,
        guard: Guard,
        board_root: &Path,
        stopped: watch::Receiver<()>,
    ) -> Self {
        Self {
            guard,
            page: Page::of_camera(),
            cameras_page: Page::of_all(),
            board: Arc::new(BoardReader::new(board_root)),
            folder: VocabularyFolder::new(settings.vocabularies.clone()),
            seats: Seats::default(),
            picture_fps: settings.picture_fps,
            stopped,
        }
    }
}

/// Shared by all requests about one camera.
pub(super) struct AppState {
    pub stream: ServedStream,
    pub observer: Observer,
    pub shared: Arc<SharedState>,
    /// Closed when the camera is taken away.
    pub stopped: watch::Receiver<()>,
}

impl AppState {
    pub(super) fn new(shared: &Arc<SharedState>, stream: ServedStream, stopped: watch::Receiver<()>) -> Self {
        Self { observer: Observer::new(&stream), shared: Arc::clone(shared), stopped, stream }
    }

    /// What the stream is called.
    pub(super) fn name(&self) -> String {
        self.stream.camera.clone().unwrap_or_else(|| self.stream.requests.current().stream)
    }

    /// Waits until the camera is taken away or the server is to stop.
    pub(super) async fn stopped(&self) {
        // Neither ever changes: the other end is dropped.
        tokio::select! {
            _ = async { self.stopped.clone().changed().await } => {}
            () = self.shared.stopped() => {}
        }
    }
}

impl SharedState {
    /// Waits until the server is to stop.
    pub(super) async fn stopped(&self) {
        drop(self.stopped.clone().changed().await);
    }
}
