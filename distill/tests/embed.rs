//! Proposals and embeddings on disk: killed, split into shards, merged, and their contents.
//!
//! The teacher is the tiny CLIP with random weights of the teacher crate's tests.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image::{Rgb, RgbImage};
use wordsight_distill::coco::{Annotation, Category, Dataset, Image};
use wordsight_distill::embed::Embedded;
use wordsight_teacher::Teacher;

const IMAGES: u64 = 600;
const PER_IMAGE: usize = 6;

fn teacher() -> PathBuf {
    support::checkout("teacher/tests/fixtures/clip")
}

fn start(arguments: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
    let command = command.args(arguments).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("ORT_DYLIB_PATH", support::checkout(".deps/onnxruntime/libonnxruntime.so.1")).spawn().unwrap()
}

fn run(arguments: &[&str], folder: &Path) {
    let output = start(arguments, folder).wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Images of one bright rectangle each, of which every seventh is not annotated, and proposals for them.
fn write_proposals(folder: &Path) {
    fs::create_dir_all(folder.join("scenes/images")).unwrap();
    let category = Category { id: 1, name: "thing".to_owned() };
    let mut dataset = Dataset { categories: vec![category], ..Dataset::default() };
    for id in 1..=IMAGES {
        let (x, y) = (5 + (id * 7 % 30) as u32, 4 + (id * 5 % 20) as u32);
        let picture = RgbImage::from_fn(64, 48, |px, py| {
            let inside = (x..x + 20).contains(&px) && (y..y + 15).contains(&py);
            if inside { Rgb([250, (id % 250) as u8, 40]) } else { Rgb([(px * 3) as u8, (py * 4) as u8, 90]) }
        });
        let file_name = format!("{id:04}.png");
        picture.save(folder.join("scenes/images").join(&file_name)).unwrap();
        dataset.images.push(Image { id, file_name, width: 64, height: 48, exhaustive: true });
        if id % 7 != 0 {
            let bbox = [x as f32, y as f32, 20.0, 15.0];
            dataset.annotations.push(Annotation {
                id,
                image_id: id,
                category_id: 1,
                bbox,
                area: 300.0,
                iscrowd: 0,
            });
        }
    }
    dataset.save(&folder.join("scenes/annotations.json")).unwrap();
    let per_image = PER_IMAGE.to_string();
    run(
        &[
            "proposals",
            "--scenes",
            "scenes",
            "--moved-copies",
            "3",
            "--per-image",
            &per_image,
            "-o",
            "proposals",
        ],
        folder,
    );
}

fn embed<'a>(teacher: &'a str, output: &'a str, shard: &'a str) -> Vec<&'a str> {
    vec![
        "embed",
        "--proposals",
        "proposals",
        "--images",
        "scenes/images",
        "--teacher",
        teacher,
        "--shard",
        shard,
        "-o",
        output,
    ]
}

fn runtime() -> bool {
    support::needed(".deps/onnxruntime/libonnxruntime.so.1", "run `make deps` first").is_some()
}

#[test]
fn embeddings_killed_again_and_again_are_those_of_an_uninterrupted_run() {
    if !runtime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_proposals(folder.path());
    let teacher = teacher().to_str().unwrap().to_owned();
    run(&embed(&teacher, "whole", "1/1"), folder.path());
    let whole = fs::read(folder.path().join("whole/embeddings.bin")).unwrap();

    let rows = folder.path().join("killed/embeddings.bin");
    let mut in_the_middle = 0;
    for kill in 0.. {
        let mut child = start(&embed(&teacher, "killed", "1/1"), folder.path());
        // Kills fall at ever other moments: in the start, in a computation, in a write; every other one as soon as
        // a row is written, however slow the machine is.
        let written = || fs::metadata(&rows).map_or(0, |metadata| metadata.len());
        let before = written();
        let mut finished = None;
        let mut waited = 0;
        while if kill % 2 == 0 { waited < 20 + 17 * (kill % 23) } else { written() == before } {
            waited += 1;
            std::thread::sleep(Duration::from_millis(1));
            finished = child.try_wait().unwrap();
            if finished.is_some() {
                break;
            }
        }
        if let Some(status) = finished {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let length = fs::metadata(&rows).map_or(0, |metadata| metadata.len() as usize);
        in_the_middle += usize::from(length > 0 && length < whole.len());
        assert!(kill < 2000, "it never ends");
    }
    assert!(in_the_middle >= 3, "only {in_the_middle} kills fell into the work");
    assert!(fs::read(&rows).unwrap() == whole, "after {in_the_middle} kills the rows differ");
}

#[test]
fn shards_of_which_one_is_killed_merge_into_the_same_rows_and_hold_the_teachers_embeddings() {
    if !runtime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_proposals(folder.path());
    let teacher = teacher().to_str().unwrap().to_owned();
    run(&embed(&teacher, "whole", "1/1"), folder.path());

    let mut killed = start(&embed(&teacher, "parts", "2/3"), folder.path());
    std::thread::sleep(Duration::from_millis(150));
    killed.kill().unwrap();
    killed.wait().unwrap();
    for shard in ["3/3", "2/3", "1/3"] {
        run(&embed(&teacher, "parts", shard), folder.path());
    }
    run(&["merge", "parts"], folder.path());
    let [whole, parts] =
        ["whole", "parts"].map(|name| fs::read(folder.path().join(name).join("embeddings.bin")).unwrap());
    assert!(whole == parts, "the merged rows differ");

    let embedded = Embedded::open(&folder.path().join("parts")).unwrap();
    let mut teacher = Teacher::open_at(Path::new(&teacher), 1).unwrap();
    assert_eq!((embedded.images(), embedded.teacher()), (IMAGES as usize, teacher.id()));
    for image in [0, 5, 6, 599] {
        let picture =
            image::open(folder.path().join("scenes/images").join(&embedded.file_names()[image])).unwrap();
        let boxes = embedded.boxes_in_image(image);
        assert_eq!(boxes.len(), PER_IMAGE);
        let real: Vec<[f32; 4]> = boxes.iter().copied().filter(|[x1, _, x2, _]| x2 > x1).collect();
        // The seventh image shows something that nobody annotated.
        assert_eq!(real.len(), if image == 6 { 0 } else { 4 });
        let expected = teacher.embed_crops(&picture.to_rgb8(), &real).unwrap();
        for (place, expected) in expected.iter().enumerate() {
            let stored = embedded.embedding(image, place);
            let apart = stored.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-3, "image {image}, box {place}: {apart}");
        }
        assert!(
            embedded.embedding(image, PER_IMAGE - 1).iter().all(|&x| x == 0.0),
            "an empty box says nothing"
        );
    }
}
