//! Photographs that are asked for: what looks at them, and the queue before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wordsight_detection::WordExamples;
use wordsight_teacher::words::ListedWords;

use super::answer::Refusal;
use crate::publish::Record;
use crate::requests::ShownExamples;

/// How long a photograph may wait for those before it.
const WAITS: Duration = Duration::from_secs(30);
/// In how many seconds to come back.
const RETRY_AFTER: &str = "5";

/// A photograph as it came.
pub struct Photograph {
    /// JPEG, PNG or WebP.
    pub bytes: Vec<u8>,
    /// When it was there.
    pub received_at: Instant,
    /// The same, nanoseconds since 1970.
    pub timestamp_ns: u64,
}

/// What is shown in a photograph.
pub struct Thing {
    /// What it is called.
    pub word: String,
    /// Where it is: left, top, right, bottom, in pixels.
    pub box_in_photograph: Option<[f32; 4]>,
    /// Whether it is none of those, though it may look so.
    pub is_negative: bool,
}

impl Thing {
    /// The thing as an example of its word, by the region that shows it.
    pub fn seen(self, student: &str, region: Vec<f32>) -> ShownExamples {
        let Self { word, is_negative, .. } = self;
        let words = vec![WordExamples { word, regions: vec![region], is_negative }];
        ShownExamples { student: student.to_owned(), words }
    }
}

/// Why nothing is told of a photograph.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// It is damaged, or claims to be larger than any.
    #[error("that is not a usable picture: {0}")]
    Unusable(String),
    /// The words that are asked for make no vocabulary.
    #[error("{0}")]
    Words(String),
    /// The student sees no thing there, or can't be shown any.
    #[error("{0}")]
    NoExample(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

/// What looks at photographs beside a stream.
pub trait DetectPhotograph: Send + Sync {
    /// What is to be seen in a photograph: of these words, or else of those that the stream looks for.
    ///
    /// Blocks for as long as that takes.
    ///
    /// # Errors
    /// When it is no picture, the words make no vocabulary, or it can't be done now.
    fn detect(&self, photograph: Photograph, words: Option<&ListedWords>) -> Result<Record, DetectError>;

    /// An example of a word: what the stream's student makes of the thing in a box (left, top, right, bottom, in pixels), or
    /// of what a photograph shows without one.
    ///
    /// Blocks for as long as that takes.
    ///
    /// # Errors
    /// When it is no picture, the student sees nothing there, or it can't be done now.
    fn example(&self, photograph: Photograph, thing: Thing) -> Result<ShownExamples, DetectError>;
}

/// The places of photographs.
pub struct PhotographQueue {
    /// Of all that are here, the one that is looked at among them.
    places: Arc<Semaphore>,
    /// The turn, in the order in which they came.
    turn: Arc<Semaphore>,
}

impl PhotographQueue {
    /// For so many, the one that is looked at among them.
    pub fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// A place, if there is one.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| later("too many photographs wait already: ask again later"))
    }

    /// The turn of whoever has a place.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = tokio::time::timeout(WAITS, Arc::clone(&self.turn).acquire_owned()).await;
        let late = || later("the photographs before this one take too long: ask again later");
        turn.map_err(|_| late())?.map_err(|_| late())
    }
}

/// That it can't be done now.
pub(super) fn later(reason: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason).with(header::RETRY_AFTER, RETRY_AFTER)
}
