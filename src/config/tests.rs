//! Tests of defaults, of keys and paths, and of the errors for a bad configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::Path;

use super::keys::{BUILT_IN, Key, keys};
use super::*;
use crate::settings::Fraction;

fn with(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wordsight.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path))
}

/// The keys that the built-in file documents, those without a value among them: section, name, whether it is repeated.
fn documented() -> Vec<Key> {
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

#[test]
fn the_built_in_configuration_has_a_value_for_every_key_but_the_places_of_what_is_written_only_if_asked_for()
{
    // Every field without an `Option` has one, or this fails.
    let Config { publish, engine, http, .. } = Config::load(None).unwrap();
    assert_eq!((publish.save, publish.health, engine.tensorrt), (None, None, None));
    assert_eq!((http.token_file, http.vocabularies), (None, None));
}

#[test]
fn the_built_in_file_documents_every_key_in_the_order_of_the_structures() {
    assert_eq!(documented(), keys());
}

#[test]
fn a_key_of_the_users_goes_before_the_built_in_one_and_the_others_stay() {
    let config = with("[detection]\nscore_threshold = 0.7\n").unwrap();
    assert_eq!(config.detection.score_threshold, Fraction(0.7));
    assert_eq!(config.detection.nms_iou, Config::load(None).unwrap().detection.nms_iou);
}

#[test]
fn a_path_is_relative_to_the_file_it_stands_in() {
    let text = "student = \"s.onnx\"\nvocabulary = \"/v\"\n[source]\nuri = \"clip.mjpeg\"\n[publish]\njson = \"-\"\n\
                save = \"out\"\n[http]\ntoken_file = \"token\"\nvocabularies = \"/words\"";
    let mut config = Config::parse(text, Path::new("/etc/wordsight/wordsight.toml")).unwrap();
    assert_eq!(config.student.find("student").unwrap(), Path::new("/etc/wordsight/s.onnx"));
    assert_eq!(config.vocabulary.find("vocabulary").unwrap(), Path::new("/v"));
    assert_eq!(config.source_uri().unwrap().path(), Some(Path::new("/etc/wordsight/clip.mjpeg")));
    assert_eq!(config.publish.json, Path::new("-"));
    assert_eq!(config.publish.save.as_deref(), Some(Path::new("/etc/wordsight/out")));
    assert_eq!(config.http.token_file.as_deref(), Some(Path::new("/etc/wordsight/token")));
    assert_eq!(config.http.vocabularies.as_deref(), Some(Path::new("/words")));
    config.set_source("clip.mjpeg");
    assert_eq!(config.source_uri().unwrap().path(), Some(Path::new("clip.mjpeg")), "a flag's is not");
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
            error.split("expected one of ").nth(1).unwrap().lines().next().unwrap().matches('`').count() / 2;
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
        ("[detection]\nscore_treshold = 0.5", "line 2", "did you mean `score_threshold`, under [detection]?"),
        ("score_threshold = 0.5", "line 1", "`score_threshold` stands under [detection]"),
        ("[source]\nstudent = \"x\"", "line 2", "`student` stands at the top of the file"),
        ("[detecton]\nnms_iou = 0.5", "line 1", "did you mean [detection]?"),
        (
            "[[camera]]\nname = \"a\"\nzzz = 1",
            "line 3",
            "expected one of `name`, `vocabulary`, `words`, `uri`",
        ),
        ("[[camera]]\nname = \"a\"\nnam = 1", "line 3", "did you mean `name`, under [[camera]]?"),
        (
            "[[camera]]\nname = \"a\"\n[camera.detection]\nzzz = 1",
            "line 4",
            "expected one of `score_threshold`",
        ),
    ];
    for (text, line, reason) in cases {
        let error = with(text).unwrap_err();
        assert!(error.is_a_mistake_of_usage());
        let error = error.to_string();
        assert!(error.contains(line) && error.contains(reason), "{text}: {error}");
    }
}
