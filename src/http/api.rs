//! The JSON API: status, detections, words, and changes of vocabulary and threshold.
//!
//! A change request changes no file of the user's. It holds until the configuration's words change, it is taken back, or
//! the program ends; one that asks to be kept also holds in the next start.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use wordsight_teacher::words::{ListedWords, WrittenWord};

use super::answer::{Answer, Refusal, json, json_with, with_type};
use super::board::BoardJson;
use super::json_body::JsonBody;
use super::state::AppState;
use super::status::{InUse, Reasons, Status};
use super::vocabularies::Listed;
use crate::publish::{colour_of, json_line};
use crate::requests::ChangeRequest;

/// The description of all that stands here, for programs.
pub const OPENAPI: &str = include_str!("openapi.json");
/// The most words that are told at once, and how many where nobody says.
const MOST_WORDS: u32 = 1_000;
const SOME_WORDS: u32 = 100;

/// A colour as pages write it.
pub(super) fn colour(word: &str) -> String {
    let [red, green, blue] = colour_of(word);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The camera's page.
pub(super) async fn page(State(state): State<Arc<AppState>>) -> Response {
    state.shared.page.response()
}

#[derive(Serialize)]
struct HealthJson {
    is_well: bool,
    reasons: Vec<String>,
}

pub(super) fn health_of(reasons: Vec<String>) -> Response {
    let is_well = reasons.is_empty();
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_with(status, &HealthJson { is_well, reasons })
}

/// Whether the process is alive: its stages get on, with or without a camera.
pub(super) async fn health(State(state): State<Arc<AppState>>) -> Response {
    health_of(state.observer.stuck().into_iter().collect())
}

/// Whether frames come.
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Response {
    health_of(Reasons::of(&state, &state.stream.health.report(), &[]).no_frames)
}

/// How everything is.
pub(super) async fn status(State(state): State<Arc<AppState>>) -> Response {
    json(&Status::of(&state, true))
}

/// What was found in the newest frame.
pub(super) async fn detections(State(state): State<Arc<AppState>>) -> Answer {
    let newest = state.stream.live.records().borrow().clone();
    match newest {
        Some(record) => Ok(json(&json_line(&record))),
        None => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no frame has come yet")),
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
}

/// The words in use, some at a time.
pub(super) async fn words(
    State(state): State<Arc<AppState>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    #[derive(Serialize)]
    struct Word<'a> {
        word: &'a str,
        colour: String,
    }
    #[derive(Serialize)]
    struct Words<'a> {
        total: usize,
        offset: usize,
        words: Vec<Word<'a>>,
    }
    let Query(Page { offset, limit }) = page.map_err(|error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("{}: `offset` and `limit` are whole numbers", error.body_text()),
        )
    })?;
    let words = state.stream.requests.current().words;
    let total = words.len();
    let start = total.min(offset as usize);
    let limit = limit.unwrap_or(SOME_WORDS).min(MOST_WORDS) as usize;
    let places = start..(start + limit).min(total);
    let word = |place| Word { word: words.get(place), colour: colour(words.get(place)) };
    Ok(json(&Words { total, offset: start, words: places.map(word).collect() }))
}

/// The vocabularies that may be switched to.
pub(super) async fn vocabularies(State(state): State<Arc<AppState>>) -> Answer {
    #[derive(Serialize)]
    struct Vocabularies {
        /// Whether there is a folder of them.
        is_there: bool,
        has_more: bool,
        vocabularies: Vec<Listed>,
    }
    let listed = tokio::task::spawn_blocking(move || {
        let (vocabularies, has_more) = state.shared.folder.list(&state.stream.requests.current().vocabulary);
        Vocabularies { is_there: state.shared.folder.is_there(), has_more, vocabularies }
    });
    Ok(json(&listed.await.map_err(|_| Refusal::busy())?))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByName {
    name: String,
}

/// Has the stream look for the words of another vocabulary.
pub(super) async fn set_vocabulary(
    State(state): State<Arc<AppState>>,
    JsonBody(ByName { name }): JsonBody<ByName>,
) -> Answer {
    let request = move |state: &AppState| Ok(ChangeRequest::Vocabulary(state.shared.folder.file(&name)?));
    ask(state, request).await
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TheseWords {
    words: Vec<WrittenWord>,
}

impl TheseWords {
    /// The words as a list. What hasn't the form of words is not what is asked for here; words that make no list, such as one
    /// that stands there twice, are refused as those are of which no vocabulary can be made.
    fn listed(self) -> Result<ListedWords, Refusal> {
        let is_empty = |WrittenWord { word, .. }: &WrittenWord| {
            word.word.is_empty() || word.synonyms.iter().any(String::is_empty)
        };
        let is_beyond = |WrittenWord { word, .. }: &WrittenWord| {
            word.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold))
        };
        let malformed = if self.words.is_empty() {
            "no words"
        } else if self.words.iter().any(is_empty) {
            "a word or a synonym is empty"
        } else if self.words.iter().any(is_beyond) {
            "a threshold is not between 0 and 1"
        } else {
            let conflict = |told: String| Refusal::new(StatusCode::CONFLICT, told);
            return ListedWords::typed(self.words).map_err(conflict);
        };
        let told = format!("that isn't what is asked for here: {malformed}");
        Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, told))
    }
}

/// Has the stream look for these words.
pub(super) async fn set_words(
    State(state): State<Arc<AppState>>,
    JsonBody(words): JsonBody<TheseWords>,
) -> Answer {
    let words = words.listed()?;
    ask(state, move |_| Ok(ChangeRequest::Words(words))).await
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Threshold {
    score: f32,
}

/// Has the stream tell things from another score on.
pub(super) async fn set_threshold(
    State(state): State<Arc<AppState>>,
    JsonBody(Threshold { score }): JsonBody<Threshold>,
) -> Answer {
    if !(0.0..=1.0).contains(&score) {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "`score` is a number from 0 to 1"));
    }
    ask(state, move |_| Ok(ChangeRequest::ScoreThreshold(score))).await
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keeping {
    keep: bool,
}

/// Has what was chosen, now and later, also hold after a restart, or not.
pub(super) async fn keep_choices(
    State(state): State<Arc<AppState>>,
    JsonBody(Keeping { keep }): JsonBody<Keeping>,
) -> Answer {
    ask(state, move |_| Ok(ChangeRequest::Keep(keep))).await
}

/// Has everything be as the configuration says.
pub(super) async fn forget_choices(State(state): State<Arc<AppState>>) -> Answer {
    ask(state, |_| Ok(ChangeRequest::AsConfigured)).await
}

/// Asks the stream for something, and tells what is in use then.
pub(super) async fn ask(
    state: Arc<AppState>,
    request: impl FnOnce(&AppState) -> Result<ChangeRequest, Refusal> + Send + 'static,
) -> Answer {
    ask_for(state, request, |state| json(&InUse::of(state))).await
}

/// Asks the stream for something, and answers with what `tell` says then.
pub(super) async fn ask_for(
    state: Arc<AppState>,
    request: impl FnOnce(&AppState) -> Result<ChangeRequest, Refusal> + Send + 'static,
    tell: fn(&AppState) -> Response,
) -> Answer {
    let asking = tokio::task::spawn_blocking(move || {
        let request = request(&state)?;
        let _place = state.shared.seats.changes.try_acquire().map_err(|_| Refusal::busy())?;
        let answer = state.stream.requests.ask(request);
        answer.map_err(|reason| Refusal::new(StatusCode::CONFLICT, reason))?;
        Ok(tell(&state))
    });
    asking.await.map_err(|_| Refusal::busy())?
}

/// What the board says of itself.
pub(super) async fn board(State(state): State<Arc<AppState>>) -> Answer {
    let taken = state.shared.board.read().await.ok_or_else(Refusal::busy)?;
    Ok(json(&BoardJson::of(&taken)))
}

/// The description of all this.
pub(super) async fn openapi() -> Response {
    with_type(StatusCode::OK, "application/json", OPENAPI)
}
