//! A detector's detections on photographs: as good as its authors say, and what becomes of them in the annotations.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use image::imageops::{self, FilterType};
use serde_json::Value;
use wordsight_distill::label::yolox::Dense;
use wordsight_distill::sets::TrainingImage;
use wordsight_distill::train::BoxTeacher;

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

#[test]
fn what_the_detector_says_of_a_larger_input_lies_in_that_inputs_pixels() {
    let why = "it holds the detector and is not part of the repository";
    let Some(data) = support::needed("../shared/data", why) else { return };
    let teacher = BoxTeacher::open(&data.join("models/yolox_nano.onnx")).unwrap();
    // The dog fills much of its shot.
    let frame = &support::clip_frames(12)[2];
    let input = |side: u32| TrainingImage {
        pixels: imageops::resize(frame, side, side, FilterType::Triangle).into_raw(),
        side: side as usize,
        objects: Vec::new(),
        ignored: Vec::new(),
        tiles: Vec::new(),
        teacher_regions: Vec::new(),
    };
    assert!(teacher.shares_cells(416) && !teacher.shares_cells(512));
    let answers = teacher.answers(&[input(416), input(512)]).unwrap();
    let best = |answer: &Dense| {
        (0..answer.scores.len()).max_by(|&a, &b| answer.scores[a].total_cmp(&answer.scores[b]))
    };
    let [own, larger] = [&answers[0], &answers[1]].map(|answer| {
        let best = best(answer).unwrap();
        (answer.scores[best], answer.boxes_in_input[best])
    });
    assert!(own.0 > 0.5 && (own.0 - larger.0).abs() < 0.1, "{own:?} {larger:?}");
    let scaled = own.1.map(|x| x * 512.0 / 416.0);
    assert!(wordsight_detection::iou(scaled, larger.1) > 0.9, "{own:?} {larger:?}");
}
