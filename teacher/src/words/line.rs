//! Words in one line, as a command's flag or a request's query lists them: `cat, red cup, "salt, pepper"`.

use super::WrittenWord;

/// How a line is written, for errors.
const FORM: &str =
    "words are written as in `cat, red cup`, and one with a comma in it as in `\"salt, pepper\"`";

/// Reads words between commas. A word may stand in double quotes, and a comma in it is its own then.
///
/// # Errors
/// When a word is empty, or quotes are not around a whole word.
pub fn parse_line(line: &str) -> Result<Vec<WrittenWord>, String> {
    let mut words = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (word, behind) = first_word(text)?;
        let word = word.trim();
        if word.is_empty() {
            let nth = words.len() + 1;
            return Err(format!("word {nth} is empty: {FORM}"));
        }
        words.push(WrittenWord::plain(word));
        rest = behind;
    }
    Ok(words)
}

/// The first word of a line, and what stands behind its comma, if there is one.
fn first_word(text: &str) -> Result<(&str, Option<&str>), String> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, behind) = text.split_once(',').map_or((text, None), |(word, behind)| (word, Some(behind)));
        if word.contains('"') {
            return Err(format!("there is a quote within {word:?}: {FORM}"));
        }
        return Ok((word, behind));
    };
    let Some((word, behind)) = quoted.split_once('"') else {
        return Err(format!("the quote before {quoted:?} has no other behind it: {FORM}"));
    };
    let behind = behind.trim_start();
    match behind.strip_prefix(',') {
        Some(rest) => Ok((word, Some(rest))),
        None if behind.is_empty() => Ok((word, None)),
        None => Err(format!("there is no comma between {word:?} and {behind:?}: {FORM}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(line: &str) -> Vec<String> {
        parse_line(line).unwrap().into_iter().map(|word| word.word.word).collect()
    }

    #[test]
    fn words_stand_between_commas_and_one_in_quotes_may_have_some() {
        assert_eq!(words("cat"), ["cat"]);
        assert_eq!(words(" cat ,red cup"), ["cat", "red cup"]);
        assert_eq!(words("\"salt, pepper\" , \"cat\",dog"), ["salt, pepper", "cat", "dog"]);
        assert_eq!(words("caf\u{e9},\u{732b}"), ["caf\u{e9}", "\u{732b}"]);
    }

    #[test]
    fn what_is_empty_or_badly_quoted_is_named() {
        for (line, part) in [
            ("", "word 1 is empty"),
            (" ", "word 1 is empty"),
            ("cat,", "word 2 is empty"),
            ("cat,,dog", "word 2 is empty"),
            (",cat", "word 1 is empty"),
            ("cat,\" \"", "word 2 is empty"),
            ("cat,\"red cup", "has no other"),
            ("12\" record", "a quote within"),
            ("\"red\" cup", "no comma between"),
        ] {
            let told = parse_line(line).err().unwrap();
            assert!(told.contains(part) && told.contains("red cup"), "{line:?}: {told}");
        }
    }
}
