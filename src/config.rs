//! The configuration file, and the one that is built in.
//!
//! In flow TOML, out flow settings. The defaults are not in this code: they are `demo/wordsight.toml`,
//! which is compiled in and documents every key, so that what is documented is what holds.
//!
//! The one surprising thing: a path is relative to the file it stands in. For the built-in file
//! that is the `demo` folder of a checkout, looked for under the current directory and above the
//! executable.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::capture::{Pacing, SourceUri, UriError};
use crate::files::is_standard_output;
use crate::http::{HttpKeys, HttpSettings};
use crate::publish::{LinesSettings, MqttKeys, PicturesKeys, Place, SinkSettings, VideoKeys, WebhookKeys};
use crate::settings::{Degrees, Fraction, FramesPerSecond, LongSeconds, Part, Seconds, SettingError};

/// The configuration that holds where the user's says nothing.
const BUILT_IN: &str = include_str!("../demo/wordsight.toml");

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` can't be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not as it should be; the message shows the line.
    #[error("the configuration {} is wrong: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What toml says, with line and column, and what may have been meant.
        reason: String,
    },
    /// The built-in configuration names a file of a checkout, and there is no checkout.
    #[error(
        "demo/{} was not found under the current directory or above the executable: run wordsight in its \
         checkout (and `make demo` once), or name your own with `--{flag}` or in a configuration file", name.display()
    )]
    NoDemoFile {
        /// The file's name.
        name: PathBuf,
        /// The flag that names another.
        flag: &'static str,
    },
    /// A value of an output or the server that can't be what it is, by itself or beside the others.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A key has no value anywhere; a test keeps the built-in configuration from such a gap.
    #[error("the built-in configuration has a gap; this is a bug in wordsight")]
    NoValue,
    /// TensorRT is wanted from a program that can't have it.
    #[cfg(not(feature = "tensorrt"))]
    #[error(
        "this wordsight was built without TensorRT: set engine.kind to \"auto\" or \"onnxruntime\", or build it with \
         `cargo build --release --features tensorrt`"
    )]
    NoTensorRt,
    /// A stream where photographs are wanted.
    #[error("{} is a stream and not a photograph: use `wordsight run --source`", .0.display())]
    NotAPhotograph(PathBuf),
    /// A source that can't be opened as it is written, or not by this program.
    #[error(transparent)]
    Source(#[from] UriError),
    /// A camera that is to lose no frame.
    #[error(
        "{0} is live, and what isn't fetched in time is lost: `lossless` is for files; leave source.pacing at \"auto\""
    )]
    LosslessCamera(String),
}

impl ConfigError {
    /// Whether the user wrote something wrong, as against a file that isn't there.
    pub fn is_a_mistake_of_usage(&self) -> bool {
        !matches!(self, Self::NoDemoFile { .. })
    }
}

/// `source.pacing`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PacingName {
    /// As the source is: a camera's newest frame wins, and every frame of a file is processed.
    Auto,
    /// Every frame is processed, as fast as the engine can.
    Lossless,
    /// Frames come as from a camera, and the newest wins.
    Camera,
}

impl PacingName {
    /// The pacing itself, of a source that is live or not; `None` for a live one that is to lose nothing.
    pub fn at(self, fps: FramesPerSecond, is_live: bool) -> Option<Pacing> {
        match (self, is_live) {
            (Self::Auto | Self::Camera, true) => Some(Pacing::Live),
            (Self::Lossless, true) => None,
            (Self::Auto | Self::Lossless, false) => Some(Pacing::Lossless),
            (Self::Camera, false) => Some(Pacing::Camera { period: fps.period() }),
        }
    }
}

/// `engine.kind`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// TensorRT where it is, or else ONNX Runtime.
    Auto,
    /// ONNX Runtime, on the processor.
    #[value(name = "onnxruntime")]
    OnnxRuntime,
    /// TensorRT, on NVIDIA's GPU.
    #[value(name = "tensorrt")]
    TensorRt,
}

/// `engine.precision`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// FP16 on a GPU; a student in INT8 as its file has it.
    Auto,
    /// A student in FP32 stays in it.
    Fp32,
    /// A student in FP32 runs in FP16.
    Fp16,
}

/// What stands in one file: every key may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    pub name: Option<String>,
    pub student: Option<PathBuf>,
    pub vocabulary: Option<PathBuf>,
    pub source: SourceKeys,
    pub detection: DetectionKeys,
    pub tracking: TrackingKeys,
    pub engine: EngineKeys,
    pub governor: GovernorKeys,
    pub publish: PublishKeys,
    pub http: HttpKeys,
    pub lines: Vec<LinesKeys>,
    pub pictures: Vec<PicturesKeys>,
    pub mqtt: Vec<MqttKeys>,
    pub webhook: Vec<WebhookKeys>,
    pub video: Vec<VideoKeys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackingKeys {
    pub enabled: Option<bool>,
    pub confirm_after: Option<NonZeroU32>,
    pub forget_after_s: Option<LongSeconds>,
    pub vote_half_life_s: Option<LongSeconds>,
    pub weak_fraction: Option<Part>,
}

/// One `[[lines]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesKeys {
    to: String,
    frames: Option<bool>,
    events: Option<bool>,
    rotate_mib: Option<u32>,
    keep: Option<u32>,
}

impl LinesKeys {
    fn resolve(&self, folder: &Path) -> LinesSettings {
        let place = match self.to.strip_prefix("unix:") {
            Some(path) => Place::Socket(folder.join(path)),
            None if is_standard_output(Path::new(&self.to)) => Place::StandardOutput,
            None => Place::File {
                path: folder.join(&self.to),
                rotate_bytes: u64::from(self.rotate_mib.unwrap_or(0)) << 20,
                keep: self.keep.unwrap_or(3),
            },
        };
        LinesSettings { place, frames: self.frames.unwrap_or(true), events: self.events.unwrap_or(false) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceKeys {
    pub uri: Option<String>,
    pub pacing: Option<PacingName>,
    pub fps: Option<FramesPerSecond>,
    #[serde(rename = "loop")]
    pub repeat: Option<bool>,
    pub latency_ms: Option<u32>,
    pub stalled_after_s: Option<LongSeconds>,
    pub longest_wait_s: Option<LongSeconds>,
    pub give_up_after_s: Option<Seconds>,
    pub wait_at_start: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionKeys {
    pub score_threshold: Option<Fraction>,
    pub nms_iou: Option<Fraction>,
    pub voting_iou: Option<Fraction>,
    pub max_detections: Option<NonZeroUsize>,
    pub words_per_region: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineKeys {
    pub kind: Option<EngineKind>,
    pub threads: Option<usize>,
    pub tensorrt: Option<PathBuf>,
    pub build_plans: Option<bool>,
    pub precision: Option<Precision>,
    pub workspace_mib: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GovernorKeys {
    pub enabled: Option<bool>,
    pub margin_c: Option<Degrees>,
    pub least_fraction: Option<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishKeys {
    pub json: Option<PathBuf>,
    pub save: Option<PathBuf>,
    pub save_every: Option<NonZeroUsize>,
    pub health: Option<PathBuf>,
}

/// The user's configuration over the built-in one.
#[derive(Debug)]
pub struct Config {
    own: Option<(PathBuf, Keys)>,
    built_in: Keys,
}

impl Config {
    /// Reads the configuration: the built-in one alone, or a file's over it.
    ///
    /// # Errors
    /// When the file can't be read or has anything in it that it shouldn't.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let own = path.map(|path| -> Result<_, ConfigError> { own_keys(&Self::text_of(path)?, path) });
        Ok(Self { own: own.transpose()?, built_in: built_in()? })
    }

    /// What is written in a configuration's file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text_of(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_path_buf(), reason })
    }

    /// The configuration that this text is, at the place of this file.
    ///
    /// # Errors
    /// When it has anything in it that it shouldn't.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { own: Some(own_keys(text, path)?), built_in: built_in()? })
    }

    /// What holds for each key, by a file over what is built in; paths as they are looked for.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn effective(path: Option<&Path>) -> Result<Vec<Effective>, ConfigError> {
        let text = path.map(Self::text_of).transpose()?;
        let config = match text.as_deref().zip(path) {
            Some((text, path)) => Self::parse(text, path)?,
            None => Self::load(None)?,
        };
        let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
        let own = text.as_deref().map(table);
        let built_in = table(BUILT_IN);
        let value = |table: &toml::Table, key: Key| match key.section {
            "" => table.get(key.name).cloned(),
            section => table.get(section)?.get(key.name).cloned(),
        };
        let mut effective = Vec::new();
        let keys = keys();
        for &key in keys.iter().filter(|key| !key.is_repeated) {
            let own = own.as_ref().and_then(|own| value(own, key));
            let origin = if own.is_some() { Origin::File } else { Origin::BuiltIn };
            let value = own.or_else(|| value(&built_in, key));
            let value = config.resolved(key).map(|path| path.display().to_string().into()).or(value);
            effective.push(Effective { section: key.section, table: None, name: key.name, value, origin });
        }
        // Of sections that there may be any number of, those that there are.
        for chunk in keys.chunk_by(|a, b| a.section == b.section).filter(|chunk| chunk[0].is_repeated) {
            let section = chunk[0].section;
            let tables = own.as_ref().and_then(|own| own.get(section)?.as_array());
            for (number, table) in tables.into_iter().flatten().enumerate() {
                effective.extend(chunk.iter().map(|key| Effective {
                    section,
                    table: Some(number),
                    name: key.name,
                    value: table.get(key.name).cloned(),
                    origin: Origin::File,
                }));
            }
        }
        Ok(effective)
    }

    /// Where the file lies that a key names.
    fn resolved(&self, key: Key) -> Option<PathBuf> {
        let own = |of: fn(&Keys) -> Option<PathBuf>| self.own_path(of);
        match (key.section, key.name) {
            ("", "student") => self.path("student", |keys| keys.student.clone()).ok(),
            ("", "vocabulary") => self.path("vocabulary", |keys| keys.vocabulary.clone()).ok(),
            ("source", "uri") => self.source(None).ok()?.path().map(Path::to_path_buf),
            ("engine", "tensorrt") => own(|keys| keys.engine.tensorrt.clone()),
            ("http", "token_file") => own(|keys| keys.http.token_file.clone()),
            ("http", "vocabularies") => own(|keys| keys.http.vocabularies.clone()),
            ("publish", "save") => own(|keys| keys.publish.save.clone()),
            ("publish", "health") => own(|keys| keys.publish.health.clone()),
            ("publish", "json") => own(|keys| {
                keys.publish
                    .json
                    .clone()
                    .filter(|path| !path.as_os_str().is_empty() && !is_standard_output(path))
            }),
            _ => None,
        }
    }

    /// The flag's value, or else the key's: the user's, or else the built-in one.
    ///
    /// # Errors
    /// When not even the built-in configuration has one.
    pub fn or<T>(&self, flag: Option<T>, key: impl Fn(&Keys) -> Option<T>) -> Result<T, ConfigError> {
        let own = || self.own.as_ref().and_then(|(_, keys)| key(keys));
        flag.or_else(own).or_else(|| key(&self.built_in)).ok_or(ConfigError::NoValue)
    }

    /// The path that a key names, ready to be opened; `flag` is the flag that could name another.
    ///
    /// # Errors
    /// When only the built-in configuration names one and there is no checkout around.
    pub fn path(
        &self,
        flag: &'static str,
        of: impl Fn(&Keys) -> Option<PathBuf>,
    ) -> Result<PathBuf, ConfigError> {
        if let Some(own) = self.own_path(&of) {
            return Ok(own);
        }
        let name = of(&self.built_in).ok_or(ConfigError::NoValue)?;
        demo_file(&name).ok_or(ConfigError::NoDemoFile { name, flag })
    }

    /// The source: the flag's, which is relative to where the program was started, or else the key's.
    ///
    /// # Errors
    /// When it is written wrong, or is a demo file and there is no checkout around.
    pub fn source(&self, flag: Option<&str>) -> Result<SourceUri, ConfigError> {
        if let Some(written) = flag {
            return Ok(SourceUri::parse(written)?);
        }
        let uri = SourceUri::parse(&self.or(None, |keys| keys.source.uri.clone())?)?;
        let Some(path) = uri.path().map(Path::to_path_buf) else { return Ok(uri) };
        Ok(uri.at(self.path("source", |keys| keys.source.uri.as_ref().map(|_| path.clone()))?))
    }

    /// The outputs that the user's own file lists.
    ///
    /// # Errors
    /// When a value of one can't be what it is.
    pub fn sinks(&self) -> Result<Vec<SinkSettings>, ConfigError> {
        let Some((folder, keys)) = &self.own else { return Ok(Vec::new()) };
        let mut sinks: Vec<SinkSettings> =
            keys.lines.iter().map(|lines| SinkSettings::Lines(lines.resolve(folder))).collect();
        sinks.extend(PicturesKeys::resolve_all(&keys.pictures, folder)?);
        for mqtt in &keys.mqtt {
            sinks.push(SinkSettings::Mqtt(mqtt.resolve(folder)?));
        }
        for webhook in &keys.webhook {
            sinks.push(SinkSettings::Webhook(webhook.resolve(folder)?));
        }
        for video in &keys.video {
            sinks.push(SinkSettings::Video(video.resolve(folder)?));
        }
        Ok(sinks)
    }

    /// What is served over HTTP, at the flag's address or the file's, if anything is.
    ///
    /// # Errors
    /// When a value can't be what it is.
    pub fn http(&self, listen: Option<SocketAddr>) -> Result<Option<HttpSettings>, ConfigError> {
        let nothing = HttpKeys::default();
        let (folder, own) = match &self.own {
            Some((folder, keys)) => (folder.as_path(), &keys.http),
            None => (Path::new(""), &nothing),
        };
        let listen = listen.map(|address| address.to_string());
        let own = HttpKeys { listen: listen.or_else(|| own.listen.clone()), ..own.clone() };
        Ok(own.resolve(folder, &self.built_in.http)?)
    }

    /// The path that the user's own file gives a key, if it does.
    pub fn own_path(&self, of: impl Fn(&Keys) -> Option<PathBuf>) -> Option<PathBuf> {
        let (folder, keys) = self.own.as_ref()?;
        Some(folder.join(of(keys)?))
    }
}

fn built_in() -> Result<Keys, ConfigError> {
    parse(BUILT_IN, Path::new("demo/wordsight.toml"))
}

/// The keys of a user's file, and the folder that its paths are relative to.
fn own_keys(text: &str, path: &Path) -> Result<(PathBuf, Keys), ConfigError> {
    Ok((path.parent().unwrap_or(Path::new("")).to_path_buf(), parse(text, path)?))
}

fn parse(text: &str, path: &Path) -> Result<Keys, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let told = error.to_string();
        let hint = hint_for(error.message()).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        ConfigError::Wrong { path: path.to_path_buf(), reason: told.trim_end().to_owned() + &hint }
    })
}

/// A key that there is: the section, empty for those at the top, and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    section: &'static str,
    name: &'static str,
    /// Whether there may be any number of its section.
    is_repeated: bool,
}

/// All keys, in the order of the built-in file, which documents each, those without a value among them.
fn keys() -> Vec<Key> {
    let (mut section, mut is_repeated) = ("", false);
    let mut keys = Vec::new();
    for line in BUILT_IN.lines() {
        let written = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = written.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            (section, is_repeated) = (name, true);
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, is_repeated) = (name, false);
        }
        if let Some((name, _)) = written.split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.push(Key { section, name, is_repeated });
        }
    }
    keys
}

/// How alike two names must be (Jaro and Winkler's similarity, 0 to 1) for one to be taken for the other misspelt.
const ALIKE: f64 = 0.85;

/// What may have been meant by a key that there isn't.
fn hint_for(message: &str) -> Option<String> {
    let unknown = message.strip_prefix("unknown field `")?.split('`').next()?;
    let place = |key: &Key| match key.section {
        "" => "at the top of the file, before any [section]".to_owned(),
        section if key.is_repeated => format!("under [[{section}]]"),
        section => format!("under [{section}]"),
    };
    let keys = keys();
    if let Some(key) = keys.iter().find(|key| key.name == unknown) {
        return Some(format!("`{unknown}` stands {}", place(key)));
    }
    let sections = keys.iter().map(|key| (key.section, format!("[{}]", key.section)));
    let names = keys.iter().map(|key| (key.name, format!("`{}`, {}", key.name, place(key))));
    let alike = sections.chain(names).map(|(name, told)| (strsim::jaro_winkler(name, unknown), told));
    let (likeness, nearest) = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= ALIKE).then(|| format!("did you mean {nearest}?"))
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user's file.
    File,
    /// The built-in configuration.
    BuiltIn,
}

/// One key, and what holds for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The section that it stands in; empty at the top.
    pub section: &'static str,
    /// Which of the sections of that name, where there may be more than one.
    pub table: Option<usize>,
    /// Its name.
    pub name: &'static str,
    /// Its value, where it has one.
    pub value: Option<toml::Value>,
    /// Where that comes from.
    pub origin: Origin,
}

/// A file of the `demo` folder of a checkout, or of an installation: `../share/wordsight` of the executable.
fn demo_file(name: &Path) -> Option<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let folders = [Path::new("")].into_iter().chain(executable.ancestors().skip(1));
    let installed = executable.ancestors().nth(2).map(|prefix| prefix.join("share/wordsight"));
    folders
        .map(|folder| folder.join("demo"))
        .chain(installed)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn with(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wordsight.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn the_built_in_configuration_has_a_value_for_every_key_but_the_places_of_what_is_written_only_if_asked_for()
     {
        let Keys { student, vocabulary, source, detection, engine, governor, publish, tracking, .. } =
            Config::load(None).unwrap().built_in;
        assert!(
            tracking.enabled.is_some()
                && tracking.confirm_after.is_some()
                && tracking.forget_after_s.is_some()
                && tracking.vote_half_life_s.is_some()
                && tracking.weak_fraction.is_some()
        );
        assert!(student.is_some() && vocabulary.is_some() && engine.threads.is_some());
        assert!(
            source.uri.is_some()
                && source.pacing.is_some()
                && source.fps.is_some()
                && source.repeat.is_some()
                && source.latency_ms.is_some()
                && source.stalled_after_s.is_some()
                && source.longest_wait_s.is_some()
                && source.give_up_after_s.is_some()
                && source.wait_at_start.is_some()
        );
        assert!(detection.score_threshold.is_some() && detection.nms_iou.is_some());
        assert!(detection.voting_iou.is_some());
        assert!(detection.max_detections.is_some() && detection.words_per_region.is_some());
        assert!(
            governor.enabled.is_some() && governor.margin_c.is_some() && governor.least_fraction.is_some()
        );
        assert!(publish.json.is_some() && publish.save_every.is_some());
        assert!(publish.save.is_none() && BUILT_IN.contains("# save = "), "and the folder is documented");
        assert!(publish.health.is_none() && BUILT_IN.contains("# health = "));
    }

    #[test]
    fn a_key_of_the_users_goes_before_the_built_in_one_and_the_others_stay() {
        let config = with("[detection]\nscore_threshold = 0.7\n").unwrap();
        assert_eq!(config.or(None, |keys| keys.detection.score_threshold).unwrap(), Fraction(0.7));
        let iou = config.or(None, |keys| keys.detection.nms_iou).unwrap();
        assert_eq!(Some(iou), config.built_in.detection.nms_iou);
    }

    #[test]
    fn a_path_is_relative_to_the_file_it_stands_in() {
        let config = Config {
            own: Some((
                "/etc/wordsight".into(),
                toml::from_str("student = \"s.onnx\"\nvocabulary = \"/v\"").unwrap(),
            )),
            built_in: Keys::default(),
        };
        assert_eq!(
            config.path("student", |keys| keys.student.clone()).unwrap(),
            Path::new("/etc/wordsight/s.onnx")
        );
        assert_eq!(config.path("vocabulary", |keys| keys.vocabulary.clone()).unwrap(), Path::new("/v"));
    }

    #[test]
    fn the_effective_configuration_has_every_key_once_and_says_where_its_value_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wordsight.toml");
        std::fs::write(&path, "student = \"s.onnx\"\n[source]\nfps = 5\n[publish]\nhealth = \"h.json\"\n")
            .unwrap();
        let effective = Config::effective(Some(&path)).unwrap();
        let of = |section, name| {
            let mut found = effective.iter().filter(|key| (key.section, key.name) == (section, name));
            let key = found.next().unwrap();
            assert!(found.next().is_none());
            (key.value.as_ref().map(ToString::to_string), key.origin)
        };
        let in_folder = |name: &str| Some(format!("\"{}\"", folder.path().join(name).display()));
        assert_eq!(of("", "student"), (in_folder("s.onnx"), Origin::File));
        assert_eq!(of("source", "fps"), (Some("5".to_owned()), Origin::File));
        assert_eq!(of("source", "loop"), (Some("false".to_owned()), Origin::BuiltIn));
        assert_eq!(of("publish", "health"), (in_folder("h.json"), Origin::File));
        assert_eq!(of("publish", "save"), (None, Origin::BuiltIn));
        // As many as the structures have: an error names all of a section.
        for section in ["source", "detection", "tracking", "engine", "governor", "publish", "http"] {
            let error = with(&format!("[{section}]\nx-y-z = 1")).unwrap_err().to_string();
            let listed =
                error.split("expected one of ").nth(1).unwrap().lines().next().unwrap().matches('`').count()
                    / 2;
            let known = effective.iter().filter(|key| key.section == section).count();
            assert_eq!(known, listed, "{section}: demo/wordsight.toml documents every key");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        let cases = [
            ("studend = \"x\"", "line 1", "studend"),
            ("\n[source]\nuri = \"x\"\nspeed = 3", "line 4", "speed"),
            ("[detection]\nscore_threshold = 1.5", "line 2", "1.5 is not between 0 and 1"),
            ("[detection]\nmax_detections = 0", "line 2", "nonzero"),
            ("[governor]\nleast_fraction = 0", "line 2", "0 is not between 0.01 and 1"),
            ("[source]\nfps = 0", "line 2", "frames per second"),
            ("[source]\npacing = \"fast\"", "line 2", "lossless"),
            ("[source]\ngive_up_after_s = -1", "line 2", "seconds"),
            ("[source]\nstalled_after_s = 0", "line 2", "0.05 seconds or more"),
            ("[source]\nlongest_wait_s = 0.001", "line 2", "0.05 seconds or more"),
            ("[source", "line 1", "]"),
            ("vocabulry = \"x\"", "line 1", "did you mean `vocabulary`, at the top of the file"),
            (
                "[detection]\nscore_treshold = 0.5",
                "line 2",
                "did you mean `score_threshold`, under [detection]?",
            ),
            ("score_threshold = 0.5", "line 1", "`score_threshold` stands under [detection]"),
            ("[source]\nstudent = \"x\"", "line 2", "`student` stands at the top of the file"),
            ("[detecton]\nnms_iou = 0.5", "line 1", "did you mean [detection]?"),
        ];
        for (text, line, reason) in cases {
            let error = with(text).unwrap_err();
            assert!(error.is_a_mistake_of_usage());
            let error = error.to_string();
            assert!(error.contains(line) && error.contains(reason), "{text}: {error}");
        }
    }
}
