//! Remembers which retained topics a broker holds, from one run to the next.
//!
//! So what the broker still keeps of words that are no more can be removed, even where they went while this program was
//! not running.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::files::{Durability, replace};
use crate::publish::network::short_hash;

/// The largest list that is read, bytes.
const LARGEST: u64 = 16 << 20;
/// The longest topic in MQTT, bytes.
const LONGEST_TOPIC: usize = 65_535;

/// The list, in a file.
pub(super) struct Remembered {
    path: PathBuf,
    is_complained_of: bool,
}

impl Remembered {
    /// The list of a broker and a stream, below a folder that outlives the program.
    pub(super) fn new(state: &Path, of: &[&str]) -> Self {
        let path = state.join("mqtt").join(format!("{}.topics", short_hash(of)));
        Self { path, is_complained_of: false }
    }

    /// What was kept when the last run ended, as far as it is known.
    pub(super) fn topics(&self) -> BTreeSet<String> {
        let is_small = std::fs::metadata(&self.path).is_ok_and(|file| file.len() <= LARGEST);
        let text =
            if is_small { std::fs::read_to_string(&self.path).unwrap_or_default() } else { String::new() };
        // What comes from a disk may be anything, and a broker closes the connection for a topic that can't be.
        let is_topic = |line: &&str| {
            let is_odd = |character: char| "+#".contains(character) || character.is_control();
            !line.is_empty()
                && line.len() <= LONGEST_TOPIC
                && !line.starts_with('$')
                && !line.chars().any(is_odd)
        };
        text.lines().filter(is_topic).map(str::to_owned).collect()
    }

    /// Remembers these.
    pub(super) fn keep(&mut self, topics: &BTreeSet<String>) {
        let text: String = topics.iter().flat_map(|topic| [topic.as_str(), "\n"]).collect();
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| replace(&self.path, Durability::Fleeting, text.as_bytes()));
        match written {
            Ok(()) => self.is_complained_of = false,
            Err(error) if !std::mem::replace(&mut self.is_complained_of, true) => tracing::warn!(
                "{}: cannot be written, so that topics of words that go while wordsight doesn't run stay at the broker: \
                 {error}",
                self.path.display()
            ),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn topics_are_remembered_and_garbage_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let of = |stream| Remembered::new(folder.path(), &["mqtt://broker", stream]);
        let topics: BTreeSet<String> = ["a/b", "a/c d"].map(str::to_owned).into();
        of("a").keep(&topics);
        assert_eq!(of("a").topics(), topics);
        assert_eq!(of("b").topics(), BTreeSet::new());
        let path = of("a").path;
        std::fs::write(&path, "a/#\n\n$SYS/x\nfine\n\u{1}\n").unwrap();
        assert_eq!(of("a").topics(), ["fine".to_owned()].into());
    }
}
