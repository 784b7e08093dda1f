//! The user's guide: every command of its pages works as it stands there, and every configuration is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::*;

const GUIDE: &str = include_str!("../docs/device.md");
/// The other pages about the device program. Those about the host program are run by the tests of that.
const PAGES: [&str; 5] = [
    include_str!("../docs/benchmarks.md"),
    include_str!("../docs/install.md"),
    include_str!("../docs/words.md"),
    include_str!("../docs/live.md"),
    include_str!("../docs/troubleshooting.md"),
];

/// The contents of a page's code blocks of one language.
fn blocks_of(page: &'static str, language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|text| text.split("```").next().unwrap()).collect()
}

fn blocks(language: &str) -> Vec<&'static str> {
    blocks_of(GUIDE, language)
}

/// A folder with the files that the guide speaks of.
fn guide_bench() -> Bench {
    let bench = Bench::new();
    write_vocabulary(&bench.path("other-words.safetensors"), &[("sun", YELLOW)]);
    bench.write("photo.jpg", jpeg(64, 64, [RED; 4], None));
    bench.write("album/1.jpg", jpeg(64, 64, [RED; 4], None));
    bench.write("album/2.jpg", jpeg(64, 64, [BLUE; 4], None));
    bench.write("clip.mjpeg", motion_jpeg(&[RED; 40]));
    let token = bench.write("token", "0123456789abcdef0123456789abcdef");
    fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
    bench.write("vocabularies/words.safetensors", fs::read(bench.path("words.safetensors")).unwrap());
    let configurations = blocks("toml");
    assert_eq!(configurations.len(), 1);
    bench.write("my.toml", configurations[0]);
    bench
}

#[test]
fn every_command_of_the_guide_runs() {
    let bench = guide_bench();
    let folder_of_program = Path::new(env!("CARGO_BIN_EXE_wordsight")).parent().unwrap();
    let path = format!("{}:{}", folder_of_program.display(), std::env::var("PATH").unwrap());
    let blocks = [GUIDE].into_iter().chain(PAGES).flat_map(|page| blocks_of(page, "sh"));
    let all: Vec<&str> = blocks.flat_map(str::lines).collect();
    let (commands, others): (Vec<&str>, Vec<&str>) =
        all.iter().partition(|line| line.starts_with("wordsight "));
    assert!(commands.len() >= 15, "{commands:?}");
    assert!(others.iter().all(|line| line.starts_with("wordsight-distill ")), "{others:?}");
    for command in commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(bench.path("")).env("PATH", &path);
        // The program is run outside of the checkout, and so may its build folder be.
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/onnxruntime/libonnxruntime.so.1");
        if std::env::var_os("ORT_DYLIB_PATH").is_none() && fetched.exists() {
            shell.env("ORT_DYLIB_PATH", fetched);
        }
        let outcome = Outcome::of(shell.output().unwrap());
        assert_eq!(outcome.code, Some(0), "{command}: {outcome:?}");
    }
    for made in ["annotated/photo.jpg", "annotated/000010.jpg", "results.jsonl", "a.json", "latency.png"] {
        assert!(bench.path(made).exists(), "{made}");
    }
}

#[test]
fn every_configuration_of_the_guide_is_one() {
    let bench = guide_bench();
    let base = blocks("toml")[0];
    let mut checked = 0;
    for block in
        PAGES.into_iter().flat_map(|page| blocks_of(page, "toml")).filter(|block| block.starts_with('['))
    {
        let file = bench.write("checked.toml", format!("{base}{block}"));
        let outcome = Outcome::of(wordsight(&["check", file.to_str().unwrap()]).output().unwrap());
        assert_eq!(outcome.code, Some(0), "{block}: {outcome:?}");
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn the_guides_line_of_output_has_the_keys_of_a_real_one() {
    let bench = guide_bench();
    let keys = |line: &serde_json::Value| {
        let of = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        (of(line), of(&line["detections"][0]))
    };
    let real = bench.run(&["detect", bench.path("photo.jpg").to_str().unwrap(), "--json", "-"]).lines();
    assert_eq!(keys(&json_lines(blocks("json")[0])[0]), keys(&real[0]));
}
