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
use super::state::AppState;
use super::{api, detect, events, examples, login, metrics, security, stream, vocabulary_files};

/// A vocabulary of the folder.
const VOCABULARY_FILE: &str = "/api/vocabularies/{name}";

/// What is asked for by which method and path.
struct Routes {
    router: Router<Arc<AppState>>,
    #[cfg_attr(not(test), allow(dead_code, reason = "for the test that compares them with the document"))]
    listed: Vec<(Method, &'static str)>,
}

impl Routes {
    fn with<T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Arc<AppState>>,
    ) -> Self {
        // There is a filter for every method that is named below.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }
}

fn routes() -> Routes {
    Routes { router: Router::new(), listed: Vec::new() }
        .with(Method::GET, "/", api::page)
        .with(Method::POST, "/login", login::log_in)
        .with(Method::DELETE, "/login", login::log_out)
        .with(Method::GET, "/stream.mjpg", stream::stream)
        .with(Method::GET, "/snapshot.jpg", stream::snapshot)
        .with(Method::GET, "/healthz", api::health)
        .with(Method::GET, "/readyz", api::ready)
        .with(Method::GET, "/metrics", metrics::metrics)
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
        .with(Method::PUT, "/api/choices", api::keep_choices)
        .with(Method::DELETE, "/api/choices", api::forget_choices)
        .with(Method::POST, PHOTOGRAPHS, detect::detect)
        .with(Method::GET, EXAMPLES, examples::list)
        .with(Method::POST, EXAMPLES, examples::add)
        .with(Method::DELETE, EXAMPLES, examples::forget)
        .with(Method::GET, "/api/board", api::board)
        .with(Method::GET, "/api/openapi.json", api::openapi)
}

/// Lets a request on, or not; and puts what browsers should know to every answer.
async fn admit(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let answered = match security::check(&state.guard, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    security::with_headers(answered)
}

/// What answers requests.
pub(super) fn router(state: Arc<AppState>) -> Router {
    routes()
        .router
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing under that path"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "that path is not for this method; `Allow` says for which",
            )
        })
        .layer(from_fn_with_state(Arc::clone(&state), admit))
        .with_state(state)
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
        let listed = routes().listed;
        let routed: BTreeSet<(String, String)> = listed
            .iter()
            .map(|(method, path)| (method.as_str().to_ascii_lowercase(), (*path).to_owned()))
            .collect();
        assert_eq!(documented, routed);
        assert_eq!(listed.len(), routed.len(), "none stands there twice");
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
