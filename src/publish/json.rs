//! One frame as one line of JSON.
//!
//! Scores are rounded to four digits and boxes to hundredths of a pixel: more would be noise, and
//! a line is read by people too.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::pipeline::Job;
use crate::scoring::Words;

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    frame: u64,
    timestamp_ns: u64,
    age_ms: f64,
    latency_ms: f64,
    detections: Vec<Detection<'a>>,
}

#[derive(Serialize)]
struct Detection<'a> {
    word: &'a str,
    score: f64,
    objectness: f64,
    box_in_frame: [f64; 4],
}

/// Writes a job's line and flushes it, so that a reader has it while it is new.
pub(super) fn write_line(output: &mut dyn Write, job: &Job, age: Duration, words: &Words) -> io::Result<()> {
    let detections = job.found.iter().map(|found| Detection {
        word: words.get(found.word),
        score: rounded(found.score.into(), 4),
        objectness: rounded(found.objectness.into(), 4),
        box_in_frame: found.box_in_frame.map(|side| rounded(side.into(), 2)),
    });
    let line = Line {
        source: &job.frame.source,
        frame: job.number,
        timestamp_ns: job.frame.timestamp_ns,
        age_ms: milliseconds(age),
        latency_ms: milliseconds(job.latency),
        detections: detections.collect(),
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    output.write_all(&text)?;
    output.flush()
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 3)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
