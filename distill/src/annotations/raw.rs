//! COCO's and LVIS's files as people write them: everything that `pycocotools` and Python's `json` accept.
//!
//! Reads the text of one JSON file into its parts without judging them: ids of any type, flags as numbers or booleans,
//! and values that should be numbers and are not as NaN.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wordsight_evaluation::Frequency;

/// The parts of a file that are read.
#[derive(Deserialize)]
pub(super) struct File {
    pub images: Vec<Image>,
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    #[serde(default)]
    pub categories: Vec<Category>,
}

#[derive(Deserialize)]
pub(super) struct Image {
    pub id: Id,
    pub file_name: Option<String>,
    /// LVIS names a file by where COCO published it.
    pub coco_url: Option<String>,
    #[serde(default)]
    pub width: Number,
    #[serde(default)]
    pub height: Number,
    pub exhaustive: Option<Flag>,
    #[serde(default)]
    pub neg_category_ids: Vec<Id>,
    #[serde(default)]
    pub not_exhaustive_category_ids: Vec<Id>,
}

#[derive(Deserialize)]
pub(super) struct Annotation {
    pub id: Option<Id>,
    pub image_id: Id,
    /// None: an object without a name.
    pub category_id: Option<Id>,
    #[serde(default)]
    pub bbox: Numbers,
    #[serde(default)]
    pub area: Number,
    #[serde(default)]
    pub iscrowd: Flag,
    #[serde(default)]
    pub ignore: Flag,
    #[serde(default)]
    pub score: Number,
}

#[derive(Deserialize)]
pub(super) struct Category {
    pub id: Id,
    pub name: Name,
    #[serde(default, deserialize_with = "frequency")]
    pub frequency: Option<Frequency>,
}

/// A number or a text; 1, 1.0 and "1" are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

/// A number; NaN where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub f64);

impl Default for Number {
    fn default() -> Self {
        Self(f64::NAN)
    }
}

/// A list of numbers; empty where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(pub Vec<f64>);

/// 0 or 1, true or false, or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flag(pub bool);

/// A text, or a number as one.
#[derive(Clone, Debug)]
pub(super) struct Name(pub String);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => write!(formatter, "{text:?}"),
        }
    }
}

/// Any scalar JSON value; lists and objects become one too.
#[derive(Debug)]
enum Scalar {
    Nothing,
    Flag(bool),
    Number(f64),
    Integer(i64),
    Text(String),
    List(Vec<f64>),
    Object,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Scalar;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
                Ok(Scalar::Nothing)
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                // As a text: a float would make one id of two.
                Ok(i64::try_from(number).map_or_else(|_| Scalar::Text(number.to_string()), Scalar::Integer))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                let mut numbers = Vec::new();
                while let Some(scalar) = list.next_element::<Scalar>()? {
                    numbers.push(scalar.number());
                }
                Ok(Scalar::List(numbers))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Scalar, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Object)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Scalar {
    fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Integer(number) => *number as f64,
            Self::Text(text) => text.trim().parse().unwrap_or(f64::NAN),
            _ => f64::NAN,
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Integer(id) => Ok(Self::Number(id)),
            Scalar::Number(id) if id.fract() == 0.0 && id.abs() < 9e15 => Ok(Self::Number(id as i64)),
            Scalar::Number(id) => Ok(Self::Text(id.to_string())),
            Scalar::Text(id) => Ok(id.parse().map_or_else(|_| Self::Text(id), Self::Number)),
            _ => Err(de::Error::custom("an id is a number or a text")),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Scalar::deserialize(deserializer)?.number()))
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::List(numbers) => Ok(Self(numbers)),
            _ => Ok(Self::default()),
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Nothing => Ok(Self(false)),
            Scalar::Flag(flag) => Ok(Self(flag)),
            Scalar::Text(text) if text.eq_ignore_ascii_case("true") => Ok(Self(true)),
            Scalar::Text(text) if text.eq_ignore_ascii_case("false") => Ok(Self(false)),
            other => match other.number() {
                number if number.is_nan() => Err(de::Error::custom("it is 0 or 1, true or false")),
                number => Ok(Self(number != 0.0)),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self(text)),
            Scalar::Integer(number) => Ok(Self(number.to_string())),
            _ => Err(de::Error::custom("a category's name is a text")),
        }
    }
}

fn frequency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Frequency>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => match text.as_str() {
            "r" => Some(Frequency::Rare),
            "c" => Some(Frequency::Common),
            "f" => Some(Frequency::Frequent),
            _ => None,
        },
        _ => None,
    })
}

/// A JSON text with `null` for the `NaN` and `Infinity` that Python's `json` writes, which are no JSON.
pub(super) fn without_nan(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let (mut rest, mut is_in_text) = (text, false);
    while let Some(character) = rest.chars().next() {
        let token = ["NaN", "-Infinity", "Infinity"].into_iter().find(|token| rest.starts_with(token));
        let taken = match (is_in_text, character, token) {
            (true, '\\', _) => rest.chars().take(2).map(char::len_utf8).sum(),
            (false, _, Some(token)) => {
                clean.push_str("null");
                rest = &rest[token.len()..];
                continue;
            }
            (_, '"', _) => {
                is_in_text = !is_in_text;
                1
            }
            _ => character.len_utf8(),
        };
        clean.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_python_writes_for_no_number_is_read_and_texts_stay() {
        let text = r#"{"a": [NaN, -Infinity, Infinity, 1], "b": "NaN \" Infinity"}"#;
        let value: serde_json::Value = serde_json::from_str(&without_nan(text)).unwrap();
        assert_eq!(value, serde_json::json!({"a": [null, null, null, 1], "b": "NaN \" Infinity"}));
    }

    #[test]
    fn ids_and_flags_are_of_many_kinds() {
        let ids = |text: &str| serde_json::from_str::<Vec<Id>>(text).unwrap();
        assert_eq!(ids(r#"[1, 1.0, "1", "0001"]"#), vec![Id::Number(1); 4]);
        assert_eq!(ids(r#"["a", -3, 1.5]"#), [Id::Text("a".into()), Id::Number(-3), Id::Text("1.5".into())]);
        // A hash: such neighbours are one as floats.
        let [a, b, c] = &ids("[18446744073709551614, 18446744073709551615, \"18446744073709551615\"]")[..]
        else {
            panic!("three ids")
        };
        assert!(a != b && b == c, "{a} {b} {c}");
        assert!(serde_json::from_str::<Id>("null").is_err());
        let flags: Vec<Flag> =
            serde_json::from_str(r#"[0, 1, false, true, null, 1.0, "1", "False"]"#).unwrap();
        assert_eq!(
            flags.iter().map(|flag| flag.0).collect::<Vec<_>>(),
            [false, true, false, true, false, true, true, false]
        );
    }
}
