//! `/api/zones`: the zones, lines and masks in use, and others in their place.
//!
//! Turns zones, written as the configuration has them, into change requests. As with words, no file of the user's is
//! changed; `?format=toml` tells what could be pasted into one.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Refusal, json, with_type};
use super::api::ask_for;
use super::json_body::JsonBody;
use super::state::AppState;
use crate::requests::ChangeRequest;
use crate::tracking::{CrossingLineKeys, MaskKeys, WrittenZones, ZoneKeys, ZoneSettings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Toml,
}

/// The zones, lines and masks in use.
pub(super) async fn zones(
    State(state): State<Arc<AppState>>,
    written: Result<Query<Written>, QueryRejection>,
) -> Answer {
    let Query(Written { format }) = written.map_err(|error| {
        let told = format!("{}: `format` is json or toml", error.body_text());
        Refusal::new(StatusCode::BAD_REQUEST, told)
    })?;
    match format {
        Format::Json => Ok(in_use(&state)),
        Format::Toml => {
            let written = toml::to_string(&state.stream.requests.current().zones);
            let written = written.map_err(|error| {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write them: {error}"))
            })?;
            Ok(with_type(StatusCode::OK, "application/toml", written))
        }
    }
}

/// Has the stream watch these.
pub(super) async fn set_zones(
    State(state): State<Arc<AppState>>,
    JsonBody(written): JsonBody<WrittenZones>,
) -> Answer {
    // Whether things are followed, the stream knows.
    if let Err(error) = ZoneSettings::of(&written, true) {
        let is_formed = written.is_formed();
        let status = if is_formed { StatusCode::CONFLICT } else { StatusCode::UNPROCESSABLE_ENTITY };
        return Err(Refusal::new(status, error.reason));
    }
    ask_for(state, move |_| Ok(ChangeRequest::Zones(written)), in_use).await
}

/// Has the stream watch what the configuration says.
pub(super) async fn forget_zones(State(state): State<Arc<AppState>>) -> Answer {
    ask_for(state, |_| Ok(ChangeRequest::ZonesAsConfigured), in_use).await
}

fn in_use(state: &AppState) -> Response {
    #[derive(Serialize)]
    struct InUse<'a> {
        zone: &'a [ZoneKeys],
        crossing_line: &'a [CrossingLineKeys],
        mask: &'a [MaskKeys],
        is_as_configured: bool,
        is_kept: bool,
    }
    let current = state.stream.requests.current();
    json(&InUse {
        zone: &current.zones.zone,
        crossing_line: &current.zones.crossing_line,
        mask: &current.zones.mask,
        is_as_configured: current.are_zones_configured,
        is_kept: current.is_kept,
    })
}
