//! Pictures over HTTP: an MJPEG stream, and a single JPEG.
//!
//! A slow viewer misses pictures and delays none: the next picture is chosen when the last one is sent, and is the
//! newest then.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use hyper::body::{Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::answer::{Answer, Refusal, with_type};
use super::state::AppState;
use crate::publish::{Picture, Viewer};

/// How long one picture is waited for.
const PICTURE_WITHIN: Duration = Duration::from_secs(5);
/// What stands between pictures.
const BOUNDARY: &str = "\r\n--wordsight\r\n";

/// What is sent bit by bit, by a task.
struct Feed(mpsc::Receiver<Bytes>);

/// What feeds a body, and the body; what isn't sent yet waits at the sender.
pub(super) fn feed() -> (mpsc::Sender<Bytes>, Body) {
    let (to_feed, fed) = mpsc::channel(1);
    (to_feed, Body::new(Feed(fed)))
}

impl hyper::body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A picture's bytes, which are nobody's copy.
struct Jpeg(Arc<Picture>);

impl AsRef<[u8]> for Jpeg {
    fn as_ref(&self) -> &[u8] {
        &self.0.jpeg
    }
}

fn seat(state: &AppState) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&state.shared.seats.viewers).try_acquire_owned().map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many look on already; try again later")
    })
}

/// Annotated pictures, one after the other, for as long as somebody reads.
pub(super) async fn stream(State(state): State<Arc<AppState>>) -> Answer {
    let seat = seat(&state)?;
    let viewer = state.stream.live.view();
    let (to_feed, body) = feed();
    tokio::spawn(async move {
        tokio::select! {
            () = state.stopped() => {}
            () = to_feed.closed() => {}
            () = show(viewer, &to_feed) => {}
        }
        drop(seat);
    });
    Ok(with_type(StatusCode::OK, "multipart/x-mixed-replace; boundary=wordsight", body))
}

async fn show(mut viewer: Viewer, to_feed: &mpsc::Sender<Bytes>) {
    // The boundary follows each picture at once: browsers show it when it is over.
    let mut before = BOUNDARY.trim_start();
    while let Some(picture) = viewer.next().await {
        let head =
            format!("{before}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.jpeg.len());
        before = "";
        let parts = [head.into(), Bytes::from_owner(Jpeg(picture)), Bytes::from_static(BOUNDARY.as_bytes())];
        for part in parts {
            if to_feed.send(part).await.is_err() {
                return;
            }
        }
        // Only then the next, and the newest.
        if to_feed.reserve().await.is_err() {
            return;
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WithBoxes {
    boxes: Option<bool>,
    /// A page's counter, so that a browser asks again: it means nothing.
    #[serde(rename = "n")]
    _n: Option<String>,
}

/// The next picture.
pub(super) async fn snapshot(
    State(state): State<Arc<AppState>>,
    with: Result<Query<WithBoxes>, QueryRejection>,
) -> Answer {
    let Query(WithBoxes { boxes, .. }) = with.map_err(|error| {
        let told = format!("{}: what may be asked for is `?boxes=false`", error.body_text());
        Refusal::new(StatusCode::BAD_REQUEST, told)
    })?;
    let _seat = seat(&state)?;
    let live = &state.stream.live;
    let picture = async {
        if boxes.unwrap_or(true) {
            live.view().next().await.map(|picture| Bytes::from_owner(Jpeg(picture)))
        } else {
            live.plain_view().next().await.map(|jpeg| Bytes::from(jpeg.to_vec()))
        }
    };
    let picture = tokio::time::timeout(PICTURE_WITHIN, picture).await.ok().flatten();
    let picture = picture.ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no picture has come within 5 s: /readyz says why")
    })?;
    Ok(with_type(StatusCode::OK, "image/jpeg", picture))
}
