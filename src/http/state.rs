//! The state that all requests share.

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

/// Shared by all requests.
pub(super) struct AppState {
    pub stream: ServedStream,
    pub guard: Guard,
    pub page: Page,
    pub board: Arc<BoardReader>,
    pub observer: Observer,
    pub folder: VocabularyFolder,
    /// Seats of those who have pictures sent, who are told of events, and whose changes are under way.
    pub viewers: Arc<Semaphore>,
    pub listeners: Arc<Semaphore>,
    pub changes: Semaphore,
    pub photographs: PhotographQueue,
    /// The seat of whoever uploads a vocabulary.
    pub uploads: Arc<Semaphore>,
    /// Closed when the server is to stop.
    pub stopped: watch::Receiver<()>,
}

impl AppState {
    pub(super) fn new(
        settings: &HttpSettings,
        stream: ServedStream,
        guard: Guard,
        stopped: watch::Receiver<()>,
    ) -> Self {
        Self {
            guard,
            page: Page::default(),
            board: Arc::new(BoardReader::new(&stream.board_root)),
            observer: Observer::new(&stream),
            folder: VocabularyFolder::new(settings.vocabularies.clone()),
            viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
            changes: Semaphore::new(MOST_CHANGES),
            photographs: PhotographQueue::new(MOST_PHOTOGRAPHS),
            uploads: Arc::new(Semaphore::new(1)),
            stopped,
            stream,
        }
    }

    /// Waits until the server is to stop.
    pub(super) async fn stopped(&self) {
        // It never changes: the other end is dropped.
        drop(self.stopped.clone().changed().await);
    }
}
