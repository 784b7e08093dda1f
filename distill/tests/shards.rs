//! Photographs in tar shards: the same rows as of their files, killed, in parts, and what is wrong with shards.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tar::Builder;

const IMAGES: usize = 90;
const SHARDS: usize = 4;

/// A folder with photographs as files and as shards, annotations of them, a student and its vocabulary.
struct Made(tempfile::TempDir);

impl Made {
    fn new(images: usize) -> Option<Self> {
        support::needed(".deps/onnxruntime", "make deps")?;
        let made = Self(tempfile::tempdir().unwrap());
        let at = |name: &str| made.0.path().join(name);
        fs::create_dir(at("files")).unwrap();
        fs::create_dir(at("shards")).unwrap();
        let names: Vec<String> = (0..images).map(|number| format!("p{number:04}.png")).collect();
        let (mut listed, mut annotations) = (Vec::new(), Vec::new());
        for (number, name) in names.iter().enumerate() {
            let (x, y) = (5 + (number * 7 % 30) as u32, 4 + (number * 5 % 20) as u32);
            let pixel = |px: u32, py: u32| match (x..x + 20).contains(&px) && (y..y + 15).contains(&py) {
                true => Rgb([250, (number % 250) as u8, 40]),
                false => Rgb([(px * 3) as u8, (py * 4) as u8, (number / 250) as u8]),
            };
            RgbImage::from_fn(64, 48, pixel).save(at("files").join(name)).unwrap();
            listed.push(json!({"id": number, "file_name": name, "width": 64, "height": 48}));
            annotations.push(json!({
                "id": number, "image_id": number, "category_id": 1, "bbox": [x, y, 20, 15],
            }));
        }
        for (shard, names) in names.chunks(images.div_ceil(SHARDS)).enumerate() {
            let mut tar = Builder::new(File::create(at(&format!("shards/s-{shard:02}.tar"))).unwrap());
            for name in names {
                let key = name.trim_end_matches(".png");
                tar.append_path_with_name(at("files").join(name), name).unwrap();
                fs::write(at("label.json"), format!("{{\"key\": \"{key}\"}}")).unwrap();
                tar.append_path_with_name(at("label.json"), format!("{key}.json")).unwrap();
            }
            tar.finish().unwrap();
        }
        let file =
            json!({"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]});
        fs::write(at("annotations.json"), file.to_string()).unwrap();
        fs::write(at("words.toml"), "prompts = [\"a {}\"]\nwords = [\"cat\", \"dog\"]\n").unwrap();
        let export = support::checkout("distill/tests/fixtures/owl/owlvit-a");
        made.run(&format!("import owl {} -o student.onnx --teacher-out teacher", export.display()));
        made.run("vocabulary words.toml --teacher teacher -o words.safetensors");
        Some(made)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
        command.args(arguments.split(' ')).current_dir(self.0.path());
        command.env("ORT_DYLIB_PATH", support::checkout(".deps/onnxruntime/libonnxruntime.so.1"));
        command
    }

    fn run(&self, arguments: &str) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The exit code of a run that fails, and what it says.
    fn failure(&self, arguments: &str) -> (Option<i32>, String) {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments} goes well");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn start(&self, arguments: &str) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// The names of the photographs in an annotation file.
    fn names_in(&self, name: &str) -> Vec<String> {
        let file: Value = serde_json::from_slice(&self.read(name)).unwrap();
        let images = file["images"].as_array().unwrap();
        images.iter().map(|image| image["file_name"].as_str().unwrap().to_owned()).collect()
    }

    /// Cuts bytes off a shard's end.
    fn cut(&self, shard: &str, bytes: u64) {
        let file = File::options().write(true).open(self.0.path().join(shard)).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }
}

const LABEL: &str = "label --student student.onnx --vocabulary words.safetensors --object 0.6";
const PROPOSALS: &str =
    "proposals --annotations annotations.json --student student.onnx --moved-copies 2 --per-image 6";

/// What a command makes of files, and of shards in parts, in `folder`.
fn made_of_both(made: &Made, command: &str, folder: &str) {
    made.run(&format!("{command} --images files -o {folder}-of-files"));
    // The parts' borders are not the shards'.
    for (part, images) in ["2/3", "3/3", "1/3"].iter().zip(["shards", "shards/s-{00..03}.tar", "shards.txt"])
    {
        made.run(&format!("{command} --images {images} --shard {part} -o {folder}-of-shards"));
    }
    made.run(&format!("merge {folder}-of-shards"));
}

#[test]
fn rows_of_shards_in_parts_are_those_of_files_to_the_byte() {
    let Some(made) = Made::new(IMAGES) else { return };
    let shards: Vec<String> = (0..SHARDS).map(|shard| format!("shards/s-{shard:02}.tar")).collect();
    fs::write(made.0.path().join("shards.txt"), shards.join("\n")).unwrap();
    made_of_both(&made, PROPOSALS, "proposals");
    let [files, parts] = ["files", "shards"].map(|of| made.read(&format!("proposals-of-{of}/proposals.f32")));
    assert!(files == parts && files.iter().any(|byte| *byte != 0), "the proposals differ");

    made_of_both(&made, "embed --proposals proposals-of-files --from-student student.onnx", "embeddings");
    let [files, parts] =
        ["files", "shards"].map(|of| made.read(&format!("embeddings-of-{of}/embeddings.bin")));
    assert!(files == parts, "the embeddings differ");

    made.run(&format!("{LABEL} --images files --answers of-files -o of-files.json"));
    for part in ["1/2", "2/2"] {
        made.run(&format!("{LABEL} --images shards --answers of-shards --shard {part}"));
    }
    made.run("merge of-shards");
    made.run(&format!("{LABEL} --images shards --answers of-shards -o of-shards.json"));
    assert!(made.read("of-files/answers.bin") == made.read("of-shards/answers.bin"), "the answers differ");
    assert!(made.read("of-files.json") == made.read("of-shards.json"), "the annotations differ");
    assert_eq!(made.names_in("of-shards.json").len(), IMAGES);
    // With annotations too, and what has been answered of files needs no shard any more.
    let with = "--annotations annotations.json --complete-for-own false";
    made.run(&format!("{LABEL} {with} --images shards --answers of-files -o completed.json"));
    let label = LABEL.replace(" --object 0.6", "");
    made.run(&format!("{label} --annotations annotations.json --images shards --evaluate"));
    let (exit, said) = made
        .failure(&format!("{label} --annotations annotations.json --images files --evaluate --format voc"));
    assert!(exit == Some(2) && said.contains("--format"), "{said}");
}

#[test]
fn embeddings_of_shards_go_on_after_kills_as_if_there_had_been_none() {
    let Some(made) = Made::new(600) else { return };
    made.run(&format!("{PROPOSALS} --images shards -o proposals"));
    let embed = "embed --proposals proposals --from-student student.onnx --images shards -o";
    made.run(&format!("{embed} whole"));
    let whole = made.read("whole/embeddings.bin");
    let rows = made.0.path().join("killed/embeddings.bin");
    let written = || fs::metadata(&rows).map_or(0, |metadata| metadata.len());
    let mut in_the_middle = 0;
    loop {
        let (mut child, before) = (made.start(&format!("{embed} killed")), written());
        let ended = loop {
            if written() > before && in_the_middle < 3 {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        in_the_middle += usize::from((written() as usize) < whole.len());
    }
    assert!(in_the_middle > 0, "no kill fell into the work");
    assert!(made.read("killed/embeddings.bin") == whole, "after {in_the_middle} kills the rows differ");
}

#[test]
fn what_is_wrong_with_shards_is_told_in_a_sentence_or_left_out() {
    let Some(made) = Made::new(8) else { return };
    let label = |images: &str| format!("{LABEL} --images {images} -o labels.json");
    for (images, code, told) in [
        ("shards/s-{00..04}.tar", 1, "1 of 5 shards are not there, the first shards/s-04.tar"),
        ("shards/s-{00..04.tar", 2, "a brace isn't closed"),
        ("words.toml", 2, "neither a folder of photographs, nor a .tar file"),
    ] {
        let (exit, said) = made.failure(&label(images));
        assert!(exit == Some(code) && said.contains(told) && !said.contains("panicked"), "{images}: {said}");
    }
    // Each shard has two photographs, each before a label of two blocks. Of one shard's last photograph 100 bytes are left,
    // of the other shard a part of the first.
    let end = 2 * 512;
    made.cut("shards/s-01.tar", end + 2 * 512 + (512 - 100));
    let length = fs::metadata(made.0.path().join("shards/s-02.tar")).unwrap().len();
    made.cut("shards/s-02.tar", length - 700);
    let (exit, said) = made.failure(&label("shards"));
    assert!(exit == Some(1) && said.contains("shards/s-01.tar is cut off in its member p0003.png"), "{said}");
    made.run(&format!("{} --skip-unreadable", label("shards")));
    assert_eq!(
        made.names_in("labels.json"),
        ["p0000.png", "p0001.png", "p0002.png", "p0006.png", "p0007.png"]
    );

    let (exit, said) = made.failure(&format!("{PROPOSALS} --images shards -o proposals"));
    assert!(
        exit == Some(1) && said.contains("cannot read the picture") && said.contains("cut off"),
        "{said}"
    );
    made.run(&format!("{PROPOSALS} --images shards --skip-unreadable -o proposals"));
    let rows = made.read("proposals/proposals.f32");
    let rows: Vec<bool> =
        rows.chunks_exact(rows.len() / 8).map(|row| row.iter().any(|byte| *byte != 0)).collect();
    assert_eq!(rows, [true, true, true, false, false, false, true, true]);
    // A shard that is no output, and no place for one.
    let (exit, said) = made.failure(&format!("{LABEL} --images shards -o shards/s-00.tar"));
    assert!(exit == Some(2), "{said}");
    let (exit, said) = made.failure(&format!("{PROPOSALS} --images shards -o shards"));
    assert!(exit == Some(2) && said.contains("given as an input"), "{said}");
    assert!(Path::new(&made.0.path().join("shards/s-00.tar")).is_file());
}
