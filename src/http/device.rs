//! All cameras of a device: which answers a request, and what is told of all together.
//!
//! What there is of one camera stands below `/cameras/NAME/`: its page, its pictures, `/cameras/NAME/api/...`. Where there is
//! but one camera all of it stands at the top as well. Of several there are at the top a page with all of them, `/metrics` with a
//! label for each, `/healthz`, `/readyz`, and `/api/cameras`, which lists them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use tokio::sync::watch;

use super::answer::{Refusal, with_type};
use super::api::health_of;
use super::metrics::{MEDIA_TYPE, text};
use super::served_stream::{ServedCameras, ServedStream};
use super::state::{AppState, SharedState};
use super::status::Reasons;
use super::{answer, security, status};
use crate::requests::CameraRequests;
use crate::threads::locked;

/// What of one camera stands at this path, behind its name.
const CAMERAS: &str = "/cameras/";
/// What of a name is written otherwise in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// What is the same for all cameras, and answered by the first.
const OF_ANY: [&str; 3] = ["/login", "/api/board", "/api/openapi.json"];

/// All cameras, as they are served.
pub(super) struct Device {
    cameras: ServedCameras,
    shared: Arc<SharedState>,
    /// What answers requests about one camera.
    router_of: RouterOf,
    served: Mutex<Vec<Served>>,
}

/// Makes what answers requests about one camera.
pub(super) type RouterOf = fn(Arc<AppState>) -> Router;

/// One camera.
#[derive(Clone)]
struct Served {
    state: Arc<AppState>,
    router: Router,
    /// Dropped when the camera is taken away, or the server stops.
    _stop: Arc<watch::Sender<()>>,
}

impl Device {
    pub(super) fn new(cameras: ServedCameras, shared: SharedState, router_of: RouterOf) -> Self {
        Self { cameras, shared: Arc::new(shared), router_of, served: Mutex::default() }
    }

    /// The cameras as they are now; of those that are new the counts are followed from here on.
    fn served(&self) -> Vec<Served> {
        let wanted = self.cameras.get();
        let mut served = locked(&self.served);
        let is = |of: &Served, stream: &ServedStream| Arc::ptr_eq(&of.state.stream.control, &stream.control);
        let is_same =
            served.len() == wanted.len() && served.iter().zip(&wanted).all(|(of, stream)| is(of, stream));
        if !is_same {
            let mut before = std::mem::take(&mut *served);
            for stream in wanted {
                let known =
                    before.iter().position(|of| is(of, &stream)).map(|place| before.swap_remove(place));
                served.push(known.unwrap_or_else(|| self.serve(stream)));
            }
        }
        served.clone()
    }

    fn serve(&self, stream: ServedStream) -> Served {
        let (stop, stopped) = watch::channel(());
        stream.live.set_picture_rate(self.shared.picture_fps);
        let events = stream.live.events();
        let state = Arc::new(AppState::new(&self.shared, stream, stopped));
        tokio::spawn(status::observe(Arc::clone(&state), events));
        Served { router: (self.router_of)(Arc::clone(&state)), state, _stop: Arc::new(stop) }
    }

    /// Sees to it that new cameras are followed, whether or not somebody asks.
    pub(super) fn look(&self) {
        drop(self.served());
    }

    /// Lets go of all cameras.
    pub(super) fn stop(&self) {
        locked(&self.served).clear();
    }

    /// The cameras as they are now.
    pub(super) fn states(&self) -> Vec<Arc<AppState>> {
        self.served().into_iter().map(|of| of.state).collect()
    }

    /// Whether there is but one source, of a program that has no other.
    pub(super) fn is_single(&self) -> bool {
        self.cameras.is_single()
    }

    /// What is asked of the list of cameras.
    pub(super) fn requests(&self) -> &CameraRequests {
        self.cameras.requests()
    }

    pub(super) fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }
}

/// The name of a camera in a path, and what stands behind it.
fn of_camera(path: &str) -> Option<(String, &str)> {
    let (name, rest) = match path.strip_prefix(CAMERAS)?.split_once('/') {
        Some((name, rest)) => (name, &path[path.len() - rest.len() - 1..]),
        None => (path.strip_prefix(CAMERAS)?, ""),
    };
    let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    Some((name.into_owned(), rest))
}

/// Answers a request, or has a camera answer it.
pub(super) async fn dispatch(State(device): State<Arc<Device>>, request: Request) -> Response {
    let served = device.served();
    let path = request.uri().path().to_owned();
    let named = of_camera(&path)
        .map(|(name, rest)| (served.iter().find(|of| of.state.name() == name), rest.to_owned()));
    let answering = match named {
        Some((Some(camera), rest)) => Some((camera, rest)),
        Some((None, rest)) => return no_camera(&device, &rest, request).await,
        None if device.cameras.is_single() || OF_ANY.contains(&path.as_str()) => {
            served.first().map(|camera| (camera, path.clone()))
        }
        None => None,
    };
    match answering {
        // The page's own addresses are relative to its folder.
        Some((_, rest)) if rest.is_empty() => {
            let to = format!("{path}/");
            answer::redirect(&to)
        }
        Some((camera, rest)) => {
            let mut request = request;
            if let Some(uri) = with_path(request.uri(), &rest) {
                *request.uri_mut() = uri;
            }
            match TowerToHyperService::new(camera.router.clone()).call(request).await {
                Ok(response) => response.into_response(),
                Err(never) => match never {},
            }
        }
        None => refuse(
            StatusCode::NOT_FOUND,
            "there is nothing under that path; what there is of one camera stands below /cameras/NAME/",
        ),
    }
}

/// Answers a request about a camera that there is not. Who has no token is not told whether there is one.
async fn no_camera(device: &Device, rest: &str, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match security::check(&device.shared.guard, request).await {
        Ok(_) => refuse(StatusCode::NOT_FOUND, "there is no camera of that name: see /api/cameras"),
        Err(_) if rest.is_empty() => answer::redirect(&format!("{path}/")),
        Err(_) if rest == "/" => security::with_headers(device.shared.page.response()),
        Err(refusal) => security::with_headers(refusal.into_response()),
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    security::with_headers(Refusal::new(status, reason).into_response())
}

/// The same address with another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The page with all cameras; of one camera alone its own.
pub(super) async fn page(State(device): State<Arc<Device>>) -> Response {
    if device.cameras.is_single() {
        device.shared.page.response()
    } else {
        device.shared.cameras_page.response()
    }
}

/// What stands before the paths of this camera alone.
pub(super) fn path_of(state: &AppState) -> String {
    let name = state.name();
    let encoded = percent_encoding::utf8_percent_encode(&name, ENCODED);
    format!("{CAMERAS}{encoded}/")
}

/// What is said of one camera, with its name where there are several.
fn said_of(state: &AppState, reasons: Vec<String>) -> Vec<String> {
    match &state.stream.camera {
        Some(name) => reasons.into_iter().map(|reason| format!("{name}: {reason}")).collect(),
        None => reasons,
    }
}

/// Whether the process is alive: the stages of all streams get on.
pub(super) async fn health(State(device): State<Arc<Device>>) -> Response {
    let mut said = Vec::new();
    for Served { state, .. } in device.served() {
        said.extend(said_of(&state, state.observer.stuck().into_iter().collect()));
    }
    health_of(said)
}

/// Whether frames of all cameras come.
pub(super) async fn ready(State(device): State<Arc<Device>>) -> Response {
    let mut said = Vec::new();
    for Served { state, .. } in device.served() {
        said.extend(said_of(&state, Reasons::of(&state, &state.stream.health.report(), &[]).no_frames));
    }
    health_of(said)
}

/// All numbers, with the camera's name where there are several.
pub(super) async fn metrics(State(device): State<Arc<Device>>) -> Response {
    let board = device.shared.board.read().await;
    let served = device.served();
    let streams: Vec<&ServedStream> = served.iter().map(|of| &of.state.stream).collect();
    let text = text(&streams, board.as_deref(), device.shared.seats.listening());
    with_type(StatusCode::OK, MEDIA_TYPE, text)
}
