//! The target: all that a stream is to be made of, and how each part is opened.
//!
//! Made of the configuration, with flags over it, it opens an engine, words, a source and outputs. Two targets can be
//! compared, part by part: what is equal need not be made again when the configuration is loaded again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use wordsight_board::GovernorSettings;
use wordsight_capture::{
    CaptureError, LONGEST_NAP, Pacing, ReconnectSettings, Reconnecting, Source, SourceUri, StreamSettings,
};
use wordsight_detection::{DetectionSettings, Vocabulary, Word, WordExamples};
use wordsight_engines::StudentFacts;
use wordsight_teacher::TeacherError;
use wordsight_teacher::competitors::Competitors;
use wordsight_teacher::words::{self, ListedWords, WordList, WordsError};
use wordsight_tracking::TrackingSettings;

use super::photographs::show_files;
use crate::config::{Config, ConfigError};
use crate::files::{Content, Inputs, OutputError};
use crate::health::Health;
use crate::http::HttpSettings;
use crate::pipeline::{EngineKeys, EngineKind, Precision};
use crate::publish::{SinkSettings, Undrawable};
use crate::requests::ShownExamples;
use crate::scoring::FrameScorer;
use crate::settings::SettingError;
use crate::threads::{Stop, named};
use crate::tracking::ZoneSettings;
use crate::words::make_beside;

/// What stands in the place of a file's name for words that were asked for.
const REQUESTED: &str = "words as requested";
/// How long a source may take to say what it offers.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// What a stream is to be: all its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What finds regions.
    pub engine: EngineTarget,
    /// What names them.
    pub words: WordsTarget,
    /// Where frames come from.
    pub source: SourceTarget,
    /// What follows the things from frame to frame, if anything does.
    pub tracking: Option<TrackingSettings>,
    /// Where things are watched, and where nothing is found.
    pub zones: ZoneSettings,
    /// Where results go, in the order of the configuration.
    pub sinks: Vec<SinkSettings>,
    /// What the stream is called.
    pub name: String,
    /// What is served over HTTP, if anything is.
    pub http: Option<HttpSettings>,
    /// The folder of the vocabularies that may be switched to by name.
    pub vocabularies: PathBuf,
    /// Where the health goes.
    pub health: Option<PathBuf>,
    /// What keeps the stream within what the board can stand.
    pub governor: Option<GovernorSettings>,
    /// What it gets of what several streams share.
    pub share: Share,
    /// Whether it is one of several.
    pub is_camera: bool,
}

/// What several cameras are to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceTarget {
    /// Each camera, in the order of the configuration.
    pub cameras: Vec<Target>,
    /// What is served over HTTP, if anything is.
    pub http: Option<HttpSettings>,
    /// Where the health goes.
    pub health: Option<PathBuf>,
    /// What keeps the streams within what the board can stand.
    pub governor: Option<GovernorSettings>,
}

impl DeviceTarget {
    /// What a configuration with several cameras asks for.
    ///
    /// # Errors
    /// As [`Target::of`], and when several cameras would send to one place that takes one.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let of_camera = |config: &Config| {
            let of = |reason| ConfigError::OfCamera { name: config.name.clone(), reason: Box::new(reason) };
            Target::of(config).map_err(of)
        };
        let cameras: Vec<Target> = config.cameras().iter().map(of_camera).collect::<Result<_, _>>()?;
        for (place, camera) in cameras.iter().enumerate() {
            let others = || cameras[..place].iter().flat_map(|other| &other.sinks);
            let twice =
                camera.sinks.iter().find(|sink| sink.is_one_for_all() && others().any(|of| of == *sink));
            if let Some(sink) = twice {
                let reason = format!(
                    "{} takes one video, and several cameras would send theirs: name the one with `cameras`",
                    sink.place()
                );
                return Err(SettingError { section: sink.section(), reason }.into());
            }
        }
        Ok(Self {
            cameras,
            http: config.http.settings()?,
            health: config.publish.health.clone(),
            governor: config.governor.settings(),
        })
    }

    /// Of one stream alone.
    pub fn of_single(target: Target) -> Self {
        let (http, health, governor) = (target.http.clone(), target.health.clone(), target.governor);
        Self { cameras: vec![target], http, health, governor }
    }

    /// The camera of this name.
    pub fn camera(&self, name: &str) -> Option<&Target> {
        self.cameras.iter().find(|camera| camera.name == name)
    }
}

/// A stream's part of what several share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// How many turns of the engine it gets beside others, which have 1.
    pub priority: f64,
    /// The most frames a second; nothing: as many as come.
    pub max_fps: Option<f64>,
}

impl Share {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Self {
        let max_fps = f64::from(config.source.max_fps.0);
        Self { priority: config.source.priority.0.into(), max_fps: (max_fps > 0.0).then_some(max_fps) }
    }
}

impl Target {
    /// What a configuration asks for.
    ///
    /// # Errors
    /// When a value can't be what it is, or a demo file is needed and isn't there.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let mut sinks = config.publish.sinks();
        sinks.extend(config.sinks()?);
        let is_camera = config.is_camera();
        if is_camera {
            sinks.iter_mut().for_each(|sink| *sink = sink.of_camera(&config.name));
        }
        Ok(Self {
            engine: EngineTarget::of(config)?,
            words: WordsTarget::of(config)?.tracked(config),
            source: SourceTarget::of(config)?,
            tracking: config.tracking.settings(),
            zones: config.zones()?,
            sinks,
            name: config.name.clone(),
            // What there is one of, for all cameras, is `DeviceTarget`'s.
            http: if is_camera { None } else { config.http.settings()? },
            vocabularies: config.http.vocabulary_folder(),
            health: config.publish.health.clone().filter(|_| !is_camera),
            governor: config.governor.settings().filter(|_| !is_camera),
            share: Share::of(config),
            is_camera,
        })
    }

    /// What results are told to come from, where there are several cameras.
    pub fn camera(&self) -> Option<Arc<str>> {
        self.is_camera.then(|| self.name.as_str().into())
    }

    /// What is wrong with the words that outputs and zones are about, and the zones that outputs are about, if anything is:
    /// those that there are not, with what may have been meant. Words of a vocabulary that may be switched to are none.
    pub fn unknown_names<'a>(&self, words: impl Iterator<Item = &'a str> + Clone) -> Vec<SettingError> {
        let of_sink = |sink: &'_ SinkSettings| -> Vec<(&'static str, String)> {
            sink.words().iter().map(|word| (sink.section(), word.clone())).collect()
        };
        let of_zones = self.zones.words().map(|(section, word)| (section, word.to_owned()));
        let of_sinks = self.sinks.iter().flat_map(of_sink);
        let mut unknown: Vec<(&'static str, String)> = of_sinks.chain(of_zones).collect();
        unknown.retain(|(_, word)| !words.clone().any(|known| known == word));
        if !unknown.is_empty() {
            let others = self.http.iter().flat_map(HttpSettings::vocabulary_files);
            for other in others.filter_map(|path| Vocabulary::load(&path).ok()) {
                unknown.retain(|(_, word)| !other.shown().iter().any(|known| known.word == *word));
            }
        }
        let told = unknown.into_iter().map(|(section, word)| {
            let near = nearest(&word, words.clone());
            let hint = near.map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
            let reason = format!("{word:?} is no word of {}{hint}", self.words.vocabulary.display());
            SettingError { section, reason }
        });
        told.chain(self.unknown_zones()).collect()
    }

    fn unknown_zones(&self) -> impl Iterator<Item = SettingError> {
        let named = self.sinks.iter().flat_map(|sink| sink.zones().iter().map(|zone| (sink.section(), zone)));
        named.filter(|(_, zone)| !self.zones.has(zone)).map(|(section, zone)| {
            let near = nearest(zone, self.zones.names());
            let hint = near.map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
            SettingError { section, reason: format!("{zone:?} is no zone or line{hint}") }
        })
    }

    /// The words that pictures can't show, where pictures are drawn at all.
    pub fn undrawable_words<'a>(&self, words: impl Iterator<Item = &'a str> + Clone) -> Option<Undrawable> {
        let draws = self.http.is_some() || self.sinks.iter().any(SinkSettings::takes_pictures);
        draws.then(|| Undrawable::among(words)).flatten()
    }

    /// Holds what is written against what is read, `configuration` among it.
    ///
    /// # Errors
    /// When an output is an input, or would replace what is no output's.
    pub fn check_outputs(&self, configuration: Option<&Path>) -> Result<(), OutputError> {
        let student = Some(self.engine.student.as_path());
        let mut inputs = inputs_of(configuration, student, Some(&self.words), Some(&self.source.uri));
        self.sinks.iter().flat_map(SinkSettings::files_read).for_each(|path| inputs.add(path));
        if let Some(token) = self.http.as_ref().and_then(|http| http.token_file.as_deref()) {
            inputs.add(token);
        }
        if let Some(health) = &self.health {
            inputs.check(health, Content::Json)?;
        }
        self.sinks.iter().try_for_each(|sink| sink.check_place(&inputs))
    }
}

/// What every command reads that runs a student: the configuration's file, the student, the words and the source, those
/// that there are.
pub fn inputs_of(
    configuration: Option<&Path>,
    student: Option<&Path>,
    words: Option<&WordsTarget>,
    source: Option<&SourceUri>,
) -> Inputs {
    let of_words = words.map(|words| (words.vocabulary.as_path(), words.teacher.as_deref())).unzip();
    let read = [configuration, student, of_words.0, of_words.1.flatten()];
    let mut inputs = Inputs::of(read.into_iter().flatten());
    source.and_then(SourceUri::path).into_iter().for_each(|path| inputs.add_pictures(path));
    inputs
}

/// A student, and what runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineTarget {
    /// The student's file.
    pub student: PathBuf,
    /// What runs it.
    pub kind: EngineKind,
    /// CPU threads; 0: all cores.
    pub threads: usize,
    /// A folder of TensorRT's libraries.
    pub tensorrt: Option<PathBuf>,
    /// Whether plans that lack are built.
    pub builds_plans: bool,
    /// What they compute in.
    pub precision: Precision,
    /// Scratch memory of theirs, MiB; 0: by what is free.
    pub workspace_mib: u32,
}

impl EngineTarget {
    /// The student that a configuration names, and what is to run it.
    ///
    /// # Errors
    /// When it is the demo's, and there is no checkout around.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let EngineKeys { kind, tensorrt, build_plans, precision, workspace_mib, threads } =
            config.engine.clone();
        let student = config.student.find("student")?;
        Ok(Self { student, kind, threads, tensorrt, builds_plans: build_plans, precision, workspace_mib })
    }

    /// The command that builds the plan that is wanted.
    pub fn plan_command(&self) -> String {
        let precision = match self.precision {
            Precision::Auto => "",
            Precision::Fp32 => " --precision fp32",
            Precision::Fp16 => " --precision fp16",
        };
        format!("wordsight plan build {}{precision}", self.student.display())
    }
}

/// Words, and what is told of what they name.
#[derive(Debug, Clone, PartialEq)]
pub struct WordsTarget {
    /// The student to which their examples are shown.
    pub student: PathBuf,
    /// The file that they stand in: a vocabulary, a words.toml, or the configuration that lists them.
    pub vocabulary: PathBuf,
    /// Those that the configuration lists, if it does.
    pub listed: Option<ListedWords>,
    /// Examples that were shown beside the stream, over the words.
    pub shown: Option<ShownExamples>,
    /// The folder of the teacher that embeds them where they are no vocabulary yet; without one it is the installed one's.
    pub teacher: Option<PathBuf>,
    /// Which detections are told.
    pub detection: DetectionSettings,
}

/// Words that are ready to score.
pub struct OpenedWords {
    /// What scores by them.
    pub scorer: FrameScorer,
    /// The vocabulary, where it was made just now and stands in no file.
    pub made: Option<Vocabulary>,
}

impl WordsTarget {
    /// The words that a configuration names, and what is told of what they name.
    ///
    /// # Errors
    /// When they are the demo's, and there is no checkout around.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let (listed, teacher) = (config.words.clone(), config.teacher.clone());
        let student = config.student.find("student")?;
        let vocabulary = match listed {
            Some(_) => config.file().to_owned(),
            None => config.vocabulary.find("vocabulary")?,
        };
        Ok(Self { student, vocabulary, listed, shown: None, teacher, detection: config.detection.settings() })
    }

    /// The same as a vocabulary's file.
    pub fn of_file(&self, vocabulary: &Path) -> Self {
        Self { vocabulary: vocabulary.to_owned(), listed: None, shown: None, ..self.clone() }
    }

    /// The same with words that a request lists.
    pub fn of_list(&self, listed: &ListedWords) -> Self {
        let listed = Some(listed.clone());
        Self { vocabulary: PathBuf::from(REQUESTED), listed, shown: None, ..self.clone() }
    }

    /// The file whose change is one of the words: none where the configuration lists them, which is watched anyway.
    pub fn watched(&self) -> &Path {
        if self.listed.is_some() { Path::new("") } else { &self.vocabulary }
    }

    /// The same as whoever tracks wants them: what is not sure enough to be told may still be what is followed.
    pub fn tracked(mut self, config: &Config) -> Self {
        if config.tracking.enabled {
            self.detection.weak_fraction = config.tracking.weak_fraction.0;
        }
        self
    }

    /// The words as they are written, where they have to be made a vocabulary of.
    ///
    /// # Errors
    /// When they stand in a words.toml that is wrong.
    pub fn list(&self) -> Result<Option<WordList>, WordsError> {
        match &self.listed {
            Some(listed) => Ok(Some(listed.list())),
            None if is_list(&self.vocabulary) => words::read(&self.vocabulary).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the vocabulary and makes it meet the student. Words that are none yet are made one, in the space of the
    /// student's teacher.
    ///
    /// # Errors
    /// When it can't be read or made, or comes from another teacher.
    pub fn open(&self, student: &StudentFacts, stop: &Stop) -> anyhow::Result<OpenedWords> {
        let path = self.vocabulary.display();
        let list = self.list().map_err(TeacherError::from)?;
        let is_made = list.is_some() || self.shown.is_some();
        let mut vocabulary = match list {
            Some(list) => self.make(&list, student, stop)?,
            None => Vocabulary::load(&self.vocabulary)?,
        };
        self.add_shown(&mut vocabulary, student, stop)?;
        let scorer = FrameScorer::new(&vocabulary, student, self.detection)
            .with_context(|| format!("{path} does not fit the student"))?;
        tracing::info!(vocabulary = %path, words = vocabulary.shown().len(), "opened the vocabulary");
        Ok(OpenedWords { scorer, made: is_made.then_some(vocabulary) })
    }

    /// Adds the examples that were shown. Those of another student are left alone: they come back with it.
    fn add_shown(
        &self,
        vocabulary: &mut Vocabulary,
        student: &StudentFacts,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let Some(shown) = &self.shown else { return Ok(()) };
        let id = student.id();
        if shown.student != id {
            tracing::warn!("the examples that were shown to another student are not used");
            return Ok(());
        }
        vocabulary.check_against(&student.teacher, student.embedding_size)?;
        self.add_texts(vocabulary, &shown.words, stop);
        Ok(vocabulary.add_examples(student.shown(&id), &shown.words)?)
    }

    /// Adds the texts of words that have only examples, where a teacher is installed that knows them.
    fn add_texts(&self, vocabulary: &mut Vocabulary, shown: &[WordExamples], stop: &Stop) {
        let is_new = |word: &&WordExamples| {
            !word.is_negative && !vocabulary.words.iter().any(|known| known.word == word.word)
        };
        let new: Vec<Word> = shown.iter().filter(is_new).map(|word| Word::new(&word.word)).collect();
        if new.is_empty() {
            return;
        }
        let teacher = vocabulary.teacher.clone();
        let texts = |words: &[Word]| {
            let list = WordList {
                prompts: words::default_prompts(),
                words: words.to_vec(),
                competitors: Competitors::None,
                places: Vec::new(),
                shown: Vec::new(),
            };
            make_beside(&list, &teacher, self.teacher.as_deref(), stop)
        };
        if let Ok(texts) = texts(&new) {
            return vocabulary.show_too(texts);
        }
        // One that the teacher knows nothing of refuses a whole list.
        for word in new {
            match texts(std::slice::from_ref(&word)) {
                Ok(text) => vocabulary.show_too(text),
                Err(reason) => tracing::info!("{:?} is known by its examples alone: {reason}", word.word),
            }
        }
    }

    /// The words, as errors name them.
    fn told(&self) -> String {
        match self.vocabulary.to_str() {
            Some(REQUESTED) => "these words".to_owned(),
            _ => format!("the words in {}", self.vocabulary.display()),
        }
    }

    /// Makes a vocabulary of a list, for a student.
    ///
    /// # Errors
    /// When what is new can't be embedded, or a picture is no example.
    pub fn make(&self, list: &WordList, student: &StudentFacts, stop: &Stop) -> anyhow::Result<Vocabulary> {
        let made = make_beside(list, &student.teacher, self.teacher.as_deref(), stop);
        let mut made = made.map_err(|error| match list.error_at_its_place(error, &self.vocabulary) {
            error @ TeacherError::Words(_) => error.into(),
            error => anyhow::Error::from(error).context(format!("{} make no vocabulary", self.told())),
        })?;
        if !list.shown.is_empty() {
            let shown = show_files(&list.shown, &self.student, student, stop)?;
            made.add_examples(student.shown(&student.id()), &shown)?;
        }
        Ok(made)
    }
}

/// Whether a file is a list of words, by its name.
pub fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// A source, and what becomes of it when it is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceTarget {
    /// What and where it is.
    pub uri: SourceUri,
    /// How its frames follow one another.
    pub pacing: Pacing,
    /// Whether a file begins again at its end.
    pub repeat: bool,
    /// How a live stream is opened.
    pub stream: StreamSettings,
    /// What happens to a live one that is lost.
    pub reconnect: ReconnectSettings,
}

impl SourceTarget {
    /// The source that a configuration names, at its pace.
    ///
    /// # Errors
    /// When it is written wrong, is a camera that is to lose no frame, or a demo file without a checkout around.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let (keys, uri) = (&config.source, config.source_uri()?);
        let pacing = keys.pacing.at(keys.fps, uri.is_live());
        let pacing = pacing.ok_or_else(|| ConfigError::LosslessCamera(uri.display().to_owned()))?;
        Ok(Self { uri, pacing, repeat: keys.repeat, stream: keys.stream(), reconnect: keys.reconnect() })
    }

    /// Opens the source; one that is live is kept open from then on.
    ///
    /// # Errors
    /// When it isn't there or isn't what was asked for; [`of_usage`] tells which.
    pub fn open(&self, health: &Health, stop: &Stop) -> Result<Box<dyn Source>, CaptureError> {
        if !self.uri.is_live() {
            return self.uri.open(&self.stream);
        }
        let (uri, stream) = (self.uri.clone(), self.stream);
        let open = move || uri.open(&stream);
        let name = self.uri.display();
        let reconnecting =
            Reconnecting::open(name, self.reconnect, health.clone(), open, &|| stop.is_requested())?;
        Ok(Box::new(reconnecting))
    }

    /// Looks whether the source can give what is asked for, before anything that takes long is done for it. One that isn't
    /// there and is waited for is none to complain of, and what doesn't answer is left to the opening, which can wait.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(&self, stop: &Stop) -> Result<(), CaptureError> {
        let (uri, stream) = (self.uri.clone(), self.stream);
        let (tell, told) = mpsc::channel();
        // A thread of its own, as in `Reconnecting`: a driver that hangs would keep whoever asks.
        let check = move || drop(tell.send(uri.check(&stream)));
        if named("check").spawn(check).is_err() {
            return Ok(());
        }
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_CHECK && !stop.is_requested() {
            match told.recv_timeout(LONGEST_NAP) {
                Ok(Err(error @ CaptureError::Uri(_))) => return Err(error),
                Ok(Err(error)) if !self.uri.is_live() || !self.reconnect.waits_at_start => {
                    return Err(error);
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }

    /// The same, but one that isn't there is waited for.
    pub fn waited_for(&self) -> Self {
        let reconnect = ReconnectSettings { waits_at_start: true, ..self.reconnect };
        Self { reconnect, ..self.clone() }
    }

    /// The same, but one that isn't there is an error.
    pub fn at_once(&self) -> Self {
        let reconnect = ReconnectSettings { waits_at_start: false, ..self.reconnect };
        Self { reconnect, ..self.clone() }
    }
}

/// An error of a source; a mistake in what the user wrote is one of usage.
pub fn of_usage(error: CaptureError) -> anyhow::Error {
    match error {
        CaptureError::Uri(error) => ConfigError::Source(error).into(),
        other => other.into(),
    }
}

/// How alike a word must be (Jaro and Winkler's similarity, 0 to 1) for another to be taken for it misspelt.
const ALIKE: f64 = 0.8;

/// The word that another may have been meant for.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &word.to_lowercase());
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) >= ALIKE).then_some(nearest)
}
