//! What the shipped student must be able to do on photographs that its training never saw.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::process::Command;

#[test]
fn the_shipped_student_names_the_main_object_of_photographs_it_never_saw() {
    let (Some(data), Some(teacher)) = (
        support::needed(
            "../shared/data",
            "it holds the photographs to test on and is not part of the repository",
        ),
        support::needed(".deps/teacher", "run `make teacher` first"),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
        .arg("eval-photographs")
        .arg("--student")
        .arg(support::checkout("demo/student.onnx"))
        .arg("--data")
        .arg(data)
        .arg("--teacher")
        .arg(teacher)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let figures: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    for (row, bar) in [("base, held out", 0.80), ("novel", 0.75)] {
        let figure = |name: &str| figures[row][name].as_f64().unwrap();
        assert!(figure("photographs") >= 100.0, "{row}: {} photographs are too few", figure("photographs"));
        for (name, bar) in [("top5", bar), ("top5_words", bar - 0.1), ("top5_shown", bar - 0.1)] {
            assert!(figure(name) >= bar, "{row}: {name} is {}, the bar is {bar}", figure(name));
        }
    }
}
