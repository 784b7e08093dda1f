//! Labels in all scripts: drawn where a font has their letters, and told at the start where none has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;

use image::RgbImage;
use serde_json::Value;
use support::*;

/// A word that no font has: its last letter is nobody's.
const NOBODYS: &str = "cat \u{10fffd}";

/// Whether a folder of fonts has a file whose name begins so, in any depth.
fn has_font(folder: &Path, begins: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(begins) || (entry.path().is_dir() && has_font(&entry.path(), begins))
    })
}

/// What `detect --save` makes of a photograph of something red that is called so.
fn annotated(bench: &Bench, word: &str) -> RgbImage {
    let photograph = bench.write("photo.jpg", jpeg(640, 480, [RED, GREY, GREY, GREY], None));
    write_vocabulary(&bench.path("words.safetensors"), &[(word, RED)]);
    let out = bench.path("out");
    let outcome = bench.run(&["detect", photograph.to_str().unwrap(), "--save", out.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("can't show"), "{outcome:?}");
    image::open(out.join("photo.jpg")).unwrap().into_rgb8()
}

/// The pixels that are black in one picture and light in the other.
fn ink_apart(one: &RgbImage, other: &RgbImage) -> usize {
    let light = |pixel: &image::Rgb<u8>| u32::from(pixel[0]) + u32::from(pixel[1]) + u32::from(pixel[2]);
    one.pixels().zip(other.pixels()).filter(|(a, b)| light(a).abs_diff(light(b)) > 300).count()
}

#[test]
fn words_of_every_script_are_drawn_and_no_two_alike() {
    let fonts = Path::new("/usr/share/fonts");
    for (needed, package) in [
        ("NotoSansDevanagari", "fonts-noto-core"),
        ("NotoSansCJK", "fonts-noto-cjk"),
        ("NotoColorEmoji", "fonts-noto-color-emoji"),
    ] {
        if !has_font(fonts, needed) {
            return skip("labels in other scripts", &format!("{needed} is not installed"), package);
        }
    }
    let bench = Bench::new();
    // Of as many letters: where these are replaced, only the colours differ.
    for [one, other] in [
        ["猫", "犬"],
        ["кошка", "чашка"],
        ["قطة", "كلب"],
        ["कप", "घर"],
        ["แมว", "จาน"],
        ["고양이", "강아지"],
        ["חתול", "כלבה"],
        ["🐱", "🚗"],
    ] {
        let apart = ink_apart(&annotated(&bench, one), &annotated(&bench, other));
        assert!(apart > 40, "{one} and {other} differ in {apart} pixels");
    }
}

#[test]
fn what_no_font_has_is_told_once_by_whatever_draws_and_by_check_and_doctor() {
    let bench = Bench::new();
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED), (NOBODYS, BLUE)]);
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED; 4], None));
    let photograph = photograph.to_str().unwrap();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 3]));
    let (clip, out) = (clip.to_str().unwrap(), bench.path("out"));
    let out = out.to_str().unwrap();
    let told = |outcome: &Outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let lines: Vec<&str> =
            outcome.stderr.lines().filter(|line| line.contains("can't show all letters of")).collect();
        for line in &lines {
            assert!(line.contains("cat \\u{10fffd}") && !line.contains("\"red\""), "{line}");
        }
        lines.len()
    };
    let command = |arguments: &[&str]| told(&bench.run(arguments));
    assert_eq!(command(&["detect", photograph, "--save", out]), 1);
    assert_eq!(command(&["run", "--source", clip, "--save", out]), 1);
    // Where nothing is drawn nobody looks.
    assert_eq!(command(&["detect", photograph]), 0);
    assert_eq!(command(&["run", "--source", clip]), 0);

    for (more, count) in
        [("", 0), ("[publish]\nsave = \"pictures\"\n", 1), ("[http]\nlisten = \"127.0.0.1:0\"\n", 1)]
    {
        let config = bench.write_config(&format!(
            "[engine]\nkind = \"onnxruntime\"\n[source]\nuri = \"clip.mjpeg\"\n{more}"
        ));
        let ask = |arguments: &[&str]| {
            let mut command = wordsight(arguments);
            Outcome::of(command.env("WORDSIGHT_BOARD_ROOT", bench.path("no board")).output().unwrap())
        };
        let config = config.to_str().unwrap();
        let checked = ask(&["check", config]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let lines: Vec<&str> = checked.stdout.lines().filter(|line| line.starts_with("warning")).collect();
        assert_eq!(lines.len(), count, "{checked:?}");
        assert!(lines.iter().all(|line| line.contains("labels") && line.contains("10fffd")), "{lines:?}");
        let findings: Value =
            serde_json::from_str(&ask(&["doctor", "--config", config, "--json"]).stdout).unwrap();
        let about_labels: Vec<&Value> =
            findings.as_array().unwrap().iter().filter(|finding| finding["about"] == "labels").collect();
        assert_eq!(about_labels.len(), count, "{findings}");
        assert!(about_labels.iter().all(|finding| finding["state"] == "warning"), "{findings}");
    }
}
