//! One frame as one line of JSON.
//!
//! Scores are rounded to four digits and boxes to hundredths of a pixel: more would be noise, and
//! a line is read by people too.

use std::io;
use std::time::Duration;

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::Output;
use crate::pipeline::Job;
use crate::scoring::{Found, Words};

#[derive(serde::Serialize)]
struct Line<'a> {
    source: &'a str,
    frame: u64,
    timestamp_ns: u64,
    age_ms: f64,
    latency_ms: f64,
    detections: Detections<'a>,
}

/// Written one by one, so that a line allocates nothing.
struct Detections<'a> {
    found: &'a [Found],
    words: &'a Words,
}

#[derive(serde::Serialize)]
struct Detection<'a> {
    word: &'a str,
    score: f64,
    objectness: f64,
    box_in_frame: [f64; 4],
}

impl Serialize for Detections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.found.len()))?;
        for found in self.found {
            sequence.serialize_element(&Detection {
                word: self.words.get(found.word),
                score: rounded(found.score.into(), 4),
                objectness: rounded(found.objectness.into(), 4),
                box_in_frame: found.box_in_frame.map(|side| rounded(side.into(), 2)),
            })?;
        }
        sequence.end()
    }
}

/// Room for a line with about a hundred things in it.
const LINE_ROOM: usize = 16 << 10;

/// Where lines go.
pub(super) struct JsonLines {
    output: Output,
    /// The line at hand.
    text: Vec<u8>,
}

impl JsonLines {
    pub(super) fn new(output: Output) -> Self {
        Self { output, text: Vec::with_capacity(LINE_ROOM) }
    }

    /// Writes a job's line and flushes it, so that a reader has it while it is new.
    pub(super) fn write(&mut self, job: &Job, age: Duration, words: &Words) -> io::Result<()> {
        let line = Line {
            source: &job.frame.source,
            frame: job.number,
            timestamp_ns: job.frame.timestamp_ns,
            age_ms: milliseconds(age),
            latency_ms: milliseconds(job.times.latency()),
            detections: Detections { found: &job.found, words },
        };
        self.text.clear();
        serde_json::to_writer(&mut self.text, &line)?;
        self.text.push(b'\n');
        self.output.write_all(&self.text)?;
        self.output.flush()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 3)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
