//! Keys of the configuration in the environment, for containers: `WORDSIGHT_SOURCE__URI` is `uri` under `[source]`, and
//! `WORDSIGHT_NAME` is `name` at the top. They go before the file, and flags go before them.
//!
//! A value is what would stand in the file, without the quotes of a text. Sections that there may be several of
//! (`[[mqtt]]`) stand in a file only.

use std::ffi::OsString;
use std::path::{Path, absolute};

use toml::{Table, Value};

use super::error::ConfigError;
use super::keys::{BUILT_IN, Key, keys};
use crate::files::is_standard_output;

/// What the names of all variables begin with.
const PREFIX: &str = "WORDSIGHT_";
/// What stands between a section and a key.
const BETWEEN: &str = "__";
/// Variables that are no keys: of the program, of its tests and of its scripts.
const OTHERS: [&str; 7] = [
    "WORDSIGHT_BOARD_ROOT",
    "WORDSIGHT_BREAK_S",
    "WORDSIGHT_DEB",
    "WORDSIGHT_FUZZ_SANITIZER",
    "WORDSIGHT_REQUIRE_REFERENCE",
    "WORDSIGHT_SEED",
    "WORDSIGHT_UPDATE_PTX",
];
/// What variables of tests begin with.
const TESTS: &str = "WORDSIGHT_TEST_";
/// Keys that hold a path which the configuration looks for beside its file. One of the environment is relative to where
/// the program was started, as a flag's is.
pub(super) const PATHS: [(&str, &str); 7] = [
    ("", "teacher"),
    ("engine", "tensorrt"),
    ("http", "token_file"),
    ("http", "vocabularies"),
    ("publish", "save"),
    ("publish", "health"),
    ("publish", "json"),
];
/// How alike two names must be (Jaro and Winkler's similarity, 0 to 1) for one to be taken for the other misspelt.
const ALIKE: f64 = 0.9;

/// One key that a variable sets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variable {
    pub name: String,
    pub key: Key,
    pub value: Value,
}

/// The keys that the environment sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment(Vec<Variable>);

impl Environment {
    /// Those of this process.
    ///
    /// # Errors
    /// When a variable that begins with `WORDSIGHT_` is no key's.
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::of(std::env::vars_os())
    }

    fn of(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let (keys, built_in) = (keys(), BUILT_IN.parse::<Table>().unwrap_or_default());
        let mut own = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && !is_no_key(name)) else {
                continue;
            };
            let wrong = |reason: String| ConfigError::Environment { variable: name.to_owned(), reason };
            let Some(&key) = keys.iter().find(|key| name_of(key) == name) else {
                return Err(wrong(unknown(name, &keys)));
            };
            if key.is_repeated {
                let section = key.section;
                return Err(wrong(format!("there may be several [[{section}]]: write them into the file")));
            }
            let text = value.to_str().ok_or_else(|| wrong("it is no UTF-8 text".to_owned()))?;
            own.push(Variable { name: name.to_owned(), key, value: value_of(key, text, &built_in) });
        }
        // The environment has no order of its own.
        own.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(own))
    }

    /// The variables, by name.
    pub(super) fn variables(&self) -> &[Variable] {
        &self.0
    }

    /// What a key is set to.
    pub(super) fn value(&self, section: &str, name: &str) -> Option<&Value> {
        let mut own = self.0.iter();
        own.find(|own| (own.key.section, own.key.name) == (section, name)).map(|own| &own.value)
    }
}

/// Some variables as a file would have them.
pub(super) fn text_of(variables: &[Variable]) -> String {
    let mut table = Table::new();
    for Variable { key, value, .. } in variables {
        let section = match key.section {
            "" => Some(&mut table),
            section => table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut(),
        };
        if let Some(section) = section {
            section.insert(key.name.to_owned(), value.clone());
        }
    }
    table.to_string()
}

/// The name of the variable that sets a key.
fn name_of(key: &Key) -> String {
    let between = if key.section.is_empty() { "" } else { BETWEEN };
    format!("{PREFIX}{}{between}{}", key.section, key.name).to_uppercase()
}

/// Whether a variable is none of the configuration's. Kubernetes sets some for each service of a namespace, and those of
/// one called `wordsight` begin like ours.
fn is_no_key(name: &str) -> bool {
    let is_port = |name: &str| {
        let (_, port) = name.rsplit_once("_PORT_").unwrap_or_default();
        let (number, rest) = port.split_once('_').unwrap_or_default();
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].iter().any(|protocol| rest.starts_with(protocol))
    };
    let is_kubernetes = !name.contains(BETWEEN)
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_PORT")
            || name.contains("_SERVICE_PORT")
            || is_port(name));
    OTHERS.contains(&name) || name.starts_with(TESTS) || is_kubernetes
}

/// What is said of a variable that is no key's.
fn unknown(name: &str, keys: &[Key]) -> String {
    let told = "there is no such key; a variable is named WORDSIGHT_SECTION__KEY, or WORDSIGHT_KEY for one at the top";
    let alike = keys.iter().filter(|key| !key.is_repeated).map(name_of);
    let nearest = alike
        .map(|other| (strsim::jaro_winkler(&other, name), other))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= ALIKE);
    nearest.map_or_else(|| told.to_owned(), |(_, other)| format!("{told}; did you mean {other}?"))
}

/// A variable's text as the key's own kind of value; what is none is a text, and refused by the key.
fn value_of(key: Key, text: &str, built_in: &Table) -> Value {
    let kind = match key.section {
        "" => built_in.get(key.name),
        section => built_in.get(section).and_then(|table| table.get(key.name)),
    };
    let parsed = || {
        let mut table = format!("value = {text}").parse::<Table>().ok().filter(|table| table.len() == 1)?;
        table.remove("value")
    };
    let is_parsed = |value: &Value| match kind {
        // Files of variables keep quotes that a shell would take away.
        Some(Value::String(_)) => value.is_str(),
        Some(_) => true,
        None => value.is_str() || value.is_array(),
    };
    let value = parsed().filter(is_parsed).unwrap_or_else(|| Value::String(text.to_owned()));
    match &value {
        Value::String(path) if PATHS.contains(&(key.section, key.name)) => in_working_folder(path).into(),
        _ => value,
    }
}

/// A path as the program would open it now.
fn in_working_folder(path: &str) -> String {
    let is_path =
        !path.is_empty() && !is_standard_output(Path::new(path)) && !super::credentials::is_credential(path);
    let found = absolute(path).ok().filter(|_| is_path);
    found.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Config;
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Environment::of(variables).map_err(|error| error.to_string())
    }

    fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment = of(variables)?;
        Config::parse_over(text, Path::new("/etc/wordsight/w.toml"), &environment)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_is_a_key_of_its_own_kind_and_goes_before_the_file() {
        let file = "name = \"file\"\nstudent = \"s.onnx\"\n[source]\nuri = \"a.mjpeg\"\nfps = 5\n[publish]\nsave = \"a\"\n";
        let variables = [
            ("WORDSIGHT_NAME", "12"),
            ("WORDSIGHT_SOURCE__URI", "b.mjpeg"),
            ("WORDSIGHT_SOURCE__LOOP", "true"),
            ("WORDSIGHT_DETECTION__SCORE_THRESHOLD", "0.25"),
            ("WORDSIGHT_DETECTION__MAX_DETECTIONS", "7"),
            ("WORDSIGHT_PUBLISH__SAVE", "/out"),
            ("WORDSIGHT_HTTP__LISTEN", "\"127.0.0.1:8620\""),
            ("HOME", "elsewhere"),
        ];
        let config = config(file, &variables).unwrap();
        assert_eq!(config.name, "12");
        assert_eq!((config.detection.score_threshold.0, config.detection.max_detections.get()), (0.25, 7));
        assert!(config.source.repeat);
        assert_eq!(config.publish.save.as_deref(), Some(Path::new("/out")));
        assert_eq!(config.http.listen, "127.0.0.1:8620");
        // Of the environment relative to where the program runs, of the file to that.
        assert_eq!(config.source_uri().unwrap().path(), Some(Path::new("b.mjpeg")));
        assert_eq!(config.student.find("student").unwrap(), Path::new("/etc/wordsight/s.onnx"));
    }

    #[test]
    fn words_take_the_place_of_the_files_vocabulary_and_a_vocabulary_that_of_its_words() {
        let words = config("vocabulary = \"v\"", &[("WORDSIGHT_WORDS", "[\"cat\", \"hard hat\"]")]).unwrap();
        assert!(words.words.is_some());
        let vocabulary = config("words = [\"cat\"]", &[("WORDSIGHT_VOCABULARY", "v.safetensors")]).unwrap();
        assert!(vocabulary.words.is_none());
        let both =
            config("", &[("WORDSIGHT_WORDS", "[\"cat\"]"), ("WORDSIGHT_VOCABULARY", "v")]).unwrap_err();
        assert!(both.contains("WORDSIGHT_WORDS") && both.contains("take one out"), "{both}");
    }

    #[test]
    fn a_variable_that_is_no_keys_is_an_error_with_a_hint() {
        for (name, told) in [
            ("WORDSIGHT_SOURCE_URI", "did you mean WORDSIGHT_SOURCE__URI?"),
            ("WORDSIGHT_DETECTION__SCORE_TRESHOLD", "did you mean WORDSIGHT_DETECTION__SCORE_THRESHOLD?"),
            ("WORDSIGHT_HTTP__PORT", "there is no such key"),
            ("WORDSIGHT_MQTT__URL", "several [[mqtt]]"),
            ("WORDSIGHT_", "WORDSIGHT_SECTION__KEY"),
        ] {
            let error = of(&[(name, "x")]).unwrap_err();
            assert!(error.contains(name) && error.contains(told), "{error}");
        }
    }

    #[test]
    fn variables_of_kubernetes_and_of_tests_are_none_of_ours() {
        for name in [
            "WORDSIGHT_SERVICE_HOST",
            "WORDSIGHT_SERVICE_PORT",
            "WORDSIGHT_SERVICE_PORT_HTTP",
            "WORDSIGHT_PORT",
            "WORDSIGHT_PORT_8620_TCP",
            "WORDSIGHT_PORT_8620_TCP_ADDR",
            "WORDSIGHT_MQTT_PORT",
            "WORDSIGHT_BOARD_ROOT",
            "WORDSIGHT_TEST_CUDA",
        ] {
            assert_eq!(of(&[(name, "tcp://10.0.0.1:8620")]), Ok(Environment::default()), "{name}");
        }
    }

    #[test]
    fn a_wrong_value_names_its_variable_and_tells_no_secret() {
        for (name, value, told) in [
            ("WORDSIGHT_SOURCE__FPS", "fast", "expected f64"),
            ("WORDSIGHT_DETECTION__SCORE_THRESHOLD", "1.5", "not between 0 and 1"),
            ("WORDSIGHT_SOURCE__LOOP", "1", "expected a boolean"),
            ("WORDSIGHT_SOURCE__PACING", "fast", "lossless"),
            ("WORDSIGHT_WORDS", "rtsp://me:hunter2@camera", "sequence"),
        ] {
            let error = config("name = \"ä\"", &[("WORDSIGHT_NAME", "fine"), (name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(told) && !error.contains("hunter2"), "{error}");
        }
        // What is wrong in the file is the file's.
        let error = config("[source]\nfsp = 1", &[("WORDSIGHT_SOURCE__FPS", "fast")]).unwrap_err();
        assert!(error.contains("w.toml") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_paths_are_those_that_the_configuration_looks_for_beside_its_file() {
        let mut config = Config::parse("", Path::new("")).unwrap();
        let of_configuration = config.own_paths().map(|(section, name, _)| (section, name));
        assert_eq!(PATHS, of_configuration);
        for (text, found) in [("", ""), ("-", "-"), ("/a", "/a"), ("credential:token", "credential:token")] {
            assert_eq!(in_working_folder(text), found);
        }
        assert!(Path::new(&in_working_folder("a/b")).is_absolute());
    }
}
