//! The host guide: every command in `docs/student.md` works, in its order, from photographs to a
//! student that an engine runs and a vocabulary that fits it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use wordsight_detection::Vocabulary;
use wordsight_engines::{CpuEngine, Engine, Regions};

const GUIDE: &str = include_str!("../../docs/student.md");
const WORDS: &str = include_str!("../../docs/words.md");

/// The guide's numbers, and those of the test.
const SMALLER: [(&str, &str); 4] = [
    ("--count 400", "--count 6"),
    ("--per-image 12", "--per-image 2"),
    ("--steps 4800", "--steps 6 --batch 4 --warm-up 2"),
    (
        "--target cpu",
        "--target cpu --count 12 --few-images --least-cosine 0 --least-lowest-tenth 0 --least-kept 0",
    ),
];

/// A code block of a language on a page, by its place among those.
fn block(page: &'static str, language: &str, place: usize) -> &'static str {
    let fence = format!("```{language}\n");
    page.split(&fence).nth(1 + place).unwrap().split("```").next().unwrap()
}

/// A checkout beside shared data of a few made-up photographs.
fn write_checkout(folder: &Path, packages: &Path) -> PathBuf {
    let (data, checkout) = (folder.join("shared/data"), folder.join("checkout"));
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(checkout.join("work")).unwrap();
    fs::create_dir(data.join("photos")).unwrap();
    support::write_collection(&data);
    support::clip_frames(30)[0].save(data.join("photos/one.png")).unwrap();
    for (set, name, count) in
        [("coco", "coco_train", 12), ("coco", "coco_val", 8), ("voc2012", "instances", 12)]
    {
        support::made_up::write_pictures(&data.join("annotated").join(set), name, count);
    }
    symlink(packages.canonicalize().unwrap(), checkout.join(".deps")).unwrap();
    symlink(support::checkout("demo").canonicalize().unwrap(), checkout.join("demo")).unwrap();
    fs::write(checkout.join("work/sets.toml"), block(GUIDE, "toml", 0)).unwrap();
    fs::write(checkout.join("work/validation.toml"), block(GUIDE, "toml", 1)).unwrap();
    checkout
}

#[test]
fn every_command_of_the_guide_runs_from_photographs_to_a_student() {
    let Some(packages) = support::needed(".deps/efficientnet-lite0.pth", "run `make host-deps` first") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let checkout = write_checkout(folder.path(), packages.parent().unwrap());

    let commands: Vec<&str> = block(GUIDE, "sh", 0).lines().collect();
    assert_eq!(commands.len(), 13);
    for command in commands {
        let mut command = command.to_owned();
        for (real, small) in SMALLER {
            command = command.replace(real, small);
        }
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("wordsight-distill"));
        let output = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .args(words)
            .current_dir(&checkout)
            .output()
            .unwrap();
        println!("$ {command}\n{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    let mut engine = CpuEngine::open(&checkout.join("work/student.onnx"), 1).unwrap();
    let facts = engine.facts().clone();
    let vocabulary = Vocabulary::load(&checkout.join("work/words.safetensors")).unwrap();
    vocabulary.check_against(&facts.teacher, facts.embedding_size).unwrap();
    assert_eq!(facts.training["steps"], 6);
    let words = facts.training["words"].as_array().unwrap();
    assert!(words.iter().any(|word| word == "red") && words.iter().any(|word| word == "word 1"), "{words:?}");
    let mut regions = Regions::default();
    engine.infer(&vec![127; facts.resize.input_len()], &mut regions).unwrap();
    assert_eq!(regions.boxes_in_input.len(), facts.proposals);
    assert_eq!((facts.input_width(), facts.input_height()), (384, 384));
    for quantised in ["work/student-int8.onnx", "work/student-cpu.onnx"] {
        let model = wordsight_onnx::read(&checkout.join(quantised)).unwrap();
        assert_eq!(wordsight_onnx::metadata(&model, "wordsight.precision"), Some("int8"), "{quantised}");
    }
    assert!(checkout.join("work/int8.svg").exists() && !checkout.join("work/student-cpu.fp32.onnx").exists());
    curves_are_drawn_and_metrics_kept(&checkout);
    let figures = fs::read_to_string(checkout.join("work/photographs.json")).unwrap();
    assert!(figures.contains("novel") && figures.contains("teacher_top5"), "{figures}");
    let figures: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(checkout.join("work/figures.json")).unwrap()).unwrap();
    let [coco, scenes] = [0, 1].map(|row| &figures["rows"][row]);
    for figure in ["AP", "AP50", "AP75", "APs", "AR100", "AR300"] {
        assert!(coco["all"].get(figure).is_some(), "{figure}: {coco}");
    }
    assert!(scenes["novel"]["AP50"].is_number() && scenes["base"]["AP50"].is_number(), "{scenes}");
    assert!(checkout.join("work/pictures/000000-000.png").exists());
}

/// What `learning-curves` made of the training, and that it does not write over what the training wrote.
fn curves_are_drawn_and_metrics_kept(checkout: &Path) {
    let curves = fs::read_to_string(checkout.join("work/curves.svg")).unwrap();
    assert!(curves.contains("training: AR@100") && curves.contains("training: named"), "{curves}");
    let line = fs::read_to_string(checkout.join("work/training/metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    let [time, processor] = ["seconds", "processor_seconds"].map(|of| line[of].as_f64().unwrap());
    assert!(time > 0.0 && processor > 0.0, "{line}");
    let over_metrics = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
        .args(["learning-curves", "work/training", "--json", "work/training/metrics.jsonl"])
        .current_dir(checkout)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&over_metrics.stderr);
    assert!(over_metrics.status.code() == Some(2) && told.contains("would be overwritten"), "{told}");
}

#[test]
fn the_first_vocabulary_of_the_guide_is_made() {
    let Some(teacher) = support::needed(".deps/teacher/config.json", "run `make teacher` first") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    symlink(teacher.ancestors().nth(2).unwrap().canonicalize().unwrap(), folder.path().join(".deps"))
        .unwrap();
    fs::write(
        folder.path().join("my-words.toml"),
        block(WORDS.split_once("## As a file").unwrap().1, "toml", 0),
    )
    .unwrap();
    let command = block(WORDS, "sh", 1).trim();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("wordsight-distill"));
    let mut made = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"));
    let output = made.args(words).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let vocabulary = Vocabulary::load(&folder.path().join("my-words.safetensors")).unwrap();
    let words: Vec<&str> = vocabulary.shown().iter().map(|word| word.word.as_str()).collect();
    assert_eq!(words, ["forklift", "hard hat", "fire extinguisher"]);
    let competes = |name: &str| vocabulary.hidden().iter().any(|word| word.word == name);
    assert!(competes("wall") && !competes("helmet"), "{:?}", vocabulary.hidden());
}

#[test]
fn the_words_of_the_guide_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.toml");
    fs::write(&path, block(GUIDE, "toml", 2)).unwrap();
    let list = wordsight_teacher::words::read(&path).unwrap();
    let words: Vec<&str> = list.words.iter().map(|word| word.word.as_str()).collect();
    assert_eq!(words, ["bicycle", "cup"]);
    assert_eq!(list.words[1].threshold, Some(0.4));
}
