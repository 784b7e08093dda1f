//! The configuration by variables of the environment, and secrets by systemd's credentials: the real program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::serving::*;
use support::*;

const GREEN_FRAMES: &str = "test://00ff00?width=64&height=64";

fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = wordsight(arguments);
    command.env_remove("CREDENTIALS_DIRECTORY").envs(variables.iter().copied());
    command
}

fn outcome(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    Outcome::of(with(arguments, variables).output().unwrap())
}

#[test]
fn a_variable_goes_before_the_file_and_is_told_as_such() {
    let bench = Bench::new();
    let config = bench.write_config("name = \"file\"\n[source]\nuri = \"test://ff0000\"\nfps = 5\n");
    let variables = [("WORDSIGHT_NAME", "door"), ("WORDSIGHT_SOURCE__FPS", "7.5")];
    let config = ["config", "--config", config.to_str().unwrap()];
    let text = outcome(&config, &variables).stdout;
    for line in ["name = \"door\"  # of the environment", "fps = 7.5  # of the environment", "loop = false\n"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("uri = \"test://ff0000\"  # of the file"), "{text}");
    let told: Value =
        serde_json::from_str(&outcome(&[&config[..], &["--json"]].concat(), &variables).stdout).unwrap();
    assert_eq!(told["source"]["fps"], json!({"value": 7.5, "from": "environment"}));
    assert_eq!(told["source"]["uri"]["from"], "file");
    // Without a file too.
    let text = outcome(&["config"], &variables).stdout;
    assert!(text.starts_with("# Values of the environment") && text.contains("name = \"door\""), "{text}");
}

#[test]
fn a_stream_keeps_its_variables_when_the_file_changes_and_flags_go_before_them() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED), ("green", GREEN)]);
    fs::create_dir_all(bench.path("vocabularies")).unwrap();
    let file = configuration.to_str().unwrap();
    let variables = [
        ("WORDSIGHT_SOURCE__URI", GREEN_FRAMES),
        ("WORDSIGHT_NAME", "door"),
        ("WORDSIGHT_ENGINE__THREADS", "1"),
    ];
    let mut command = with(&["run", "--config", file], &variables);
    command.stdout(Stdio::null()).env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", bench.path("state"));
    let running = Running::start(command, &bench, address);
    running.await_word("green");
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{text}\n[detection]\nscore_threshold = 0.31\n")).unwrap();
    let taken = || running.metric("wordsight_reloads_total{outcome=\"taken\"}") == 1.0;
    until_so(taken, || running.stderr());
    assert_eq!(running.get("/api/status").json()["name"], "door");
    running.await_word("green");
    drop(running);

    let flags = ["run", "--config", file, "--source", "test://ff0000?width=64&height=64", "--frames", "2"];
    let lines = outcome(&[&flags[..], &["--json", "-"]].concat(), &variables).lines();
    let words = words_of(&lines[0]);
    assert!(!words.is_empty() && words.iter().all(|word| *word == "red"), "{words:?}");
}

#[test]
fn a_variable_that_is_no_keys_or_holds_what_its_key_does_not_take_ends_the_program_with_a_sentence() {
    for (name, value, told) in [
        ("WORDSIGHT_SOURCE_URI", "csi://0", "did you mean WORDSIGHT_SOURCE__URI?"),
        ("WORDSIGHT_MQTT__URL", "mqtt://broker", "write them into the file"),
        ("WORDSIGHT_SOURCE__FPS", "fast", "expected f64"),
    ] {
        for arguments in [["config"].as_slice(), &["run", "--frames", "1"]] {
            let outcome = outcome(arguments, &[(name, value)]);
            let sentence = outcome.sentence(2);
            assert!(sentence.contains(name) && sentence.contains(told), "{arguments:?}: {sentence}");
        }
        let checked = outcome(&["check"], &[(name, value)]);
        assert!(checked.code == Some(2) && checked.stdout.contains(told), "{checked:?}");
    }
    // What Kubernetes sets for a service of the name.
    let set = [("WORDSIGHT_SERVICE_HOST", "10.0.0.1"), ("WORDSIGHT_PORT_8620_TCP", "tcp://10.0.0.1:8620")];
    assert_eq!(outcome(&["config"], &set).code, Some(0));
}

#[test]
fn what_a_variable_or_a_credential_holds_is_told_nowhere() {
    let bench = Bench::new();
    let credentials = bench.path("credentials");
    fs::create_dir(&credentials).unwrap();
    let addresses = ["rtsp://me:hunter2@127.0.0.1:1/x", "me:hunter2@127.0.0.1/x", "rtsp://me:hunter2@[bad/x"];
    for address in addresses {
        fs::write(credentials.join("camera"), format!("{address}\n")).unwrap();
        for source in [address, "credential:camera"] {
            let commands: [&[&str]; 5] =
                [&["config"], &["config", "--json"], &["check"], &["doctor"], &["run", "--frames", "1"]];
            for arguments in commands {
                let mut command = with(arguments, &[("WORDSIGHT_SOURCE__URI", source)]);
                command.env("CREDENTIALS_DIRECTORY", &credentials).env("RUST_LOG", "trace");
                command
                    .env("WORDSIGHT_BOARD_ROOT", bench.path("no board"))
                    .env("STATE_DIRECTORY", bench.path("state"));
                let outcome = Outcome::of(command.output().unwrap());
                let said = format!("{}{}", outcome.stdout, outcome.stderr);
                assert!(!said.contains("hunter2"), "{arguments:?} of {source}: {said}");
            }
        }
    }
}

#[test]
fn a_token_is_handed_over_as_a_credential() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "token_file = \"credential:token\"\n");
    let file = configuration.to_str().unwrap();
    assert!(outcome(&["check", file], &[]).stdout.contains("LoadCredential=token:FILE"));
    let outcome = outcome(&["config", "--config", file], &[]);
    let sentence = outcome.sentence(2);
    assert!(sentence.contains("LoadCredential=token:FILE") && sentence.contains("token_file"), "{sentence}");

    fs::create_dir(bench.path("credentials")).unwrap();
    fs::write(bench.path("credentials/token"), TOKEN).unwrap();
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED)]);
    fs::create_dir_all(bench.path("vocabularies")).unwrap();
    let mut command = with(&["run", "--config", file], &[]);
    command.env("CREDENTIALS_DIRECTORY", bench.path("credentials")).stdout(Stdio::null());
    command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", bench.path("state"));
    let mut running = Running::start(command, &bench, address);
    assert_eq!(running.get("/api/status").status, 401);
    running.token = Some(TOKEN);
    assert_eq!(running.get("/api/status").status, 200);
}
