//! The host guide: every command in `docs/student.md` works, in its order, from photographs to a
//! student that an engine runs and a vocabulary that fits it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use wordsight_detection::Vocabulary;
use wordsight_engines::{CpuEngine, Engine, Regions};

const GUIDE: &str = include_str!("../../docs/student.md");
const WORDS: &str = include_str!("../../docs/words.md");

/// The guide's numbers, and those of the test.
const SMALLER: [(&str, &str); 6] = [
    ("--count 16000", "--count 410"),
    ("--count 400", "--count 6"),
    ("--per-image 12", "--per-image 2"),
    ("--steps 3600", "--steps 2"),
    ("--steps 1000", "--steps 2"),
    (
        "--target cpu",
        "--target cpu --count 12 --few-images --least-cosine 0 --least-lowest-tenth 0 --least-kept 0",
    ),
];

/// The first code block of a language in the guide.
fn block(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    GUIDE.split(&fence).nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn every_command_of_the_guide_runs_from_photographs_to_a_student() {
    let Some(packages) = support::needed(".deps/efficientnet-lite0.pth", "run `make host-deps` first") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("shared/data");
    let checkout = folder.path().join("checkout");
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(checkout.join("work")).unwrap();
    fs::create_dir(data.join("photos")).unwrap();
    support::write_collection(&data);
    support::clip_frames(30)[0].save(data.join("photos/one.png")).unwrap();
    symlink(packages.parent().unwrap().canonicalize().unwrap(), checkout.join(".deps")).unwrap();
    symlink(support::checkout("demo").canonicalize().unwrap(), checkout.join("demo")).unwrap();

    let commands: Vec<&str> = block("sh").lines().collect();
    assert_eq!(commands.len(), 14);
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
    assert_eq!(facts.training["steps"], 2);
    let mut regions = Regions::default();
    engine.infer(&vec![127; 3 * facts.input_width * facts.input_height], &mut regions).unwrap();
    assert_eq!(regions.boxes_in_input.len(), facts.proposals);
    assert_eq!((facts.input_width, facts.input_height), (384, 384));
    for quantised in ["work/student-int8.onnx", "work/student-cpu.onnx"] {
        let model = wordsight_onnx::read(&checkout.join(quantised)).unwrap();
        assert_eq!(wordsight_onnx::metadata(&model, "wordsight.precision"), Some("int8"), "{quantised}");
    }
    assert!(checkout.join("work/int8.svg").exists() && !checkout.join("work/student-cpu.fp32.onnx").exists());
    let figures = fs::read_to_string(checkout.join("work/photographs.json")).unwrap();
    assert!(figures.contains("novel") && figures.contains("teacher_top5"), "{figures}");
    let figures: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(checkout.join("work/figures.json")).unwrap()).unwrap();
    let row = &figures["rows"][0];
    for figure in ["AP", "AP50", "AP75", "APs", "AR100", "AR300"] {
        assert!(row["all"].get(figure).is_some(), "{figure}: {row}");
    }
    assert!(row["novel"]["AP50"].is_number() && row["base"]["AP50"].is_number(), "{row}");
}

#[test]
fn the_first_vocabulary_of_the_guide_is_made() {
    let Some(teacher) = support::needed(".deps/teacher/config.json", "run `make teacher` first") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    symlink(teacher.ancestors().nth(2).unwrap().canonicalize().unwrap(), folder.path().join(".deps"))
        .unwrap();
    let block = |language: &str| {
        let fence = format!("```{language}\n");
        WORDS.split(&fence).nth(1).unwrap().split("```").next().unwrap()
    };
    fs::write(folder.path().join("my-words.toml"), block("toml")).unwrap();
    let command = block("sh").trim();
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
    fs::write(&path, block("toml")).unwrap();
    let list = wordsight_teacher::words::read(&path).unwrap();
    let words: Vec<&str> = list.words.iter().map(|word| word.word.as_str()).collect();
    assert_eq!(words, ["bicycle", "cup"]);
    assert_eq!(list.words[1].threshold, Some(0.4));
}
