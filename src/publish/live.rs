//! The live view: newest results and picture, recent events and counters, for whoever watches over HTTP.
//!
//! Pictures are drawn for viewers only while there is a [`Viewer`]: without one, no frame is held, drawn or compressed
//! for them, and with several, one picture serves all.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};

use super::message::{Picture, Record};
use super::metrics::Metrics;
use super::sink::OutletWatch;
use crate::job::{Event, Zones};
use crate::threads::locked;

/// Events that a reader who is slow may be behind by.
const EVENTS_HELD: usize = 256;
/// From one picture for viewers to the next, where nobody says otherwise.
const PICTURE_PERIOD: Duration = Duration::from_millis(100);

/// Shared by a stream and whoever watches it. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<LiveState>);

struct LiveState {
    since: Instant,
    record: watch::Sender<Option<Arc<Record>>>,
    picture: watch::Sender<Option<Arc<Picture>>>,
    /// The newest picture without boxes, and how many wait for it.
    plain: watch::Sender<Option<Arc<Vec<u8>>>>,
    plain_wanted: AtomicUsize,
    events: broadcast::Sender<Arc<Event>>,
    viewers: AtomicUsize,
    /// When the last picture for viewers was asked for, and from one to the next, both in microseconds.
    asked_at: AtomicU64,
    period: AtomicU64,
    metrics: Metrics,
    outlets: Mutex<Vec<OutletWatch>>,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(LiveState {
            since: Instant::now(),
            record: watch::Sender::new(None),
            picture: watch::Sender::new(None),
            plain: watch::Sender::new(None),
            plain_wanted: AtomicUsize::new(0),
            events: broadcast::Sender::new(EVENTS_HELD),
            viewers: AtomicUsize::new(0),
            asked_at: AtomicU64::new(0),
            period: AtomicU64::new(PICTURE_PERIOD.as_micros() as u64),
            metrics: Metrics::default(),
            outlets: Mutex::default(),
        }))
    }
}

impl Live {
    /// The newest frame's results, now and whenever there are others.
    pub fn records(&self) -> watch::Receiver<Option<Arc<Record>>> {
        self.0.record.subscribe()
    }

    /// The zones and lines of the newest frame, if there are any.
    pub fn zones(&self) -> Option<Arc<Zones>> {
        self.0.record.borrow().as_ref()?.zones.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.events.subscribe()
    }

    /// Has pictures made for as long as the viewer lives.
    pub fn view(&self) -> Viewer {
        self.0.viewers.fetch_add(1, Ordering::Relaxed);
        // What was before is old.
        let mut pictures = self.0.picture.subscribe();
        pictures.mark_unchanged();
        Viewer { live: self.clone(), pictures }
    }

    /// Has a picture without boxes made, a JPEG of the frame as it was captured.
    pub fn plain_view(&self) -> PlainViewer {
        self.0.plain_wanted.fetch_add(1, Ordering::Relaxed);
        let mut plain = self.0.plain.subscribe();
        plain.mark_unchanged();
        PlainViewer { plain, viewer: self.view() }
    }

    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.0.viewers.load(Ordering::Relaxed)
    }

    /// The most pictures a second that are made for viewers.
    pub fn set_picture_rate(&self, per_second: f64) {
        self.0.period.store((1e6 / per_second.max(0.01)) as u64, Ordering::Relaxed);
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What tells how each output is.
    pub fn outlets(&self) -> Vec<OutletWatch> {
        locked(&self.0.outlets).clone()
    }

    pub(super) fn set_outlets(&self, outlets: Vec<OutletWatch>) {
        *locked(&self.0.outlets) = outlets;
    }

    /// Whether somebody may want a picture of the frames at hand.
    pub fn is_watched(&self) -> bool {
        self.viewers() > 0
    }

    /// Whether a picture is wanted of a frame that is published now: somebody watches, and the last one is old enough.
    pub(super) fn wants_picture(&self) -> bool {
        if !self.is_watched() {
            return false;
        }
        let (now, shared) = (self.0.since.elapsed().as_micros() as u64, &self.0);
        // A tenth early is on time: a camera's frames are not punctual.
        let period = shared.period.load(Ordering::Relaxed) * 9 / 10;
        let is_due = now >= shared.asked_at.load(Ordering::Relaxed) + period;
        if is_due {
            shared.asked_at.store(now, Ordering::Relaxed);
        }
        is_due
    }

    pub(super) fn tell_record(&self, record: &Arc<Record>) {
        self.0.record.send_replace(Some(Arc::clone(record)));
    }

    pub(super) fn tell_event(&self, event: &Arc<Event>) {
        // Nobody may listen.
        drop(self.0.events.send(Arc::clone(event)));
    }

    /// Whether somebody waits for a picture without boxes.
    pub(super) fn wants_plain_picture(&self) -> bool {
        self.0.plain_wanted.load(Ordering::Relaxed) > 0
    }

    pub(super) fn tell_plain_picture(&self, jpeg: Vec<u8>) {
        self.0.plain.send_replace(Some(Arc::new(jpeg)));
    }

    pub(super) fn tell_picture(&self, picture: &Arc<Picture>) {
        self.0.picture.send_replace(Some(Arc::clone(picture)));
    }
}

/// Somebody who watches.
pub struct Viewer {
    live: Live,
    pictures: watch::Receiver<Option<Arc<Picture>>>,
}

impl Viewer {
    /// The next picture that this viewer has not seen; older ones are passed over.
    pub async fn next(&mut self) -> Option<Arc<Picture>> {
        loop {
            self.pictures.changed().await.ok()?;
            if let Some(picture) = self.pictures.borrow_and_update().clone() {
                return Some(picture);
            }
        }
    }
}

/// Somebody who waits for a picture without boxes.
pub struct PlainViewer {
    plain: watch::Receiver<Option<Arc<Vec<u8>>>>,
    /// Pictures are made only while there is one.
    viewer: Viewer,
}

impl PlainViewer {
    /// The next picture, JPEG.
    pub async fn next(&mut self) -> Option<Arc<Vec<u8>>> {
        self.plain.changed().await.ok()?;
        self.plain.borrow_and_update().clone()
    }
}

impl Drop for PlainViewer {
    fn drop(&mut self) {
        let live = &self.viewer.live.0;
        if live.plain_wanted.fetch_sub(1, Ordering::Relaxed) == 1 {
            live.plain.send_replace(None);
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if self.live.0.viewers.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A picture of a room is not to lie in memory when nobody looks.
            self.live.0.picture.send_replace(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_wanted_only_while_somebody_watches_and_no_more_often_than_said() {
        let live = Live::default();
        live.set_picture_rate(0.1);
        std::thread::sleep(Duration::from_millis(1));
        assert!(!live.wants_picture());
        live.0.asked_at.store(0, Ordering::Relaxed);
        live.0.period.store(0, Ordering::Relaxed);
        let viewer = live.view();
        let other = live.view();
        assert!(live.wants_picture());
        live.set_picture_rate(0.1);
        assert!(!live.wants_picture(), "the last one is not 10 s old");
        drop(viewer);
        assert!(live.is_watched());
        drop(other);
        assert!(!live.is_watched());
    }
}
