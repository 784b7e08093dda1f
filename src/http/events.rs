//! Server-Sent Events for the page and for programs: results, events and status as they come.
//!
//! Writes records, events and the status as text, as <https://html.spec.whatwg.org/multipage/server-sent-events.html>
//! says. `frame` is the newest frame's results, ten times a second at most; `event` is what happened to a thing, such
//! as that it appeared or left, and a reader that keeps up misses none; `status` comes every second and is the
//! heartbeat.
//!
//! A client that connects is sent the latest events, so that the page isn't empty when it is opened; one that connects
//! again (`Last-Event-ID`) is sent those that it missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use super::answer::{Answer, Refusal, with_type};
use super::api::colour;
use super::state::AppState;
use super::status::Status;
use super::stream::feed;
use crate::job::Event;
use crate::publish::{Record, event_json, json_line};

/// From one frame that is told to the next.
const FRAME_PERIOD: Duration = Duration::from_millis(100);
/// From one status to the next.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// A reader is gone.
struct Gone;

/// Tells whoever asks what happens, until they go.
pub(super) async fn events(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Answer {
    let seat = Arc::clone(&state.shared.seats.listeners).try_acquire_owned().map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many are told of events already; try again later")
    })?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (to_feed, body) = feed();
    tokio::spawn(async move {
        let _seat = seat;
        tokio::select! {
            () = state.stopped() => {}
            () = to_feed.closed() => {}
            _ = tell(&state, &to_feed, last.as_deref()) => {}
        }
    });
    Ok(with_type(StatusCode::OK, "text/event-stream", body))
}

async fn tell(state: &AppState, to_feed: &mpsc::Sender<Bytes>, last: Option<&str>) -> Result<(), Gone> {
    let live = &state.stream.live;
    // In this order: none falls between, and one that comes twice has the same id.
    let (mut events, mut records) = (live.events(), live.records());
    for event in missed(&state.observer.events(), last) {
        send(to_feed, "event", &EventJson::of(event), Some(&event.id())).await?;
    }
    records.mark_changed();
    let mut seconds = interval(STATUS_PERIOD);
    let mut next_frame = Instant::now();
    loop {
        let frame = async {
            sleep_until(next_frame).await;
            records.changed().await
        };
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => send(to_feed, "event", &EventJson::of(&event), Some(&event.id())).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            _ = seconds.tick() => send(to_feed, "status", &Status::of(state, false), None).await?,
            changed = frame => {
                changed.map_err(|_| Gone)?;
                next_frame = Instant::now() + FRAME_PERIOD;
                let record = records.borrow_and_update().clone();
                if let Some(record) = record {
                    send(to_feed, "frame", &FrameJson::of(&record), None).await?;
                }
            }
        }
    }
}

/// Of the events of late those after the last one that a reader has.
fn missed<'a>(events: &'a [Arc<Event>], last: Option<&str>) -> &'a [Arc<Event>] {
    let place = last.and_then(|last| events.iter().rposition(|event| event.id() == last));
    place.map_or(events, |place| &events[place + 1..])
}

async fn send(
    to_feed: &mpsc::Sender<Bytes>,
    name: &str,
    data: &impl Serialize,
    id: Option<&str>,
) -> Result<(), Gone> {
    let data = serde_json::to_string(data).map_err(|_| Gone)?;
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    to_feed.send(format!("{id}event: {name}\ndata: {data}\n\n").into()).await.map_err(|_| Gone)
}

/// An event, and the colour of its word.
#[derive(Serialize)]
struct EventJson<T: Serialize> {
    #[serde(flatten)]
    event: T,
    colour: String,
}

impl<'a> EventJson<()> {
    fn of(event: &'a Event) -> EventJson<impl Serialize + 'a> {
        EventJson { event: event_json(event), colour: colour(event.word()) }
    }
}

/// A frame's line, and the colours of its words.
#[derive(Serialize)]
struct FrameJson<'a, T: Serialize> {
    #[serde(flatten)]
    line: T,
    frame_size: [usize; 2],
    colours: BTreeMap<&'a str, String>,
}

impl<'a> FrameJson<'a, ()> {
    fn of(record: &'a Record) -> FrameJson<'a, impl Serialize + 'a> {
        let words = record.detections.iter().map(|found| record.words.get(found.shown().0));
        FrameJson {
            line: json_line(record),
            frame_size: [record.size.0, record.size.1],
            colours: words.map(|word| (word, colour(word))).collect(),
        }
    }
}
