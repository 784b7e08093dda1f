//! The routes: all methods and paths, with what answers them.
//!
//! A test holds these routes against `openapi.json`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};

use super::answer::Refusal;
use super::body::{EXAMPLES, PHOTOGRAPHS};
use super::device::Device;
use super::state::{AppState, SharedState};
use super::{
    api, camera_list, detect, device, events, examples, login, security, stream, vocabulary_files, zones,
};

/// A camera of the list.
const CAMERA: &str = "/api/cameras/{name}";
/// Zones, lines and masks.
const ZONES: &str = "/api/zones";
/// A vocabulary of the folder.
const VOCABULARY_FILE: &str = "/api/vocabularies/{name}";

/// What is asked for by which method and path.
struct Routes<T> {
    router: Router<Arc<T>>,
    #[cfg_attr(not(test), allow(dead_code, reason = "for the test that compares them with the document"))]
    listed: Vec<(Method, &'static str)>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    fn with<T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Arc<S>>,
    ) -> Self {
        // There is a filter for every method that is named below.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }
}

/// What there is of one camera.
fn routes() -> Routes<AppState> {
    Routes { router: Router::new(), listed: Vec::new() }
        .with(Method::GET, "/", api::page)
        .with(Method::POST, "/login", login::log_in)
        .with(Method::DELETE, "/login", login::log_out)
        .with(Method::GET, "/stream.mjpg", stream::stream)
        .with(Method::GET, "/snapshot.jpg", stream::snapshot)
        .with(Method::GET, "/healthz", api::health)
        .with(Method::GET, "/readyz", api::ready)
        .with(Method::GET, "/api/status", api::status)
        .with(Method::GET, "/api/detections", api::detections)
        .with(Method::GET, "/api/events", events::events)
        .with(Method::GET, "/api/words", api::words)
        .with(Method::PUT, "/api/words", api::set_words)
        .with(Method::GET, "/api/vocabularies", api::vocabularies)
        .with(Method::PUT, "/api/vocabulary", api::set_vocabulary)
        .with(Method::GET, VOCABULARY_FILE, vocabulary_files::download)
        .with(Method::PUT, VOCABULARY_FILE, vocabulary_files::upload)
        .with(Method::DELETE, VOCABULARY_FILE, vocabulary_files::delete)
        .with(Method::PUT, "/api/threshold", api::set_threshold)
        .with(Method::GET, ZONES, zones::zones)
        .with(Method::PUT, ZONES, zones::set_zones)
        .with(Method::DELETE, ZONES, zones::forget_zones)
        .with(Method::PUT, "/api/choices", api::keep_choices)
        .with(Method::DELETE, "/api/choices", api::forget_choices)
        .with(Method::POST, PHOTOGRAPHS, detect::detect)
        .with(Method::GET, EXAMPLES, examples::list)
        .with(Method::POST, EXAMPLES, examples::add)
        .with(Method::DELETE, EXAMPLES, examples::forget)
        .with(Method::GET, "/api/board", api::board)
        .with(Method::GET, "/api/openapi.json", api::openapi)
}

/// What there is of all cameras together.
fn routes_of_device() -> Routes<Device> {
    Routes { router: Router::new(), listed: Vec::new() }
        .with(Method::GET, "/", device::page)
        .with(Method::GET, "/healthz", device::health)
        .with(Method::GET, "/readyz", device::ready)
        .with(Method::GET, "/metrics", device::metrics)
        .with(Method::GET, "/api/cameras", camera_list::list)
        .with(Method::DELETE, "/api/cameras", camera_list::forget)
        .with(Method::PUT, CAMERA, camera_list::set)
        .with(Method::DELETE, CAMERA, camera_list::remove)
}

/// Lets a request on, or not; and puts what browsers should know to every answer.
async fn admit(State(shared): State<Arc<SharedState>>, request: Request, next: Next) -> Response {
    let answered = match security::check(&shared.guard, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    security::with_headers(answered)
}

/// What answers a path that is there and not for the method.
async fn other_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "that path is not for this method; `Allow` says for which")
}

/// What answers requests about one camera.
pub(super) fn router(state: Arc<AppState>) -> Router {
    routes()
        .router
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing under that path"))
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(Arc::clone(&state.shared), admit))
        .with_state(state)
}

/// What answers all requests, or has a camera's router answer them.
pub(super) fn of_device(device: Arc<Device>) -> Router {
    routes_of_device()
        .router
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(Arc::clone(device.shared()), admit))
        // Not admitted here: a camera's router does that.
        .fallback(device::dispatch)
        .with_state(device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_in_the_openapi_document_and_nothing_else_is() {
        let document: serde_json::Value = serde_json::from_str(api::OPENAPI).unwrap();
        let methods = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let of_path = item.as_object().unwrap().keys().filter(|key| methods.contains(&key.as_str()));
                of_path.map(move |method| (method.clone(), path.clone()))
            })
            .collect();
        let (of_camera, of_device) = (routes().listed, routes_of_device().listed);
        // Of one camera alone both stand at the top.
        let listed: BTreeSet<_> =
            of_camera.iter().chain(&of_device).map(|(method, path)| (method.to_string(), *path)).collect();
        let routed: BTreeSet<(String, String)> =
            listed.iter().map(|(method, path)| (method.to_ascii_lowercase(), (*path).to_owned())).collect();
        assert_eq!(documented, routed);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        let document: serde_json::Value = serde_json::from_str(api::OPENAPI).unwrap();
        let text = api::OPENAPI;
        for (at, _) in text.match_indices("\"$ref\": \"#") {
            let pointer = text[at + "\"$ref\": \"#".len()..].split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
