//! What watches a device from outside: `docs/monitoring/`, alert rules and a dashboard over the metrics of a stream.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::serving::*;
use support::*;

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name)
}

/// The alerts' expressions.
fn of_alerts() -> Vec<String> {
    let text = fs::read_to_string(monitoring("alerts.yml")).unwrap();
    text.lines().filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned())).collect()
}

/// The dashboard's expressions, those of its variables among them, as Grafana would ask for them of one device.
fn of_dashboard() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(entries) => {
                found.extend(entries.get("expr").and_then(Value::as_str).map(str::to_owned));
                entries.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(monitoring("dashboard.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    collect(&dashboard["panels"], &mut found);
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let definition = variable["definition"].as_str().unwrap_or_default();
        let series = definition.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", "));
        found.extend(series.map(|(series, _)| series.to_owned()));
    }
    let filled = |expression: String| {
        expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$camera", ".*")
    };
    found.into_iter().map(filled).collect()
}

/// The metrics that an expression names.
fn metrics_in(expression: &str) -> Vec<&str> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| ["wordsight_", "process_"].iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// Runs promtool, where it is installed.
fn promtool(arguments: &[&str], folder: &Path) {
    let Ok(output) = Command::new("promtool").args(arguments).current_dir(folder).output() else {
        return skip("alert rules as promtool reads them", "promtool is not installed", "Debian: prometheus");
    };
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
}

#[test]
fn prometheus_takes_the_alerts_and_they_say_what_they_should() {
    promtool(&["check", "rules", "alerts.yml"], &monitoring(""));
    promtool(&["test", "rules", "alerts.test.yml"], &monitoring(""));
    // An alert without a test is one that nobody has seen.
    let [alerts, tests] =
        ["alerts.yml", "alerts.test.yml"].map(|name| fs::read_to_string(monitoring(name)).unwrap());
    let named: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(named.len() >= 6 && named.len() == of_alerts().len());
    for alert in named {
        assert!(
            tests.matches(&format!("alertname: {alert}\n")).count() >= 1,
            "{alert} is expected by no test"
        );
    }
}

#[test]
fn prometheus_takes_every_expression_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in of_dashboard().iter().enumerate() {
        assert!(!expression.contains('$'), "{expression}: a variable that this test doesn't know");
        rules += &format!("  - record: panel_{number}\n    expr: {}\n", Value::from(expression.as_str()));
    }
    fs::write(folder.path().join("rules.yml"), rules).unwrap();
    promtool(&["check", "rules", "rules.yml"], folder.path());
}

#[test]
fn every_metric_that_is_watched_is_one_of_a_running_stream() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    wordsight_board::fixtures::Board::OrinNano.write(&bench.path("board")).unwrap();
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED), ("green", GREEN)]);
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.env("WORDSIGHT_BOARD_ROOT", bench.path("board")).stdout(Stdio::null());
    let running = Running::start(command, &bench, address);
    running.await_word("red");
    let text = || running.get("/metrics").text().to_owned();
    for series in ["wordsight_things_appeared_total{", "wordsight_board_temperature_celsius{"] {
        until_so(|| text().contains(series), text);
    }
    let text = text();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<&str> = series.map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let expressions = [of_alerts(), of_dashboard()].concat();
    let watched: BTreeSet<&str> = expressions.iter().flat_map(|expression| metrics_in(expression)).collect();
    assert!(watched.len() > 20, "{watched:?}");
    let missing: Vec<_> = watched.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{text}");
    for (label, value) in [("state", "lost"), ("outcome", "refused")] {
        assert!(text.contains(&format!("{label}=\"{value}\"")), "an alert is of {label}=\"{value}\"");
    }
}
