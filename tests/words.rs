//! Words made a vocabulary of on the device: by `wordsight words`, and by a configuration that lists them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::teacher::{write_text_teacher, write_text_teacher_as};
use support::*;

/// A bench with a teacher, and a photograph whose quarters are red, green, blue and grey.
fn bench_with_teacher() -> Bench {
    let bench = Bench::new();
    write_text_teacher(&bench.path("teacher"));
    bench.write("photo.jpg", jpeg(128, 128, [RED, GREEN, BLUE, GREY], None));
    bench
}

/// A command in the bench's folder, with its state there.
fn command(bench: &Bench, arguments: &str) -> Command {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = wordsight(&arguments);
    command.current_dir(bench.path("")).env("STATE_DIRECTORY", bench.path("state"));
    command
}

fn run(bench: &Bench, arguments: &str) -> Outcome {
    Outcome::of(command(bench, arguments).output().unwrap())
}

/// A configuration that lists words, with more at its end.
fn configure(bench: &Bench, words: &str, more: &str) -> PathBuf {
    let text = format!(
        "student = \"student.onnx\"\n{words}\nteacher = \"teacher\"\n[engine]\nkind = \"onnxruntime\"\n{more}"
    );
    bench.write("wordsight.toml", text)
}

/// What is found in the photograph by the configuration.
fn found(bench: &Bench) -> Vec<String> {
    let outcome = run(bench, "detect photo.jpg --config wordsight.toml --score-threshold 0.2 --json -");
    let line = outcome.lines().remove(0);
    let mut words: Vec<String> = words_of(&line).into_iter().map(str::to_owned).collect();
    words.sort();
    words
}

/// The one sentence for a configuration that can't be used.
fn refused(bench: &Bench, code: i32) -> String {
    let outcome = run(bench, "detect photo.jpg --config wordsight.toml");
    // What was warned of before stands in lines of its own.
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    let said: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("wordsight: ")).collect();
    let [sentence] = said.as_slice() else { panic!("{outcome:?}") };
    (*sentence).to_owned()
}

#[test]
fn a_list_of_words_becomes_a_vocabulary_that_names_things() {
    let bench = bench_with_teacher();
    bench
        .write("my.toml", "words = [\"ruby\", { word = \"green\", synonyms = [\"leaf\"], threshold = 0.2 }]");
    let made = run(&bench, "words make my.toml --teacher teacher -o my.safetensors");
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.starts_with("2 words of colours in my.safetensors, beside "), "{made:?}");
    let detected =
        run(&bench, "detect photo.jpg --student student.onnx --vocabulary my.safetensors --json -");
    let line = detected.lines().remove(0);
    let mut words = words_of(&line);
    words.sort_unstable();
    assert_eq!(words, ["green", "ruby"]);
}

#[test]
fn words_of_a_flag_take_the_place_of_a_vocabulary() {
    let bench = bench_with_teacher();
    let detect = |words: &str, flags: &str| {
        let mut command =
            command(&bench, "detect photo.jpg --student student.onnx --score-threshold 0.2 --json -");
        Outcome::of(command.args(["--words", words]).args(flags.split_whitespace()).output().unwrap())
    };
    let line = detect("ruby, \"leaf\" ,blue", "--teacher teacher").lines().remove(0);
    let mut words = words_of(&line);
    words.sort_unstable();
    assert_eq!(words, ["blue", "leaf", "ruby"]);
    configure(&bench, "words = [\"red\"]", "");
    let line = detect("ruby", "--config wordsight.toml").lines().remove(0);
    assert_eq!(words_of(&line), ["ruby"], "by the configuration's teacher, in the place of its words");
    for (words, flags, parts) in [
        ("ruby,,leaf", "--teacher teacher", ["--words", "word 2 is empty"]),
        ("", "--teacher teacher", ["--words", "word 1 is empty"]),
        ("\"ruby", "--teacher teacher", ["--words", "no other"]),
        ("ruby,Ruby", "--teacher teacher", ["--words", "twice"]),
        ("ruby", "--vocabulary words.safetensors", ["--words", "--vocabulary"]),
    ] {
        let outcome = detect(words, flags);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{outcome:?}");
    }
    let unknown = detect("ruby,forklift", "--teacher teacher");
    assert!(unknown.sentence(2).contains("knows nothing of \"forklift\""), "{unknown:?}");
    let none = detect("red ruby", "");
    let told = none.sentence(1);
    assert!(told.contains("wordsight-teacher-standin") && told.contains("--teacher"), "{told}");
}

/// What is neither red, green nor blue, and has no name that the teacher knows.
const YELLOW: Colour = [250, 250, 4];
/// What is taken for it, where nobody says that it is something else.
const AMBER: Colour = [250, 235, 4];

#[test]
fn pictures_beside_a_word_are_examples_of_it_in_a_configuration_and_in_a_file() {
    let bench = bench_with_teacher();
    bench.write("sun.jpg", jpeg(64, 64, [YELLOW; 4], None));
    bench.write("shelf.jpg", jpeg(128, 128, [GREY, YELLOW, GREY, GREY], None));
    bench.write("photo.jpg", jpeg(128, 128, [RED, YELLOW, BLUE, GREY], None));
    let words = "[\"red\", \"blue\", { word = \"SKU-17\", examples = [\"sun.jpg\", \
                 { image = \"shelf.jpg\", box = [66, 1, 127, 60] }] }]";
    configure(&bench, &format!("words = {words}"), "");
    assert_eq!(found(&bench), ["SKU-17", "blue", "red"]);
    // What was seen once is kept, as captions are: no picture is looked at again.
    let kept = fs::read_dir(bench.path("state/examples")).unwrap().flatten().next().unwrap().path();
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    assert_eq!(found(&bench), ["SKU-17", "blue", "red"]);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);
    fs::write(&kept, "{").unwrap();
    assert_eq!(found(&bench), ["SKU-17", "blue", "red"], "a damaged file costs a look");

    bench.write("my.toml", format!("words = {words}"));
    let checked = run(&bench, "words check my.toml --teacher teacher");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    bench.write("wrong.toml", format!("words = {}", words.replace("sun.jpg", "moon.jpg")));
    let checked = run(&bench, "words check wrong.toml --teacher teacher");
    assert!(checked.sentence(1).contains("moon.jpg"), "{checked:?}");
    let made = run(&bench, "words make my.toml --teacher teacher -o my.safetensors");
    assert!(made.sentence(2).contains("--student"), "{made:?}");
    let made = run(&bench, "words make my.toml --teacher teacher --student student.onnx -o my.safetensors");
    assert_eq!(made.code, Some(0), "{made:?}");
    let detect = "detect photo.jpg --student student.onnx --vocabulary my.safetensors --json -";
    let line = run(&bench, detect).lines().remove(0);
    assert_near(box_of(&line, "SKU-17"), [64.0, 0.0, 128.0, 64.0]);
    let shown = run(&bench, "words show my.safetensors --json");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&shown["words"][2]["word"], &shown["words"][2]["examples"]), (&"SKU-17".into(), &2.into()));

    let mut other = wordsight_onnx::read(&bench.path("student.onnx")).unwrap();
    wordsight_onnx::set_metadata(&mut other, "wordsight.background", Some("[0, 0, 0.6, 0.8]".to_owned()));
    wordsight_onnx::write(&other, &bench.path("student.onnx")).unwrap();
    let refused = run(&bench, detect);
    assert!(refused.sentence(1).contains("shown to the student"), "{refused:?}");
}

#[test]
fn a_folder_of_pictures_shows_a_word_and_what_it_is_not_and_wrong_pictures_are_named() {
    let bench = bench_with_teacher();
    for name in ["suns/1.jpg", "suns/2.jpg"] {
        bench.write(name, jpeg(64, 64, [YELLOW; 4], None));
    }
    bench.write("not.jpg", jpeg(64, 64, [AMBER; 4], None));
    bench.write("photo.jpg", jpeg(128, 128, [RED, AMBER, GREY, GREY], None));
    let entry = |examples: &str| {
        configure(&bench, &format!("words = [\"red\", \"blue\", {{ word = \"SKU-17\", {examples} }}]"), "");
    };
    entry("examples = [\"suns\"]");
    assert_eq!(found(&bench), ["SKU-17", "red"]);
    entry("examples = [\"suns\"], negative_examples = [\"not.jpg\"]");
    assert_eq!(found(&bench), ["red"]);
    entry(
        "examples = [\"suns\", { image = \"photo.jpg\", box = [40, 40, 90, 90] }], negative_examples = [\"not.jpg\"]",
    );
    let told = run(&bench, "detect photo.jpg --config wordsight.toml --json -");
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stderr.contains("photo.jpg") && told.stderr.contains("left out"), "the others do: {told:?}");
    fs::create_dir(bench.path("empty")).unwrap();
    bench.write("torn.jpg", "no picture");
    fs::File::create(bench.path("long.jpg")).unwrap().set_len(6 << 30).unwrap();
    for (examples, parts) in [
        ("examples = [\"lost.jpg\"]", ["lost.jpg", "cannot read"]),
        ("examples = [\"torn.jpg\"]", ["torn.jpg", "SKU-17"]),
        ("examples = [\"empty\"]", ["empty", "no pictures"]),
        ("examples = [\"/dev/zero\"]", ["/dev/zero", "no file"]),
        ("examples = [\"long.jpg\"]", ["long.jpg", "64 at most"]),
        ("examples = [\"suns\"], negative_examples = [\"lost.jpg\"]", ["lost.jpg", "negative example"]),
        ("examples = [{ image = \"suns\", box = [1, 2, 3, 4] }]", ["suns", "folder"]),
        ("examples = [{ image = \"not.jpg\", box = [100, 100, 120, 120] }]", ["not.jpg", "64x64"]),
        ("examples = [{ image = \"photo.jpg\", box = [40, 40, 90, 90] }]", ["photo.jpg", "sees no thing"]),
    ] {
        entry(examples);
        let refused = refused(&bench, 1);
        assert!(parts.iter().all(|part| refused.contains(part)), "{examples}: {refused}");
    }
}

#[test]
fn show_tells_each_words_threshold_kind_and_neighbours() {
    let bench = bench_with_teacher();
    let words =
        "competitors = [\"blue\"]\nwords = [{ word = \"red\", threshold = 0.4 }, \"ruby\", \"yellow\"]";
    bench.write("my.toml", words);
    let made = run(&bench, "words make my.toml --teacher teacher -o my.safetensors");
    assert!(made.stderr.contains("\"red\" and \"ruby\""), "near-duplicates are named: {made:?}");
    let shown = run(&bench, "words show my.safetensors --json");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&shown["teacher"], &shown["hidden"]), (&"colours".into(), &1.into()));
    let red = &shown["words"][0];
    assert_eq!(
        (&red["word"], &red["kind"], &red["threshold"]),
        (&"red".into(), &"shown".into(), &0.4.into())
    );
    assert_eq!((&red["near"][0]["word"], &red["near"][0]["cosine"]), (&"ruby".into(), &1.0.into()));
    let of_list = run(&bench, "words show my.toml --hidden --teacher teacher");
    assert!(of_list.stdout.contains("ruby (1.00)"), "{of_list:?}");
    assert!(
        of_list.stdout.lines().any(|line| line.starts_with("blue") && line.contains("hidden")),
        "{of_list:?}"
    );
}

#[test]
fn check_names_every_word_that_the_teacher_does_not_know_and_those_it_hardly_tells_apart() {
    let bench = bench_with_teacher();
    bench.write(
        "my.toml",
        "words = [\n\"red\",\n{ word = \"ruby\", synonyms = [\"\u{1f48e}\"] },\n\"forklift\"]",
    );
    let checked = run(&bench, "words check my.toml --teacher teacher");
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for part in
        ["line 3, column 1", "\u{1f48e}", "line 4, column 1", "forklift", "\"red\" and \"ruby\" apart"]
    {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }
    bench.write("my.toml", "words = [\"red\", \"blue\"]");
    let checked = run(&bench, "words check my.toml --teacher teacher --json");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((&checked["is_fine"], &checked["findings"]), (&true.into(), &Value::Array(Vec::new())));
}

#[test]
fn without_a_teacher_one_sentence_says_what_to_install() {
    let bench = bench_with_teacher();
    bench.write("my.toml", "words = [\"red\"]");
    for command in ["make my.toml -o my.safetensors", "show my.toml", "check my.toml"] {
        let outcome = run(&bench, &format!("words {command}"));
        assert!(outcome.sentence(1).contains("install the package wordsight-teacher-standin"), "{outcome:?}");
    }
    let outcome = run(&bench, "words make my.toml --teacher nowhere -o my.safetensors");
    assert!(outcome.sentence(1).contains("nowhere is not a teacher"), "{outcome:?}");
    bench.write("wordsight.toml", "student = \"student.onnx\"\nwords = [\"red\"]");
    assert!(refused(&bench, 1).contains("install the package wordsight-teacher-standin"));
}

#[test]
fn a_list_is_not_written_over_nor_is_the_teacher() {
    let bench = bench_with_teacher();
    let text = "words = [\"red\"]";
    bench.write("my.toml", text);
    for output in ["my.toml", "teacher/onnx/text_model.onnx", "photo.jpg"] {
        let outcome = run(&bench, &format!("words make my.toml --teacher teacher -o {output}"));
        assert_eq!(outcome.code, Some(2), "{output}: {outcome:?}");
    }
    assert_eq!(fs::read_to_string(bench.path("my.toml")).unwrap(), text);
}

#[test]
fn words_of_a_configuration_are_embedded_once_and_then_need_no_teacher() {
    let bench = bench_with_teacher();
    configure(&bench, "words = [\"ruby\", { word = \"green\", synonyms = [\"leaf\"] }, \"blue\"]", "");
    assert_eq!(found(&bench), ["blue", "green", "ruby"]);
    fs::rename(bench.path("teacher"), bench.path("away")).unwrap();
    assert_eq!(found(&bench), ["blue", "green", "ruby"], "from what was kept");
    configure(
        &bench,
        "words = [{ word = \"ruby\", threshold = 1.0 }, { word = \"blue\", hidden = true }, \"leaf\"]",
        "",
    );
    assert_eq!(found(&bench), ["leaf"], "thresholds, names and kinds take no teacher");
    configure(&bench, "words = [\"yellow\", \"ruby\"]", "");
    assert!(refused(&bench, 1).contains("teacher is not a teacher"), "what is new does");
    fs::rename(bench.path("away"), bench.path("teacher")).unwrap();
    assert_eq!(found(&bench), ["ruby"]);
    assert_eq!(fs::read_dir(bench.path("state/captions")).unwrap().count(), 1);
}

#[test]
fn a_words_file_may_stand_where_a_vocabulary_does() {
    let bench = bench_with_teacher();
    bench.write("my.toml", "prompts = [\"{}\"]\ncompetitors = \"none\"\nwords = [\"ruby\", \"leaf\"]");
    configure(&bench, "vocabulary = \"my.toml\"", "");
    let checked = run(&bench, "check wordsight.toml");
    assert!(checked.stdout.contains("my.toml: 2 words, which the student understands"), "{checked:?}");
    assert!(found(&bench).contains(&"ruby".to_owned()));
    let flag =
        run(&bench, "detect photo.jpg --config wordsight.toml --vocabulary words.safetensors --json -");
    assert!(words_of(&flag.lines()[0]).contains(&"red"), "a flag goes before: {flag:?}");
}

#[test]
fn words_that_make_no_sense_are_one_sentence_with_its_place() {
    let bench = bench_with_teacher();
    for (words, parts) in [
        ("words = []", ["line 2", "no words to show"]),
        ("words = [\"red\", \"Red\"]", ["line 2", "stands there twice"]),
        ("words = [{ word = \"red\", treshold = 0.3 }]", ["line 2", "treshold"]),
        ("words = [{ word = \"red\", threshold = 3 }]", ["line 2", "between 0 and 1"]),
        ("words = [\"\"]", ["line 2", "empty"]),
        ("words = \"red\"", ["line 2", "sequence"]),
        (
            "words = [\"red\"]\nvocabulary = \"words.safetensors\"",
            ["both `vocabulary` and `words`", "take one out"],
        ),
    ] {
        configure(&bench, words, "");
        let outcome = run(&bench, "detect photo.jpg --config wordsight.toml");
        assert_eq!(outcome.code, Some(2), "{words}: {outcome:?}");
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{words}: {outcome:?}");
    }
    configure(&bench, "words = [\"red\", \"\u{1f431}\"]", "");
    let sentence = refused(&bench, 2);
    assert!(sentence.contains("wordsight.toml") && sentence.contains("\u{1f431}"), "{sentence}");
    bench.write("my.toml", "words = [\n\"red\",\n\"forklift\"\n]");
    configure(&bench, "vocabulary = \"my.toml\"", "");
    let sentence = refused(&bench, 2);
    assert!(
        sentence.contains("my.toml:3:1") && sentence.contains("knows nothing of \"forklift\""),
        "{sentence}"
    );
}

#[test]
fn another_teacher_than_the_students_and_a_changed_one_are_refused() {
    let bench = bench_with_teacher();
    write_text_teacher_as(&bench.path("teacher"), "clip-0123456789ab");
    configure(&bench, "words = [\"red\"]", "");
    let sentence = refused(&bench, 1);
    assert!(sentence.contains("`clip-0123456789ab`") && sentence.contains("`colours`"), "{sentence}");
    write_text_teacher(&bench.path("teacher"));
    fs::write(bench.path("teacher/tokenizer_config.json"), "{\"pad_token\": \"[PAD]\" }").unwrap();
    let sentence = refused(&bench, 1);
    assert!(sentence.contains("`colours`") && sentence.contains("install it again"), "{sentence}");
}

#[test]
fn what_can_not_be_kept_is_a_warning_and_the_words_are_used() {
    let bench = bench_with_teacher();
    configure(&bench, "words = [\"ruby\"]", "");
    let detect = |state: &Path| {
        let mut command = command(&bench, "detect photo.jpg --config wordsight.toml --json -");
        Outcome::of(command.env("STATE_DIRECTORY", state).output().unwrap())
    };
    let outcome = detect(&bench.write("file", b"").join("state"));
    assert!(outcome.stderr.contains("is not kept"), "{outcome:?}");
    assert_eq!(words_of(&outcome.lines()[0]), ["ruby"]);
    // A cache that was damaged costs its embeddings and nothing else.
    drop(detect(&bench.path("state")));
    let kept = fs::read_dir(bench.path("state/captions")).unwrap().next().unwrap().unwrap().path();
    fs::write(&kept, b"nonsense").unwrap();
    let outcome = detect(&bench.path("state"));
    assert!(outcome.stderr.contains("are embedded again"), "{outcome:?}");
    assert_eq!(words_of(&outcome.lines()[0]), ["ruby"]);
    let outcome = detect(&bench.path("state"));
    assert!(outcome.stderr.lines().all(|line| !line.contains("again")), "{outcome:?}");
}

/// A service on red frames by a configuration that lists words.
fn start(bench: &Bench, words: &str) -> (Process, PathBuf) {
    let stream = "threads = 1\n[publish]\njson = \"\"\nhealth = \"health.json\"\n[source]\n\
                  uri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 50\n[[lines]]\nto = \"lines.jsonl\"\n";
    let configuration = configure(bench, words, stream);
    (bench.start(&configuration), configuration)
}

/// Waits until frames are named like this.
#[track_caller]
fn await_word(bench: &Bench, process: &Process, word: &str) {
    let named = || {
        let text = fs::read_to_string(bench.path("lines.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').unwrap_or(0)];
        let last: Option<Value> = whole.lines().last().map(|line| serde_json::from_str(line).unwrap());
        last.is_some_and(|line| words_of(&line).first() == Some(&word))
    };
    until_so(named, || format!("no {word}: {}", process.stderr()));
}

#[test]
fn a_service_takes_up_words_as_they_are_written_and_keeps_those_it_has_when_they_are_wrong() {
    let bench = bench_with_teacher();
    let (mut process, configuration) = start(&bench, "words = [\"ruby\"]");
    await_word(&bench, &process, "ruby");
    let write = |words: &str| {
        let text = fs::read_to_string(&configuration).unwrap();
        let line = text.lines().find(|line| line.starts_with("words = ")).unwrap().to_owned();
        fs::write(&configuration, text.replace(&line, words)).unwrap();
    };
    write("words = [\"red\", \"blue\"]");
    await_word(&bench, &process, "red");
    let health = process.health_when(|health| health["vocabulary"]["words"] == 2);
    assert_eq!(health["reload"]["refused"], 0);
    for (refused, words) in [(1, "words = [\"forklift\"]"), (2, "words = []")] {
        write(words);
        let health = process.health_when(|health| health["reload"]["refused"] == refused);
        assert!(health["reload"]["last_error"].as_str().unwrap().contains("wordsight.toml"), "{health}");
        process.assert_goes_on();
        await_word(&bench, &process, "red");
    }
    fs::rename(bench.path("teacher"), bench.path("away")).unwrap();
    write("words = [\"ruby\", { word = \"blue\", hidden = true }]");
    await_word(&bench, &process, "ruby");
    process.terminate();
}

#[test]
fn a_service_starts_with_the_words_that_worked_when_those_of_now_make_no_vocabulary() {
    let bench = bench_with_teacher();
    bench.write("my.toml", "words = [\"ruby\"]");
    let (mut process, _) = start(&bench, "vocabulary = \"my.toml\"");
    await_word(&bench, &process, "ruby");
    until_so(|| bench.path("state/last-good/words.safetensors").exists(), || process.stderr());
    bench.write("my.toml", "words = [\"red\"]");
    await_word(&bench, &process, "red");
    process.terminate();
    bench.write("my.toml", "words = [\"forklift\"]");
    fs::remove_file(bench.path("lines.jsonl")).unwrap();
    let mut process = bench.start(&bench.path("wordsight.toml"));
    let health = process.health_when(|health| health["reload"]["last_error"].is_string());
    assert!(health["reload"]["last_error"].as_str().unwrap().contains("forklift"), "{health}");
    let named = || fs::read_to_string(bench.path("lines.jsonl")).unwrap_or_default().contains("\"word\":");
    until_so(named, || process.stderr());
    process.terminate();
}

#[test]
fn a_pack_is_listed_and_printed_as_a_list_that_make_reads() {
    let bench = bench_with_teacher();
    let listed: Value = serde_json::from_str(&run(&bench, "words packs --json").stdout).unwrap();
    let names: Vec<&str> =
        listed["packs"].as_array().unwrap().iter().map(|pack| pack["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["coco", "voc", "lvis", "open-images", "imagenet"]);
    assert!(run(&bench, "words packs").stdout.contains("1203  The 1,203 categories of LVIS"));
    let printed = run(&bench, "words packs voc").stdout;
    bench.write("voc.toml", &printed);
    // The test's teacher knows colours alone.
    let refused = run(&bench, "words make voc.toml --teacher teacher -o voc.safetensors");
    assert!(refused.stderr.contains("voc.toml:4:"), "{refused:?}");
    let unknown = run(&bench, "words packs cocoa");
    assert!(unknown.code == Some(2) && unknown.stderr.contains("open-images"), "{unknown:?}");
}
