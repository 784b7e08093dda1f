//! What the workspace depends on: licences that allow what we do, and nothing that is not used.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences that a program under Apache-2.0 may be built from and shipped with. MPL-2.0 asks that
/// changes to the library's own files be published; we make none.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

/// Declared to switch on a feature of a package that a dependency brings along, never named in the source.
const FOR_FEATURES: [&str; 3] = ["cubecl-cuda", "either", "smallvec"];

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output =
        command.args(arguments).arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether an SPDX expression can be met with allowed licences only.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let any = split_outside_parentheses(&expression, " OR ");
    if any.len() > 1 {
        return any.iter().any(|part| is_allowed(part));
    }
    let all = split_outside_parentheses(&expression, " AND ");
    if all.len() > 1 {
        return all.iter().all(|part| is_allowed(part));
    }
    let expression = expression.trim();
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

fn split_outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn every_dependency_has_a_licence_that_allows_what_we_do() {
    assert!(is_allowed("(MIT OR GPL-3.0-only) AND Unicode-3.0") && is_allowed("MIT/Apache-2.0"));
    assert!(!is_allowed("MIT AND GPL-3.0-only") && !is_allowed("AGPL-3.0"));

    let tree = [
        "tree",
        "--workspace",
        "--all-features",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}: {l}",
    ];
    let packages = cargo(&tree);
    let packages: BTreeSet<&str> =
        packages.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    let refused: Vec<&&str> = packages
        .iter()
        .filter(|line| line.split_once(": ").is_none_or(|(_, licence)| !is_allowed(licence)))
        .collect();
    assert!(packages.len() > 100);
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn every_declared_dependency_is_used() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let mut source = String::new();
        for part in ["src", "tests", "benches", "build.rs"] {
            read_rust(&folder.join(part), &mut source);
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["rename"].as_str().or(dependency["name"].as_str()).unwrap();
            if FOR_FEATURES.contains(&name) {
                continue;
            }
            let path = format!("{}::", name.replace('-', "_"));
            assert!(source.contains(&path), "{} declares {name} and never uses it", package["name"]);
        }
    }
}

#[test]
fn the_host_program_is_built_without_cameras_and_tensorrt() {
    let packages = cargo(&["tree", "-p", "wordsight-distill", "--edges", "normal,build", "--prefix", "none"]);
    let cameras_and_gpu = ["gstreamer", "v4l", "bindgen", "cudarc", "wordsight-capture ", "wordsight v"];
    for package in cameras_and_gpu {
        let found = packages.lines().find(|line| line.starts_with(package));
        assert!(found.is_none(), "{found:?}");
    }
    // And `make teacher` takes nothing else.
    let mut make = Command::new("make");
    let made = make.args(["-n", "teacher"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let commands = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && commands.contains("teacher standin"), "{commands}");
    for other in ["cameras", "vivid", "tensorrt", "qemu", "--workspace", "-p wordsight "] {
        assert!(!commands.contains(other), "{other}: {commands}");
    }
}

fn read_rust(path: &Path, source: &mut String) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            read_rust(&entry.unwrap().path(), source);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
        source.push_str(&std::fs::read_to_string(path).unwrap());
    }
}
