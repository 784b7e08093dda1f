//! The publisher: tells every output of every frame, and of what has happened in it.
//!
//! Puts messages into the outputs' queues, prints rows of the table, asks for pictures and keeps records for viewers.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use super::error::PublishError;
use super::lines::lines_to;
use super::live::Live;
use super::message::{Message, Record};
use super::pictures::{PictureRequest, Renderer};
use super::places::Output;
use super::settings::SinkSettings;
use super::sink::{Outlet, Sink};
use super::summary::Summary;
use super::table::Table;
use crate::job::{Ended, Event, Job, Lease};

/// What to do with results.
#[derive(Default)]
pub struct Outputs {
    /// Where frames' results go as JSON lines.
    pub json: Option<Output>,
    /// A table for people.
    pub table: Option<Table>,
    /// Everything else, with what it was made from where that may change.
    pub sinks: Vec<(SinkSettings, Box<dyn Sink>)>,
    /// Where viewers find what there is to be seen.
    pub live: Live,
    /// Which of several cameras the frames come from.
    pub camera: Option<Arc<str>>,
    /// After how many published frames it is enough.
    pub frames: Option<u64>,
}

/// An output of a stream that goes on.
pub enum Slot {
    /// It stays as it is.
    Kept(SinkSettings),
    /// It is another.
    New(SinkSettings, Box<dyn Sink>),
}

/// Whether to go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More, please.
    Continue,
    /// As many frames as were wanted, or nobody reads any more.
    Enough,
}

/// An output, and what it was made from.
struct Placed {
    settings: Option<SinkSettings>,
    outlet: Outlet,
}

/// The last stage's state, from one stream to the next.
pub struct Publisher {
    outlets: Vec<Placed>,
    table: Option<Table>,
    live: Live,
    camera: Option<Arc<str>>,
    renderer: Option<Renderer>,
    /// Records that were published, to be used again when nobody reads them any more.
    records: Vec<Arc<Record>>,
    next_record: usize,
    frames: Option<u64>,
    /// The size of the ring to whoever draws.
    ring: NonZeroUsize,
    /// Whether the stream can wait: a file's. Another outlives outputs that fail.
    can_wait: bool,
    summary: Summary,
}

impl Publisher {
    /// What publishes to these outputs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(outputs: Outputs) -> Result<Self, PublishError> {
        let Outputs { json, table, sinks, live, camera, frames } = outputs;
        let json = json.map(|output| (None, lines_to(output)));
        let sinks = json.into_iter().chain(sinks.into_iter().map(|(settings, sink)| (Some(settings), sink)));
        let outlets = sinks.map(|(settings, sink)| Ok(Placed { settings, outlet: Outlet::start(sink)? }));
        let publisher = Self {
            outlets: outlets.collect::<Result<_, PublishError>>()?,
            table,
            live,
            camera,
            renderer: None,
            records: Vec::new(),
            next_record: 0,
            frames,
            ring: NonZeroUsize::MIN,
            can_wait: false,
            summary: Summary::default(),
        };
        publisher.show_outlets();
        Ok(publisher)
    }

    /// Publishes to other outputs from now on; those that stay lose nothing.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn set_sinks(&mut self, slots: Vec<Slot>) -> Result<(), PublishError> {
        let mut before = std::mem::take(&mut self.outlets);
        for slot in slots {
            match slot {
                Slot::Kept(settings) => {
                    let place = before.iter().position(|placed| placed.settings.as_ref() == Some(&settings));
                    self.outlets.extend(place.map(|place| before.swap_remove(place)));
                }
                Slot::New(settings, sink) => {
                    self.outlets.push(Placed { settings: Some(settings), outlet: Outlet::start(sink)? });
                }
            }
        }
        drop(before);
        self.show_outlets();
        Ok(())
    }

    fn show_outlets(&self) {
        self.live.set_outlets(self.outlets.iter().map(|placed| placed.outlet.watch()).collect());
    }

    /// Whether frames are looked at, and not only what was found in them: in every stream, not for viewers alone.
    pub fn draws(&self) -> bool {
        self.outlets.iter().any(|placed| placed.outlet.pictures.is_some())
    }

    /// Where viewers find what there is to be seen.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Gets ready for a stream that can wait for outputs, or outlives those that fail; `ring` is the size of the ring to
    /// the thread that draws.
    ///
    /// `most_detections`: the most things in a frame, for which room is made.
    pub fn begin(&mut self, ring: NonZeroUsize, can_wait: bool, most_detections: usize) {
        (self.ring, self.can_wait) = (ring, can_wait);
        // As many as may be in queues and in the hands of outputs; the newest is kept for viewers, and one is being filled.
        let held: usize = self.outlets.iter().filter_map(|placed| placed.outlet.most_frames_held()).sum();
        while self.records.len() < held + 2 {
            let (detections, camera) = (Vec::with_capacity(most_detections), self.camera.clone());
            self.records.push(Arc::new(Record { camera, detections, ..Record::default() }));
        }
        self.outlets.iter_mut().for_each(|placed| placed.outlet.begin(can_wait));
    }

    /// Tells about one frame and what happened in it, and how it ended; `None` when nobody reads any more.
    ///
    /// # Errors
    /// When an output fails that the stream doesn't outlive. A reader who has gone away is no error.
    pub fn tell(&mut self, job: &Job, events: &[Arc<Event>]) -> Result<Option<Ended>, PublishError> {
        let start = Instant::now();
        let record = self.record(job, start);
        if !self.tell_outlets(&record, events)? {
            return Ok(None);
        }
        if let Some(table) = &mut self.table {
            match table.write_rows(job) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
                Err(error) => return Err(PublishError::Unwritable(error)),
            }
        }
        self.live.tell_record(&record);
        events.iter().for_each(|event| {
            self.live.tell_event(event);
            self.live.metrics().event(event);
        });
        let at = Instant::now();
        let ended = Ended { at, publish: at - start, age: at - job.frame.captured_at };
        self.summary.add(job, &ended);
        self.live.metrics().frame(job, &ended);
        Ok(Some(ended))
    }

    /// Writes down what is to be told of a job, where nobody reads any more.
    fn record(&mut self, job: &Job, now: Instant) -> Arc<Record> {
        let age = now.saturating_duration_since(job.frame.captured_at);
        let count = self.records.len();
        for _ in 0..count {
            self.next_record = (self.next_record + 1) % count;
            if let Some(record) = Arc::get_mut(&mut self.records[self.next_record]) {
                record.fill(job, age);
                return Arc::clone(&self.records[self.next_record]);
            }
        }
        // Where pictures hold some too, and room was made for others.
        let detections = Vec::with_capacity(job.detections.capacity());
        let mut record = Record { camera: self.camera.clone(), detections, ..Record::default() };
        record.fill(job, age);
        let record = Arc::new(record);
        self.next_record = self.records.len();
        self.records.push(Arc::clone(&record));
        // Whoever requests a picture of this frame looks for it there.
        self.next_record = self.records.len() - 1;
        record
    }

    /// `false` when nobody reads any more.
    fn tell_outlets(&mut self, record: &Arc<Record>, events: &[Arc<Event>]) -> Result<bool, PublishError> {
        let mut ended = None;
        for (place, Placed { outlet, .. }) in self.outlets.iter_mut().enumerate() {
            // Pictures come by another way, and this is where it is seen that nobody takes them.
            let mut offered = outlet.check();
            if outlet.frames && offered.is_ok() {
                offered = outlet.offer(Message::Frame(Arc::clone(record)));
            }
            if outlet.events {
                for event in events {
                    offered = offered.and_then(|()| outlet.offer(Message::Event(Arc::clone(event))));
                }
            }
            if let Err(error) = offered {
                ended = Some((place, error));
            }
        }
        match ended {
            None => Ok(true),
            Some((_, PublishError::ReaderGone)) => Ok(false),
            Some((place, error)) if !self.can_wait => {
                tracing::error!("{error}; the stream goes on without that output");
                self.outlets.swap_remove(place);
                Ok(true)
            }
            Some((_, error)) => Err(error),
        }
    }

    /// Passes a frame that was told on to where pictures are drawn, or back to the pool.
    ///
    /// # Errors
    /// When the system gives no thread to draw on.
    pub fn pass_on(&mut self, lease: Lease, events: &[Arc<Event>]) -> Result<Verdict, PublishError> {
        // Of a frame that nobody wanted when it passed the letterbox there is nothing to draw on.
        if !lease.frame.bytes.is_empty() {
            self.request_picture(lease, events)?;
        }
        let is_enough = self.frames.is_some_and(|frames| self.summary.frames() >= frames);
        Ok(if is_enough { Verdict::Enough } else { Verdict::Continue })
    }

    fn request_picture(&mut self, lease: Lease, events: &[Arc<Event>]) -> Result<(), PublishError> {
        let Some(record) = self.records.get(self.next_record) else { return Ok(()) };
        let is_for_viewers = self.live.wants_picture();
        // Allocates where a picture is wanted, which does anyway.
        let mut senders = Vec::new();
        for Placed { outlet, .. } in &mut self.outlets {
            if outlet.pictures.as_mut().is_some_and(|chooser| chooser.wants(record, events)) {
                senders.push(outlet.sender());
            }
        }
        if senders.is_empty() && !is_for_viewers {
            return Ok(());
        }
        let request = PictureRequest {
            lease,
            record: Arc::clone(record),
            events: events.to_vec(),
            senders,
            is_for_viewers,
        };
        let renderer = match &mut self.renderer {
            Some(renderer) => renderer,
            none => none.insert(Renderer::start(self.ring, self.live.clone(), self.can_wait)?),
        };
        renderer.request(Box::new(request));
        Ok(())
    }

    /// Waits for the last picture of a stream, and until all is out that can be waited for.
    ///
    /// # Errors
    /// When an output has failed that the stream doesn't outlive.
    pub fn end(&mut self) -> Result<(), PublishError> {
        if let Some(renderer) = self.renderer.take() {
            self.summary.add_undrawn(renderer.finish()?);
        }
        let can_wait = self.can_wait;
        for Placed { outlet, .. } in &mut self.outlets {
            match outlet.flush() {
                Ok(()) | Err(PublishError::ReaderGone) => {}
                Err(error) if !can_wait => tracing::error!("{error}"),
                Err(error) => return Err(error),
            }
        }
        let is_folder =
            |settings: &SinkSettings| matches!(settings, SinkSettings::Pictures(_) | SinkSettings::Rule(_));
        let drawn = self.outlets.iter().filter(|placed| placed.settings.as_ref().is_some_and(is_folder));
        self.summary.set_saved(drawn.map(|placed| placed.outlet.watch().status()).collect());
        Ok(())
    }

    /// What was published so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // All are told before any is waited for.
        self.outlets.iter().for_each(|placed| placed.outlet.close());
    }
}
