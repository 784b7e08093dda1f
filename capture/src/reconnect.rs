//! Reconnection: opens a live source again when it is lost, with exponential back-off.
//!
//! In flow the ways to open a camera or a stream, out flow its frames, for as long as somebody asks: a source that is
//! unplugged, ends, stalls or won't open is closed and opened again, at first soon and then every few seconds, and what
//! happens is told to a [`SourceObserver`] and, not too often, to the log.
//!
//! A thread of its own, the opener, opens and closes the source. A wedged camera daemon can keep whoever calls it for ever:
//! here it keeps the opener, the stream goes on asking and can still be stopped, and since there is one opener, no threads
//! pile up behind a camera that doesn't open.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

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
    wait: Duration,
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
        let mut reconnecting = Self {
            name: name.to_owned(),
            settings,
            opener: Opener::start(Box::new(open))
                .map_err(|reason| CaptureError::Unopened { source_name: name.to_owned(), reason })?,
            state: State::Ended,
            observer: Box::new(observer),
            trouble: None,
            wait: FIRST_WAIT,
            was_open: false,
        };
        reconnecting.begin_opening();
        if !settings.waits_at_start {
            while matches!(reconnecting.state, State::Opening { .. }) && !is_stopped() {
                reconnecting.look_after_opening(true)?;
            }
        }
        Ok(reconnecting)
    }

    fn begin_opening(&mut self) {
        self.opener.open();
        self.state = State::Opening { since: Instant::now(), told_slow: false };
    }

    /// Waits a while for the opener. At the start an error is the caller's.
    fn look_after_opening(&mut self, at_start: bool) -> Result<(), CaptureError> {
        let State::Opening { since, told_slow } = &mut self.state else { return Ok(()) };
        let Some(opened) = self.opener.wait(LONGEST_NAP) else {
            let tried_since = self.trouble.as_ref().map_or(*since, |trouble| trouble.since);
            if at_start && since.elapsed() > LONGEST_START {
                self.state = State::Ended;
                let reason = format!(
                    "it did not open within {} s; is the daemon behind it stuck?",
                    LONGEST_START.as_secs()
                );
                return Err(CaptureError::Unopened { source_name: self.name.clone(), reason });
            }
            if self.settings.give_up_after.is_some_and(|longest| tried_since.elapsed() >= longest) {
                return Err(self.give_up(tried_since.elapsed(), "it does not finish opening"));
            }
            if since.elapsed() > SLOW_OPENING && !*told_slow {
                *told_slow = true;
                let reason = format!("it has been opening for {} s", SLOW_OPENING.as_secs());
                tracing::warn!("{}: {reason}; is the daemon behind it stuck?", self.name);
                self.observer.lost(&reason, self.trouble.as_ref().map_or(0, |trouble| trouble.attempts));
            }
            return Ok(());
        };
        match opened {
            Ok(source) => {
                let now = Instant::now();
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
        let now = Instant::now();
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
        self.state = State::Waiting { until: now + self.wait };
        self.wait = (2 * self.wait).min(self.settings.longest_wait);
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
        let now = Instant::now();
        let State::Open { since, last_frame, .. } = &mut self.state else { return };
        *last_frame = now;
        let is_well = now - *since > WELL_AGAIN;
        if let Some(trouble) = &mut self.trouble
            && let Some(lost_at) = trouble.lost_at.take()
            && trouble.losses.is_power_of_two()
        {
            let seconds = lost_at.elapsed().as_secs_f64();
            tracing::warn!("{} is back after {seconds:.1} s and {} tries", self.name, trouble.attempts);
        }
        if is_well {
            self.wait = FIRST_WAIT;
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
                let lost = match source.capture(frame) {
                    Ok(Captured::Frame) => {
                        self.note_frame();
                        return Ok(Captured::Frame);
                    }
                    Ok(Captured::NotYet) if last_frame.elapsed() < self.settings.stalled_after => {
                        return Ok(Captured::NotYet);
                    }
                    Ok(Captured::NotYet) => {
                        format!("there was no frame for {:.1} s", last_frame.elapsed().as_secs_f64())
                    }
                    Ok(Captured::End) => "the stream has ended".to_owned(),
                    Err(CaptureError::Lost { reason, .. }) => reason,
                    Err(other) if last_frame.elapsed() < self.settings.stalled_after => return Err(other),
                    Err(other) => format!("there was no usable frame for a while ({other})"),
                };
                self.close();
                self.note_trouble(&lost)?;
            }
            State::Opening { .. } => self.look_after_opening(false)?,
            State::Waiting { until } => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    self.begin_opening();
                } else {
                    std::thread::sleep(left.min(LONGEST_NAP));
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::UriError;

    /// What a source was told to be, last.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Report>>);

    #[derive(Clone, Default)]
    struct Report {
        is_running: bool,
        losses: u64,
        reason: Option<String>,
        attempts: u64,
    }

    impl Told {
        fn report(&self) -> Report {
            self.0.lock().unwrap().clone()
        }
    }

    impl SourceObserver for Told {
        fn running(&self) {
            let mut report = self.0.lock().unwrap();
            *report = Report { is_running: true, losses: report.losses, ..Report::default() };
        }

        fn lost(&self, reason: &str, attempts: u64) {
            let mut report = self.0.lock().unwrap();
            // Another try of the same loss is no further loss.
            report.losses += u64::from(report.reason.is_none());
            (report.is_running, report.attempts) = (false, attempts);
            report.reason = Some(reason.to_owned());
        }
    }

    /// What a made-up camera does, one entry for each time that it is asked.
    #[derive(Clone, Copy)]
    enum Does {
        Frame,
        Nothing,
        BadFrame,
        Vanish,
        End,
    }

    struct Camera {
        script: Vec<Does>,
        open: Arc<AtomicUsize>,
    }

    impl Source for Camera {
        fn capture(&mut self, _: &mut Frame) -> Result<Captured, CaptureError> {
            let next = if self.script.is_empty() { Does::Nothing } else { self.script.remove(0) };
            let source_name = "camera".to_owned();
            match next {
                Does::Frame => Ok(Captured::Frame),
                Does::Nothing => {
                    std::thread::sleep(Duration::from_millis(1));
                    Ok(Captured::NotYet)
                }
                Does::BadFrame => {
                    Err(CaptureError::BadPicture { name: source_name, reason: "torn".to_owned() })
                }
                Does::Vanish => Err(CaptureError::Lost { source_name, reason: "unplugged".to_owned() }),
                Does::End => Ok(Captured::End),
            }
        }
    }

    impl Drop for Camera {
        fn drop(&mut self) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    const SETTINGS: ReconnectSettings = ReconnectSettings {
        stalled_after: Duration::from_millis(300),
        longest_wait: Duration::from_millis(300),
        give_up_after: None,
        waits_at_start: false,
    };

    /// A camera that opens with one script after the other, `None` for not at all; and how many are open.
    fn camera(
        scripts: Vec<Option<Vec<Does>>>,
    ) -> (impl FnMut() -> Opened + Send + 'static, Arc<AtomicUsize>) {
        let open = Arc::new(AtomicUsize::new(0));
        let (mut scripts, counter) = (scripts.into_iter(), Arc::clone(&open));
        let opener = move || match scripts.next().flatten() {
            Some(script) => {
                let before = counter.fetch_add(1, Ordering::SeqCst);
                assert_eq!(before, 0, "the last one was closed before");
                Ok(Box::new(Camera { script, open: Arc::clone(&counter) }) as Box<dyn Source>)
            }
            None => Err(CaptureError::Unopened { source_name: "camera".into(), reason: "not there".into() }),
        };
        (opener, open)
    }

    /// Asks until there are `count` frames, or not for longer than five seconds.
    fn frames(source: &mut Reconnecting, count: usize) -> Result<usize, CaptureError> {
        let (mut found, until) = (0, Instant::now() + Duration::from_secs(5));
        while found < count && Instant::now() < until {
            match source.capture(&mut Frame::default()) {
                Ok(Captured::Frame) => found += 1,
                Ok(_) | Err(CaptureError::BadPicture { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    #[test]
    fn a_camera_that_vanishes_ends_or_stalls_is_opened_again_each_time() {
        use Does::*;
        // A stream that ends after each frame has one story until it is well for a while.
        let (opener, open) = camera(vec![
            Some(vec![Frame, Vanish]),
            None,
            Some(vec![Frame, End]),
            Some(vec![Frame, Nothing]),
            Some(vec![Frame, BadFrame, Frame]),
        ]);
        let told = Told::default();
        let mut source = Reconnecting::open("camera", SETTINGS, told.clone(), opener, &|| false).unwrap();
        assert_eq!(frames(&mut source, 5).unwrap(), 5);
        let report = told.report();
        assert_eq!((report.is_running, report.losses), (true, 3));
        drop(source);
        assert_eq!(open.load(Ordering::SeqCst), 0, "all are closed");
    }

    #[test]
    fn while_it_is_gone_the_observer_is_told_so_with_the_reason_and_the_tries() {
        let (opener, _) = camera(vec![Some(vec![Does::Frame, Does::Vanish]), None, None]);
        let told = Told::default();
        let mut source = Reconnecting::open("camera", SETTINGS, told.clone(), opener, &|| false).unwrap();
        frames(&mut source, 1).unwrap();
        source.capture(&mut Frame::default()).unwrap();
        let report = told.report();
        assert_eq!((report.is_running, report.reason.as_deref()), (false, Some("unplugged")));
        let until = Instant::now() + Duration::from_secs(5);
        while told.report().attempts < 2 && Instant::now() < until {
            source.capture(&mut Frame::default()).unwrap();
        }
        assert_eq!(told.report().reason.as_deref(), Some("not there"));
    }

    #[test]
    fn a_camera_that_is_not_there_at_the_start_is_an_error_or_waited_for_as_asked() {
        let (opener, _) = camera(vec![None]);
        let error = Reconnecting::open("camera", SETTINGS, Told::default(), opener, &|| false).err().unwrap();
        assert!(error.to_string().contains("cannot open camera: not there"), "{error}");
        let (opener, _) = camera(vec![None, None, Some(vec![Does::Frame])]);
        let patient = ReconnectSettings { waits_at_start: true, ..SETTINGS };
        let mut source = Reconnecting::open("camera", patient, Told::default(), opener, &|| false).unwrap();
        assert_eq!(frames(&mut source, 1).unwrap(), 1);
    }

    #[test]
    fn who_gives_up_says_for_how_long_it_was_tried_and_then_ends() {
        let (opener, _) = camera(vec![Some(vec![Does::Vanish])]);
        let impatient = ReconnectSettings { give_up_after: Some(Duration::from_millis(300)), ..SETTINGS };
        let mut source = Reconnecting::open("camera", impatient, Told::default(), opener, &|| false).unwrap();
        let error = frames(&mut source, 1).unwrap_err().to_string();
        assert!(error.contains("did not come back") && error.contains("not there"), "{error}");
        assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::End);
    }

    #[test]
    fn who_gives_up_gives_up_on_a_door_that_never_opens_too() {
        let opener = || -> Opened {
            std::thread::sleep(Duration::from_secs(60));
            Err(CaptureError::Unopened { source_name: "camera".into(), reason: "too late".into() })
        };
        let impatient = ReconnectSettings {
            waits_at_start: true,
            give_up_after: Some(Duration::from_millis(300)),
            ..SETTINGS
        };
        let mut source = Reconnecting::open("camera", impatient, Told::default(), opener, &|| false).unwrap();
        let error = frames(&mut source, 1).unwrap_err();
        assert!(matches!(error, CaptureError::GivenUp { .. }), "{error}");
    }

    #[test]
    fn what_was_written_wrong_is_not_waited_for() {
        let opener = || -> Opened {
            Err(UriError::Wrong { uri: "v4l2:///x".into(), reason: "no such format".into() }.into())
        };
        let patient = ReconnectSettings { waits_at_start: true, ..SETTINGS };
        let mut source = Reconnecting::open("camera", patient, Told::default(), opener, &|| false).unwrap();
        let error = frames(&mut source, 1).unwrap_err();
        assert!(matches!(error, CaptureError::Uri(_)), "{error}");
        assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::End);
    }

    #[test]
    fn a_door_that_never_opens_keeps_neither_the_stream_nor_its_end() {
        let (opened, calls) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&calls);
        let opener = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(60));
            Err(CaptureError::Unopened { source_name: "camera".into(), reason: "too late".into() })
        };
        let patient = ReconnectSettings { waits_at_start: true, ..SETTINGS };
        let mut source = Reconnecting::open("camera", patient, Told::default(), opener, &|| false).unwrap();
        for _ in 0..10 {
            assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::NotYet);
        }
        drop(source);
        assert!(opened.elapsed() < Duration::from_secs(3), "{:?}", opened.elapsed());
        assert_eq!(calls.load(Ordering::SeqCst), 1, "one knocks at a time");
    }
}
