//! Outputs: each with a thread, a bounded queue and failures of its own.
//!
//! A [`Sink`] makes of [`Message`]s what its output takes, and an [`Outlet`] is a sink at work. One that is slow or
//! down loses messages of its own and costs a camera's stream nothing; what it sent, lost and complains of is in its
//! [`OutletStatus`], for metrics and health.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::error::PublishError;
use super::message::{Message, Record};
use super::places::SharedPlaces;
use super::queue::{Pushed, Queue};
use crate::job::Event;
use crate::requests::Requests;
use crate::threads::{locked, named};

/// How long what a stream can't wait for is waited for when it ends.
const LONGEST_FLUSH: Duration = Duration::from_millis(500);

/// What outputs need to know of the program that they are in.
#[derive(Clone)]
pub struct SinkContext {
    /// What the stream is called, for topics and messages.
    pub stream: String,
    /// Whether the program goes on with files that are there: a service does.
    pub appends: bool,
    /// A folder that outlives the program, for what must not be lost: systemd's `STATE_DIRECTORY`, or else one under the
    /// user's `XDG_STATE_HOME`.
    pub state: PathBuf,
    /// What is in use, and the way to ask for something else.
    pub requests: Requests,
    /// The places of JSON lines that several streams write to.
    pub places: SharedPlaces,
}

/// What a sink wants to be told.
#[derive(Default)]
pub struct Interests {
    /// Every frame's results.
    pub frames: bool,
    /// What appears and leaves.
    pub events: bool,
    /// Annotated pictures of the frames that this chooses.
    pub pictures: Option<Box<dyn Chooser>>,
}

/// Chooses frames to be drawn.
pub trait Chooser: Send {
    /// A stream begins, which can wait (a file's) or can't.
    fn begin(&mut self, can_wait: bool) {
        let _ = can_wait;
    }

    /// Whether a picture of this frame is wanted; asked once a frame, on the stream's thread: it should allocate nothing.
    fn wants(&mut self, record: &Record, events: &[Arc<Event>]) -> bool;
}

/// Something that results go to.
pub trait Sink: Send {
    /// What it is called in the log, the metrics and the health, without secrets: "mqtt://broker:1883".
    fn name(&self) -> String;

    /// What it wants to be told. Asked once.
    fn interests(&mut self) -> Interests;

    /// Whether it takes a picture's pixels, and has no use for a JPEG.
    fn wants_pixels(&self) -> bool {
        false
    }

    /// How many messages may wait for it.
    fn queue_size(&self) -> usize {
        64
    }

    /// Whether a stream that can wait waits for it, however long it takes: a file, and not a broker.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// Takes messages until [`Inbox::next`] says that there are no more. What fails for a time is told to
    /// [`Inbox::failed`] and tried again.
    ///
    /// # Errors
    /// What ends it for good. Where the stream doesn't outlive that, it ends with this error.
    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError>;
}

/// A sink's end of its queue, and where it says how it is.
#[derive(Clone)]
pub struct Inbox(Arc<OutletState>);

struct OutletState {
    name: String,
    queue: Queue<Message>,
    sent: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    /// Messages that were taken from the queue and wait in the sink.
    kept: AtomicUsize,
    /// What is wrong now.
    trouble: Mutex<Option<String>>,
    outlives_failures: AtomicBool,
    wants_pixels: bool,
}

impl Inbox {
    /// The next message as soon as there is one; `None` when there will be no more.
    pub fn next(&self) -> Option<Message> {
        self.0.queue.pop()
    }

    /// The next message, if there is one before so long.
    pub fn next_within(&self, longest: Duration) -> Option<Message> {
        self.0.queue.pop_within(longest)
    }

    /// Whether no more messages will come than those that wait: the program ends, or the output is taken away. What can't
    /// be sent within a second or so is kept or given up.
    pub fn is_closing(&self) -> bool {
        self.0.queue.is_closed()
    }

    /// Whether the stream goes on when this output fails: then a sink goes on too, and tries again.
    pub fn outlives_failures(&self) -> bool {
        self.0.outlives_failures.load(Ordering::Relaxed)
    }

    /// So many messages have arrived where they go.
    pub fn sent(&self, number: u64) {
        self.0.sent.fetch_add(number, Ordering::Relaxed);
    }

    /// So many messages are lost.
    pub fn lost(&self, number: u64) {
        self.0.dropped.fetch_add(number, Ordering::Relaxed);
    }

    /// So many messages wait in the sink, behind the queue.
    pub fn keeps(&self, number: usize) {
        self.0.kept.store(number, Ordering::Relaxed);
    }

    /// It doesn't work now. Logged when it begins, and not again until [`Self::recovered`].
    pub fn failed(&self, why: &str) {
        if self.is_new_trouble(why) {
            tracing::error!("{}: {why}; it is tried again", self.0.name);
        }
    }

    /// It doesn't work now, and what was to be sent is given up. Logged as [`Self::failed`] is.
    pub fn gave_up(&self, why: &str) {
        if self.is_new_trouble(why) {
            tracing::error!("{}: {why}", self.0.name);
        }
    }

    fn is_new_trouble(&self, why: &str) -> bool {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        locked(&self.0.trouble).replace(why.to_owned()).is_none()
    }

    /// It works, again if it didn't.
    pub fn recovered(&self) {
        if let Some(before) = locked(&self.0.trouble).take() {
            tracing::warn!("{} works again; it was: {before}", self.0.name);
        }
    }
}

/// How an output is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutletStatus {
    /// What it is called.
    pub name: String,
    /// Messages that wait for it.
    pub waiting: usize,
    /// Messages that have arrived.
    pub sent: u64,
    /// Messages that were lost, because it was slow or down.
    pub dropped: u64,
    /// How often it failed.
    pub failures: u64,
    /// What is wrong, if anything is.
    pub trouble: Option<String>,
}

/// What tells how an output is, from any thread.
#[derive(Clone)]
pub struct OutletWatch(Arc<OutletState>);

impl OutletWatch {
    /// How it is now.
    pub fn status(&self) -> OutletStatus {
        OutletStatus {
            name: self.0.name.clone(),
            waiting: self.0.queue.len() + self.0.kept.load(Ordering::Relaxed),
            sent: self.0.sent.load(Ordering::Relaxed),
            dropped: self.0.dropped.load(Ordering::Relaxed),
            failures: self.0.failures.load(Ordering::Relaxed),
            trouble: locked(&self.0.trouble).clone(),
        }
    }
}

/// A way into an output's queue, for whoever makes pictures.
#[derive(Clone)]
pub(super) struct PictureSender(Arc<OutletState>);

impl PictureSender {
    /// Whether it is pixels that are wanted there, and no JPEG.
    pub(super) fn wants_pixels(&self) -> bool {
        self.0.wants_pixels
    }

    /// Puts a message into the queue.
    pub(super) fn offer(&self, message: Message) {
        if self.0.queue.push(message) == Pushed::OldestLost {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A sink at work.
pub struct Outlet {
    state: Arc<OutletState>,
    pub(super) frames: bool,
    pub(super) events: bool,
    pub(super) pictures: Option<Box<dyn Chooser>>,
    is_waited_for: bool,
    thread: Option<JoinHandle<Result<(), PublishError>>>,
}

impl Outlet {
    /// Puts a sink to work.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut sink: Box<dyn Sink>) -> Result<Self, PublishError> {
        let Interests { frames, events, pictures } = sink.interests();
        let state = Arc::new(OutletState {
            name: sink.name(),
            queue: Queue::new(sink.queue_size().max(1)),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
            trouble: Mutex::default(),
            outlives_failures: AtomicBool::new(false),
            wants_pixels: sink.wants_pixels(),
        });
        let is_waited_for = sink.is_waited_for();
        let inbox = Inbox(Arc::clone(&state));
        let work = move || {
            /// However the sink ends, the stream is not to wait for it.
            struct Ended<'a>(&'a Inbox);
            impl Drop for Ended<'_> {
                fn drop(&mut self) {
                    self.0.0.queue.abandon();
                }
            }
            let _ended = Ended(&inbox);
            sink.run(&inbox)
        };
        let thread = named("output").spawn(work).map_err(PublishError::NoThread)?;
        Ok(Self { state, frames, events, pictures, is_waited_for, thread: Some(thread) })
    }

    /// A stream begins, which can wait (a file's) or can't, and outlives this output or doesn't.
    pub(super) fn begin(&mut self, can_wait: bool) {
        if let Some(chooser) = &mut self.pictures {
            chooser.begin(can_wait);
        }
        self.state.queue.set_waits(can_wait && self.is_waited_for);
        self.state.outlives_failures.store(!can_wait, Ordering::Relaxed);
    }

    /// Puts a message into the queue.
    ///
    /// # Errors
    /// What has ended the output, if it has, for the first message that finds it so.
    pub(super) fn offer(&mut self, message: Message) -> Result<(), PublishError> {
        match self.state.queue.push(message) {
            Pushed::In => Ok(()),
            Pushed::OldestLost => {
                self.state.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Pushed::Abandoned => self.join(),
        }
    }

    fn join(&mut self) -> Result<(), PublishError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let name = || self.state.name.clone();
        thread.join().unwrap_or_else(|_| Err(PublishError::Panicked(name())))
    }

    /// Waits until what came is out: as long as it takes where the stream can wait, for a moment at the end of another, and
    /// for a network not at all: what waits for it goes out when the output ends, or with the next stream.
    ///
    /// # Errors
    /// What has ended the output.
    pub(super) fn flush(&mut self) -> Result<(), PublishError> {
        if self.is_waited_for {
            let longest = (!self.state.queue.waits()).then_some(LONGEST_FLUSH);
            self.state.queue.wait_until_done(longest);
        }
        self.check()
    }

    /// The most frames' results that it has at a time: those that wait, and the one that it is at.
    pub(super) fn most_frames_held(&self) -> Option<usize> {
        self.frames.then(|| self.state.queue.size() + 1)
    }

    /// Tells the output that no more will come, without waiting for it: so that several end at the same time.
    pub(super) fn close(&self) {
        self.state.queue.close();
    }

    /// Whether it still works.
    ///
    /// # Errors
    /// What has ended it, told once.
    pub(super) fn check(&mut self) -> Result<(), PublishError> {
        if self.state.queue.is_abandoned() { self.join() } else { Ok(()) }
    }

    pub(super) fn sender(&self) -> PictureSender {
        PictureSender(Arc::clone(&self.state))
    }

    /// What tells how it is.
    pub fn watch(&self) -> OutletWatch {
        OutletWatch(Arc::clone(&self.state))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.close();
        match self.join() {
            Ok(()) | Err(PublishError::ReaderGone) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
}
