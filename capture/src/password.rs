//! Removes secrets from URIs and pipelines, before they are shown or logged.
//!
//! Better a path that is shown wrong than a password that is shown: what may belong to one is hidden.

/// Text as it may be shown: without the passwords of `://user:password@`, the values of a URL's query but for those that
/// are known to be harmless, and the values of keys that are named for a secret.
pub fn without_password(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        // A blank may stand in a password: as far as the last @, if there is one before the text's next address.
        let next = behind.find("://").unwrap_or(behind.len());
        let blank = behind.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(behind.len());
        let end = behind[..next].rfind('@').map_or(blank, |at| {
            let behind_at = behind[at..].find(|c: char| c.is_whitespace() || c == '"' || c == '\'');
            behind_at.map_or(behind.len(), |end| at + end).max(blank)
        });
        shown.push_str(&masked_address(&behind[..end]));
        rest = &behind[end..];
    }
    shown.push_str(rest);
    without_secret_values(&shown)
}

/// What stands behind `://`, without secrets.
fn masked_address(address: &str) -> String {
    let (user, host) = match address.rfind('@') {
        Some(at) => {
            let user = user_of(&address[..at]);
            (if user.len() < at { format!("{user}:***") } else { user.to_owned() }, &address[at..])
        }
        // A port that is no number: it may be a password whose @ and host were forgotten.
        None => match host_of_a_wrong_port(address) {
            Some(host) => return format!("{host}:***"),
            None => (String::new(), address),
        },
    };
    let Some((place, query)) = host.split_once('?') else { return user + host };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !is_harmless(key, value) => format!("{key}=***"),
            None if !is_flag(pair) => "***".to_owned(),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{user}{place}?{}", pairs.join("&"))
}

/// The user of what stands before an @: as far as its password, whose colon may be encoded.
fn user_of(credentials: &str) -> &str {
    let user = credentials.split([':', '/', '?', '#']).next().unwrap_or_default();
    let encoded = user.find("%3A").or_else(|| user.find("%3a"));
    encoded.map_or(user, |end| &user[..end])
}

/// The host of an address without an @ whose port is no number.
fn host_of_a_wrong_port(address: &str) -> Option<&str> {
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    // An address of IPv6 has colons of its own, in brackets.
    let behind_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    let colon = behind_brackets + authority[behind_brackets..].find(':')?;
    // In a sentence there may be something behind it.
    let port = authority[colon + 1..].trim_end_matches([',', ';', ':', '.', ')', '`']);
    (!port.bytes().all(|byte| byte.is_ascii_digit())).then(|| &authority[..colon])
}

/// Whether a part of a query without a value is none, or says how a stream is carried.
fn is_flag(part: &str) -> bool {
    ["", "tcp", "udp", "unicast", "multicast"].iter().any(|flag| part.eq_ignore_ascii_case(flag))
}

/// Whether a query's value can be shown: that of a key which says what stream is meant.
fn is_harmless(key: &str, value: &str) -> bool {
    const HARMLESS: [&str; 27] = [
        "channel",
        "subtype",
        "stream",
        "streamtype",
        "profile",
        "width",
        "height",
        "fps",
        "format",
        "frames",
        "resolution",
        "codec",
        "videocodec",
        "audio",
        "video",
        "proto",
        "transport",
        "transportmode",
        "unicast",
        "camera",
        "inst",
        "user",
        "username",
        "usr",
        "login",
        "quality",
        "rate",
    ];
    value.is_empty()
        || (HARMLESS.contains(&key.to_ascii_lowercase().as_str()) && !value.contains([':', ';', '@']))
}

/// Parts of keys whose values are secret, as GStreamer's elements, cameras' own queries and paths have them.
const SECRET_KEYS: [&str; 9] =
    ["pw", "pas", "token", "auth", "secret", "cred", "apikey", "api-key", "api_key"];

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|part| key.contains(part))
}

/// Text with `***` in the place of what follows a secret's key and an equals sign, quotes and blanks between them included.
fn without_secret_values(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, behind) = rest.split_at(at + 1);
        shown.push_str(before);
        rest = behind;
        let key = before[..at].trim_end();
        let key =
            key.rsplit(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).next().unwrap_or_default();
        if !is_secret(key) {
            continue;
        }
        let value = without_type(behind.trim_start());
        let end = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
            _ => value.find(|c: char| c.is_whitespace() || c == '&').unwrap_or(value.len()),
        };
        while shown.ends_with([' ', '=']) {
            shown.pop();
        }
        shown.push_str("=***");
        rest = &value[end..];
    }
    shown.push_str(rest);
    shown
}

/// A value without the `(string)` that GStreamer's may have before it, and the backslash of a quote within quotes.
fn without_type(value: &str) -> &str {
    let typed = value.strip_prefix('(').and_then(|value| value.split_once(')'));
    let value = typed.map_or(value, |(_, value)| value.trim_start());
    value.strip_prefix('\\').unwrap_or(value)
}

/// Text as it may be shown that is no URL but may have been meant for one: without what stands before its last @.
pub(crate) fn without_user(text: &str) -> String {
    match text.rfind('@') {
        Some(at) => format!("***{}", without_password(&text[at..])),
        None => without_password(text),
    }
}
