//! Vocabularies uploaded, downloaded and deleted: `/api/vocabularies/{name}`.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as Named, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use wordsight_detection::Vocabulary;

use super::answer::{Answer, Refusal, json_with, with_type};
use super::body::VOCABULARY;
use super::state::AppState;
use super::vocabularies::VocabularyFolder;
use crate::files::{Durability, replace};

/// What a vocabulary's bytes are called.
const MEDIA_TYPE: &str = "application/octet-stream";

fn failed(error: &std::io::Error, what: &str) -> Refusal {
    let status = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        _ => StatusCode::CONFLICT,
    };
    Refusal::new(status, format!("the vocabulary {what}, and what was there before is as it was: {error}"))
}

/// Puts a vocabulary into the folder, or exchanges the one of that name.
pub(super) async fn upload(
    State(state): State<Arc<AppState>>,
    Named(name): Named<String>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let admitted = check_type(&parts.headers).and_then(|()| {
        state.shared.folder.new_file(&name)?;
        Arc::clone(&state.shared.seats.uploads).try_acquire_owned().map_err(|_| Refusal::busy())
    });
    let place = match admitted {
        Ok(place) => place,
        Err(refusal) => {
            VOCABULARY.discard(&parts.headers, body).await;
            return Err(refusal);
        }
    };
    let bytes = VOCABULARY.read(&parts.headers, body).await?;
    let keeping = tokio::task::spawn_blocking(move || {
        let _place = place;
        keep(&state.shared.folder, &name, &bytes)
    });
    keeping.await.map_err(|_| Refusal::busy())?
}

/// A type that no other site's form can send.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    if given.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Ok(());
    }
    let told =
        "a vocabulary comes as `Content-Type: application/octet-stream`, the bytes of its .safetensors file";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told))
}

fn keep(folder: &VocabularyFolder, name: &str, bytes: &[u8]) -> Answer {
    #[derive(Serialize)]
    struct Kept<'a> {
        name: &'a str,
        words: usize,
        teacher: &'a str,
    }
    let vocabulary = Vocabulary::of_bytes(bytes, Path::new("what was sent"))
        .map_err(|error| Refusal::new(StatusCode::CONFLICT, error.to_string()))?;
    let file = folder.new_file(name)?;
    let was_there = file.exists();
    let folder = file.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder)
        .and_then(|()| replace(&file, Durability::Kept, bytes))
        .map_err(|error| failed(&error, "can't be kept"))?;
    tracing::info!(name, words = vocabulary.shown().len(), "a vocabulary was uploaded");
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    let words = vocabulary.shown().len();
    Ok(json_with(status, &Kept { name, words, teacher: &vocabulary.teacher }))
}

/// The bytes of a vocabulary of the folder.
pub(super) async fn download(State(state): State<Arc<AppState>>, Named(name): Named<String>) -> Answer {
    let reading = tokio::task::spawn_blocking(move || {
        let file = state.shared.folder.file(&name)?;
        let bytes = std::fs::read(&file).map_err(|error| failed(&error, "can't be read"))?;
        Ok(with_type(StatusCode::OK, MEDIA_TYPE, bytes))
    });
    reading.await.map_err(|_| Refusal::busy())?
}

/// Deletes a vocabulary of the folder, unless it is in use.
pub(super) async fn delete(State(state): State<Arc<AppState>>, Named(name): Named<String>) -> Answer {
    let deleting = tokio::task::spawn_blocking(move || {
        let file = state.shared.folder.file(&name)?;
        let in_use = state.stream.requests.current().vocabulary;
        if file.canonicalize().is_ok_and(|file| in_use.canonicalize().is_ok_and(|in_use| in_use == file)) {
            let told = "the vocabulary is in use: switch to another one first";
            return Err(Refusal::new(StatusCode::CONFLICT, told));
        }
        std::fs::remove_file(&file).map_err(|error| failed(&error, "can't be deleted"))?;
        tracing::info!(name, "a vocabulary was deleted");
        Ok(with_type(StatusCode::NO_CONTENT, "application/json", ""))
    });
    deleting.await.map_err(|_| Refusal::busy())?
}
