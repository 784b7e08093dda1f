//! The list of cameras over HTTP: which there are, one more, another in the place of one, one less.
//!
//! A change holds over the configuration, which it doesn't touch, and is kept in the state directory until it is taken back.

use std::sync::Arc;

use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer::{Answer, Refusal, json};
use super::device::{Device, path_of};
use super::json_body::JsonBody;
use super::status::Status;
use crate::requests::CameraChange;

/// What a camera that is asked for may be: what needs nothing of this machine but a camera. A file or a pipeline stands in the
/// configuration.
const SCHEMES: [&str; 5] = ["rtsp://", "rtsps://", "v4l2://", "csi://", "test://"];
/// Keys that name files of this machine.
const OF_FILES: [&str; 2] = ["vocabulary", "name"];

#[derive(Serialize)]
struct CameraJson {
    /// What stands before the paths of this camera alone.
    path: String,
    #[serde(flatten)]
    status: Status,
}

/// All cameras, and how each is.
pub(super) async fn list(State(device): State<Arc<Device>>) -> Response {
    #[derive(Serialize)]
    struct Cameras {
        cameras: Vec<CameraJson>,
    }
    let camera = |state: &_| CameraJson { path: path_of(state), status: Status::of(state, false) };
    json(&Cameras { cameras: device.states().iter().map(|state| camera(state)).collect() })
}

/// Has a camera be there with these keys.
pub(super) async fn set(
    State(device): State<Arc<Device>>,
    Named(name): Named<String>,
    JsonBody(keys): JsonBody<serde_json::Map<String, serde_json::Value>>,
) -> Answer {
    if device.is_single() {
        return Err(of_single());
    }
    let change = CameraChange::Set(name.clone(), table_of(&name, keys)?);
    ask(device, change).await
}

/// The keys of a camera as its table in a configuration.
fn table_of(name: &str, keys: serde_json::Map<String, serde_json::Value>) -> Result<toml::Table, Refusal> {
    let malformed = |reason: &str| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("that isn't what is asked for here: {reason}"))
    };
    if let Some(key) = OF_FILES.into_iter().find(|key| keys.contains_key(*key)) {
        return Err(malformed(&format!(
            "`{key}` is none of the keys: `uri`, `words`, and what else stands in [source]"
        )));
    }
    let uri =
        keys.get("uri").and_then(|uri| uri.as_str()).ok_or_else(|| malformed("`uri` is to be a text"))?;
    if !SCHEMES.iter().any(|scheme| uri.starts_with(scheme)) {
        let told = "`uri` begins with rtsp://, rtsps://, v4l2://, csi:// or test://; files and pipelines stand in the configuration";
        return Err(malformed(told));
    }
    let mut table = toml::Table::try_from(keys).map_err(|error| malformed(error.to_string().trim_end()))?;
    table.insert("name".to_owned(), name.into());
    Ok(table)
}

/// Has a camera be there no more.
pub(super) async fn remove(State(device): State<Arc<Device>>, Named(name): Named<String>) -> Answer {
    if !device.is_single() && !device.states().iter().any(|state| state.name() == name) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no camera called {name:?}")));
    }
    ask(device, CameraChange::Remove(name)).await
}

/// Has the cameras be as the configuration lists them.
pub(super) async fn forget(State(device): State<Arc<Device>>) -> Answer {
    ask(device, CameraChange::AsConfigured).await
}

fn of_single() -> Refusal {
    let told = "this program runs one source: list it as a [[camera]] in the configuration first";
    Refusal::new(StatusCode::CONFLICT, told)
}

async fn ask(device: Arc<Device>, change: CameraChange) -> Answer {
    if device.is_single() {
        return Err(of_single());
    }
    let asking = tokio::task::spawn_blocking(move || {
        let _place = device.shared().seats.changes.try_acquire().map_err(|_| Refusal::busy())?;
        let answer = device.requests().ask(change);
        answer.map_err(|reason| Refusal::new(StatusCode::CONFLICT, reason))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    });
    asking.await.map_err(|_| Refusal::busy())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_camera_that_is_asked_for_reads_no_file_and_runs_no_pipeline() {
        let table = |keys: serde_json::Value| table_of("door", keys.as_object().unwrap().clone());
        let door = table(json!({ "uri": "rtsp://host/door", "max_fps": 5, "words": ["cat"] })).unwrap();
        assert_eq!(door["name"].as_str(), Some("door"));
        for refused in [
            json!({ "uri": "/etc/passwd" }),
            json!({ "uri": "file:///etc/passwd" }),
            json!({ "uri": "gst:filesrc location=/etc/passwd ! appsink" }),
            json!({ "uri": "test://bars", "vocabulary": "/etc/passwd" }),
            json!({ "uri": "test://bars", "name": "other" }),
            json!({ "uri": "test://bars", "fps": null }),
            json!({ "uri": 3 }),
            json!({}),
        ] {
            assert!(table(refused.clone()).is_err(), "{refused}");
        }
    }
}
