//! sd_notify(3): readiness, status and the watchdog, where systemd asks for them.
//!
//! Sends `READY`, `STATUS`, `WATCHDOG` and the rest, by how the stream is. Without systemd it does nothing.
//!
//! The watchdog is fed by the stages' progress and not by a clock. A thread looks a few times in each period, and sends
//! nothing while a stage is at the same frame as before; a thread that only watched the time would keep a hanging
//! stream alive.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::health::{EngineHealth, Health, HealthReport, SourceState};
use crate::pipeline::{Control, PulseReading};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// From one status line to the next, where nothing has happened.
const STATUS_PERIOD: Duration = Duration::from_secs(5);
/// How long the parts of a stream may take to be changed.
const LONGEST_CHANGE: Duration = Duration::from_secs(60);
/// How long systemd may take to listen.
const LONGEST_TELLING: Duration = Duration::from_millis(100);
/// What a step of building a plan may take.
const BUILD_STEP: Duration = Duration::from_secs(300);

/// The way to systemd.
#[derive(Debug, Clone)]
pub struct Systemd {
    socket: Option<Arc<UnixDatagram>>,
    /// Whether it was told that the service has started: before that there is nothing to be loaded again.
    is_up: Arc<AtomicBool>,
    /// Whether somebody else tells how the service is.
    is_silent: bool,
}

/// A stream that systemd is told of.
pub struct Followed {
    /// What the camera is called, where there are several.
    pub name: Option<String>,
    pub control: Arc<Control>,
    pub health: Health,
}

impl Systemd {
    /// The one that started this process, if it did.
    pub fn of_this_process() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = address.map(|address| connected(&address)).transpose();
        let socket = socket.unwrap_or_else(|error| {
            tracing::warn!("systemd asked to be told how the service is, and can't be: {error}");
            None
        });
        Self { socket, is_up: Arc::default(), is_silent: false }
    }

    /// The same for one of several streams: how they are is told for all together.
    pub fn silent(&self) -> Self {
        Self { is_silent: true, ..self.clone() }
    }

    /// Whether systemd started this process: a service that is started again goes on with the files that are there.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.is_silent) else { return };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!("cannot tell systemd: {error}");
        }
    }

    /// One line that `systemctl status` shows.
    pub fn status(&self, line: &str) {
        self.tell(&[NotifyState::Status(line)]);
    }

    /// The configuration is being loaded again.
    pub fn reloading(&self) {
        if !self.is_up.load(Ordering::Relaxed) {
            return;
        }
        let now = NotifyState::monotonic_usec_now();
        match now {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The loading is over.
    pub fn ready(&self) {
        if self.is_up.load(Ordering::Relaxed) {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The stream is asked to end.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The start takes longer, and gets on.
    pub fn is_getting_on(&self) {
        let told = Self { is_silent: false, ..self.clone() };
        let longer = u32::try_from(BUILD_STEP.as_micros()).unwrap_or(u32::MAX);
        told.tell(&[NotifyState::ExtendTimeoutUsec(longer), NotifyState::Status("building a TensorRT plan")]);
    }

    /// Tells systemd about streams until `is_over`.
    pub fn follow(
        &self,
        streams: &dyn Fn() -> Vec<Followed>,
        is_stopped: &dyn Fn() -> bool,
        is_over: &dyn Fn() -> bool,
    ) {
        if self.socket.is_none() {
            return;
        }
        let mut watchdogs = sd_notify::watchdog_enabled().map(Watchdogs::new);
        let mut is_stopping = false;
        let mut statuses = Statuses::default();
        while !is_over() {
            let streams = streams();
            if is_stopped() {
                if !std::mem::replace(&mut is_stopping, true) {
                    self.stopping();
                }
            } else {
                let are_up =
                    !streams.is_empty() && streams.iter().all(|stream| is_up(&stream.health.report()));
                if !self.is_up.load(Ordering::Relaxed) && are_up {
                    self.is_up.store(true, Ordering::Relaxed);
                    self.ready();
                }
                if let Some(line) = statuses.turn(&streams, Instant::now()) {
                    self.status(&line);
                }
            }
            if self.is_up.load(Ordering::Relaxed)
                && watchdogs
                    .as_mut()
                    .is_some_and(|watchdogs| watchdogs.are_to_be_fed(&streams, Instant::now()))
            {
                self.tell(&[NotifyState::Watchdog]);
            }
            thread::sleep(LOOK);
        }
        if !is_stopping {
            self.stopping();
        }
    }
}

/// The socket of an address, which may be a file's or, with an @ in front, an abstract one.
fn connected(address: &OsStr) -> io::Result<Arc<UnixDatagram>> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    // Whoever doesn't listen must not hold the service up.
    socket.set_write_timeout(Some(LONGEST_TELLING))?;
    Ok(Arc::new(socket))
}

/// Whether a service has started: a frame went all the way, or the engine waits for a camera that isn't there.
fn is_up(report: &HealthReport) -> bool {
    report.published > 0 || report.state == SourceState::Lost
}

/// When to say that all streams are alive.
struct Watchdogs {
    period: Duration,
    of: Vec<(Arc<Control>, Watchdog)>,
}

impl Watchdogs {
    fn new(period: Duration) -> Self {
        Self { period, of: Vec::new() }
    }

    /// Whether one stream is to be told alive now and no other is stuck.
    fn are_to_be_fed(&mut self, streams: &[Followed], now: Instant) -> bool {
        let is_there =
            |control: &Arc<Control>| streams.iter().any(|stream| Arc::ptr_eq(&stream.control, control));
        self.of.retain(|(control, _)| is_there(control));
        for stream in streams {
            if !self.of.iter().any(|(control, _)| Arc::ptr_eq(control, &stream.control)) {
                let watchdog = Watchdog::new(self.period, &stream.control);
                self.of.push((Arc::clone(&stream.control), watchdog));
            }
        }
        let mut is_due = false;
        for (control, watchdog) in &mut self.of {
            is_due |= watchdog.is_to_be_fed(control, now);
        }
        // A stream that has ended is in nobody's way.
        let is_over = |control: &Arc<Control>| {
            let of_it = streams.iter().find(|stream| Arc::ptr_eq(&stream.control, control));
            of_it.is_some_and(|stream| stream.health.report().state == SourceState::Ended)
        };
        is_due && self.of.iter().all(|(control, watchdog)| !watchdog.is_stuck || is_over(control))
    }
}

/// When to say that the stream is alive.
struct Watchdog {
    look_every: Duration,
    looked: Instant,
    before: PulseReading,
    paused_since: Option<Instant>,
    is_stuck: bool,
}

impl Watchdog {
    /// One that wants to be fed once in a period.
    fn new(period: Duration, control: &Control) -> Self {
        Self {
            look_every: period / 4,
            looked: Instant::now(),
            before: control.pulse().read(),
            paused_since: None,
            is_stuck: false,
        }
    }

    fn is_to_be_fed(&mut self, control: &Control, now: Instant) -> bool {
        if now - self.looked < self.look_every {
            return false;
        }
        self.looked = now;
        let pulse = control.pulse().read();
        let stuck = pulse.stuck_since(&std::mem::replace(&mut self.before, pulse));
        if control.is_paused() {
            self.is_stuck = now - *self.paused_since.get_or_insert(now) >= LONGEST_CHANGE;
            return !self.is_stuck;
        }
        self.paused_since = None;
        match stuck {
            Some(stage) if !std::mem::replace(&mut self.is_stuck, true) => {
                tracing::warn!(
                    "the {} stage gets no further; the watchdog is not fed meanwhile",
                    stage.name()
                );
            }
            None => self.is_stuck = false,
            Some(_) => {}
        }
        stuck.is_none()
    }
}

/// When the status of all streams is told anew, and what it says.
#[derive(Default)]
struct Statuses {
    of: Vec<Status>,
    told: String,
}

impl Statuses {
    /// Of one stream all that there is to say; of several how many run, and what the others do.
    fn turn(&mut self, streams: &[Followed], now: Instant) -> Option<String> {
        self.of.resize_with(streams.len(), Status::default);
        let mut lines = Vec::new();
        let mut is_news = false;
        for (stream, status) in streams.iter().zip(&mut self.of) {
            let report = stream.health.report();
            let line = status.turn(&report, now);
            is_news |= line.is_some();
            match &stream.name {
                None => return line,
                Some(name) if report.state != SourceState::Running || report.reload.last_error.is_some() => {
                    lines.push(format!("{name}: {}", line_of(&report, None)));
                }
                Some(_) => {}
            }
        }
        let running = streams.len() - lines.len();
        let line = [format!("{running} of {} cameras run", streams.len())].into_iter().chain(lines);
        let line = line.collect::<Vec<_>>().join("; ");
        if !is_news || self.told == line {
            return None;
        }
        self.told.clone_from(&line);
        Some(line)
    }
}

/// When the status is told anew, and what it says.
#[derive(Default)]
struct Status {
    told: Option<Instant>,
    told_state: (SourceState, u64, u64, EngineHealth),
    published: u64,
}

impl Status {
    fn turn(&mut self, report: &HealthReport, now: Instant) -> Option<String> {
        let (reload, engine) = (&report.reload, report.engine.clone());
        let state = (report.state, reload.count, reload.refused, engine);
        let since = self.told.map(|told| now - told);
        if since.is_some_and(|since| since < STATUS_PERIOD) && state == self.told_state {
            return None;
        }
        let frames = report.published - std::mem::replace(&mut self.published, report.published);
        (self.told, self.told_state) = (Some(now), state);
        // A period that was cut short has few frames to count.
        let rate = since
            .filter(|since| *since >= STATUS_PERIOD / 2)
            .map(|since| frames as f64 / since.as_secs_f64());
        Some(line_of(report, rate))
    }
}

/// How a stream is, for people.
fn line_of(report: &HealthReport, frames_per_second: Option<f64>) -> String {
    let source = &report.source;
    let mut line = match (report.state, &report.reason) {
        (SourceState::Starting, _) if source.is_empty() => return "opening the student".to_owned(),
        (SourceState::Starting, _) => format!("waiting for the first frame of {source}"),
        (SourceState::Running, _) => match frames_per_second {
            Some(rate) => format!("{rate:.1} frames/s from {source}"),
            None => format!("frames come from {source}"),
        },
        (SourceState::Lost, reason) => {
            let reason = reason.as_deref().unwrap_or("no frame comes");
            format!("{source} is lost since {:.0} s, and asked for again and again: {reason}", report.for_s)
        }
        (SourceState::Ended, _) => format!("{source} has ended"),
    };
    let engine = &report.engine;
    line.push_str(&format!(", {} words", report.vocabulary.words));
    if !engine.name.is_empty() {
        line.push_str(&format!(", {}", engine.name));
    }
    if let Some(reason) = &engine.instead_of_tensorrt {
        line.push_str(&format!(" instead of TensorRT: {reason}"));
    }
    let governor = report.governor.as_ref();
    if let Some((limit, reason)) = governor.and_then(|governor| governor.limit_fps.zip(governor.reason)) {
        line.push_str(&format!(", held back to {limit:.1} frames/s: {reason}"));
    }
    if let Some(error) = &report.reload.last_error {
        line.push_str(&format!("; what was loaded last is refused, and what was before holds: {error}"));
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use wordsight_capture::SourceObserver;

    use super::*;
    use crate::job::Stage;

    fn engine(name: &str, instead_of_tensorrt: Option<&str>) -> EngineHealth {
        EngineHealth { name: name.to_owned(), instead_of_tensorrt: instead_of_tensorrt.map(str::to_owned) }
    }

    fn running() -> Health {
        let health = Health::default();
        health.of_source("test://bars");
        health.of_engine(engine("TensorRT 10.3.0 (fp16)", None));
        health.of_vocabulary("words.safetensors".as_ref(), 62);
        health.published();
        health
    }

    #[test]
    fn the_status_says_how_fast_frames_come_and_what_is_wrong() {
        let health = running();
        let line = line_of(&health.report(), Some(29.84));
        assert_eq!(line, "29.8 frames/s from test://bars, 62 words, TensorRT 10.3.0 (fp16)");
        let governor = crate::health::GovernorHealth {
            limit_fps: Some(20.0),
            reason: Some(wordsight_board::Reason::Hot),
            ..Default::default()
        };
        health.governed(Some(governor));
        let line = line_of(&health.report(), Some(20.0));
        assert!(line.ends_with("(fp16), held back to 20.0 frames/s: the board is hot"), "{line}");
        health.reload_refused("words.safetensors is cut off");
        let line = line_of(&health.report(), Some(29.84));
        assert!(line.contains("refused") && line.ends_with("words.safetensors is cut off"), "{line}");
        health.lost("unplugged", 3);
        let line = line_of(&health.report(), None);
        assert!(line.starts_with("test://bars is lost since 0 s") && line.contains("unplugged"), "{line}");
    }

    #[test]
    fn the_status_says_why_the_processor_does_what_tensorrt_should() {
        let health = running();
        health.of_engine(engine("ONNX Runtime on the processor (fp32)", Some("TensorRT was not found")));
        let line = line_of(&health.report(), None);
        assert!(line.ends_with("(fp32) instead of TensorRT: TensorRT was not found"), "{line}");
    }

    #[test]
    fn a_status_is_told_at_once_when_something_happens_and_else_now_and_then() {
        let (health, mut status, start) = (running(), Status::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(status.turn(&health.report(), at(0)).is_some());
        assert!(status.turn(&health.report(), at(1_000)).is_none());
        health.lost("unplugged", 0);
        assert!(status.turn(&health.report(), at(1_050)).is_some());
        assert!(status.turn(&health.report(), at(6_000)).is_none());
        assert!(status.turn(&health.report(), at(6_100)).is_some());
    }

    #[test]
    fn a_service_is_up_with_its_first_frame_or_when_its_camera_is_not_there() {
        let health = Health::default();
        assert!(!is_up(&health.report()));
        health.lost("there is no such device", 1);
        assert!(is_up(&health.report()));
        assert!(is_up(&running().report()));
    }

    #[test]
    fn the_watchdog_is_fed_by_a_stage_that_does_something_and_not_by_time() {
        let control = Control::default();
        let mut watchdog = Watchdog::new(Duration::from_secs(4), &control);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        control.pulse().done(Stage::Capture);
        assert!(!watchdog.is_to_be_fed(&control, at(500)), "it is too early to look");
        assert!(watchdog.is_to_be_fed(&control, at(1_500)));
        assert!(!watchdog.is_to_be_fed(&control, at(3_000)), "nothing was done");
        control.pulse().done(Stage::Capture);
        assert!(watchdog.is_to_be_fed(&control, at(4_500)));
    }

    #[test]
    fn while_parts_are_changed_the_watchdog_is_fed_for_a_while() {
        let control = Control::default();
        control.pause();
        let mut watchdog = Watchdog::new(Duration::from_secs(4), &control);
        let start = Instant::now();
        assert!(watchdog.is_to_be_fed(&control, start + Duration::from_secs(2)));
        assert!(watchdog.is_to_be_fed(&control, start + Duration::from_secs(50)));
        assert!(!watchdog.is_to_be_fed(&control, start + Duration::from_secs(70)));
    }
}
