//! `wordsight doctor`: checks everything that can be wrong on a device, and says what to do.
//!
//! Looks at what a stream is to be made of, and at the system's files under a root that is `/` or a test's folder. It
//! gives [`Finding`]s in the order in which things depend on one another, so that what is wrong first is put right
//! first.
//!
//! A running stream is not disturbed. While the service's health says that it runs, its camera is not opened here: that
//! it runs is the better proof.

mod finding;
mod service;
mod system;

use std::path::{Path, PathBuf};

use wordsight_board::{Machine, Readings};
use wordsight_engines::StudentFacts;
use wordsight_engines::cpu::library;

use crate::health::Health;
use crate::pipeline::EngineKind;
use crate::publish::SinkSettings;
use crate::service::{EngineTarget, Installed, Target};
use crate::threads::Stop;
pub use finding::{Device, Finding, State};
use service::Service;

/// Looks at everything, in order.
pub fn examine(device: &Device) -> Vec<Finding> {
    let root = &device.root;
    let service = Service::look(device);
    let mut found = vec![configuration(device)];
    found.extend(chosen_cameras(device));
    if let Ok(configured) = &device.configured {
        let (student, facts) = student(configured);
        found.push(student);
        for target in std::iter::once(configured).chain(&device.others) {
            found.extend(facts.as_ref().map_or_else(|| words_alone(target), |facts| words(target, facts)));
            found.push(source(target, service.runs()));
        }
    }
    found.extend(system::permissions(root));
    let (machine, readings) = (Machine::read(root), Readings::read(root));
    found.push(system::releases(&machine));
    found.push(tensorrt(device, &machine));
    found.extend(system::power(root, &machine, &readings));
    let targets = device.configured.iter().chain(&device.others);
    let written: Vec<PathBuf> = targets.flat_map(folders_written).collect();
    found.push(system::disk(root, &written));
    found.push(system::clock(root, device.now));
    found.extend(service.findings(root));
    found
}

/// Folders that results go to.
fn folders_written(configured: &Target) -> Vec<PathBuf> {
    configured.sinks.iter().filter_map(SinkSettings::folder).map(Path::to_path_buf).collect()
}

fn configuration(device: &Device) -> Finding {
    let name =
        device.file.as_deref().map_or("the built-in one".to_owned(), |file| file.display().to_string());
    match &device.configured {
        Ok(_) => Finding::ok("configuration", name),
        Err(error) => Finding {
            found: error.to_string(),
            ..Finding::wrong("configuration", "", "put it right: `wordsight check` says whether it is")
        },
    }
}

/// Cameras that are other than the configuration says.
fn chosen_cameras(device: &Device) -> Option<Finding> {
    let (added, removed) = (device.chosen.names(), device.chosen.removed());
    let named =
        |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let told = [named("asked for:", added.collect()), named("taken away:", removed.collect())];
    let told: Vec<String> = told.into_iter().flatten().collect();
    let found = format!("{}; DELETE /api/cameras takes it back", told.join("; "));
    (!device.chosen.is_empty()).then(|| Finding::ok("cameras over HTTP", found))
}

/// The student, and what it says of itself. The engine is opened as a stream would, but no plan is built for it: that takes
/// minutes.
fn student(configured: &Target) -> (Finding, Option<StudentFacts>) {
    let engine = EngineTarget { builds_plans: false, ..configured.engine.clone() };
    let engine = match engine.open(&Installed::QUIET, &Stop::default(), &|| ()) {
        Ok(engine) => engine,
        Err(error) => return (Finding::failed("student", error), None),
    };
    let facts = engine.facts();
    let says = format!(
        "{}: {}x{}, of the teacher {}; run by {}",
        configured.engine.student.display(),
        facts.input_width(),
        facts.input_height(),
        facts.teacher,
        engine.title()
    );
    (Finding::ok("student", says), Some(facts.clone()))
}

/// The words of a configuration, held against the student.
fn words(configured: &Target, facts: &StudentFacts) -> Vec<Finding> {
    match configured.words.open(facts, &Stop::default()) {
        Ok(opened) => {
            let (path, words) = (vocabulary_of(configured), opened.scorer.words());
            let found =
                Finding::ok("vocabulary", format!("{path}: {} words, which fit the student", words.len()));
            std::iter::once(found).chain(labels(configured, words.iter())).collect()
        }
        Err(error) => vec![Finding::failed("vocabulary", of_camera(configured, &error))],
    }
}

/// Whose it is, where there are several cameras.
fn camera_prefix(configured: &Target) -> String {
    configured.camera().map_or_else(String::new, |name| format!("camera {name}: "))
}

fn of_camera(configured: &Target, error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{}{error:#}", camera_prefix(configured))
}

/// A vocabulary's path.
fn vocabulary_of(configured: &Target) -> String {
    format!("{}{}", camera_prefix(configured), configured.words.vocabulary.display())
}

/// The words of a configuration whose student can't be opened.
fn words_alone(configured: &Target) -> Vec<Finding> {
    let path = vocabulary_of(configured);
    let (words, says) = match configured.words.list() {
        Ok(Some(list)) => (list.words, "no student says for which teacher"),
        Ok(None) => match wordsight_detection::Vocabulary::load(&configured.words.vocabulary) {
            Ok(vocabulary) => (vocabulary.words, "no student to hold them against"),
            Err(error) => return vec![Finding::failed("vocabulary", of_camera(configured, &error.into()))],
        },
        Err(error) => return vec![Finding::failed("vocabulary", of_camera(configured, &error.into()))],
    };
    let shown = words.iter().filter(|word| !word.hidden).map(|word| word.word.as_str());
    let found = Finding::ok("vocabulary", format!("{path}: {} words; {says}", shown.clone().count()));
    std::iter::once(found).chain(labels(configured, shown)).collect()
}

/// Words that pictures can't show.
fn labels<'a>(configured: &Target, words: impl Iterator<Item = &'a str> + Clone) -> Option<Finding> {
    let undrawable = configured.undrawable_words(words)?;
    Some(Finding::warning("labels", undrawable.to_string(), undrawable.remedy()))
}

fn source(configured: &Target, is_in_use: bool) -> Finding {
    let camera = camera_prefix(configured);
    let uri = &configured.source.uri;
    if is_in_use && uri.is_live() {
        let says = format!("{camera}{}: in use by the service, and left alone", uri.display());
        return Finding::ok("source", says);
    }
    // Not by hand: a camera's daemon that hangs would keep whoever asks.
    match configured.source.at_once().open(&Health::default(), &Stop::default()) {
        Ok(_) => Finding::ok("source", format!("{camera}{}: opens", uri.display())),
        Err(error) => Finding::failed("source", anyhow::anyhow!("{camera}{error}")),
    }
}

/// TensorRT and its plan for the student, or what there is instead.
fn tensorrt(device: &Device, machine: &Machine) -> Finding {
    let about = "TensorRT";
    let instead = library::loaded_version()
        .map_or("ONNX Runtime".to_owned(), |version| format!("ONNX Runtime {version}"));
    let kind = device.configured.as_ref().map(|configured| configured.engine.kind);
    if matches!(kind, Ok(EngineKind::OnnxRuntime)) {
        return Finding::ok(about, format!("not asked for: {instead} runs the student on the processor"));
    }
    if machine.l4t.is_none() && machine.gpus.is_empty() {
        return Finding::ok(
            about,
            format!("no GPU of NVIDIA's is here: {instead} runs the student on the processor"),
        );
    }
    on_gpu(device, about, &instead)
}

#[cfg(not(feature = "tensorrt"))]
fn on_gpu(_: &Device, about: &'static str, instead: &str) -> Finding {
    Finding::warning(
        about,
        format!("this wordsight was built without it, and {instead} runs the student on the processor"),
        "build it with `cargo build --release --features tensorrt`: a GPU is many times faster",
    )
}

#[cfg(feature = "tensorrt")]
fn on_gpu(device: &Device, about: &'static str, instead: &str) -> Finding {
    use wordsight_engines::tensorrt::Library;
    let Ok(configured) = &device.configured else {
        return Finding::ok(about, "not looked at without a configuration");
    };
    let library = match Library::open(configured.engine.tensorrt.as_deref()) {
        Ok(library) => library.name(),
        Err(error) => {
            return Finding::warning(
                about,
                format!("{error}"),
                format!("until then {instead} runs the student"),
            );
        }
    };
    let target =
        EngineTarget { kind: EngineKind::TensorRt, builds_plans: false, ..configured.engine.clone() };
    match target.open(&Installed::QUIET, &Stop::default(), &|| ()) {
        // Its name has the precision that the plan computes in.
        Ok(engine) => Finding::ok(about, format!("{}, with a plan of the student that fits", engine.name())),
        Err(error) => Finding::warning(
            about,
            format!("{library}: {error:#}"),
            format!(
                "build it with `{}`; until then {instead} runs the student",
                configured.engine.plan_command()
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
