//! The user's guide: every command in `docs/device.md` and `docs/benchmarks.md` works as it stands there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;

use support::*;

const GUIDE: &str = include_str!("../docs/device.md");
const BENCHMARKS: &str = include_str!("../docs/benchmarks.md");

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
    let pages = [GUIDE, BENCHMARKS].map(|page| blocks_of(page, "sh"));
    let commands: Vec<&str> = pages.iter().flatten().flat_map(|block| block.lines()).collect();
    assert!(commands.len() >= 12, "{commands:?}");
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
fn the_guides_line_of_output_has_the_keys_of_a_real_one() {
    let bench = guide_bench();
    let keys = |line: &serde_json::Value| {
        let of = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        (of(line), of(&line["detections"][0]))
    };
    let real = bench.run(&["detect", bench.path("photo.jpg").to_str().unwrap(), "--json", "-"]).lines();
    assert_eq!(keys(&json_lines(blocks("json")[0])[0]), keys(&real[0]));
}
