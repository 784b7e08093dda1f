//! Logging a browser in and out: a cookie in exchange for the token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::answer::{Answer, Refusal};
use super::json_body::JsonBody;
use super::security::{Peer, Token, now};
use super::state::AppState;

/// How long a browser stays logged in.
const COOKIE_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the form on the page sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    token: String,
}

/// Logs a browser in.
pub(super) async fn log_in(
    State(state): State<Arc<AppState>>,
    peer: Option<axum::Extension<Peer>>,
    JsonBody(login): JsonBody<Login>,
) -> Answer {
    let Some(token) = &state.shared.guard.token else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    if !token.is(login.token.trim().as_bytes()) {
        state.shared.guard.delay_wrong_token(peer.map(|axum::Extension(peer)| peer)).await;
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "that is not the token")
            .with(header::WWW_AUTHENTICATE, "Bearer"));
    }
    let value = token.cookie_value(now() + COOKIE_LASTS.as_secs());
    with_cookie(token, &value, COOKIE_LASTS)
}

/// Logs a browser out.
pub(super) async fn log_out(State(state): State<Arc<AppState>>) -> Answer {
    match &state.shared.guard.token {
        Some(token) => with_cookie(token, "", Duration::ZERO),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

fn with_cookie(token: &Token, value: &str, lasts: Duration) -> Answer {
    let text =
        format!("{}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}", token.cookie, lasts.as_secs());
    let cookie = HeaderValue::from_str(&text)
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the cookie can't be written"))?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}
