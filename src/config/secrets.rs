//! Keeps secrets of a configuration out of what is said of it: of errors that show a line, and of `wordsight config`.
//!
//! What can't be parsed is not repeated: of a line that may hold an address or a secret only the key is shown.

use toml::Value;
use wordsight_capture::{SourceUri, without_password};

/// Parts of lines that may hold a secret, in small letters.
const TELLING: [&str; 12] =
    ["uri", "url", "://", "@", "pass", "pwd", "-pw", "token", "secret", "auth", "cred", "rtsp"];

/// A configuration's error as it may be shown: with the line, but for what may be secret in it.
pub(super) fn shown_error(mut error: toml::de::Error, text: &str) -> String {
    let hidden = hidden(text);
    let is_telling = error.span().is_none_or(|span| {
        let begin = text[..span.start.min(text.len())].rfind('\n').map_or(0, |newline| newline + 1);
        let end =
            text[span.end.min(text.len())..].find('\n').map_or(text.len(), |newline| span.end + newline);
        text.get(begin..end) != hidden.get(begin..end)
    });
    let message = error.message().to_owned();
    error.set_input(Some(&hidden));
    let shown = error.to_string().trim_end().to_owned();
    if is_telling { shown.replace(&message, &without_values(&message)) } else { shown }
}

/// A message of the parser about a line, without a value that may be secret.
pub(super) fn shown_message(message: &str, line: &str) -> String {
    if hidden(line) == line { message.to_owned() } else { without_values(message) }
}

/// The same text with stars, byte for byte, in the place of values that may be secret.
fn hidden(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    // The quotes by which a telling value of several lines ends.
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.split_at(line.trim_end_matches(['\r', '\n']).len());
        let lower = body.to_lowercase();
        let value = match open {
            Some(quotes) => {
                if body.contains(quotes) {
                    open = None;
                }
                0
            }
            None if TELLING.iter().any(|part| lower.contains(part)) => {
                let value = body.find(['=', ':']).map_or(0, |at| at + 1);
                open =
                    ["\"\"\"", "'''"].into_iter().find(|quotes| body[value..].matches(quotes).count() == 1);
                value
            }
            None => body.len(),
        };
        hidden.push_str(&body[..value]);
        hidden.extend(std::iter::repeat_n('*', body.len() - value));
        hidden.push_str(end);
    }
    hidden
}

/// A message of the parser without the value that it repeats.
fn without_values(message: &str) -> String {
    let mut told = message.to_owned();
    if let (Some(first), Some(last)) = (told.find('"'), told.rfind('"'))
        && first < last
    {
        told.replace_range(first + 1..last, "***");
    }
    let parts: Vec<&str> = told.split('`').collect();
    let parts = parts
        .into_iter()
        .enumerate()
        .map(|(place, part)| if place % 2 == 1 && part.contains(['@', ':', '/']) { "***" } else { part });
    parts.collect::<Vec<_>>().join("`")
}

/// A key's value as `wordsight config` may print it.
pub(super) fn shown_value(section: &str, name: &str, value: Value) -> Value {
    let Value::String(text) = &value else { return value };
    let shown = match (section, name) {
        ("source" | "camera", "uri") => match SourceUri::parse(text) {
            Ok(uri) => uri.display().to_owned(),
            Err(_) => "***".to_owned(),
        },
        // A path and a query of a web server may be secrets, as those of chat services are.
        ("webhook", "url") => {
            let begin = text.find("://").map_or(0, |at| at + 3);
            let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |end| begin + end);
            let server = without_password(&text[..end]);
            if end < text.len() { format!("{server}/***") } else { server }
        }
        ("video", "to") if text.contains("://") || text.starts_with("gst:") => without_password(text),
        ("video", "to") if text.contains('@') => "***".to_owned(),
        ("mqtt", "url") => without_password(text),
        _ => return value,
    };
    Value::String(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_may_hold_a_secret_are_hidden_byte_for_byte_and_others_stay() {
        let text = "[source]\nuri = \"rtsp://me:hunter2@h/ä\"\nfps = 5\nurl = '''\nhunter2\n''' # end\nkind = \"auto\"\r\n";
        let hidden = hidden(text);
        assert_eq!(hidden.len(), text.len());
        assert!(!hidden.contains("hunter2"), "{hidden}");
        assert!(hidden.contains("[source]\nuri =***") && hidden.contains("\nfps = 5\n"), "{hidden}");
        assert!(hidden.ends_with("kind = \"auto\"\r\n"), "{hidden}");
    }
}
