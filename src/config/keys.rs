//! The keys of a configuration, and the hint for one that is misspelt.

use std::cell::Cell;

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::cameras::{AT_THE_TOP, SECTIONS};
use super::values::Config;
use crate::governor::GovernorKeys;
use crate::http::HttpKeys;
use crate::pipeline::EngineKeys;
use crate::publish::{LinesKeys, MqttKeys, PicturesKeys, PublishKeys, VideoKeys, WebhookKeys};
use crate::scoring::DetectionKeys;
use crate::source::SourceKeys;
use crate::tracking::{CrossingLineKeys, MaskKeys, TrackingKeys, ZoneKeys};

/// The configuration that holds where the user's says nothing.
pub(super) const BUILT_IN: &str = include_str!("../../demo/wordsight.toml");

/// A key that there is: the section, empty for those at the top, and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// Whether there may be any number of its section.
    pub is_repeated: bool,
}

/// All keys, in the order in which the built-in file documents them.
pub(super) fn keys() -> Vec<Key> {
    let of_camera: Vec<&str> =
        AT_THE_TOP.into_iter().chain(names_of::<SourceKeys>().iter().copied()).collect();
    let sections = [
        ("source", names_of::<SourceKeys>(), false),
        ("detection", names_of::<DetectionKeys>(), false),
        ("tracking", names_of::<TrackingKeys>(), false),
        ("engine", names_of::<EngineKeys>(), false),
        ("governor", names_of::<GovernorKeys>(), false),
        ("publish", names_of::<PublishKeys>(), false),
        ("http", names_of::<HttpKeys>(), false),
        ("camera", of_camera.as_slice(), true),
        ("zone", names_of::<ZoneKeys>(), true),
        ("crossing_line", names_of::<CrossingLineKeys>(), true),
        ("mask", names_of::<MaskKeys>(), true),
        ("lines", names_of::<LinesKeys>(), true),
        ("mqtt", names_of::<MqttKeys>(), true),
        ("pictures", names_of::<PicturesKeys>(), true),
        ("webhook", names_of::<WebhookKeys>(), true),
        ("video", names_of::<VideoKeys>(), true),
    ];
    let at_the_top =
        names_of::<Config>().iter().filter(|name| sections.iter().all(|section| section.0 != **name));
    let mut keys: Vec<Key> = at_the_top.map(|name| Key { section: "", name, is_repeated: false }).collect();
    for (section, names, is_repeated) in sections {
        keys.extend(names.iter().map(|name| Key { section, name, is_repeated }));
    }
    keys
}

/// The names of a section's keys.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    keys().into_iter().filter(|key| key.section == section).map(|key| key.name).collect()
}

/// The names of a structure's keys, in its order, as serde tells them to whoever deserialises it.
fn names_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let names = Cell::new(&[][..]);
    // It is asked what it takes, and given nothing.
    drop(T::deserialize(Asking(&names)));
    names.get()
}

struct Asking<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asking<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.set(names);
        Err(serde::de::Error::custom("only its keys are asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("it has no keys"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// How alike two names must be (Jaro and Winkler's similarity, 0 to 1) for one to be taken for the other misspelt.
const ALIKE: f64 = 0.85;

/// The same for a name of the very section that the unknown one stands in.
const ALIKE_IN_SECTION: f64 = 0.7;

/// What may have been meant by a key that there isn't, or by a section that is no list.
pub(super) fn hint_for(message: &str, user: &toml::Table) -> Option<String> {
    let keys = keys();
    if message.starts_with("invalid type: map, expected a sequence") {
        let is_table = |key: &&Key| user.get(key.section).is_some_and(toml::Value::is_table);
        let section = keys.iter().filter(|key| key.is_repeated).find(is_table)?.section;
        return Some(format!("there may be several of it, so it is written [[{section}]]"));
    }
    let mut quoted = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    let unknown = quoted.next()?;
    let listed: Vec<&str> = quoted.collect();
    let place = |key: &Key| match key.section {
        "" => "at the top of the file, before any [section]".to_owned(),
        section if key.is_repeated => format!("under [[{section}]]"),
        section => format!("under [{section}]"),
    };
    if let Some(here) = nearest(unknown, listed.iter().copied(), ALIKE_IN_SECTION) {
        let listed_keys = listed.iter().filter(|name| !SECTIONS.contains(name)).count();
        // The section that has the very keys that could have been; at the top there are sections as well.
        let is_listed = |section: &str| {
            let own = || keys.iter().filter(|key| key.section == section);
            own().all(|key| listed.contains(&key.name))
                && (section.is_empty() || own().count() == listed_keys)
        };
        let told = match keys.iter().find(|key| key.name == here && is_listed(key.section)) {
            Some(key) => format!("`{here}`, {}", place(key)),
            None => format!("[{here}]"),
        };
        return Some(format!("did you mean {told}?"));
    }
    if let Some(key) = keys.iter().find(|key| key.name == unknown) {
        return Some(format!("`{unknown}` stands {}", place(key)));
    }
    let sections = keys.iter().map(|key| (key.section, format!("[{}]", key.section)));
    let names = keys.iter().map(|key| (key.name, format!("`{}`, {}", key.name, place(key))));
    let alike = sections.chain(names).map(|(name, told)| (strsim::jaro_winkler(name, unknown), told));
    let (likeness, nearest) = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= ALIKE).then(|| format!("did you mean {nearest}?"))
}

/// The name that is most like another, if any is like it.
fn nearest<'a>(to: &str, names: impl Iterator<Item = &'a str>, alike: f64) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(name, to);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) >= alike).then_some(nearest)
}
