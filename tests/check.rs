//! `wordsight check` and `wordsight config`: a configuration before it is run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use support::*;

fn ask(arguments: &[&str]) -> Outcome {
    Outcome::of(wordsight(arguments).output().unwrap())
}

#[test]
fn a_configuration_that_works_is_fine_part_by_part() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED]));
    let config = bench.write_config("[source]\nuri = \"clip.mjpeg\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stdout.matches("fine ").count()), (Some(0), 5), "{outcome:?}");
    for expected in ["64x64, 4 regions, teacher colours", "3 words, which the student understands"] {
        assert!(outcome.stdout.contains(expected), "{outcome:?}");
    }
    let outcome = ask(&["check", config.to_str().unwrap(), "--json"]);
    let checked: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&checked["is_fine"], checked["parts"].as_array().unwrap().len()), (&true.into(), 5));
}

#[test]
fn hidden_words_are_not_counted() {
    let bench = Bench::new();
    let hidden = [("green", GREEN), ("blue", BLUE)];
    write_vocabulary_hiding(&bench.path("words.safetensors"), &[("red", RED)], &hidden);
    let config = bench.write_config("[source]\nuri = \"test://bars\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert!(outcome.stdout.contains(".safetensors: 1 words"), "{outcome:?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_the_exit_code_of_the_worst() {
    let bench = Bench::new();
    let mut other = vocabulary(&[("red", RED)]);
    other.teacher = "somebody else".to_owned();
    other.save(&bench.path("words.safetensors")).unwrap();
    let config =
        bench.write_config("[source]\nuri = \"missing.mjpeg\"\n[publish]\njson = \"nowhere/out.jsonl\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stdout.matches("WRONG").count()), (Some(2), 3), "{outcome:?}");
    for expected in ["somebody else", "missing.mjpeg", "nowhere/out.jsonl is not there"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {outcome:?}");
    }
    std::fs::remove_file(bench.path("student.onnx")).unwrap();
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED)]);
    let config = bench.write_config("[source]\nuri = \"test://bars\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1), "a file that is not there: {outcome:?}");
}

#[test]
fn a_page_that_could_not_be_served_is_told_too() {
    let bench = Bench::new();
    let check = |http: &str| {
        let config = bench.write_config(&format!("[source]\nuri = \"test://bars\"\n[http]\n{http}"));
        ask(&["check", config.to_str().unwrap()])
    };
    let outcome = check("listen = \"127.0.0.1:8620\"\n");
    assert!(outcome.code == Some(0) && outcome.stdout.contains("http://127.0.0.1:8620/"), "{outcome:?}");
    bench.write("token", "short");
    let outcome = check("listen = \"0.0.0.0:8620\"\ntoken_file = \"token\"\n");
    assert!(outcome.code == Some(2) && outcome.stdout.contains("16 characters"), "{outcome:?}");
    let outcome = check("listen = \"127.0.0.1:8620\"\nvocabularies = \"nowhere\"\n");
    assert!(outcome.code == Some(1) && outcome.stdout.contains("nowhere is not there"), "{outcome:?}");
}

#[test]
fn a_configuration_with_a_wrong_key_is_told_with_what_was_meant() {
    let bench = Bench::new();
    let config = bench.write_config("[detection]\nscore_treshold = 0.5\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stdout.contains("did you mean `score_threshold`"), "{outcome:?}");
}

#[test]
fn what_holds_is_printed_as_a_configuration_that_means_the_same() {
    let bench = Bench::new();
    let config = bench.write_config(
        "[source]\nuri = \"test://bars\"\nfps = 5\n[[lines]]\nto = \"a.jsonl\"\n[[lines]]\nto = \"b.jsonl\"\nkeep = 1\n",
    );
    let first = ask(&["config", "--config", config.to_str().unwrap()]);
    assert!(first.stdout.contains("fps = 5  # of the file"), "{first:?}");
    let again = bench.write("again.toml", &first.stdout);
    let second = ask(&["config", "--config", again.to_str().unwrap(), "--json"]);
    let values: Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(values["source"]["fps"]["value"], 5);
    assert_eq!(
        (&values["lines"][1]["to"]["value"], values["lines"][1]["keep"]["value"].as_i64()),
        (&"b.jsonl".into(), Some(1))
    );
    assert_eq!(values["student"]["value"].as_str().unwrap(), bench.path("student.onnx").to_str().unwrap());
    assert_eq!(values["detection"]["nms_iou"]["from"], "file", "all that holds was printed");
}

/// What `check` says of a configuration with these outputs, which is to be wrong, and that it leaves nothing behind.
fn assert_wrong(bench: &Bench, outputs: &str, code: i32, expected: &str) {
    let config = bench.write_config(&format!("[source]\nuri = \"test://bars\"\n{outputs}"));
    let names = || {
        let entries = std::fs::read_dir(bench.path("")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(code), "{outputs}: {outcome:?}");
    assert!(outcome.stdout.contains("WRONG") && outcome.stdout.contains(expected), "{outputs}: {outcome:?}");
    assert_eq!(names(), before, "{outputs}");
}

#[test]
fn what_a_start_would_refuse_check_refuses_too() {
    let bench = Bench::new();
    let mqtt = "[[mqtt]]\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"me\"\npassword_file = \"missing\"\n";
    assert_wrong(&bench, mqtt, 1, "cannot read password_file");
    let webhook = "[[webhook]]\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"missing\"\n";
    assert_wrong(&bench, webhook, 1, "cannot read secret_file");
    assert_wrong(&bench, "[[lines]]\nto = \"\"\n", 2, "names no place");
    assert_wrong(&bench, "[[lines]]\nto = \"unix:\"\n", 2, "names no place");
    assert_wrong(&bench, "[[lines]]\nto = \"nowhere/x.jsonl\"\n", 1, "nowhere/x.jsonl is not there");
    assert_wrong(&bench, "[publish]\nsave = \"/proc/x\"\n", 1, "/proc/x");
    assert_wrong(&bench, "[[pictures]]\nfolder = \"/proc/x\"\n", 1, "/proc/x");
    assert_wrong(&bench, "[[pictures]]\nfolder = \"student.onnx\"\n", 1, "student.onnx");
    std::fs::create_dir(bench.path("folder")).unwrap();
    assert_wrong(&bench, "[publish]\njson = \"folder\"\n", 2, "is a folder");
    assert_wrong(&bench, "[publish]\nhealth = \"folder\"\n", 2, "is a folder");
    assert_wrong(&bench, "[publish]\nhealth = \"/proc/health.json\"\n", 1, "health file");

    let fine = "[publish]\nsave = \"new/folder\"\njson = \"new.jsonl\"\nhealth = \"health.json\"\n[[pictures]]\nfolder = \"pictures\"\n";
    let config = bench.write_config(&format!("[source]\nuri = \"test://bars\"\n{fine}"));
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(["new", "new.jsonl", "health.json", "pictures"].iter().all(|name| !bench.path(name).exists()));
}

#[test]
fn a_word_of_a_rule_that_the_vocabulary_lacks_is_wrong_with_what_was_meant() {
    let bench = Bench::new();
    let webhook = "[[webhook]]\nurl = \"http://127.0.0.1:1/\"\n";
    for (outputs, expected) in [
        ("[[pictures]]\nfolder = \"p\"\nwords = [\"red\", \"gren\"]\n", "did you mean \"green\"?"),
        ("[[pictures]]\nfolder = \"p\"\nwords = [\"Red\"]\n", "did you mean \"red\"?"),
        ("[[pictures]]\nfolder = \"p\"\nwords = [\"zeppelin\"]\n", "\"zeppelin\" is no word of"),
        (&format!("{webhook}words = [\"bleu\"]\n"), "did you mean \"blue\"?"),
    ] {
        assert_wrong(&bench, outputs, 2, expected);
    }
    // A vocabulary that may be switched to has the word.
    std::fs::create_dir(bench.path("others")).unwrap();
    write_vocabulary(&bench.path("others/more.safetensors"), &[("zeppelin", RED)]);
    let config = bench.write_config(
        "[source]\nuri = \"test://bars\"\n[http]\nlisten = \"127.0.0.1:8620\"\nvocabularies = \"others\"\n\
         [[pictures]]\nfolder = \"p\"\nwords = [\"zeppelin\"]\n",
    );
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    let bench = Bench::new();
    let pipe = bench.path("stream.mjpeg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let config = bench.write_config("[source]\nuri = \"stream.mjpeg\"\n[publish]\njson = \"-\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let photograph = bench.path("pipe.jpg");
    std::fs::rename(&pipe, &photograph).unwrap();
    let outcome = bench.run(&["detect", photograph.to_str().unwrap()]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("it is a pipe"), "{outcome:?}");
}

#[test]
fn a_key_of_another_section_or_a_table_where_a_list_is_gets_the_hint_that_helps() {
    let bench = Bench::new();
    let told = |text: &str| ask(&["check", bench.write_config(text).to_str().unwrap()]).stdout;
    assert!(told("[source]\nurl = \"test://bars\"\n").contains("did you mean `uri`, under [source]?"));
    assert!(told("[mqtt]\nurl = \"mqtt://127.0.0.1\"\n").contains("it is written [[mqtt]]"));
    assert!(told("[detection]\nlisten = \"\"\n").contains("`listen` stands under [http]"));
}
