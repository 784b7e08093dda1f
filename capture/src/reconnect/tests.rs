//! Made-up cameras on a clock that only their scripts and the waits between tries move: however busy the machine is, a
//! stalled camera has been silent for as long as its script says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::UriError;
use crate::clock::TestClock;

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
    /// There is none for [`ASKED_FOR`].
    Nothing,
    BadFrame,
    Vanish,
    End,
}

/// How long a camera that has no frame keeps whoever asks.
const ASKED_FOR: Duration = Duration::from_millis(50);

struct Camera {
    script: Vec<Does>,
    open: Arc<AtomicUsize>,
    clock: TestClock,
}

impl Source for Camera {
    fn capture(&mut self, _: &mut Frame) -> Result<Captured, CaptureError> {
        let next = if self.script.is_empty() { Does::Nothing } else { self.script.remove(0) };
        let source_name = "camera".to_owned();
        match next {
            Does::Frame => Ok(Captured::Frame),
            Does::Nothing => {
                self.clock.sleep(ASKED_FOR);
                Ok(Captured::NotYet)
            }
            Does::BadFrame => Err(CaptureError::BadPicture { name: source_name, reason: "torn".to_owned() }),
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

/// A stage for one source: its clock, what was told of it, and how many cameras are open.
#[derive(Clone)]
struct Stage {
    clock: TestClock,
    told: Told,
    open: Arc<AtomicUsize>,
}

impl Stage {
    fn new() -> Self {
        Self { clock: TestClock::new(), told: Told::default(), open: Arc::default() }
    }

    /// A source that is opened by `open`.
    fn source(&self, settings: ReconnectSettings, open: Open) -> Result<Reconnecting, CaptureError> {
        let (told, clock) = (Box::new(self.told.clone()), Box::new(self.clock.clone()));
        let mut source = Reconnecting::new("camera", settings, told, open, clock)?;
        source.start(&|| false)?;
        Ok(source)
    }

    /// A camera that opens with one script after the other, `None` for not at all.
    fn camera(
        &self,
        settings: ReconnectSettings,
        scripts: Vec<Option<Vec<Does>>>,
    ) -> Result<Reconnecting, CaptureError> {
        let (mut scripts, stage) = (scripts.into_iter(), self.clone());
        let open = move || match scripts.next().flatten() {
            Some(script) => {
                let before = stage.open.fetch_add(1, Ordering::SeqCst);
                assert_eq!(before, 0, "the last one was closed before");
                let (open, clock) = (Arc::clone(&stage.open), stage.clock.clone());
                Ok(Box::new(Camera { script, open, clock }) as Box<dyn Source>)
            }
            None => Err(CaptureError::Unopened { source_name: "camera".into(), reason: "not there".into() }),
        };
        self.source(settings, Box::new(open))
    }
}

/// Asks until there are `count` frames; an opener that never answers would make it ask for minutes.
fn frames(source: &mut Reconnecting, count: usize) -> Result<usize, CaptureError> {
    let mut found = 0;
    for _ in 0..3_000 {
        match source.capture(&mut Frame::default()) {
            Ok(Captured::Frame) => found += 1,
            Ok(_) | Err(CaptureError::BadPicture { .. }) => {}
            Err(error) => return Err(error),
        }
        if found == count {
            break;
        }
    }
    Ok(found)
}

/// An opener that is stuck until the sender is dropped, and how often it has begun and ended.
fn stuck_opener() -> (Open, mpsc::Sender<()>, Arc<[AtomicUsize; 2]>) {
    let (hold, held) = mpsc::channel::<()>();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counter = Arc::clone(&counts);
    let open = move || {
        counter[0].fetch_add(1, Ordering::SeqCst);
        let _ = held.recv();
        counter[1].fetch_add(1, Ordering::SeqCst);
        Err(CaptureError::Unopened { source_name: "camera".into(), reason: "too late".into() })
    };
    (Box::new(open), hold, counts)
}

#[test]
fn a_camera_that_vanishes_ends_or_stalls_is_opened_again_each_time() {
    use Does::*;
    let stage = Stage::new();
    // A stream that ends after each frame has one story until it is well for a while.
    let scripts = vec![
        Some(vec![Frame, Vanish]),
        None,
        Some(vec![Frame, End]),
        Some(vec![Frame, Nothing]),
        Some(vec![Frame, BadFrame, Frame]),
    ];
    let mut source = stage.camera(SETTINGS, scripts).unwrap();
    assert_eq!(frames(&mut source, 5).unwrap(), 5);
    let report = stage.told.report();
    assert_eq!((report.is_running, report.losses), (true, 3));
    drop(source);
    assert_eq!(stage.open.load(Ordering::SeqCst), 0, "all are closed");
    // Two tries after the first loss, one after each other, and 300 ms of silence.
    let waits = FIRST_WAIT + 3 * SETTINGS.longest_wait;
    assert_eq!(stage.clock.passed(), waits + SETTINGS.stalled_after);
}

#[test]
fn a_camera_that_was_well_for_a_while_is_tried_again_as_soon_as_at_first() {
    use Does::*;
    let stage = Stage::new();
    // A frame now and then: it never stalls.
    let asks = WELL_AGAIN.as_millis() / ASKED_FOR.as_millis() + 2;
    let well = (0..asks).flat_map(|_| [Nothing, Frame]).chain([Vanish]).collect();
    let scripts = vec![Some(vec![Vanish]), None, None, Some(well), Some(vec![Frame])];
    let mut source = stage.camera(SETTINGS, scripts).unwrap();
    while stage.told.report().losses < 2 {
        source.capture(&mut super::Frame::default()).unwrap();
    }
    let lost_at = stage.clock.passed();
    assert_eq!(frames(&mut source, 1).unwrap(), 1);
    assert_eq!(stage.clock.passed() - lost_at, FIRST_WAIT);
}

#[test]
fn while_it_is_gone_the_observer_is_told_so_with_the_reason_and_the_tries() {
    let stage = Stage::new();
    let scripts = vec![Some(vec![Does::Frame, Does::Vanish]), None, None];
    let mut source = stage.camera(SETTINGS, scripts).unwrap();
    frames(&mut source, 1).unwrap();
    source.capture(&mut Frame::default()).unwrap();
    let report = stage.told.report();
    assert_eq!((report.is_running, report.reason.as_deref()), (false, Some("unplugged")));
    while stage.told.report().attempts < 2 {
        source.capture(&mut Frame::default()).unwrap();
    }
    assert_eq!(stage.told.report().reason.as_deref(), Some("not there"));
}

#[test]
fn a_camera_that_is_not_there_at_the_start_is_an_error_or_waited_for_as_asked() {
    let error = Stage::new().camera(SETTINGS, vec![None]).err().unwrap();
    assert!(error.to_string().contains("cannot open camera: not there"), "{error}");
    let waits = ReconnectSettings { waits_at_start: true, ..SETTINGS };
    let mut source = Stage::new().camera(waits, vec![None, None, Some(vec![Does::Frame])]).unwrap();
    assert_eq!(frames(&mut source, 1).unwrap(), 1);
}

#[test]
fn a_source_that_is_given_up_says_for_how_long_it_was_tried_and_then_ends() {
    let gives_up = ReconnectSettings { give_up_after: Some(Duration::from_millis(300)), ..SETTINGS };
    let mut source = Stage::new().camera(gives_up, vec![Some(vec![Does::Vanish])]).unwrap();
    let error = frames(&mut source, 1).unwrap_err().to_string();
    assert!(error.contains("did not come back") && error.contains("not there"), "{error}");
    assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::End);
}

#[test]
fn an_opening_that_never_ends_is_given_up_too() {
    let stage = Stage::new();
    let (open, hold, _) = stuck_opener();
    let settings = ReconnectSettings {
        waits_at_start: true,
        give_up_after: Some(Duration::from_millis(300)),
        ..SETTINGS
    };
    let mut source = stage.source(settings, open).unwrap();
    stage.clock.sleep(Duration::from_millis(299));
    assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::NotYet);
    stage.clock.sleep(Duration::from_millis(1));
    let error = source.capture(&mut Frame::default()).unwrap_err();
    assert!(matches!(error, CaptureError::GivenUp { .. }), "{error}");
    drop(hold);
}

#[test]
fn what_was_written_wrong_is_not_waited_for() {
    let open = || -> Opened {
        Err(UriError::Wrong { uri: "v4l2:///x".into(), reason: "no such format".into() }.into())
    };
    let waits = ReconnectSettings { waits_at_start: true, ..SETTINGS };
    let mut source = Stage::new().source(waits, Box::new(open)).unwrap();
    let error = frames(&mut source, 1).unwrap_err();
    assert!(matches!(error, CaptureError::Uri(_)), "{error}");
    assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::End);
}

#[test]
fn an_opening_that_never_ends_keeps_neither_the_stream_nor_its_end() {
    let (open, hold, counts) = stuck_opener();
    let waits = ReconnectSettings { waits_at_start: true, ..SETTINGS };
    let mut source = Stage::new().source(waits, open).unwrap();
    for _ in 0..10 {
        assert_eq!(source.capture(&mut Frame::default()).unwrap(), Captured::NotYet);
    }
    while counts[0].load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    drop(source);
    let [begun, ended] = [0, 1].map(|place: usize| counts[place].load(Ordering::SeqCst));
    assert_eq!((begun, ended), (1, 0), "one opens at a time, and it still does");
    drop(hold);
}
