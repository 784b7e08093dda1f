//! Reconnection: opens a live source again when it is lost, with exponential back-off.
//!
//! Opens a camera or a stream and gives its frames for as long as somebody asks. It closes a source that is unplugged,
//! ends, stalls or won't open, and opens it again, at first soon and then every few seconds. It tells a
//! [`SourceObserver`] what happens and, not too often, the log.
//!
//! A thread of its own, the opener, opens and closes the source. A wedged camera daemon can block its caller for ever:
//! here it blocks the opener, while the stream goes on asking and can still be stopped. There is one opener, so no
//! threads pile up behind a camera that doesn't open.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::clock::{Clock, SystemClock};
use crate::{CaptureError, Captured, Frame, LONGEST_NAP, Source};

/// From a loss to the first try; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A source that has given frames for so long was well: what happens to it now is a new story.
const WELL_AGAIN: Duration = Duration::from_secs(5);
/// How long an opener may take before the log says so.
const SLOW_OPENING: Duration = Duration::from_secs(10);
/// How long it may take at the start, where somebody waits for the answer.
const LONGEST_START: Duration = Duration::from_secs(30);
/// How long closing may take when the stream ends; after that the process leaves without.
const LONGEST_CLOSING: Duration = Duration::from_millis(1_200);

/// When a source is lost, and how long it is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReconnectSettings {
    /// A source without a frame for so long is lost.
    pub stalled_after: Duration,
    /// The longest from one try to the next.
    pub longest_wait: Duration,
    /// When to stop asking; without it never.
    pub give_up_after: Option<Duration>,
    /// Whether a source that isn't there at the start is waited for; or else that is an error.
    pub waits_at_start: bool,
}

/// Who is told how a live source is.
pub trait SourceObserver: Send {
    /// A frame came.
    fn running(&self);

    /// The source is gone, after so many tries to get it back.
    fn lost(&self, reason: &str, attempts: u64);
}

type Opened = Result<Box<dyn Source>, CaptureError>;
type Open = Box<dyn FnMut() -> Opened + Send>;

/// A live source, opened again whenever it is lost.
pub struct Reconnecting {
    name: String,
    settings: ReconnectSettings,
    opener: Opener,
    state: State,
    observer: Box<dyn SourceObserver>,
    /// The story of a source that isn't well, until it is well again: one that gives a frame now and then has one story and
    /// not many.
    trouble: Option<Trouble>,
    backoff: Backoff,
    clock: Box<dyn Clock>,
    /// It was open once: what it was asked for can't be all wrong.
    was_open: bool,
}

enum State {
    /// The opener is at it.
    Opening {
        since: Instant,
        told_slow: bool,
    },
    Open {
        source: Box<dyn Source>,
        since: Instant,
        last_frame: Instant,
    },
    /// Until then nobody tries.
    Waiting {
        until: Instant,
    },
    /// Given up, or never there.
    Ended,
}

struct Trouble {
    since: Instant,
    losses: u64,
    /// Tries since the last loss.
    attempts: u64,
    /// When that was, until a frame comes.
    lost_at: Option<Instant>,
    reason: String,
}

impl Reconnecting {
    /// Opens a source for the first time, and waits until it is open.
    ///
    /// # Errors
    /// What the source says, unless one that isn't there is to be waited for.
    pub fn open(
        name: &str,
        settings: ReconnectSettings,
        observer: impl SourceObserver + 'static,
        open: impl FnMut() -> Opened + Send + 'static,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Self, CaptureError> {
        let mut reconnecting =
            Self::new(name, settings, Box::new(observer), Box::new(open), Box::new(SystemClock))?;
        reconnecting.start(is_stopped)?;
        Ok(reconnecting)
    }

    fn new(
        name: &str,
        settings: ReconnectSettings,
        observer: Box<dyn SourceObserver>,
        open: Open,
        clock: Box<dyn Clock>,
    ) -> Result<Self, CaptureError> {
        let opener = Opener::start(open)
            .map_err(|reason| CaptureError::Unopened { source_name: name.to_owned(), reason })?;
        Ok(Self {
            name: name.to_owned(),
            settings,
            opener,
            state: State::Ended,
            observer,
            trouble: None,
            backoff: Backoff::new(FIRST_WAIT, settings.longest_wait),
            clock,
            was_open: false,
        })
    }

    /// Begins to open, and waits until it is open unless a source that isn't there is waited for.
    fn start(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<(), CaptureError> {
        self.begin_opening();
        if !self.settings.waits_at_start {
            while matches!(self.state, State::Opening { .. }) && !is_stopped() {
                self.look_after_opening(true)?;
            }
        }
        Ok(())
    }

    fn begin_opening(&mut self) {
        self.opener.open();
        self.state = State::Opening { since: self.clock.now(), told_slow: false };
    }

    /// Waits a while for the opener. At the start an error is the caller's.
    fn look_after_opening(&mut self, at_start: bool) -> Result<(), CaptureError> {
        let State::Opening { since, told_slow } = &mut self.state else { return Ok(()) };
        let Some(opened) = self.opener.wait(LONGEST_NAP) else {
            let now = self.clock.now();
            let tried_for = now - self.trouble.as_ref().map_or(*since, |trouble| trouble.since);
            if at_start && now - *since > LONGEST_START {
                self.state = State::Ended;
                let reason = format!(
                    "it did not open within {} s; is the daemon behind it stuck?",
                    LONGEST_START.as_secs()
                );
                return Err(CaptureError::Unopened { source_name: self.name.clone(), reason });
            }
            if self.settings.give_up_after.is_some_and(|longest| tried_for >= longest) {
                return Err(self.give_up(tried_for, "it does not finish opening"));
            }
            if now - *since > SLOW_OPENING && !*told_slow {
                *told_slow = true;
                let reason = format!("it has been opening for {} s", SLOW_OPENING.as_secs());
                tracing::warn!("{}: {reason}; is the daemon behind it stuck?", self.name);
                self.observer.lost(&reason, self.trouble.as_ref().map_or(0, |trouble| trouble.attempts));
            }
            return Ok(());
        };
        match opened {
            Ok(source) => {
                let now = self.clock.now();
                self.state = State::Open { source, since: now, last_frame: now };
                self.was_open = true;
                Ok(())
            }
            // What was written wrong does not get right by waiting.
            Err(error @ CaptureError::Uri(_)) if !self.was_open => {
                self.state = State::Ended;
                Err(error)
            }
            Err(error) if at_start => {
                self.state = State::Ended;
                Err(error)
            }
            Err(error) => self.note_trouble(&reason_of(&error)),
        }
    }

    /// Notes a loss or a failed try, and when to try again.
    fn note_trouble(&mut self, reason: &str) -> Result<(), CaptureError> {
        let now = self.clock.now();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since: now,
            losses: 0,
            attempts: 0,
            lost_at: None,
            reason: String::new(),
        });
        if trouble.lost_at.is_none() {
            (trouble.lost_at, trouble.attempts) = (Some(now), 0);
            trouble.losses += 1;
        }
        // A new reason is news; so is the second, fourth, eighth time of the same.
        let is_news = if trouble.attempts == 0 { trouble.losses } else { trouble.attempts }.is_power_of_two();
        if trouble.reason != reason || is_news {
            tracing::warn!(attempts = trouble.attempts, "{}: {reason}", self.name);
            reason.clone_into(&mut trouble.reason);
        }
        self.observer.lost(reason, trouble.attempts);
        let lasted = now - trouble.since;
        trouble.attempts += 1;
        if self.settings.give_up_after.is_some_and(|longest| lasted >= longest) {
            return Err(self.give_up(lasted, reason));
        }
        self.state = State::Waiting { until: now + self.backoff.wait() };
        Ok(())
    }

    fn give_up(&mut self, lasted: Duration, reason: &str) -> CaptureError {
        self.state = State::Ended;
        CaptureError::GivenUp {
            source_name: self.name.clone(),
            seconds: lasted.as_secs_f64(),
            reason: reason.to_owned(),
        }
    }

    /// A frame is there.
    fn note_frame(&mut self) {
        let now = self.clock.now();
        let State::Open { since, last_frame, .. } = &mut self.state else { return };
        *last_frame = now;
        let is_well = now - *since > WELL_AGAIN;
        if let Some(trouble) = &mut self.trouble
            && let Some(lost_at) = trouble.lost_at.take()
            && trouble.losses.is_power_of_two()
        {
            let seconds = (now - lost_at).as_secs_f64();
            tracing::warn!("{} is back after {seconds:.1} s and {} tries", self.name, trouble.attempts);
        }
        if is_well {
            self.backoff.reset();
            self.trouble = None;
        }
        self.observer.running();
    }

    /// Takes the source out of the stream's hands.
    fn close(&mut self) {
        if let State::Open { source, .. } = std::mem::replace(&mut self.state, State::Ended) {
            self.opener.close(source);
        }
    }
}

impl Source for Reconnecting {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        match &mut self.state {
            State::Open { source, last_frame, .. } => {
                let captured = source.capture(frame);
                let silent_for = self.clock.now() - *last_frame;
                let is_stalled = silent_for >= self.settings.stalled_after;
                let lost = match captured {
                    Ok(Captured::Frame) => {
                        self.note_frame();
                        return Ok(Captured::Frame);
                    }
                    Ok(Captured::NotYet) if !is_stalled => return Ok(Captured::NotYet),
                    Ok(Captured::NotYet) => {
                        format!("there was no frame for {:.1} s", silent_for.as_secs_f64())
                    }
                    Ok(Captured::End) => "the stream has ended".to_owned(),
                    Err(CaptureError::Lost { reason, .. }) => reason,
                    Err(other) if !is_stalled => return Err(other),
                    Err(other) => format!("there was no usable frame for a while ({other})"),
                };
                self.close();
                self.note_trouble(&lost)?;
            }
            State::Opening { .. } => self.look_after_opening(false)?,
            State::Waiting { until } => {
                let left = until.saturating_duration_since(self.clock.now());
                if left.is_zero() {
                    self.begin_opening();
                } else {
                    self.clock.sleep(left.min(LONGEST_NAP));
                }
            }
            State::Ended => return Ok(Captured::End),
        }
        Ok(Captured::NotYet)
    }
}

impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.close();
        self.opener.finish();
    }
}

/// What went wrong, without the source's name, which stands beside it.
fn reason_of(error: &CaptureError) -> String {
    match error {
        CaptureError::Unopened { reason, .. } | CaptureError::Lost { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

enum Request {
    Open,
    Close(Box<dyn Source>),
}

/// The thread that opens and closes.
struct Opener {
    requests: Option<mpsc::Sender<Request>>,
    opened: mpsc::Receiver<Opened>,
}

impl Opener {
    fn start(mut open: Open) -> Result<Self, String> {
        let (requests, to_do) = mpsc::channel();
        let (done, opened) = mpsc::channel();
        let work = move || {
            for request in to_do {
                match request {
                    Request::Open => {
                        if done.send(open()).is_err() {
                            break;
                        }
                    }
                    Request::Close(source) => drop(source),
                }
            }
        };
        let thread = std::thread::Builder::new().name("opener".to_owned()).spawn(work);
        // It isn't joined: one that is stuck in a driver can't be.
        thread.map_err(|error| format!("cannot start a thread for it: {error}"))?;
        Ok(Self { requests: Some(requests), opened })
    }

    // An opener that is gone is told by `wait`.
    fn open(&self) {
        self.send(Request::Open);
    }

    fn close(&self, source: Box<dyn Source>) {
        self.send(Request::Close(source));
    }

    fn send(&self, request: Request) {
        if let Some(requests) = &self.requests {
            drop(requests.send(request));
        }
    }

    fn wait(&self, longest: Duration) -> Option<Opened> {
        match self.opened.recv_timeout(longest) {
            Ok(opened) => Some(opened),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(CaptureError::Unopened {
                source_name: String::new(),
                reason: "the thread that opens it has ended; this is a bug in wordsight".to_owned(),
            })),
        }
    }

    /// Waits until all is closed, but not for ever.
    fn finish(&mut self) {
        self.requests = None;
        let until = Instant::now() + LONGEST_CLOSING;
        while let Ok(late) = self.opened.recv_timeout(until.saturating_duration_since(Instant::now())) {
            // Opened too late for anybody, it is closed by whoever has the time; the process doesn't wait for that.
            let closing = std::thread::Builder::new().spawn(move || drop(late));
            drop(closing);
        }
    }
}

#[cfg(test)]
mod tests;
