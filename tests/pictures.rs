//! Annotated pictures by rules: the real program on a stream, and the files that it writes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::*;

/// All files under a folder, by their paths in it, sorted.
fn files_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Runs twelve frames, red and then blue, with these rules.
///
/// Nothing is followed: what is red and then blue a millisecond later would stay red by its votes.
fn run(bench: &Bench, rules: &str) -> Outcome {
    run_frames(bench, &[[RED; 6], [BLUE; 6]].concat(), &format!("[tracking]\nenabled = false\n{rules}"))
}

fn run_frames(bench: &Bench, colours: &[Colour], more: &str) -> Outcome {
    bench.write("clip.mjpeg", motion_jpeg(colours));
    let config = bench.write_config(&format!("[source]\nuri = \"clip.mjpeg\"\n{more}"));
    Outcome::of(wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap())
}

#[test]
fn every_frame_that_matches_has_a_picture_named_by_its_day_time_and_word_with_its_line_beside_it() {
    let bench = Bench::new();
    let rule =
        "[[pictures]]\nfolder = \"found\"\nwords = [\"blue\"]\non = \"every\"\nevery_s = 0\njson = true\n";
    let lines = run(&bench, rule).lines();
    let files = files_in(&bench.path("found"));
    let (pictures, beside): (Vec<_>, Vec<_>) = files.iter().partition(|name| name.ends_with(".jpg"));
    assert_eq!((pictures.len(), beside.len()), (6, 6), "{files:?}");
    let mut frames = Vec::new();
    for (picture, line) in pictures.iter().zip(&beside) {
        let (day, name) = picture.split_once('/').unwrap();
        assert_eq!(day.len(), "2026-11-27".len());
        assert!(name["00-00-00.000-".len()..].starts_with("blue"), "{name}");
        assert_eq!(picture.strip_suffix(".jpg"), line.strip_suffix(".json"));
        let jpeg = fs::read(bench.path("found").join(picture)).unwrap();
        assert_eq!((&jpeg[..2], &jpeg[jpeg.len() - 2..]), (&[0xFF, 0xD8][..], &[0xFF, 0xD9][..]));
        let text = fs::read_to_string(bench.path("found").join(line)).unwrap();
        let [beside] = &json_lines(&text)[..] else { panic!("one line: {text}") };
        assert!(lines.contains(beside), "it is the frame's line on the standard output");
        assert_eq!(words_of(beside)[0], "blue");
        frames.push(beside["frame"].as_u64().unwrap());
    }
    frames.sort_unstable();
    assert_eq!(frames, [6, 7, 8, 9, 10, 11], "each is told of once, and beside its own picture");
}

#[test]
fn what_appears_makes_one_picture_named_by_its_number_too_however_long_it_stays() {
    let bench = Bench::new();
    let rule = "[[pictures]]\nfolder = \"found\"\nwords = [\"red\"]\n";
    assert_eq!(run_frames(&bench, &[RED; 12], rule).lines().len(), 12);
    let files = files_in(&bench.path("found"));
    let [picture] = &files[..] else { panic!("one picture: {files:?}") };
    let number = picture.strip_suffix(".jpg").and_then(|stem| stem.split_once("-red-")).unwrap().1;
    assert!(number.parse::<u64>().unwrap() > 0, "{picture}");
}

#[test]
fn rules_are_each_for_themselves_and_one_that_matches_nothing_writes_nothing() {
    let bench = Bench::new();
    let rule = |folder: &str, more: &str| {
        format!("[[pictures]]\nfolder = \"{folder}\"\non = \"every\"\nevery_s = 0\n{more}\n")
    };
    let rules = [
        rule("all", ""),
        rule("none", "words = [\"green\"]"),
        rule("sure", "min_score = 1.0"),
        rule("seldom", "every_s = 3600").replacen("every_s = 0\n", "", 1),
    ];
    let outcome = run(&bench, &rules.concat());
    assert_eq!(outcome.lines().len(), 12);
    let count = |folder: &str| files_in(&bench.path(folder)).len();
    assert_eq!(["all", "none", "sure", "seldom"].map(count), [12, 0, 0, 1]);
}

#[test]
fn the_oldest_pictures_go_when_there_are_too_many_and_what_a_rule_has_not_written_stays() {
    let bench = Bench::new();
    let old = bench.write("found/2020-01-01/10-00-00.000-blue-1.jpg", vec![0; 2 << 20]);
    let others = ["found/2020-01-01/holiday.jpg", "found/10-00-00.000-blue-1.jpg"];
    others.iter().for_each(|name| drop(bench.write(name, vec![0; 2 << 20])));
    let rule = "[[pictures]]\nfolder = \"found\"\non = \"every\"\nevery_s = 0\nkeep_mib = 1\n";
    assert_eq!(run(&bench, rule).lines().len(), 12);
    assert!(!old.exists());
    assert!(others.iter().all(|name| bench.path(name).exists()));
    assert_eq!(files_in(&bench.path("found")).len(), 12 + 2);
}

#[test]
fn what_a_rule_can_not_be_is_one_sentence() {
    let bench = Bench::new();
    for (rules, expected) in [
        ("[[pictures]]\nfolder = \"a\"\n[[pictures]]\nfolder = \"a\"\n", "give each a folder of its own"),
        ("[[pictures]]\nfolder = \"\"\n", "folder is empty"),
    ] {
        let outcome = run(&bench, rules);
        assert!(outcome.sentence(2).contains(expected), "{outcome:?}");
    }
    let outcome = run(&bench, "[[pictures]]\nfolder = \"a\"\non = \"leave\"\n");
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("appear") && outcome.stderr.contains("every"), "{outcome:?}");
}

/// A folder that nobody can write to, as long as this lives; root writes anyway, and a file in its place does the same.
struct Unwritable(PathBuf);

impl Unwritable {
    fn make(path: PathBuf) -> Self {
        fs::write(&path, "in the way").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        Self(path)
    }
}

#[test]
fn a_camera_goes_on_while_its_pictures_can_not_be_written_and_they_come_again_when_they_can() {
    let bench = Bench::new();
    let in_the_way = Unwritable::make(bench.path("found"));
    let config = bench.write_config(
        "[publish]\njson = \"lines.jsonl\"\n[source]\nuri = \"test://0000ff?width=64&height=64\"\npacing = \"camera\"\nfps = 50\n\
         [[pictures]]\nfolder = \"found\"\non = \"every\"\nevery_s = 0.05\n",
    );
    let mut running = bench.start(&config);
    let lines = || fs::read_to_string(bench.path("lines.jsonl")).map_or(0, |text| text.lines().count());
    running.await_said("found");
    let before = lines();
    until_so(|| lines() > before + 20, || format!("the stream stands: {}", running.stderr()));
    fs::remove_file(&in_the_way.0).unwrap();
    let has_pictures = || files_in(&bench.path("found")).iter().any(|name| name.ends_with(".jpg"));
    until_so(has_pictures, || format!("no pictures: {}", running.stderr()));
    running.await_said("works again");
    running.terminate();
    let stderr = running.stderr();
    let complaints = stderr.lines().filter(|line| line.contains("tried again")).count();
    assert_eq!(complaints, 1, "told once, and not for every picture: {stderr}");
    assert!(!files_in(&bench.path("found")).iter().any(|name| name.ends_with(".partial")));
}

#[test]
fn a_recording_whose_pictures_can_not_be_written_ends_with_a_sentence() {
    let bench = Bench::new();
    let _in_the_way = Unwritable::make(bench.path("found"));
    let outcome = run(&bench, "[[pictures]]\nfolder = \"found\"\non = \"every\"\n");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("found"), "{outcome:?}");
}

#[test]
fn every_configuration_in_the_guide_to_pictures_is_one() {
    let guide = include_str!("../docs/pictures.md");
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).map(|text| text.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    let bench = Bench::new();
    for block in blocks {
        let config = bench.write_config(block);
        let outcome =
            Outcome::of(wordsight(&["config", "--config", config.to_str().unwrap()]).output().unwrap());
        assert_eq!(outcome.code, Some(0), "{block}: {outcome:?}");
        // And each value can be what it is, where the program was built with what it takes: what fails comes after that.
        if cfg!(feature = "gstreamer") || !block.contains("[[video]]") {
            let config = bench.write_config(&format!("[source]\nuri = \"nowhere.mjpeg\"\n{block}"));
            let outcome =
                Outcome::of(wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap());
            assert!(outcome.stderr.contains("nowhere.mjpeg"), "nothing else is wrong: {outcome:?}");
        }
    }
}
