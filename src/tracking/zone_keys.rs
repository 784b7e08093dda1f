//! `[[zone]]`, `[[crossing_line]]` and `[[mask]]` of a configuration, which the live page writes too.
//!
//! Turns the keys as they are written into checked [`ZoneSettings`]. Points are parts of the picture's width and
//! height, so they hold for every size of it.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wordsight_tracking::zones::geometry::{area, sides_that_meet};
use wordsight_tracking::zones::{Anchor, Point};

use crate::settings::{LongSeconds, SettingError};

/// The most zones, lines and masks, each.
const MOST: usize = 50;
/// The most corners of a polygon.
const MOST_POINTS: usize = 64;
/// The longest name, characters.
const LONGEST_NAME: usize = 64;
/// The least length of a line, and the least area of a polygon, of the picture's.
const LEAST_LENGTH: f64 = 0.005;
const LEAST_AREA: f64 = 0.0001;

/// One `[[zone]]`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneKeys {
    /// What it is called.
    pub name: String,
    /// Its corners.
    pub points: Vec<Point>,
    /// The words that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<AnchorKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dwell_s: Option<f64>,
}

/// One `[[crossing_line]]`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossingLineKeys {
    /// What it is called.
    pub name: String,
    /// Where it begins and ends.
    pub from: Point,
    pub to: Point,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_left: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_right: Option<String>,
    /// The words that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<AnchorKey>,
}

/// One `[[mask]]`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskKeys {
    /// Its corners.
    pub points: Vec<Point>,
    /// The words that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<AnchorKey>,
}

/// `anchor`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnchorKey {
    Bottom,
    Centre,
}

fn anchor(key: Option<AnchorKey>) -> Anchor {
    match key {
        None | Some(AnchorKey::Bottom) => Anchor::Bottom,
        Some(AnchorKey::Centre) => Anchor::Centre,
    }
}

impl ZoneKeys {
    /// The point of a box that counts.
    pub fn anchor(&self) -> Anchor {
        anchor(self.anchor)
    }

    /// After how long in it that is told.
    pub fn dwell(&self) -> Option<Duration> {
        LongSeconds::try_from(self.dwell_s?).ok().map(|seconds| seconds.0)
    }
}

impl CrossingLineKeys {
    /// The point of a box that counts.
    pub fn anchor(&self) -> Anchor {
        anchor(self.anchor)
    }

    /// What a crossing is called: to the left-hand side of someone who goes along the line, and to the right-hand side.
    pub fn directions(&self) -> [&str; 2] {
        [self.to_left.as_deref().unwrap_or("left"), self.to_right.as_deref().unwrap_or("right")]
    }
}

impl MaskKeys {
    /// The point of a box that counts.
    pub fn anchor(&self) -> Anchor {
        anchor(self.anchor)
    }
}

/// All zones, lines and masks, by the names of their sections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenZones {
    /// The zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zone: Vec<ZoneKeys>,
    /// The lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crossing_line: Vec<CrossingLineKeys>,
    /// The masks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<MaskKeys>,
}

impl WrittenZones {
    /// Whether it has the form that `openapi.json` gives it. What has it may still make no zones: sides that cross, say.
    pub fn is_formed(&self) -> bool {
        let Self { zone, crossing_line, mask } = self;
        let is_name = |name: &str| (1..=LONGEST_NAME).contains(&name.chars().count());
        let is_point = |point: &Point| check_point("", *point).is_ok();
        let is_polygon =
            |points: &[Point]| (3..=MOST_POINTS).contains(&points.len()) && points.iter().all(is_point);
        let is_long =
            |dwell_s: Option<f64>| dwell_s.is_none_or(|dwell_s| LongSeconds::try_from(dwell_s).is_ok());
        [zone.len(), crossing_line.len(), mask.len()].iter().all(|count| *count <= MOST)
            && zone
                .iter()
                .all(|zone| is_name(&zone.name) && is_polygon(&zone.points) && is_long(zone.dwell_s))
            && crossing_line
                .iter()
                .all(|line| is_name(&line.name) && is_point(&line.from) && is_point(&line.to))
            && mask.iter().all(|mask| is_polygon(&mask.points))
    }
}

/// Zones, lines and masks that can be watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ZoneSettings(WrittenZones);

impl ZoneSettings {
    /// Checks what is written. `is_tracking`: whether things are followed, without which none enters or crosses.
    ///
    /// # Errors
    /// When one can't be what it is.
    pub fn of(written: &WrittenZones, is_tracking: bool) -> Result<Self, SettingError> {
        let WrittenZones { zone, crossing_line, mask } = written;
        let mut names = HashSet::new();
        let counts =
            [("[zone]", zone.len()), ("[crossing_line]", crossing_line.len()), ("[mask]", mask.len())];
        for (section, count) in counts {
            let fail = |reason: String| SettingError { section, reason };
            if count > MOST {
                return Err(fail(format!("there are {count}, and may be {MOST}")));
            }
            if count > 0 && !is_tracking && section != "[mask]" {
                let reason = "things have to be followed for it: set enabled = true under [tracking]";
                return Err(fail(reason.to_owned()));
            }
        }
        for zone in zone {
            let fail = |reason| SettingError { section: "[zone]", reason };
            check_name(&zone.name, &mut names).map_err(fail)?;
            let of_zone = |reason: String| fail(format!("zone {:?}: {reason}", zone.name));
            zone.check().map_err(of_zone)?;
        }
        for line in crossing_line {
            let fail = |reason| SettingError { section: "[crossing_line]", reason };
            check_name(&line.name, &mut names).map_err(fail)?;
            line.check().map_err(|reason| fail(format!("line {:?}: {reason}", line.name)))?;
        }
        for (place, mask) in mask.iter().enumerate() {
            let fail =
                |reason| SettingError { section: "[mask]", reason: format!("mask {}: {reason}", place + 1) };
            check_polygon(&mask.points).and_then(|()| check_words(&mask.words)).map_err(fail)?;
        }
        Ok(Self(written.clone()))
    }

    /// As it is written.
    pub fn written(&self) -> &WrittenZones {
        &self.0
    }

    /// How many there are, for people; nothing where there are none.
    pub fn told(&self) -> Option<String> {
        let counts =
            [("zone", self.0.zone.len()), ("line", self.0.crossing_line.len()), ("mask", self.0.mask.len())];
        let told = counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {name}{plural}")
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// The words that are named, each with the section that names it.
    pub fn words(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let WrittenZones { zone, crossing_line, mask } = &self.0;
        let zones = zone.iter().flat_map(|zone| &zone.words).map(|word| ("[zone]", word.as_str()));
        let lines =
            crossing_line.iter().flat_map(|line| &line.words).map(|word| ("[crossing_line]", word.as_str()));
        let masks = mask.iter().flat_map(|mask| &mask.words).map(|word| ("[mask]", word.as_str()));
        zones.chain(lines).chain(masks)
    }

    /// The names of zones and lines.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.0.crossing_line.iter().map(|line| line.name.as_str());
        self.0.zone.iter().map(|zone| zone.name.as_str()).chain(lines)
    }

    /// Whether there is a zone or a line of a name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

impl ZoneKeys {
    fn check(&self) -> Result<(), String> {
        check_polygon(&self.points)?;
        check_words(&self.words)?;
        let dwell = self.dwell_s.map(LongSeconds::try_from).transpose();
        dwell.map(drop).map_err(|reason| format!("dwell_s is wrong: {reason}"))
    }
}

impl CrossingLineKeys {
    fn check(&self) -> Result<(), String> {
        check_point("from", self.from)?;
        check_point("to", self.to)?;
        check_words(&self.words)?;
        if (self.to[0] - self.from[0]).hypot(self.to[1] - self.from[1]) < LEAST_LENGTH {
            return Err("`from` and `to` are one point: let it lead from one side to the other".to_owned());
        }
        let [to_left, to_right] = self.directions();
        for (key, name) in [("to_left", to_left), ("to_right", to_right)] {
            check_plain(name).map_err(|reason| format!("{key} {reason}"))?;
        }
        if to_left == to_right {
            return Err(format!(
                "both directions are called {to_left:?}: give `to_left` and `to_right` two names"
            ));
        }
        Ok(())
    }
}

/// Looks at a name, which no other zone or line may have.
fn check_name(name: &str, names: &mut HashSet<String>) -> Result<(), String> {
    check_plain(name).map_err(|reason| format!("a name {reason}"))?;
    if !names.insert(name.to_owned()) {
        return Err(format!("{name:?} is there twice: each zone and each line takes a name of its own"));
    }
    Ok(())
}

fn check_plain(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!("is to be 1 to {LONGEST_NAME} characters on one line"));
    }
    Ok(())
}

fn check_words(words: &[String]) -> Result<(), String> {
    if words.iter().any(|word| word.trim().is_empty()) {
        return Err("one of the words is empty: leave `words` out for all words".to_owned());
    }
    Ok(())
}

fn check_point(key: &str, [x, y]: Point) -> Result<(), String> {
    if [x, y].iter().all(|part| (0.0..=1.0).contains(part)) {
        return Ok(());
    }
    Err(format!(
        "{key} is [{x}, {y}], outside of the picture: points are parts of its width and height, from 0 to 1"
    ))
}

fn check_polygon(points: &[Point]) -> Result<(), String> {
    if !(3..=MOST_POINTS).contains(&points.len()) {
        let count = points.len();
        return Err(format!("it has {count} points: a polygon takes 3 to {MOST_POINTS}"));
    }
    for (place, point) in points.iter().enumerate() {
        check_point(&format!("point {}", place + 1), *point)?;
    }
    for (place, point) in points.iter().enumerate() {
        let next = (place + 1) % points.len();
        if points[next] == *point {
            return Err(format!("the points {} and {} are one: leave one out", place + 1, next + 1));
        }
    }
    if let Some((one, other)) = sides_that_meet(points) {
        let ends = |side: usize| format!("from point {} to {}", side + 1, (side + 1) % points.len() + 1);
        return Err(format!(
            "its sides {} and {} cross or touch: put the points in the order in which they lie around it",
            ends(one),
            ends(other)
        ));
    }
    if area(points) < LEAST_AREA {
        return Err(
            "it is too small to hold anything: a hundredth of the picture's width and height at least"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SQUARE: &str = "points = [[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]]";

    fn settings(text: &str) -> Result<ZoneSettings, String> {
        let written: WrittenZones = toml::from_str(text).map_err(|error| error.to_string())?;
        ZoneSettings::of(&written, true).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_not_be_a_zone_is_refused_in_words() {
        let cases = [
            ("points = [[0.1, 0.1], [0.5, 0.5]]".to_owned(), "it has 2 points: a polygon takes 3 to 64"),
            ("points = [[0.1, 0.1], [0.5, 0.5], [1.2, 0.5]]".to_owned(), "point 3 is [1.2, 0.5], outside"),
            ("points = [[0.1, 0.1], [0.5, nan], [0.2, 0.5]]".to_owned(), "point 2 is [0.5, NaN], outside"),
            (
                "points = [[0.2, 0.2], [0.6, 0.6], [0.6, 0.2], [0.2, 0.6]]".to_owned(),
                "sides from point 1 to 2 and from point 3 to 4 cross",
            ),
            ("points = [[0.2, 0.2], [0.6, 0.6], [0.6, 0.6]]".to_owned(), "the points 2 and 3 are one"),
            ("points = [[0.2, 0.2], [0.201, 0.2], [0.2, 0.201]]".to_owned(), "too small"),
            (format!("{SQUARE}\nwords = [\"\"]"), "one of the words is empty"),
            (format!("{SQUARE}\ndwell_s = 0.01"), "0.05 seconds or more"),
            (format!("{SQUARE}\nanchor = \"top\""), "expected `bottom` or `centre`"),
        ];
        for (text, reason) in cases {
            let error = settings(&format!("[[zone]]\nname = \"yard\"\n{text}")).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = settings(&format!("[[zone]]\nname = \" \"\n{SQUARE}")).unwrap_err();
        assert!(error.contains("[[zone]] is wrong: a name is to be"), "{error}");
        let error = settings("[[mask]]\npoints = [[0, 0], [1, 1]]").unwrap_err();
        assert!(error.contains("[[mask]] is wrong: mask 1: it has 2 points"), "{error}");
    }

    #[test]
    fn what_can_not_be_a_line_is_refused_in_words() {
        let cases = [
            ("from = [0.5, 0.5]\nto = [0.5, 0.5]", "are one point"),
            ("from = [0.5, 0.5]\nto = [0.5, 1.5]", "to is [0.5, 1.5], outside"),
            (
                "from = [0.5, 0.1]\nto = [0.5, 0.9]\nto_left = \"in\"\nto_right = \"in\"",
                "both directions are called",
            ),
            ("from = [0.5, 0.1]\nto = [0.5, 0.9]\nto_left = \"\"", "to_left is to be 1 to 64 characters"),
        ];
        for (text, reason) in cases {
            let error = settings(&format!("[[crossing_line]]\nname = \"gate\"\n{text}")).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_stands_once_among_zones_and_lines_and_there_are_not_too_many() {
        let zone = format!("[[zone]]\nname = \"a\"\n{SQUARE}\n");
        let error = settings(&format!("{zone}[[crossing_line]]\nname = \"a\"\nfrom = [0, 0]\nto = [1, 1]"))
            .unwrap_err();
        assert!(error.contains("[[crossing_line]] is wrong: \"a\" is there twice"), "{error}");
        let many: String = (0..51).map(|number| zone.replace("\"a\"", &format!("\"{number}\""))).collect();
        assert!(settings(&many).unwrap_err().contains("there are 51, and may be 50"));
    }

    #[test]
    fn zones_take_tracking_and_masks_do_not() {
        let of = |text: &str| {
            ZoneSettings::of(&toml::from_str(text).unwrap(), false).map_err(|error| error.to_string())
        };
        let error = of(&format!("[[zone]]\nname = \"a\"\n{SQUARE}")).unwrap_err();
        assert!(error.contains("set enabled = true under [tracking]"), "{error}");
        assert!(of(&format!("[[mask]]\n{SQUARE}")).is_ok());
    }

    #[test]
    fn what_is_written_comes_back_as_toml_and_as_json() {
        let text = format!(
            "[[zone]]\nname = \"yard\"\n{SQUARE}\nwords = [\"cat\"]\nanchor = \"centre\"\ndwell_s = 5\n\
             [[crossing_line]]\nname = \"gate\"\nfrom = [0, 0]\nto = [1, 1]\nto_right = \"in\"\n[[mask]]\n{SQUARE}"
        );
        let settings = settings(&text).unwrap();
        let [zone] = &settings.written().zone[..] else { panic!("{settings:?}") };
        assert_eq!((zone.anchor(), zone.dwell()), (Anchor::Centre, Some(Duration::from_secs(5))));
        assert_eq!(settings.written().crossing_line[0].directions(), ["left", "in"]);
        let toml: WrittenZones = toml::from_str(&toml::to_string(settings.written()).unwrap()).unwrap();
        let json: WrittenZones =
            serde_json::from_str(&serde_json::to_string(settings.written()).unwrap()).unwrap();
        assert_eq!((&toml, &json), (settings.written(), settings.written()));
        assert_eq!(settings.words().collect::<Vec<_>>(), [("[zone]", "cat")]);
        assert!(settings.has("gate") && !settings.has("mask"));
    }
}
