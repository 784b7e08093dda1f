//! The renderer: draws and compresses pictures on a thread beside the stream.
//!
//! Takes finished jobs from a ring, and gives annotated JPEGs to all that asked for them: outputs, and whoever watches.
//! For a camera the ring drops pictures that the processor can't keep up with; for a file it drops none, and the stream
//! waits.
//!
//! A picture of RGB is drawn into the buffer that the frame was captured into, so that it costs no copy. It is
//! compressed once for all who asked.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wordsight_detection::PixelFormat;

use super::annotate::Annotator;
use super::error::PublishError;
use super::live::Live;
use super::message::{Message, Picture, Record};
use super::sink::PictureSender;
use crate::job::{Event, Lease};
use crate::threads::{Receiver, Sender, let_others_go_first, named, ring};

/// JPEG quality, 1 to 100: no visible blocks around text.
const QUALITY: u8 = 90;
/// How nice the thread is, of 19: pictures for viewers are never to slow detection.
const NICE: i32 = 15;

/// One frame to be drawn.
pub(super) struct PictureRequest {
    pub lease: Lease,
    pub record: Arc<Record>,
    pub events: Vec<Arc<Event>>,
    /// Who wants it.
    pub senders: Vec<PictureSender>,
    /// Whether somebody watches.
    pub is_for_viewers: bool,
}

/// The thread that draws.
pub(super) struct Renderer {
    to_thread: Sender<Box<PictureRequest>>,
    thread: JoinHandle<()>,
    dropped: u64,
}

impl Renderer {
    pub(super) fn start(size: NonZeroUsize, live: Live, can_wait: bool) -> Result<Self, PublishError> {
        let (to_thread, requests) = ring(size);
        let work = move || {
            if !can_wait {
                let_others_go_first(NICE);
            }
            draw_all(&requests, &live);
        };
        let thread = named("pictures").spawn(work).map_err(PublishError::NoThread)?;
        Ok(Self { to_thread, thread, dropped: 0 })
    }

    /// Takes a request; one that the thread could not keep up with is given up for it.
    pub(super) fn request(&mut self, request: Box<PictureRequest>) {
        let pushed_out = self.to_thread.send(request);
        self.dropped += u64::from(matches!(pushed_out, Ok(Some(_))));
    }

    /// Waits for the last picture; returns how many were given up.
    pub(super) fn finish(self) -> Result<u64, PublishError> {
        let Self { to_thread, thread, dropped } = self;
        drop(to_thread);
        thread.join().map_err(|_| PublishError::Panicked("pictures".to_owned()))?;
        Ok(dropped)
    }
}

fn draw_all(requests: &Receiver<Box<PictureRequest>>, live: &Live) {
    let (mut converted, mut copies) = (Vec::new(), Copies::default());
    let mut annotator = Annotator::default();
    while let Ok(request) = requests.recv() {
        let PictureRequest { mut lease, record, events, senders, is_for_viewers } = *request;
        let job = &mut *lease;
        let size = (job.frame.width, job.frame.height);
        let rgb: &mut [u8] = if job.frame.format == PixelFormat::Rgb {
            &mut job.frame.bytes
        } else {
            job.frame.view().write_rgb(&mut converted);
            &mut converted
        };
        if is_for_viewers && live.wants_plain_picture() {
            match jpeg_of(rgb, size) {
                Ok(jpeg) => live.tell_plain_picture(jpeg),
                Err(reason) => tracing::error!("no picture of frame {}: {reason}", job.number),
            }
        }
        annotator.draw(rgb, size, &job.detections, &job.words, job.zones.as_deref());
        let pixels = senders.iter().any(PictureSender::wants_pixels).then(|| copies.of(rgb));
        let wants_jpeg = is_for_viewers || senders.iter().any(|sender| !sender.wants_pixels());
        let jpeg = match if wants_jpeg { jpeg_of(rgb, size) } else { Ok(Vec::new()) } {
            Ok(jpeg) => jpeg,
            Err(reason) => {
                tracing::error!("no picture of frame {}: {reason}", job.number);
                continue;
            }
        };
        // The frame is back in the pool before anybody has been told of it.
        drop(lease);
        live.metrics().picture();
        let picture = Arc::new(Picture { jpeg, pixels, record, events });
        if is_for_viewers {
            live.tell_picture(&picture);
        }
        for sender in senders {
            sender.offer(Message::Picture(Arc::clone(&picture)));
        }
    }
}

/// Pixels for whoever takes them: copies, since the buffer that was drawn in goes back to the pool. Each is used again when
/// nobody has it any more, so that there are no more than are in use at once.
#[derive(Default)]
struct Copies(Vec<Arc<Vec<u8>>>);

impl Copies {
    fn of(&mut self, rgb: &[u8]) -> Arc<Vec<u8>> {
        for copy in &mut self.0 {
            if let Some(bytes) = Arc::get_mut(copy) {
                bytes.clear();
                bytes.extend_from_slice(rgb);
                return Arc::clone(copy);
            }
        }
        self.0.push(Arc::new(rgb.to_vec()));
        self.0.last().map_or_else(Arc::default, Arc::clone)
    }
}

fn jpeg_of(rgb: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, String> {
    let side = |pixels: usize| {
        u16::try_from(pixels).map_err(|_| "JPEG has no more than 65535 pixels a side".to_owned())
    };
    let mut jpeg = Vec::with_capacity(rgb.len() / 8);
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.encode(rgb, side(width)?, side(height)?, ColorType::Rgb).map_err(|error| error.to_string())?;
    Ok(jpeg)
}
