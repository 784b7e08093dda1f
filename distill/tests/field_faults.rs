//! Users' own files: nothing that is read is written, and all commands read pictures and annotations the same way.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::codecs::png::PngEncoder;
use image::{ImageEncoder, RgbImage};
use serde_json::{Value, json};
use support::folders::contents;
use wordsight_distill::embed::Embedded;

/// Runs a command in `folder` that is to be refused as bad usage, with `part` in its sentence, and to change nothing there.
fn assert_refused(folder: &Path, arguments: &str, part: &str) {
    let before = contents(folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
    let output = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains(part), "{arguments}: {told}");
    assert!(contents(folder) == before, "{arguments} changed a file");
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("images")).unwrap();
    fs::create_dir_all(at("teacher/onnx")).unwrap();
    image::RgbImage::new(8, 8).save(at("images/a.png")).unwrap();
    for (name, text) in [
        ("words.toml", "words = [\"cat\"]\n"),
        ("teacher/config.json", "{}"),
        ("annotations.json", r#"{"images": [], "annotations": [], "categories": []}"#),
        ("sets.toml", "[[set]]\nname = \"a\"\nformat = \"coco\"\nannotations = \"annotations.json\"\n"),
        (
            "one.json",
            r#"{"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], "annotations":
                [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8]}],
                "categories": [{"id": 1, "name": "cat"}]}"#,
        ),
        ("one.toml", "[[set]]\nname = \"a\"\nformat = \"coco\"\nannotations = \"one.json\"\n"),
        ("split.json", r#"{"base": [], "novel": []}"#),
        ("student.onnx", "\u{8}\u{7} no student"),
    ] {
        fs::write(at(name), text).unwrap();
    }
    std::os::unix::fs::symlink(at("student.onnx"), at("link.onnx")).unwrap();
    fs::hard_link(at("words.toml"), at("hard.safetensors")).unwrap();
    folder
}

#[test]
fn no_command_writes_to_what_it_reads() {
    let folder = folder();
    let refused = |arguments: &str| assert_refused(folder.path(), arguments, "given as an input");
    for output in ["words.toml", "./words.toml", "hard.safetensors", "teacher/config.json"] {
        refused(&format!("vocabulary words.toml --teacher teacher -o {output}"));
    }
    for output in ["student.onnx", "link.onnx", "images/a.png"] {
        refused(&format!("quantize --student student.onnx --target cpu --images images -o {output}"));
    }
    let quantize = "quantize --student student.onnx --target cpu --images images -o new.onnx";
    refused(&format!("{quantize} --json images/a.png"));
    refused(&format!("{quantize} --plot student.onnx"));
    let eval = "eval --student student.onnx --annotations annotations.json --images images --teacher teacher";
    for output in ["student.onnx", "annotations.json", "images/a.png", "teacher/config.json"] {
        refused(&format!("{eval} --json {output}"));
    }
    refused(
        "label --detector student.onnx --annotations annotations.json --images images -o annotations.json",
    );
    refused("label --detector student.onnx --images images -o new.json --json student.onnx");
    refused("proposals --annotations annotations.json --images images --moved-copies 1 -o images");
    refused("embed --proposals images --images images --teacher teacher -o images");
    refused("train --sets sets.toml --teacher teacher -o teacher");
    refused("scenes --data images -o images");
    refused("teacher standin --packages images -o images");
    refused("export --training images --teacher teacher -o teacher/config.json");
    refused("teacher text-only teacher -o teacher");
    refused("average student.onnx link.onnx -o student.onnx");
    refused("eval-photographs --student student.onnx --data images --teacher teacher --json student.onnx");
    refused("eval-tracking --student student.onnx --data images --teacher teacher --json images/a.png");
    refused("set-annotations --sets one.toml --set a --images images -o one.json");
    refused("show-batch --sets one.toml -o images");
}

#[test]
fn what_is_no_output_is_not_replaced() {
    let folder = folder();
    let refused = |arguments: &str, part: &str| assert_refused(folder.path(), arguments, part);
    fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    refused("vocabulary words.toml --teacher teacher -o sets.toml", "is not overwritten");
    refused("vocabulary words.toml --teacher teacher -o images", "is a folder");
    refused(
        "quantize --student student.onnx --target cpu --images images -o notes.txt",
        "is not overwritten",
    );
    refused("quantize --student student.onnx --target cpu --images images -o images", "is a folder");
    refused("scenes --data images -o notes.txt", "is a file");
}

#[test]
fn a_vocabulary_or_a_student_that_cannot_be_written_leaves_nothing_beside_it() {
    let folder = folder();
    let place = folder.path().join("words.safetensors");
    fs::create_dir(&place).unwrap();
    let mut vocabulary =
        wordsight_detection::Vocabulary::load(&support::checkout("demo/words.safetensors")).unwrap();
    assert!(vocabulary.save(&place).is_err());
    vocabulary.teacher.clear();
    assert!(vocabulary.save(&folder.path().join("missing/words.safetensors")).is_err());
    let model = wordsight_onnx::proto::ModelProto::default();
    assert!(wordsight_onnx::write(&model, &place).is_err());
    let left: Vec<_> = contents(folder.path())
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("partial"))
        .collect();
    let left: Vec<PathBuf> = left.into_iter().map(|(path, _)| path).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn distill(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
    command.args(arguments.split(' ')).current_dir(folder);
    command
        .env("ORT_DYLIB_PATH", support::checkout(".deps/onnxruntime/libonnxruntime.so.1"))
        .output()
        .unwrap()
}

/// The log of a run that went well.
fn told_by(folder: &Path, arguments: &str) -> String {
    let output = distill(folder, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments}: {told}");
    told
}

/// Asserts a failure whose sentence has all of `parts`.
fn assert_fails(folder: &Path, arguments: &str, parts: &[&str]) {
    let output = distill(folder, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !told.contains("panicked"), "{arguments}: {told}");
    for part in parts {
        assert!(told.contains(part), "{arguments} does not say {part:?}: {told}");
    }
}

/// Three frames of the demo's clip as `images/N.png`, and what is marked in them.
fn clip() -> Option<(tempfile::TempDir, Value)> {
    support::needed(".deps/onnxruntime", "run `make deps` first")?;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    let truth: Value =
        serde_json::from_slice(&fs::read(support::checkout("demo/clip.truth.json")).unwrap()).unwrap();
    let truth = truth["frames"].as_array().unwrap().iter().step_by(30);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (id, (frame, truth)) in support::clip_frames(30).iter().zip(truth).enumerate().take(3) {
        let name = format!("{id}.png");
        frame.save(folder.path().join("images").join(&name)).unwrap();
        images.push(json!({"id": id, "file_name": name, "width": frame.width(), "height": frame.height()}));
        for object in
            truth["objects"].as_array().unwrap().iter().filter(|object| object["vocabulary"] == "main")
        {
            let side = |place: usize| object["box_in_frame"][place].as_f64().unwrap();
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": 1, "iscrowd": 0, "word": object["word"],
                "bbox": [side(0), side(1), side(2) - side(0), side(3) - side(1)],
            }));
        }
    }
    let mut words: Vec<Value> = annotations.iter().map(|annotation| annotation["word"].clone()).collect();
    words.sort_by_key(ToString::to_string);
    words.dedup();
    for annotation in &mut annotations {
        annotation["category_id"] =
            json!(words.iter().position(|word| *word == annotation["word"]).unwrap() + 1);
    }
    let categories: Vec<Value> =
        words.iter().zip(1..).map(|(name, id)| json!({"id": id, "name": name})).collect();
    let file = json!({"images": images, "annotations": annotations, "categories": categories});
    assert_eq!(file["images"].as_array().unwrap().len(), 3);
    write(folder.path(), "good.json", &file);
    Some((folder, file))
}

fn write(folder: &Path, name: &str, file: &Value) {
    fs::write(folder.join(name), file.to_string()).unwrap();
}

fn eval(annotations: &str, images: &str) -> String {
    let [student, words] = ["demo/student.onnx", "demo/words.safetensors"].map(support::checkout);
    format!(
        "eval --student {} --vocabulary {} --annotations {annotations} --images {images} --json figures.json",
        student.display(),
        words.display()
    )
}

/// The figures of an evaluation but for what it took.
fn figures(folder: &Path, annotations: &str, images: &str) -> Value {
    told_by(folder, &eval(annotations, images));
    let mut figures: Value = serde_json::from_slice(&fs::read(folder.join("figures.json")).unwrap()).unwrap();
    figures["rows"][0]["milliseconds"].take();
    figures["rows"].take()
}

/// Each image of a folder written anew into another.
fn converted(folder: &Path, to: &str, convert: impl Fn(&RgbImage) -> Vec<u8>) {
    fs::create_dir(folder.join(to)).unwrap();
    for entry in fs::read_dir(folder.join("images")).unwrap() {
        let path = entry.unwrap().path();
        let picture = image::open(&path).unwrap().into_rgb8();
        fs::write(folder.join(to).join(path.file_name().unwrap()), convert(&picture)).unwrap();
    }
}

#[test]
fn average_precision_is_the_same_of_pictures_on_their_side_and_of_misnamed_ones() {
    let Some((folder, _)) = clip() else { return };
    let folder = folder.path();
    converted(folder, "exif", |picture| {
        let on_its_side = image::imageops::rotate270(picture);
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        let (width, height) = on_its_side.dimensions();
        encoder.write_image(&on_its_side, width, height, image::ExtendedColorType::Rgb8).unwrap();
        bytes
    });
    converted(folder, "misnamed", |picture| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::WebP).unwrap();
        bytes.into_inner()
    });
    let plain = figures(folder, "good.json", "images");
    assert!(plain[0]["all"]["AP"].as_f64().unwrap() > 0.05, "{plain}");
    for images in ["exif", "misnamed"] {
        assert_eq!(figures(folder, "good.json", images), plain, "{images}");
    }
    // And the other commands.
    for images in ["exif", "misnamed"] {
        let proposals =
            format!("proposals --annotations good.json --images {images} --moved-copies 1 -o p-{images}");
        told_by(folder, &proposals);
        let teacher = support::checkout("teacher/tests/fixtures/clip");
        let teacher = teacher.display();
        told_by(
            folder,
            &format!("embed --proposals p-{images} --images {images} --teacher {teacher} -o e-{images}"),
        );
    }
    let [exif, misnamed] =
        ["e-exif", "e-misnamed"].map(|name| fs::read(folder.join(name).join("embeddings.bin")).unwrap());
    assert!(exif == misnamed, "embeddings of the same pictures differ");
}

#[test]
fn a_torn_picture_is_refused_by_name_or_left_out_by_name() {
    let Some((folder, file)) = clip() else { return };
    let folder = folder.path();
    converted(folder, "torn", |picture| {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes).encode_image(picture).unwrap();
        bytes
    });
    let whole = fs::read(folder.join("torn/0.png")).unwrap();
    fs::write(folder.join("torn/0.png"), &whole[..whole.len() / 3]).unwrap();
    let teacher = support::checkout("teacher/tests/fixtures/clip");
    let proposals = "proposals --annotations good.json --images torn --moved-copies 1 -o proposals";
    let embed =
        format!("embed --proposals proposals --images torn --teacher {} -o embeddings", teacher.display());
    for command in [eval("good.json", "torn"), proposals.to_owned()] {
        assert_fails(folder, &command, &["torn/0.png", "cut off"]);
    }
    for command in [eval("good.json", "torn"), proposals.to_owned(), embed.clone()] {
        let told = told_by(folder, &format!("{command} --skip-unreadable"));
        assert!(told.contains("left out") && told.contains("torn/0.png"), "{command}: {told}");
    }
    let left = serde_json::from_slice::<Value>(&fs::read(folder.join("figures.json")).unwrap()).unwrap();
    assert_eq!(left["rows"][0]["images"], 2);
    let mut others = file.clone();
    others["images"].as_array_mut().unwrap().retain(|image| image["id"] != 0);
    others["annotations"].as_array_mut().unwrap().retain(|annotation| annotation["image_id"] != 0);
    write(folder, "others.json", &others);
    assert_eq!(figures(folder, "others.json", "torn")[0]["all"], left["rows"][0]["all"]);

    // When the picture is whole again, its row alone is made.
    assert!(
        Embedded::open(&folder.join("embeddings"))
            .unwrap()
            .boxes_in_image(0)
            .concat()
            .iter()
            .all(|side| *side == 0.0)
    );
    fs::write(folder.join("torn/0.png"), whole).unwrap();
    for command in [proposals, &embed] {
        let told = told_by(folder, command);
        assert!(told.contains("1 rows of before"), "{command}: {told}");
    }
    assert!(Embedded::open(&folder.join("embeddings")).unwrap().boxes_in_image(0)[0][2] > 0.0);
}

#[test]
fn sizes_that_are_not_the_files_are_refused_by_every_command_that_takes_boxes() {
    let Some((folder, file)) = clip() else { return };
    let folder = folder.path();
    for (name, factor) in [("doubled.json", [2, 2]), ("turned.json", [0, 0])] {
        let mut other = file.clone();
        for image in other["images"].as_array_mut().unwrap() {
            let sides = [image["width"].as_u64().unwrap(), image["height"].as_u64().unwrap()];
            let sides = if factor == [0, 0] { [sides[1], sides[0]] } else { [2 * sides[0], 2 * sides[1]] };
            (image["width"], image["height"]) = (json!(sides[0]), json!(sides[1]));
        }
        write(folder, name, &other);
        let proposals =
            format!("proposals --annotations {name} --images images --moved-copies 1 -o p-{name}");
        for command in [eval(name, "images"), proposals] {
            assert_fails(folder, &command, &["images/", ".png has 640x480 pixels", "another size of it"]);
        }
    }
}

#[test]
fn annotations_that_pycocotools_reads_are_read_alike_by_eval_and_proposals() {
    let Some((folder, file)) = clip() else { return };
    let folder = folder.path();
    let plain = figures(folder, "good.json", "images");
    let mut odd = file.clone();
    for image in odd["images"].as_array_mut().unwrap() {
        let name = image["file_name"].take();
        image["coco_url"] =
            json!(format!("http://images.cocodataset.org/val2017/{}", name.as_str().unwrap()));
        image.as_object_mut().unwrap().remove("file_name");
        image["id"] = json!(format!("image {}", image["id"]));
    }
    for annotation in odd["annotations"].as_array_mut().unwrap() {
        annotation["iscrowd"] = json!(false);
        annotation["image_id"] = json!(format!("image {}", annotation["image_id"]));
        annotation["category_id"] = json!(annotation["category_id"].to_string());
    }
    // Roboflow's root, and boxes that are none.
    let name = odd["categories"][0]["name"].clone();
    odd["categories"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"id": 0, "name": name, "supercategory": "none"}));
    for (id, bbox) in [
        (901, json!([100, 100, -50, -50])),
        (902, json!([10, 20, 5.54, 0])),
        (903, json!([9000, 0, 5, 5])),
        (904, json!([0, null, 5, 5])),
    ] {
        odd["annotations"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": id, "image_id": "image 1", "category_id": 1, "bbox": bbox}));
    }
    write(folder, "odd.json", &odd);
    assert_eq!(figures(folder, "odd.json", "images"), plain);
    let of = |name: &str| {
        let told = told_by(
            folder,
            &format!("proposals --annotations {name} --images images --moved-copies 1 -o p-{name}"),
        );
        (fs::read(folder.join(format!("p-{name}/proposals.f32"))).unwrap(), told)
    };
    let ((good, _), (odd, told)) = (of("good.json"), of("odd.json"));
    assert!(good == odd, "proposals differ");
    for id in [901, 902, 903, 904] {
        assert!(told.contains(&format!("annotation {id} of image \"image 1\" (1.png)")), "{told}");
    }
    assert_eq!(told.lines().filter(|line| line.contains("left out")).count(), 1, "one line: {told}");
}

#[test]
fn one_id_for_two_images_is_refused_by_every_command() {
    let Some((folder, mut file)) = clip() else { return };
    let folder = folder.path();
    file["images"].as_array_mut().unwrap().iter_mut().for_each(|image| image["id"] = json!(0));
    file["annotations"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .for_each(|annotation| annotation["image_id"] = json!(0));
    write(folder, "twice.json", &file);
    let proposals = "proposals --annotations twice.json --images images --moved-copies 1 -o p".to_owned();
    for command in [eval("twice.json", "images"), proposals] {
        assert_fails(folder, &command, &["twice.json", "0.png and 1.png both have the id 0"]);
    }
}

#[test]
fn half_done_work_survives_a_repaired_annotation_file() {
    let Some((folder, file)) = clip() else { return };
    let folder = folder.path();
    let mut broken = file.clone();
    broken["annotations"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 900, "image_id": 1, "category_id": 1, "bbox": [9000, 0, 5, 5]}));
    write(folder, "annotations.json", &broken);
    let proposals = "proposals --annotations annotations.json --images images --moved-copies 2 -o proposals";
    let teacher = support::checkout("teacher/tests/fixtures/clip");
    let embed =
        format!("embed --proposals proposals --images images --teacher {} -o embeddings", teacher.display());
    let run = || {
        let told = [proposals, &embed].map(|command| told_by(folder, command)).concat();
        let rows = fs::read(folder.join("embeddings/embeddings.bin")).unwrap();
        (told.matches("1 rows of before").count(), told.contains("rows of before"), rows)
    };
    let (_, is_anew, first) = run();
    assert!(!is_anew);
    // Without the box that was none, nothing has changed.
    write(folder, "annotations.json", &file);
    let (_, is_anew, second) = run();
    assert!(!is_anew && first == second);
    // With another box in one image, its row alone is made anew, in both folders.
    let mut moved = file;
    moved["annotations"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 900, "image_id": 1, "category_id": 1, "bbox": [20, 30, 50, 60]}));
    write(folder, "annotations.json", &moved);
    let (one, _, third) = run();
    assert_eq!(one, 2);
    let row = third.len() / 3;
    assert!(third[..row] == second[..row] && third[2 * row..] == second[2 * row..] && third != second);
}
