//! What a command was given to read is never written to, under whatever name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::folders::contents;
use support::*;

/// Runs a command that is to be refused as bad usage, in a sentence with `part`, and to change nothing.
fn assert_refused(bench: &Bench, arguments: &[&str], part: &str) {
    assert_command_refused(bench, &mut bench.command(arguments), part);
}

fn assert_command_refused(bench: &Bench, arguments: &mut Command, part: &str) {
    let before = contents(&bench.path(""));
    let outcome = Outcome::of(arguments.output().unwrap());
    assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:?}");
    assert!(outcome.stderr.contains(part), "{arguments:?}: {}", outcome.stderr);
    assert!(contents(&bench.path("")) == before, "{arguments:?} changed a file");
}

fn bench_with_album() -> Bench {
    let bench = Bench::new();
    bench.write("album/a.jpg", jpeg(64, 64, [RED; 4], None));
    bench.write("album/b.jpg", jpeg(64, 64, [BLUE; 4], None));
    bench.write("album/000000.jpg", jpeg(64, 64, [GREEN; 4], None));
    symlink(bench.path("album"), bench.path("link")).unwrap();
    fs::create_dir(bench.path("hard")).unwrap();
    fs::hard_link(bench.path("album/a.jpg"), bench.path("hard/a.jpg")).unwrap();
    symlink(bench.path("album/a.jpg"), bench.path("a.json")).unwrap();
    bench
}

#[test]
fn annotated_copies_are_not_saved_among_the_originals() {
    let bench = bench_with_album();
    let [album, photograph, link, hard] =
        ["album", "album/a.jpg", "link", "hard"].map(|name| bench.path(name).to_str().unwrap().to_owned());
    for given in [&album, &photograph, &link] {
        for folder in [&album, &link, &hard] {
            assert_refused(&bench, &["detect", given, "--save", folder], "given as an input");
        }
    }
    let source = ["run", "--source", &album];
    assert_refused(&bench, &[&source[..], &["--save", &album]].concat(), "name another folder");
    let one = bench.path("album/000000.jpg");
    let source = ["run", "--source", one.to_str().unwrap(), "--save", &album];
    assert_refused(&bench, &source, "name another folder");

    let out = bench.path("album/new");
    let outcome = bench.run(&["detect", &album, "--save", out.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(out.join("a.jpg").is_file());
}

#[test]
fn lines_are_not_written_over_a_photograph_or_anything_else_that_is_read() {
    let bench = bench_with_album();
    let at = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    // The shell's `--json *.jpg`: the first photograph is the place for the lines.
    let [a, b, first] = ["album/a.jpg", "album/b.jpg", "album/000000.jpg"].map(at);
    assert_refused(&bench, &["detect", "--json", &first, &a, &b], "is a picture, not JSON");
    for output in ["album/a.jpg", "a.json", "hard/a.jpg"] {
        assert_refused(&bench, &["detect", &a, "--json", &at(output)], "given as an input");
    }
    for output in ["student.onnx", "words.safetensors"] {
        assert_refused(&bench, &["detect", &a, "--json", &at(output)], "given as an input");
        assert_refused(&bench, &["run", "--source", &a, "--json", &at(output)], "given as an input");
        assert_refused(&bench, &["run", "--source", &a, "--health", &at(output)], "given as an input");
    }
    assert_refused(&bench, &["run", "--source", &a, "--json", &a], "given as an input");
    assert_refused(&bench, &["detect", &a, "--json", &at("album")], "is a folder");

    // Lines of before are replaced by those of now.
    let lines = at("lines.json");
    for photographs in [&[&a, &b][..], &[&a]] {
        let arguments: Vec<&str> = ["detect", "--json", &lines]
            .into_iter()
            .chain(photographs.iter().map(|path| path.as_str()))
            .collect();
        assert_eq!(bench.run(&arguments).code, Some(0));
        assert_eq!(json_lines(&fs::read_to_string(&lines).unwrap()).len(), photographs.len());
    }
}

#[test]
fn a_configuration_whose_outputs_are_its_inputs_is_refused_by_check_and_run() {
    let bench = bench_with_album();
    bench.write("secret", "hunter2\n");
    bench.write("token", "a token of enough characters\n");
    for (outputs, part) in [
        ("[[lines]]\nto = \"album/a.jpg\"\n", "given as an input"),
        ("[[lines]]\nto = \"wordsight.toml\"\n", "given as an input"),
        ("[[pictures]]\nfolder = \"album\"\n", "name another folder"),
        (
            "[[lines]]\nto = \"secret\"\n[[webhook]]\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"secret\"\n",
            "given as an input",
        ),
        (
            "[[lines]]\nto = \"token\"\n[http]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n",
            "given as an input",
        ),
        ("[[lines]]\nto = \"words\"\nrotate_mib = 1\n", "words.1"),
    ] {
        symlink(bench.path("words.safetensors"), bench.path("words.1")).ok();
        let configuration = bench.write_config(&format!("[source]\nuri = \"album/a.jpg\"\n{outputs}"));
        let configuration = configuration.to_str().unwrap();
        assert_refused(&bench, &["run", "--config", configuration], part);
        let checked = Outcome::of(wordsight(&["check", configuration]).output().unwrap());
        assert!(checked.code == Some(2) && checked.stdout.contains(part), "{outputs}: {checked:?}");
    }
}

#[test]
fn a_measurement_is_not_written_over_what_was_measured() {
    let bench = bench_with_album();
    let at = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    let [photograph, student] = ["album/a.jpg", "student.onnx"].map(at);
    let measured = ["bench", "--seconds", "1", "--source", &photograph];
    for output in [&photograph, &student] {
        assert_refused(&bench, &[&measured[..], &["--json", output]].concat(), "given as an input");
    }
    let a = bench.write("a-report.json", "{}").to_str().unwrap().to_owned();
    let mut compare = wordsight(&["bench", "--compare", &a, &a, "--json", &a]);
    assert_command_refused(&bench, &mut compare, "given as an input");
}

#[cfg(feature = "tensorrt")]
#[test]
fn a_plan_is_not_written_over_its_student() {
    let bench = bench_with_album();
    let student = bench.path("student.onnx").to_str().unwrap().to_owned();
    let mut build = wordsight(&["plan", "build", &student, "-o", &student]);
    assert_command_refused(&bench, &mut build, "given as an input");
}
