//! Several cameras on one engine: a stream for each, which come and go as the configuration says.
//!
//! Takes what the cameras are to be ([`DeviceTarget`]), and again whenever the configuration changes or SIGHUP comes.
//! Each camera is a stream of its own, as [`Service`] runs one, with words, outputs and reloading of its own; they
//! share the engine, HTTP, the governor, systemd and the health file. One that can't be started costs the others
//! nothing: it is tried again, and the reason stands in its health. Where one fails that ran, as where the engine does,
//! all end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::engines::{Engines, GpuWait};
use super::file_watch::Watched;
use super::kept_choices::{KeptCameras, KeptChoices};
use super::last_good::{KeptWords, LastGood};
use super::reload::FRAMES_OF_PROOF;
use super::run::{SetAtEnd, Surroundings, asked_to_reload};
use super::shared_engines::SharedEngines;
use super::start::{Service, ServiceState};
use super::systemd::{Followed, Systemd};
use super::target::{DeviceTarget, Target};
use crate::config::{ChosenCameras, Config, ConfigError};
use crate::governor::{Governing, board_root};
use crate::health::{DeviceHealth, Health, HealthFile};
use crate::http::{ServedCameras, Server};
use crate::pipeline::{Control, Report};
use crate::publish::SharedPlaces;
use crate::requests::CameraChange;
use crate::threads::{Stop, locked, named};

/// From one look at the cameras to the next.
const LOOK: Duration = Duration::from_millis(50);
/// From one look at the configuration's file to the next.
const FILE_LOOK: Duration = Duration::from_millis(200);
/// After how long a camera that couldn't be started is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What says what is wanted by a configuration's text, and by what was chosen beside it.
pub type LoadDevice<'a> = &'a (dyn Fn(Option<&str>, &ChosenCameras) -> anyhow::Result<DeviceTarget> + Sync);

/// Several cameras to be looked after.
pub struct CameraService<'a> {
    /// What the cameras are to be, by the configuration's file or by this text in its place.
    pub load: LoadDevice<'a>,
    /// The configuration's file.
    pub configuration: PathBuf,
    /// After how many frames of a camera it is enough.
    pub frames: Option<u64>,
    /// How long it may take to end.
    pub longest_stop: Duration,
    /// Who may end it.
    pub stop: Stop,
    /// What opens engines.
    pub engines: &'a dyn Engines,
    /// How long `auto` waits for a GPU where systemd started this, and when it asks again.
    pub gpu_wait: GpuWait,
}

/// What all cameras have in common.
struct Shared<'a> {
    service: &'a CameraService<'a>,
    engines: &'a SharedEngines<'a>,
    systemd: &'a Systemd,
    last_good: &'a LastGood,
    places: SharedPlaces,
    /// The streams that there are, for whoever follows them.
    streams: Mutex<Vec<Stream>>,
    /// What was asked of the list of cameras.
    chosen: Mutex<ChosenCameras>,
    /// What was loaded last for one of the cameras: the others ask for theirs of the same text.
    loaded: Mutex<Option<Loaded>>,
}

/// What a text and what was chosen beside it ask for.
struct Loaded {
    text: String,
    chosen: ChosenCameras,
    device: DeviceTarget,
}

/// A camera's stream, as others see it.
#[derive(Clone)]
struct Stream {
    name: String,
    state: Arc<ServiceState>,
}

/// A camera at work.
struct Camera<'scope> {
    stream: Stream,
    stop: Stop,
    asked: Arc<AtomicBool>,
    /// Whether the configuration listed it when the program started: somebody who sits there wants to know whether it works.
    is_of_start: bool,
    state: CameraState<'scope>,
}

impl Camera<'_> {
    /// Has it look what of its configuration has changed, or try again to start.
    fn load_again(&mut self) {
        self.asked.store(true, Ordering::Relaxed);
        if let CameraState::Failed(again) = &mut self.state {
            *again = Instant::now();
        }
    }
}

enum CameraState<'scope> {
    Running(ScopedJoinHandle<'scope, anyhow::Result<Report>>),
    /// It could not be started, and is tried again then.
    Failed(Instant),
    /// Its source is over, or there were enough frames.
    Ended(Box<Report>),
}

impl CameraService<'_> {
    /// Runs until all cameras have ended, it is stopped, or a part fails that none can do without. Returns how each went.
    ///
    /// # Errors
    /// When a camera can't be started, where nobody would try again: at a terminal; later when one fails that ran, as where the
    /// engine does.
    pub fn run(self) -> anyhow::Result<Vec<(String, Report)>> {
        let systemd = Systemd::of_this_process();
        let last_good = LastGood::of_this_process();
        let asked = asked_to_reload()?;
        let governing = Governing::new(None, &board_root());
        let engines = SharedEngines::new(self.engines);
        let is_over = AtomicBool::new(false);
        self.stop.ends_process_after(self.longest_stop)?;
        let shared = Shared {
            service: &self,
            engines: &engines,
            systemd: &systemd,
            last_good: &last_good,
            places: SharedPlaces::default(),
            streams: Mutex::default(),
            chosen: Mutex::new(KeptCameras::of_this_process().read()),
            loaded: Mutex::default(),
        };
        thread::scope(|scope| {
            let _over = SetAtEnd(&is_over);
            let (shared, stop, is_over, governing) = (&shared, &self.stop, &is_over, &governing);
            let is_ended = move || is_over.load(Ordering::Relaxed);
            named("systemd").spawn_scoped(scope, move || {
                shared.systemd.follow(&|| shared.followed(), &|| stop.is_requested(), &is_ended);
            })?;
            named("governor").spawn_scoped(scope, move || governing.run(&|| shared.governed(), &is_ended))?;
            let ended =
                Cameras::start(shared, scope, governing).and_then(|cameras| cameras.keep_running(&asked));
            if ended.is_err() {
                // None of them is waited for that would go on.
                self.stop.request_all();
            }
            ended
        })
    }
}

impl Shared<'_> {
    fn followed(&self) -> Vec<Followed> {
        locked(&self.streams).iter().map(|stream| stream.state.followed(Some(stream.name.clone()))).collect()
    }

    fn governed(&self) -> Vec<(Arc<Control>, Health)> {
        let of = |stream: &Stream| (Arc::clone(&stream.state.control), stream.state.health.clone());
        locked(&self.streams).iter().map(of).collect()
    }

    /// Whether somebody sits at a terminal who wants to know at once what doesn't work.
    fn is_at_terminal(&self) -> bool {
        !self.systemd.is_there()
    }
}

/// All cameras, and what serves them.
struct Cameras<'scope, 'env> {
    shared: &'scope Shared<'scope>,
    scope: &'scope Scope<'scope, 'env>,
    governing: &'scope Governing,
    cameras: Vec<Camera<'scope>>,
    device: DeviceTarget,
    health: DeviceHealth,
    health_file: Option<HealthFile>,
    served: ServedCameras,
    server: Option<Server>,
    configuration: Watched,
    looked: Instant,
    /// The configuration is kept when so many frames are out.
    keep_at: Option<u64>,
}

impl<'scope, 'env> Cameras<'scope, 'env> {
    fn start(
        shared: &'scope Shared<'scope>,
        scope: &'scope Scope<'scope, 'env>,
        governing: &'scope Governing,
    ) -> anyhow::Result<Self> {
        // Before it is read: what is written meanwhile is read again.
        let configuration = Watched::new(&shared.service.configuration);
        let (device, refused) = shared.first_device()?;
        let mut cameras = Self {
            shared,
            scope,
            governing,
            cameras: Vec::new(),
            health: DeviceHealth::default(),
            health_file: None,
            served: ServedCameras::default(),
            server: None,
            configuration,
            looked: Instant::now(),
            device: DeviceTarget::default(),
            keep_at: refused.is_none().then_some(FRAMES_OF_PROOF),
        };
        if let Some(reason) = refused {
            cameras.health.reload_refused(&reason);
        }
        let chosen = locked(&shared.chosen).clone();
        if !chosen.is_empty() {
            tracing::warn!(
                asked_for = ?chosen.names().collect::<Vec<_>>(),
                taken_away = ?chosen.removed().collect::<Vec<_>>(),
                "cameras are other than the configuration lists, as was asked for; DELETE /api/cameras takes it back, and so \
                 does removing {}",
                KeptCameras::of_this_process().path().display()
            );
        }
        cameras.take(device)?;
        Ok(cameras)
    }

    /// Looks after the cameras until all have ended.
    fn keep_running(mut self, asked: &AtomicBool) -> anyhow::Result<Vec<(String, Report)>> {
        while !self.are_over()? {
            thread::sleep(LOOK);
            self.look(asked.swap(false, Ordering::Relaxed));
        }
        Ok(self.end())
    }

    /// Makes the cameras be what a configuration says: those that are new are started, those that are gone are stopped, and the
    /// others look for themselves what of theirs has changed.
    ///
    /// # Errors
    /// When the health can't be written there; at the start also when a camera has no thread or the page no address. Before
    /// that nothing is changed.
    fn take(&mut self, device: DeviceTarget) -> anyhow::Result<()> {
        if device.health != self.device.health {
            let open = |path: &Path| {
                let file = HealthFile::start(self.health.clone(), path.to_owned());
                file.with_context(|| format!("cannot write the health to {}", path.display()))
            };
            self.health_file = device.health.as_deref().map(open).transpose()?;
        }
        self.governing.set(device.governor);
        self.cameras.retain(|camera| {
            let stays = device.camera(&camera.stream.name).is_some();
            if !stays {
                // What it has under way is out in a moment, and nobody waits for it here.
                camera.stop.request();
                tracing::info!(camera = camera.stream.name, "the camera is taken away");
            }
            stays
        });
        for target in &device.cameras {
            match self.cameras.iter_mut().find(|camera| camera.stream.name == target.name) {
                Some(camera) => camera.load_again(),
                None => self.start_camera(&target.name)?,
            }
        }
        let order = |camera: &Camera<'_>| device.cameras.iter().position(|of| of.name == camera.stream.name);
        self.cameras.sort_by_key(order);
        let names: Vec<&str> = device.cameras.iter().map(|of| of.name.as_str()).collect();
        self.shared.last_good.keep_only_cameras(&names);
        self.show();
        self.serve(&device)?;
        self.device = device;
        Ok(())
    }

    /// Tells everybody which streams there are.
    fn show(&self) {
        let streams: Vec<Stream> = self.cameras.iter().map(|camera| camera.stream.clone()).collect();
        self.health.set(streams.iter().map(|of| (of.name.clone(), of.state.health.clone())).collect());
        self.served.set(streams.iter().map(|of| (of.name.clone(), of.state.served())).collect());
        *locked(&self.shared.streams) = streams;
    }

    /// Serves the cameras over HTTP. The address may be the same, so the old server ends first.
    fn serve(&mut self, device: &DeviceTarget) -> anyhow::Result<()> {
        if device.http == self.device.http {
            return Ok(());
        }
        self.server = None;
        let start = |http| Server::start(http, self.served.clone(), &board_root());
        match device.http.as_ref().map(start).transpose() {
            Ok(server) => self.server = server,
            Err(error) if self.shared.is_at_terminal() && self.device.cameras.is_empty() => {
                return Err(error);
            }
            Err(error) => tracing::error!("nothing is served over HTTP: {error:#}"),
        }
        Ok(())
    }

    fn start_camera(&mut self, name: &str) -> anyhow::Result<()> {
        let state = ServiceState { places: self.shared.places.clone(), ..ServiceState::default() };
        let stream = Stream { name: name.to_owned(), state: Arc::new(state) };
        let (stop, asked) = (self.shared.service.stop.child(), Arc::<AtomicBool>::default());
        let running = self.spawn(&stream, &stop, &asked)?;
        let is_asked_for = locked(&self.shared.chosen).names().any(|asked_for| asked_for == name);
        let is_of_start = self.device.cameras.is_empty() && !is_asked_for;
        self.cameras.push(Camera { stream, stop, asked, is_of_start, state: CameraState::Running(running) });
        Ok(())
    }

    fn spawn(
        &self,
        stream: &Stream,
        stop: &Stop,
        asked: &Arc<AtomicBool>,
    ) -> anyhow::Result<ScopedJoinHandle<'scope, anyhow::Result<Report>>> {
        let (shared, stream, stop, asked) = (self.shared, stream.clone(), stop.clone(), Arc::clone(asked));
        let run = move || shared.run_camera(&stream, &stop, &asked);
        Ok(named("camera").spawn_scoped(self.scope, run)?)
    }

    /// Looks what has ended, what is to be tried again, and whether the configuration has changed.
    fn look(&mut self, is_asked: bool) {
        for place in 0..self.cameras.len() {
            let is_due =
                matches!(&self.cameras[place].state, CameraState::Failed(at) if Instant::now() >= *at);
            if is_due && !self.shared.service.stop.is_requested() {
                let Camera { stream, stop, asked, .. } = &self.cameras[place];
                match self.spawn(stream, stop, asked) {
                    Ok(running) => self.cameras[place].state = CameraState::Running(running),
                    Err(error) => tracing::error!("a camera can't be started: {error:#}"),
                }
            }
        }
        for (change, answer) in self.served.requests().take() {
            // Whoever asked may have gone.
            drop(answer.send(self.change(change)));
        }
        let has_changed = self.looked.elapsed() >= FILE_LOOK && {
            self.looked = Instant::now();
            self.configuration.has_changed()
        };
        if has_changed || is_asked {
            self.reload();
        }
        self.keep();
    }

    /// Keeps the configuration, when enough frames of a camera have come out under it.
    fn keep(&mut self) {
        if self.keep_at.is_some_and(|at| self.health.report().published >= at) {
            self.keep_at = None;
            if let Ok(text) = Config::text_of(self.configuration.path())
                && !self.configuration.is_other()
            {
                self.shared.last_good.keep(Some(&text), KeptWords::Same);
            }
        }
    }

    /// Applies a change that was asked for, whole or not at all.
    ///
    /// # Errors
    /// Why it is refused.
    fn change(&mut self, change: CameraChange) -> Result<(), String> {
        let before = locked(&self.shared.chosen).clone();
        let chosen = match change {
            CameraChange::Set(name, keys) => before.clone().with(&name, &keys),
            CameraChange::Remove(name) if self.device.camera(&name).is_none() => {
                return Err(format!("there is no camera called {name:?}"));
            }
            CameraChange::Remove(_) if self.device.cameras.len() == 1 => {
                return Err("it is the only camera, and without one there is nothing to run".to_owned());
            }
            CameraChange::Remove(name) => {
                // What the configuration doesn't list needs not be hidden: a camera of that name may stand there one day.
                let configured = (self.shared.service.load)(None, &ChosenCameras::default()).ok();
                KeptChoices::of(&name).forget();
                match configured.is_none_or(|device| device.camera(&name).is_some()) {
                    true => before.clone().without(&name),
                    false => before.clone().forget(&name),
                }
            }
            CameraChange::AsConfigured => ChosenCameras::default(),
        };
        let told = |reason: anyhow::Error| format!("{reason:#}");
        let device = (self.shared.service.load)(None, &chosen).map_err(told)?;
        *locked(&self.shared.chosen) = chosen.clone();
        if let Err(reason) = self.take(device) {
            *locked(&self.shared.chosen) = before;
            return Err(told(reason));
        }
        KeptCameras::of_this_process().write(&chosen)
    }

    fn reload(&mut self) {
        self.shared.systemd.reloading();
        self.configuration = Watched::new(self.configuration.path());
        let taken = self.shared.load(None).and_then(|device| self.take(device));
        match taken {
            Ok(()) => {
                self.health.reloaded();
                self.keep_at = Some(self.health.report().published + FRAMES_OF_PROOF);
            }
            Err(_) if self.shared.service.stop.is_requested() => {}
            Err(reason) => {
                tracing::error!("what has changed is not used, and what was before goes on: {reason:#}");
                self.health.reload_refused(&format!("{reason:#}"));
            }
        }
        self.shared.systemd.ready();
    }

    /// Whether all cameras have ended.
    ///
    /// # Errors
    /// Why one ended that all end with.
    fn are_over(&mut self) -> anyhow::Result<bool> {
        for place in 0..self.cameras.len() {
            let is_finished = |state: &CameraState<'_>| matches!(state, CameraState::Running(running) if running.is_finished());
            if is_finished(&self.cameras[place].state) {
                self.take_end(place)?;
            }
        }
        let is_over = |camera: &Camera<'_>| match camera.state {
            CameraState::Running(_) => false,
            CameraState::Failed(_) => self.shared.service.stop.is_requested(),
            CameraState::Ended(_) => true,
        };
        Ok(self.cameras.iter().all(is_over))
    }

    /// Sees how a camera's stream has ended.
    fn take_end(&mut self, place: usize) -> anyhow::Result<()> {
        let camera = &mut self.cameras[place];
        let again = CameraState::Failed(Instant::now() + TRY_AGAIN);
        let CameraState::Running(running) = std::mem::replace(&mut camera.state, again) else {
            return Ok(());
        };
        let (name, health) = (&camera.stream.name, &camera.stream.state.health);
        let ended =
            running.join().map_err(|_| anyhow::anyhow!("its stream panicked; this is a bug in wordsight"));
        match ended.and_then(|ended| ended) {
            Ok(report) => camera.state = CameraState::Ended(Box::new(report)),
            Err(_) if self.shared.service.stop.is_requested() => {}
            // What ran and fails takes the others along, if it is what they share, and a new process is the way out.
            Err(error)
                if (camera.is_of_start && self.shared.is_at_terminal()) || health.report().published > 0 =>
            {
                self.shared.service.stop.request_all();
                return Err(error.context(format!("camera {name}")));
            }
            Err(error) => {
                let reason = format!("{error:#}");
                // The same once more is no news.
                if health.report().reason.as_ref() != Some(&reason) {
                    tracing::error!(
                        "camera {name} can't be started, and is tried again every {TRY_AGAIN:?}: {reason}"
                    );
                }
                health.could_not_start(&reason);
            }
        }
        Ok(())
    }

    /// Ends what is left, and says how each camera went.
    fn end(mut self) -> Vec<(String, Report)> {
        self.server = None;
        self.health_file = None;
        let ended = self.cameras.drain(..).filter_map(|camera| match camera.state {
            CameraState::Ended(report) => Some((camera.stream.name, *report)),
            CameraState::Running(_) | CameraState::Failed(_) => None,
        });
        ended.collect()
    }
}

impl Shared<'_> {
    /// What the cameras are to be at the start: by the configuration, or else by the one that last worked; and why not the
    /// first.
    fn first_device(&self) -> anyhow::Result<(DeviceTarget, Option<String>)> {
        let reason = match self.load(None) {
            Ok(device) => return Ok((device, None)),
            Err(reason) => reason,
        };
        if !locked(&self.chosen).is_empty()
            && let Ok(device) = (self.service.load)(None, &ChosenCameras::default())
        {
            tracing::warn!(
                "the cameras that were asked for are given up, and those configured are used: {reason:#}"
            );
            *locked(&self.chosen) = ChosenCameras::default();
            return Ok((device, None));
        }
        let kept = self.last_good.configuration();
        match kept.map(|text| self.load(Some(&text))) {
            Some(Ok(device)) => {
                tracing::error!("the configuration that last worked is used: {reason:#}");
                Ok((device, Some(format!("{reason:#}"))))
            }
            Some(Err(_)) | None => Err(reason),
        }
    }

    fn load(&self, text: Option<&str>) -> anyhow::Result<DeviceTarget> {
        let chosen = locked(&self.chosen).clone();
        (self.service.load)(text, &chosen)
    }

    /// Runs one camera's stream until it ends.
    fn run_camera(&self, stream: &Stream, stop: &Stop, asked: &AtomicBool) -> anyhow::Result<Report> {
        let load = |text: Option<&str>| self.target_of(&stream.name, text);
        let CameraService { configuration, frames, longest_stop, gpu_wait, .. } = self.service;
        let service = Service {
            load: &load,
            configuration: Some(configuration.clone()),
            frames: *frames,
            inputs_to_keep: 0,
            longest_stop: *longest_stop,
            stop: stop.clone(),
            engines: self.engines,
            gpu_wait: *gpu_wait,
        };
        let (governing, is_over) = (Governing::new(None, &board_root()), AtomicBool::new(false));
        let surroundings = Surroundings {
            systemd: self.systemd.silent(),
            last_good: self.last_good.of_camera(&stream.name),
            governing: &governing,
            asked,
            is_over: &is_over,
            watches_configuration: false,
        };
        service.run_stream(&stream.state, surroundings)
    }

    fn target_of(&self, name: &str, text: Option<&str>) -> anyhow::Result<Target> {
        let chosen = locked(&self.chosen).clone();
        let mut loaded = locked(&self.loaded);
        let is_it = |of: &Loaded| Some(of.text.as_str()) == text && of.chosen == chosen;
        if !loaded.as_ref().is_some_and(is_it) {
            let device = (self.service.load)(text, &chosen)?;
            *loaded = Some(Loaded { text: text.unwrap_or_default().to_owned(), chosen, device });
        }
        let target = loaded.as_ref().and_then(|loaded| loaded.device.camera(name)).cloned();
        target.ok_or_else(|| {
            ConfigError::Cameras(format!("there is no camera called {name:?} any more")).into()
        })
    }
}
