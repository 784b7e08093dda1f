//! What the package installs beside the program: pages, completions, a configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::*;

/// The long flags that a command's help names, those in running text among them.
fn flags_in_help(command: &str) -> BTreeSet<String> {
    let help = Outcome::of(wordsight(&[command, "--help"]).output().unwrap());
    assert_eq!(help.code, Some(0), "{help:?}");
    let is_of_flag = |character: char| character.is_ascii_lowercase() || character == '-';
    let words = help.stdout.split(|character| !is_of_flag(character));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn every_flag_stands_in_its_commands_page_and_in_the_completions_of_all_shells() {
    let folder = tempfile::tempdir().unwrap();
    let generated = Outcome::of(wordsight(&["generate", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(generated.code, Some(0), "{generated:?}");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let completions = ["wordsight.bash", "_wordsight", "wordsight.fish"].map(read);
    for command in ["detect", "run", "bench"] {
        // In roff a dash that is no hyphen has a backslash.
        let page = read(&format!("wordsight-{command}.1")).replace("\\-", "-");
        let flags = flags_in_help(command);
        assert!(flags.len() > 8, "{flags:?}");
        for flag in flags {
            assert!(page.contains(&flag), "{command} {flag}: {page}");
            for text in &completions {
                // fish writes `-l config` for `--config`.
                let name = format!("-l {}", flag.trim_start_matches('-'));
                assert!(text.contains(&flag) || text.contains(&name), "{command} {flag}");
            }
        }
    }
    assert!(!folder.path().join("wordsight-generate.1").exists(), "it is for whoever makes packages");
}

#[test]
fn a_folder_for_pages_that_cannot_be_made_is_named() {
    let bench = Bench::new();
    let file = bench.write("file", b"");
    let within = file.join("pages");
    let outcome = Outcome::of(wordsight(&["generate", within.to_str().unwrap()]).output().unwrap());
    assert!(outcome.sentence(1).contains("file/pages"), "{outcome:?}");
}

#[test]
fn the_configuration_of_the_service_is_understood() {
    let bench = Bench::new();
    let photograph = bench.write("red.jpg", jpeg(64, 64, [RED; 4], None));
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/wordsight.toml");
    let health = bench.path("health.json");
    let (config, health) = (config.to_str().unwrap(), health.to_str().unwrap());
    let source = photograph.to_str().unwrap();
    let outcome = bench.run(&["run", "--config", config, "--source", source, "--health", health]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "a service's results are not for the journal: {outcome:?}");
}

/// What the package's fields name.
fn packages(field: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let named = manifest["package"]["metadata"]["deb"][field].as_str().unwrap();
    named.split(',').map(|package| package.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn what_nvidias_decoders_and_late_drivers_take_is_recommended_and_let_through() {
    let recommended = packages("recommends");
    for package in
        ["kmod", "gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-base"]
    {
        assert!(recommended.iter().any(|found| found == package), "{package}: {recommended:?}");
        assert!(!packages("suggests").iter().any(|found| found == package), "{package} is named twice");
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/wordsight.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.lines().any(|line| line == "Environment=AARCH64_IGPU=1"), "{unit}");
    // Names count only when their drivers are loaded; these have numbers that Linux has fixed (devices.txt).
    for (name, number) in
        [("char-video4linux", "char-81"), ("char-drm", "char-226"), ("char-nvidia*", "char-195")]
    {
        let allows = |what: &str| unit.lines().any(|line| line == format!("DeviceAllow={what} rw"));
        assert!(allows(name) && allows(number), "{name}");
    }
}

/// `scripts/check-symbols` on the program under test.
fn check_symbols(limit: Option<(&str, &str)>) -> Outcome {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-symbols");
    let mut command = std::process::Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_wordsight")).envs(limit);
    Outcome::of(command.output().unwrap())
}

#[test]
fn the_oldest_system_has_every_symbol_that_the_program_asks_for() {
    let fine = check_symbols(None);
    assert_eq!(fine.code, Some(0), "{fine:?}");
    // Of the C++ library only TensorRT's shim asks for something.
    let limits =
        [Some(("NEWEST_GLIBC", "2.17")), cfg!(feature = "tensorrt").then_some(("NEWEST_GLIBCXX", "3.4.9"))];
    for limit in limits.into_iter().flatten() {
        let refused = check_symbols(Some(limit));
        assert!(refused.code == Some(1) && refused.stderr.contains("the oldest system has"), "{refused:?}");
    }
    // What dpkg knows of symbols, not every system has.
    if cfg!(feature = "gstreamer") && !fine.stderr.contains("SKIPPED") {
        for limit in [("NEWEST_GLIB", "2.8"), ("NEWEST_GSTREAMER", "1.0")] {
            let refused = check_symbols(Some(limit));
            assert!(refused.code == Some(1) && refused.stderr.contains("of lib"), "{refused:?}");
        }
    }
}
