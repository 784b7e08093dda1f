//! A frame, or an event, as one line of JSON.
//!
//! Scores are rounded to four digits and boxes to hundredths of a pixel: more would be noise, and
//! a line is read by people too. A line allocates nothing.

use std::io::{self, Write};
use std::time::Duration;

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::message::Record;
use crate::job::{Detection, Event, EventKind, Spot, WordList};

#[derive(serde::Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    camera: Option<&'a str>,
    source: &'a str,
    frame: u64,
    timestamp_ns: u64,
    age_ms: f64,
    latency_ms: f64,
    detections: Detections<'a>,
}

/// Written one by one, so that a line allocates nothing.
struct Detections<'a> {
    all: &'a [Detection],
    words: &'a WordList,
}

#[derive(serde::Serialize)]
struct DetectionJson<'a> {
    word: &'a str,
    score: f64,
    objectness: f64,
    box_in_frame: [f64; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<Track<'a>>,
}

#[derive(serde::Serialize)]
struct Track<'a> {
    id: u64,
    word: &'a str,
    score: f64,
}

impl Serialize for Detections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.all.len()))?;
        for found in self.all {
            sequence.serialize_element(&DetectionJson {
                word: self.words.get(found.word),
                score: rounded(found.score.into(), 4),
                objectness: rounded(found.objectness.into(), 4),
                box_in_frame: found.box_in_frame.map(|side| rounded(side.into(), 2)),
                track: found.track.map(|track| Track {
                    id: track.id,
                    word: self.words.get(track.word),
                    score: rounded(track.score.into(), 4),
                }),
            })?;
        }
        sequence.end()
    }
}

/// A frame's results as readers get them, in JSON lines and over HTTP.
pub fn line(record: &Record) -> impl Serialize + '_ {
    Line {
        camera: record.camera.as_deref(),
        source: &record.source,
        frame: record.frame,
        timestamp_ns: record.timestamp_ns,
        age_ms: milliseconds(record.age),
        latency_ms: milliseconds(record.times.latency()),
        detections: Detections { all: &record.detections, words: &record.words },
    }
}

/// An event as readers get it, in JSON lines, MQTT, webhooks and over HTTP.
pub fn event(event: &Event) -> impl Serialize + '_ {
    #[derive(serde::Serialize)]
    struct Json<'a> {
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        camera: Option<&'a str>,
        event: EventKind,
        track: u64,
        word: &'a str,
        score: f64,
        best_score: f64,
        box_in_frame: [f64; 4],
        frame_size: [usize; 2],
        first_seen_ns: u64,
        last_seen_ns: u64,
        timestamp_ns: u64,
        frame: u64,
        source: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        zone: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dwell_s: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        direction: Option<&'a str>,
    }
    let at_zone = match event.at.as_ref().map(|at| &at.spot) {
        Some(Spot::Zone { name, stayed }) => Some((&**name, rounded(stayed.as_secs_f64(), 3))),
        _ => None,
    };
    let at_line = match event.at.as_ref().map(|at| &at.spot) {
        Some(Spot::Line { name, direction }) => Some((&**name, &**direction)),
        _ => None,
    };
    let ((zone, dwell_s), (line, direction)) = (at_zone.unzip(), at_line.unzip());
    Json {
        id: event.id(),
        camera: event.camera.as_deref(),
        event: event.kind,
        track: event.track,
        word: event.word(),
        score: rounded(event.score.into(), 4),
        best_score: rounded(event.best_score.into(), 4),
        box_in_frame: event.box_in_frame.map(|side| rounded(side.into(), 2)),
        frame_size: [event.frame_size.0, event.frame_size.1],
        first_seen_ns: event.first_seen_ns,
        last_seen_ns: event.last_seen_ns,
        timestamp_ns: event.timestamp_ns,
        frame: event.frame,
        source: &event.source,
        zone,
        // How long what has just come was there says nothing.
        dwell_s: dwell_s.filter(|_| event.kind != EventKind::Entered),
        line,
        direction,
    }
}

/// Room for a line with about a hundred things in it.
const LINE_ROOM: usize = 16 << 10;

/// Lines on their way to somewhere that may be full or gone, whole or not at all.
pub(super) struct Lines {
    /// The line at hand.
    text: Vec<u8>,
    /// As much of it as is written, if that is not all: a disk was full in the middle of a line.
    torn_at: Option<usize>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { text: Vec::with_capacity(LINE_ROOM), torn_at: None }
    }
}

impl Lines {
    /// Writes a line and flushes it, so that a reader has it while it is new. The rest of a torn line goes first. Returns
    /// how many bytes were written.
    pub(super) fn write(&mut self, output: &mut dyn Write, line: &impl Serialize) -> io::Result<usize> {
        let before = self.finish_torn(output)?;
        self.text.clear();
        serde_json::to_writer(&mut self.text, line)?;
        self.text.push(b'\n');
        Ok(before + self.write_from(output, 0)?)
    }

    /// Writes what is left of a torn line, if there is one.
    pub(super) fn finish_torn(&mut self, output: &mut dyn Write) -> io::Result<usize> {
        self.write_from(output, self.torn_at.unwrap_or(self.text.len()))
    }

    /// Writes the line at hand from a place on. A line of which nothing is written is given up if it can't be.
    fn write_from(&mut self, output: &mut dyn Write, start: usize) -> io::Result<usize> {
        let mut at = start;
        self.torn_at = None;
        while at < self.text.len() {
            let failed = match output.write(&self.text[at..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    at += written;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.torn_at = Some(at).filter(|at| *at > 0);
            return Err(failed);
        }
        output.flush()?;
        Ok(at - start)
    }

    /// Forgets a torn line: where it was torn is not where the next goes.
    pub(super) fn forget_torn(&mut self) {
        self.torn_at = None;
    }
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 3)
}

/// So many digits behind the point.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk with so many bytes left.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, left) = &mut *self.0.lock().unwrap();
            let fits = bytes.len().min(*left);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend(&bytes[..fits]);
            *left -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_at_a_zone_or_line_says_which_and_its_id_is_its_own() {
        let words: WordList = ["cat".to_owned()].into_iter().collect();
        let made_up = |kind| Event::made_up(kind, 7, words.clone(), 0, 0.9);
        let value = |of: &Event| serde_json::to_value(event(of)).unwrap();
        let stayed = Duration::from_millis(2_500);
        let exited = value(&made_up(EventKind::Exited).at_zone("yard", stayed));
        assert_eq!((&exited["event"], &exited["zone"]), (&"exited".into(), &"yard".into()));
        assert_eq!((exited["dwell_s"].as_f64(), exited.get("line")), (Some(2.5), None));
        let again = value(&made_up(EventKind::Exited).at_zone("yard", stayed));
        assert_ne!(exited["id"], again["id"]);
        let crossed = value(&made_up(EventKind::Crossed).at_line("gate", "in"));
        assert_eq!((&crossed["line"], &crossed["direction"]), (&"gate".into(), &"in".into()));
        let appeared = value(&made_up(EventKind::Appeared));
        assert!(appeared["id"].as_str().unwrap().ends_with("-7-appeared"), "{appeared}");
        assert!(["zone", "dwell_s", "line", "direction"].iter().all(|key| appeared.get(key).is_none()));
        assert_eq!(value(&made_up(EventKind::Entered).at_zone("yard", stayed)).get("dwell_s"), None);
    }

    #[test]
    fn a_line_that_a_full_disk_tore_is_finished_when_there_is_room_and_no_other_is_torn() {
        let disk = Disk::default();
        let (mut lines, mut output) = (Lines::default(), disk.clone());
        let mut write = |frame: u64, left: usize| {
            disk.0.lock().unwrap().1 = left;
            lines.write(&mut output, &line(&Record { frame, ..Record::default() }))
        };
        write(0, 1_000).unwrap();
        assert!(write(1, 30).is_err(), "torn");
        assert!(write(2, 0).is_err());
        assert!(write(3, 10).is_err(), "there is room for a little more of the first");
        write(4, 1_000).unwrap();
        assert!(write(5, 0).is_err(), "nothing of it is written");
        write(6, 1_000).unwrap();
        let text = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
        let frames: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["frame"].as_u64().unwrap())
            .collect();
        assert_eq!(frames, [0, 1, 4, 6]);
    }
}
