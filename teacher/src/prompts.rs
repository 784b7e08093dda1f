//! Makes the captions that are embedded for a word.
//!
//! Takes a name as users and datasets write it (`traffic_light`) and templates (`a photo of a {}.`), and returns
//! captions. Names are cleaned as in ViLD (arXiv 2104.13921; its published code, `build_text_embedding`): `_` becomes
//! a space, `/` becomes "or", lower case; "a" before a vowel becomes "an".

use unicode_normalization::UnicodeNormalization;

use crate::error::TeacherError;

/// The templates for words that come without their own: the bare name and one caption. On the stand-in teacher the
/// bare name serves large objects better and the caption everything else; the two together come close to either.
pub const DEFAULT_PROMPTS: [&str; 2] = ["{}", "a photo of a {}."];

/// The caption that a template makes of a name.
///
/// # Errors
/// When the template doesn't contain `{}` exactly once.
pub fn caption(prompt: &str, name: &str) -> Result<String, TeacherError> {
    let name = clean(name);
    let mut parts = prompt.split("{}");
    let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(TeacherError::Prompt(prompt.to_owned()));
    };
    let article = match before.strip_suffix("a ") {
        Some(start)
            if name.starts_with(['a', 'e', 'i', 'o', 'u']) && !start.ends_with(char::is_alphanumeric) =>
        {
            "n "
        }
        _ => "",
    };
    let before = if article.is_empty() { before } else { before.trim_end() };
    Ok(format!("{before}{article}{name}{after}"))
}

/// A name without invisible characters: its letters composed (NFC), and no characters of no width, so that what looks the
/// same is the same.
pub fn visible(name: &str) -> String {
    let characters: Vec<char> = name.nfc().collect();
    let mut visible = String::with_capacity(name.len());
    for (at, &character) in characters.iter().enumerate() {
        if character.is_control() {
            visible.push(' ');
            continue;
        }
        // They join and part letters of Persian, of India's scripts, and the parts of an emoji.
        let is_joiner = matches!(character, '\u{200c}' | '\u{200d}');
        let is_behind_a_script_with_joiners =
            at > 0 && characters[at - 1] >= '\u{590}' && at + 1 < characters.len();
        if !is_invisible(character) || (is_joiner && is_behind_a_script_with_joiners) {
            visible.push(character);
        }
    }
    visible.trim().to_owned()
}

/// Whether a character takes no place: a soft hyphen, joiners, marks of direction and order, a byte order mark.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A name as captions spell it.
pub fn clean(name: &str) -> String {
    let spaced = visible(name).replace('_', " ").replace('/', " or ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_from_a_dataset_becomes_plain_english() {
        assert_eq!(caption("a photo of a {}.", "Traffic_Light").unwrap(), "a photo of a traffic light.");
        assert_eq!(caption("{}", "mug/cup").unwrap(), "mug or cup");
    }

    #[test]
    fn what_looks_the_same_is_the_same() {
        for same in [
            "cat",
            "cat\u{200b}",
            "ca\u{ad}t",
            "\u{feff}cat",
            "c\u{200d}at",
            "\u{202a}cat\u{202c}",
            " cat\u{0}",
        ] {
            assert_eq!(clean(same), "cat", "{same:?}");
        }
        assert_eq!(visible("cafe\u{301}"), "caf\u{e9}");
        // Here the characters without width are letters.
        for meant in
            ["\u{645}\u{6cc}\u{200c}\u{62e}", "\u{1f468}\u{200d}\u{1f469}", "\u{915}\u{94d}\u{200d}\u{937}"]
        {
            assert_eq!(visible(meant), meant, "{meant:?}");
        }
    }

    #[test]
    fn the_article_fits_the_name_and_nothing_else_is_changed() {
        assert_eq!(caption("a photo of a {}.", "apple").unwrap(), "a photo of an apple.");
        assert_eq!(caption("the pizza {}", "oven").unwrap(), "the pizza oven");
        assert_eq!(caption("a {} in the scene", "egg").unwrap(), "an egg in the scene");
    }

    #[test]
    fn a_template_without_a_place_for_the_word_is_refused() {
        for prompt in ["a photo", "{} and {}"] {
            let error = caption(prompt, "cat").unwrap_err().to_string();
            assert!(error.contains(prompt) && error.contains("{} once"), "{error}");
        }
    }
}
