//! `POST /api/detect`: what is to be seen in one photograph, beside the stream.
//!
//! Takes a JPEG, PNG or WebP, with words in the query if others than the stream's are meant, and answers with the line
//! of JSON that `wordsight detect --json` writes. One photograph is looked at at a time and a few may wait; any more
//! are told to come back, and their bytes are not kept.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use image::ImageFormat;
use wordsight_teacher::words::{ListedWords, parse_line};

use super::answer::{Answer, Refusal, json};
use super::body::PHOTOGRAPH;
use super::photographs::{DetectError, DetectPhotograph, Photograph, later};
use super::state::AppState;
use crate::publish::json_line;
use crate::threads::clock::since_1970;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    words: Option<String>,
}

impl Wanted {
    fn listed(self) -> Result<Option<ListedWords>, Refusal> {
        let Some(line) = self.words else { return Ok(None) };
        let written = parse_line(&line)
            .map_err(|told| Refusal::new(StatusCode::BAD_REQUEST, format!("`words`: {told}")))?;
        let listed = ListedWords::typed(written).map_err(|told| Refusal::new(StatusCode::CONFLICT, told))?;
        Ok(Some(listed))
    }
}

/// Tells what is to be seen in a photograph.
pub(super) async fn detect(
    State(state): State<Arc<AppState>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request,
) -> Answer {
    let words = wanted
        .map_err(|error| {
            let told = format!(
                "{}: what may be asked for is `words`, as in `?words=cat,red%20cup`",
                error.body_text()
            );
            Refusal::new(StatusCode::BAD_REQUEST, told)
        })
        .and_then(|Query(wanted)| wanted.listed());
    look_at(&state, request, words, |photographs, photograph, words| {
        photographs.detect(photograph, words.as_ref()).map(|record| json(&json_line(&record)))
    })
    .await
}

/// Has the photograph that a request brings along looked at, in its turn.
pub(super) async fn look_at<W: Send + 'static, T: Send + 'static>(
    state: &AppState,
    request: Request,
    wanted: Result<W, Refusal>,
    look: impl FnOnce(&dyn DetectPhotograph, Photograph, W) -> Result<T, DetectError> + Send + 'static,
) -> Result<T, Refusal> {
    let (parts, body) = request.into_parts();
    let admitted = wanted.and_then(|wanted| Ok((wanted, state.shared.seats.photographs.place()?)));
    let (wanted, place) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            PHOTOGRAPH.discard(&parts.headers, body).await;
            return Err(refusal);
        }
    };
    let photograph = read(&parts.headers, body).await?;
    let turn = state.shared.seats.photographs.turn().await?;
    let photographs = Arc::clone(&state.stream.photographs);
    let looking = tokio::task::spawn_blocking(move || {
        let seen = look(&*photographs, photograph, wanted);
        drop((place, turn));
        seen.map_err(of_detecting)
    });
    looking.await.map_err(|_| later("there is too much to do at once: ask again later"))?
}

/// Why a photograph comes to nothing.
fn of_detecting(error: DetectError) -> Refusal {
    match error {
        DetectError::Unusable(_) => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()),
        DetectError::Words(_) | DetectError::NoExample(_) => {
            Refusal::new(StatusCode::CONFLICT, error.to_string())
        }
        DetectError::Unavailable(_) => later(error.to_string()),
    }
}

/// The photograph that a request brings along, by its first bytes.
async fn read(headers: &HeaderMap, body: axum::body::Body) -> Result<Photograph, Refusal> {
    let bytes = PHOTOGRAPH.read(headers, body).await?;
    if bytes.is_empty() {
        let told = "there is no photograph: send the bytes of one as the request's body, as `curl --data-binary @photo.jpg` does";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, told));
    }
    match image::guess_format(&bytes) {
        Ok(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) => {}
        _ => {
            let told = "that is no photograph: send the bytes of a JPEG, PNG or WebP, by themselves and not in a form";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
        }
    }
    Ok(Photograph { bytes, received_at: Instant::now(), timestamp_ns: since_1970().as_nanos() as u64 })
}
