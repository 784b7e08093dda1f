//! A detector's answers on photographs: as good as its authors say, and in the annotations afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn label(data: &Path, set: &str, annotations: &str) -> Command {
    let folder = data.join("annotated").join(set);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
    command.arg("label").arg("--detector").arg(data.join("models/yolox_nano.onnx"));
    command.arg("--images").arg(folder.join("images")).arg("--annotations").arg(folder.join(annotations));
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_detector_is_as_good_on_coco_photographs_as_elsewhere() {
    let why = "it holds the detector and photographs and is not part of the repository";
    let Some(data) = support::needed("../shared/data", why) else { return };
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    println!("{}", run(label(&data, "coco", "coco_val.json").arg("--evaluate").arg("--json").arg(&json)));
    let figures: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let row = &figures["rows"][0];
    // Another evaluation of another 400 photographs says 36.2 and 41.8.
    for (name, figure, known) in [
        ("AP50", row["all"]["AP50"].as_f64().unwrap(), 0.362),
        ("AR@100", row["proposal_recall"].as_f64().unwrap(), 0.418),
    ] {
        assert!((figure - known).abs() < 0.02, "{name} is {figure}, elsewhere it is {known}");
    }
}

#[test]
fn people_without_annotations_are_annotated_after_it() {
    let why = "it holds the detector and photographs and is not part of the repository";
    let Some(data) = support::needed("../shared/data", why) else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("completed.json");
    run(label(&data, "ppe_workers", "instances.json").arg("--output").arg(&output));

    let completed: Value = serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    let categories = completed["categories"].as_array().unwrap();
    let person = &categories.iter().find(|category| category["name"] == "person").unwrap()["id"];
    let people = completed["annotations"].as_array().unwrap().iter().filter(|annotation| {
        annotation["category_id"] == *person
            && annotation["source"] == "yolox_nano"
            && annotation.get("ignore").is_none()
    });
    assert!(people.count() >= 20, "21 photographs of workers");
}
