#![allow(clippy::unwrap_used)]
use std::io::Write;

use cosmic_text::fontdb::Database;

use super::*;

const HEIGHT: usize = 32;

fn without_fonts() -> Fonts {
    Fonts::new(FontSystem::new_with_locale_and_db("en".to_owned(), Database::new()))
}

/// The fonts of this system, if they have these words.
fn fonts_for(words: &[&str]) -> Option<Fonts> {
    let mut fonts = Fonts::new(FontSystem::new());
    let Some(lacking) = fonts.undrawable(words.iter().copied()) else { return Some(fonts) };
    let line = format!("SKIPPED: a test of labels: {lacking} ({})", lacking.remedy());
    assert!(std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_none(), "{line}");
    // Not by eprintln!, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
    None
}

/// The columns of a word that have ink, from left to right.
fn ink(image: &WordImage) -> Vec<Vec<[u8; 4]>> {
    let column =
        |x: usize| -> Vec<[u8; 4]> { (0..image.height).map(|y| image.pixels[y * image.width + x]).collect() };
    (0..image.width).map(column).filter(|column| column.iter().any(|pixel| pixel[3] > 0)).collect()
}

#[test]
fn what_the_built_in_font_has_needs_no_other() {
    for word in ["cat", "Käfig", "a cup, half full!", "čaj", "ÿ", "100 %"] {
        assert!(is_built_in(word), "{word}");
    }
    for word in ["кот", "猫", "قط", "बिल्ली", "แมว", "🐱", "γάτα"] {
        assert!(!is_built_in(word), "{word}");
    }
    assert_eq!(Undrawable::among(["cat", "dog"].into_iter()), None);
}

#[test]
fn what_no_font_has_is_told_with_the_package_that_has_it() {
    let mut fonts = without_fonts();
    let words = ["cat", "猫", "кот", "ネコ", "고양이", "🐱", "बिल्ली", "x\u{10fffd}", "x"];
    let undrawable = fonts.undrawable(words.into_iter()).unwrap();
    let told = undrawable.to_string();
    assert!(told.contains("\"猫\", \"кот\"") && told.contains("and 2 more words"), "{told}");
    assert!(!told.contains("\"cat\"") && !told.contains("\"x\""), "{told}");
    let remedy = undrawable.remedy();
    assert!(remedy.contains("apt install fonts-noto-cjk fonts-noto-color-emoji fonts-noto-core"), "{remedy}");
    for (word, package) in [
        ("猫", Some("fonts-noto-cjk")),
        ("。", Some("fonts-noto-cjk")),
        ("ー", Some("fonts-noto-cjk")),
        ("Ｃ", Some("fonts-noto-cjk")),
        ("кот", Some("fonts-noto-core")),
        ("☕", Some("fonts-noto-core")),
        ("🐱", Some("fonts-noto-color-emoji")),
        ("\u{e000}", None),
    ] {
        let undrawable = fonts.undrawable([word].into_iter()).unwrap();
        assert_eq!(undrawable.packages.iter().next().copied(), package, "{word}");
    }
    assert!(fonts.undrawable(["\u{e000}"].into_iter()).unwrap().remedy().contains("/usr/share/fonts"));
    // What only says how others are drawn is no letter.
    assert_eq!(fonts.undrawable(["cat\u{fe0f}\u{200d}"].into_iter()), None);
    assert_eq!(fonts.draw("猫", HEIGHT), None);
}

#[test]
fn words_are_as_high_as_a_line_and_are_not_cut_off() {
    let words = ["кошка", "猫", "قطة", "बिल्ली", "แมว", "กี่ปู่", "gg ßß Ж", "🐱"];
    let Some(mut fonts) = fonts_for(&words) else { return };
    for word in words {
        for height in [16, 20, 24, 32, 96] {
            let image = fonts.draw(word, height).unwrap();
            assert_eq!((image.height, image.pixels.len()), (height, height * image.width), "{word}");
            let row = |y: usize| &image.pixels[y * image.width..][..image.width];
            let most = |y: usize| row(y).iter().map(|pixel| pixel[3]).max().unwrap_or(0);
            assert!((0..height).any(|y| most(y) > 200), "{word} at {height} is empty");
            // It may touch the edges, and no stroke goes over them.
            assert!(image.width < height * (2 + word.chars().count()), "{word}: {}", image.width);
        }
    }
    let long = "猫".repeat(1000);
    assert!(fonts.draw(&long, 16).unwrap().width < 300 * 16);
}

#[test]
fn a_script_that_is_read_from_right_to_left_is_and_letters_that_join_do() {
    let words = ["בא", "ب", "قطة"];
    let Some(mut fonts) = fonts_for(&words) else { return };
    let both = fonts.draw("אב", HEIGHT).unwrap();
    assert!(both.is_right_to_left);
    // What is read last stands on the left.
    let last = ink(&fonts.draw("ב", HEIGHT).unwrap());
    assert_eq!(ink(&both)[..last.len()], last[..]);
    let joined = fonts.draw("بببب", HEIGHT).unwrap();
    let alone = fonts.draw("ب", HEIGHT).unwrap();
    assert!(joined.width < 3 * alone.width, "{} of {}", joined.width, alone.width);
    assert!(!fonts.draw("кот", HEIGHT).unwrap().is_right_to_left);
}

#[test]
fn an_emoji_has_its_colours_and_letters_have_the_texts() {
    let words = ["🚗", "кот"];
    let Some(mut fonts) = fonts_for(&words) else { return };
    let is_coloured = |image: &WordImage| {
        image.pixels.iter().any(|pixel| pixel[3] > 200 && pixel[0].abs_diff(pixel[2]) > 60)
    };
    assert!(is_coloured(&fonts.draw("🚗", HEIGHT).unwrap()));
    assert!(fonts.draw("кот", HEIGHT).unwrap().pixels.iter().all(|pixel| pixel[..3] == [0; 3]));
}
