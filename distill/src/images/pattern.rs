//! Patterns of paths with braces, as WebDataset and the shell have them: `a-{000..099}.tar`, `{train,val}.tar`.

/// The most paths of a pattern.
const MOST: usize = 1_000_000;

/// The paths that a pattern stands for, in the order in which the shell gives them.
///
/// # Errors
/// What is wrong with it.
pub(super) fn expanded(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else {
        return match pattern.contains('}') {
            true => Err("a brace is closed that wasn't opened".to_owned()),
            false => Ok(vec![pattern.to_owned()]),
        };
    };
    let close = pattern[open..].find('}').map(|at| open + at).ok_or("a brace isn't closed")?;
    let inside = &pattern[open + 1..close];
    if inside.contains('{') {
        return Err("braces stand in braces".to_owned());
    }
    let parts = match inside.split_once("..") {
        Some((first, last)) => range(first, last)?,
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let rests = expanded(&pattern[close + 1..])?;
    if parts.len().saturating_mul(rests.len()) > MOST {
        return Err(format!("it stands for more than {MOST} files"));
    }
    let paths = parts
        .iter()
        .flat_map(|part| rests.iter().map(move |rest| format!("{}{part}{rest}", &pattern[..open])));
    Ok(paths.collect())
}

/// Numbers from one to another, with as many digits as the longer is written with, where one begins with a zero.
fn range(first: &str, last: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u64>().ok() } else { None };
        number.ok_or_else(|| format!("{text:?} is no number"))
    };
    let (from, to) = (number(first)?, number(last)?);
    if from > to {
        return Err(format!("{first} comes after {last}"));
    }
    if to - from >= MOST as u64 {
        return Err(format!("it stands for more than {MOST} files"));
    }
    let is_padded = [first, last].iter().any(|text| text.len() > 1 && text.starts_with('0'));
    let digits = if is_padded { first.len().max(last.len()) } else { 0 };
    Ok((from..=to).map(|number| format!("{number:0digits$}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_stands_for_what_the_shell_makes_of_it() {
        for (pattern, paths) in [
            ("a.tar", &["a.tar"][..]),
            ("a-{8..10}.tar", &["a-8.tar", "a-9.tar", "a-10.tar"]),
            ("a-{008..010}.tar", &["a-008.tar", "a-009.tar", "a-010.tar"]),
            ("{train,val}-{0..1}.tar", &["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
            ("{a,}b", &["ab", "b"]),
        ] {
            assert_eq!(expanded(pattern).unwrap(), paths, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for (pattern, told) in [
            ("a-{0..9.tar", "isn't closed"),
            ("a-0}.tar", "wasn't opened"),
            ("{a{b,c}}", "in braces"),
            ("{9..0}", "comes after"),
            ("{a..z}", "no number"),
            ("{0..18446744073709551615}", "more than"),
            ("{0..999999}{0..999999}", "more than"),
        ] {
            let error = expanded(pattern).unwrap_err();
            assert!(error.contains(told), "{pattern}: {error}");
        }
    }
}
