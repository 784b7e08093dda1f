//! `wordsight doctor`: checks everything that can be wrong on a device, and says what to do.
//!
//! In flow what a stream is to be made of, and the system's files under a root that is `/` or a test's folder; out flow
//! [`Finding`]s, in the order in which things depend on one another: what is wrong first is put right first.
//!
//! A running stream is not disturbed. While the service's health says that it runs, its camera is not opened here: that
//! it runs is the better proof.

mod finding;
mod service;
mod system;

use std::path::{Path, PathBuf};

use wordsight_board::{Machine, Readings};
use wordsight_engines::cpu::library;

use crate::health::Health;
use crate::pipeline::EngineKind;
use crate::publish::SinkSettings;
use crate::service::{EngineTarget, Installed, Target, WordsTarget};
use crate::threads::Stop;
pub use finding::{Device, Finding, State};
use service::Service;

/// Looks at everything, in order.
pub fn examine(device: &Device) -> Vec<Finding> {
    let root = &device.root;
    let service = Service::look(device);
    let mut found = vec![configuration(device)];
    if let Ok(configured) = &device.configured {
        found.extend(student_and_words(configured));
        found.extend(labels(configured));
        found.push(source(configured, service.runs()));
    }
    found.extend(system::permissions(root));
    let (machine, readings) = (Machine::read(root), Readings::read(root));
    found.push(system::releases(&machine));
    found.push(tensorrt(device, &machine));
    found.extend(system::power(root, &machine, &readings));
    let written = device.configured.as_ref().map_or(Vec::new(), folders_written);
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

/// The engine is opened as a stream would, but no plan is built for it: that takes minutes.
fn student_and_words(configured: &Target) -> Vec<Finding> {
    let engine = EngineTarget { builds_plans: false, ..configured.engine.clone() };
    let engine = match engine.open(&Installed::QUIET, &Stop::default(), &|| ()) {
        Ok(engine) => engine,
        Err(error) => return vec![Finding::failed("student", error), words_alone(&configured.words)],
    };
    let facts = engine.facts();
    let student = Finding::ok(
        "student",
        format!(
            "{}: {}x{}, of the teacher {}; run by {}",
            configured.engine.student.display(),
            facts.input_width,
            facts.input_height,
            facts.teacher,
            engine.title()
        ),
    );
    let words = match configured.words.open(facts, &Stop::default()) {
        Ok(opened) => {
            let (path, words) = (configured.words.vocabulary.display(), opened.scorer.words().len());
            Finding::ok("vocabulary", format!("{path}: {words} words, which fit the student"))
        }
        Err(error) => Finding::failed("vocabulary", error),
    };
    vec![student, words]
}

fn words_alone(words: &WordsTarget) -> Finding {
    let path = words.vocabulary.display();
    match words.list() {
        Ok(None) => {}
        Ok(Some(list)) => {
            let words = list.words.iter().filter(|word| !word.hidden).count();
            return Finding::ok(
                "vocabulary",
                format!("{path}: {words} words; no student says for which teacher"),
            );
        }
        Err(error) => return Finding::failed("vocabulary", error),
    }
    match wordsight_detection::Vocabulary::load(&words.vocabulary) {
        Ok(vocabulary) => Finding::ok(
            "vocabulary",
            format!("{path}: {} words; no student to hold them against", vocabulary.shown().len()),
        ),
        Err(error) => Finding::failed("vocabulary", error),
    }
}

/// Words that pictures can't show.
fn labels(configured: &Target) -> Option<Finding> {
    let vocabulary = wordsight_detection::Vocabulary::load(&configured.words.vocabulary).ok()?;
    let words = vocabulary.shown().iter().map(|known| known.word.as_str());
    let undrawable = configured.undrawable_words(words)?;
    Some(Finding::warning("labels", undrawable.to_string(), undrawable.remedy()))
}

fn source(configured: &Target, is_in_use: bool) -> Finding {
    let uri = &configured.source.uri;
    if is_in_use && uri.is_live() {
        return Finding::ok("source", format!("{}: in use by the service, and left alone", uri.display()));
    }
    // Not by hand: a camera's daemon that hangs would keep whoever asks.
    match configured.source.at_once().open(&Health::default(), &Stop::default()) {
        Ok(_) => Finding::ok("source", format!("{}: opens", uri.display())),
        Err(error) => Finding::failed("source", error),
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
