//! Removes passwords from URIs and pipelines, before they are shown or logged.

/// Text as it may be shown: without the passwords of `://user:password@` and of keys that are named for one.
///
/// Better a path that is shown wrong than a password that is shown: what may belong to one is hidden.
pub fn without_password(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        // As far as a password could reach, and the last @ of that.
        let authority = behind.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(behind.len());
        rest = match behind[..authority].rfind('@') {
            Some(at) => {
                let user = behind[..at].split(':').next().unwrap_or_default();
                shown.push_str(user);
                if user.len() < at {
                    shown.push_str(":***");
                }
                &behind[at..]
            }
            None => behind,
        };
    }
    shown.push_str(rest);
    SECRET_KEYS.iter().fold(shown, |shown, key| without_value_of(&shown, key))
}

/// The ends of keys whose values are secret, as GStreamer's elements and cameras' own queries have them.
const SECRET_KEYS: [&str; 5] = ["-pw", "password", "passphrase", "passwd", "pwd"];

/// Text with `***` in the place of what follows a key and an equals sign, quotes and blanks between them included.
fn without_value_of(text: &str, key: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(key) {
        let (before, behind) = rest.split_at(at + key.len());
        shown.push_str(before);
        rest = behind;
        let Some(value) = behind.trim_start().strip_prefix('=').map(str::trim_start) else { continue };
        let end = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
            _ => value.find(|c: char| c.is_whitespace() || c == '&').unwrap_or(value.len()),
        };
        shown.push_str("=***");
        rest = &value[end..];
    }
    shown.push_str(rest);
    shown
}
