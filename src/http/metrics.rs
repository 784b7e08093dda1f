//! Metrics for Prometheus, in its text format 0.0.4
//!
//! In flow snapshots of what is counted, out flows text. Names are as the field has them: base units (seconds, bytes, hertz),
//! `_total` for what only grows, and `process_` for what every program tells.
//!
//! Two outputs or two sensors of a board may have one name, and a series must not be there twice: counters of the same
//! name are summed, and a second sensor gets a number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use wordsight_board::{Process, Readings};

use super::answer::with_type;
use super::board::Taken;
use super::served_stream::ServedStream;
use super::state::AppState;
use crate::health::{HealthReport, SourceState};
use crate::job::Stage;
use crate::publish::{BUCKETS_MS, DurationCounts, OutletStatus, STAGES};

/// Their type.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All numbers.
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    let board = state.board.read().await;
    let listeners = super::state::MOST_LISTENERS - state.listeners.available_permits();
    with_type(StatusCode::OK, MEDIA_TYPE, text(&state.stream, board.as_deref(), listeners))
}

fn text(stream: &ServedStream, board: Option<&Taken>, listeners: usize) -> String {
    let mut text = Text::default();
    text.family("wordsight_build_info", Kind::Gauge, "Which wordsight this is.");
    text.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    frames(&mut text, stream);
    things(&mut text, stream);
    source(&mut text, &stream.health.report());
    text.gauge("wordsight_viewers", "Who has pictures sent.", stream.live.viewers());
    text.gauge("wordsight_event_listeners", "Who is told of events over HTTP.", listeners);
    let pictures = stream.live.metrics().pictures();
    text.counter("wordsight_pictures_total", "Pictures that were drawn and compressed.", pictures);
    outputs(&mut text, stream.live.outlets().iter().map(|outlet| outlet.status()).collect());
    if let Some(Taken { readings, process, .. }) = board {
        of_board(&mut text, readings);
        of_process(&mut text, process);
    }
    text.0
}

fn frames(text: &mut Text, stream: &ServedStream) {
    let metrics = stream.live.metrics();
    let drops = stream.counters.drops(false);
    text.counter("wordsight_frames_total", "Frames that were published.", metrics.frames());
    let name = "wordsight_frames_dropped_total";
    text.family(name, Kind::Counter, "Frames that a newer one pushed out while they waited for a stage.");
    for stage in Stage::ALL.into_iter().skip(1) {
        text.sample("", &[("before", stage.name())], drops.before[stage as usize]);
    }
    let name = "wordsight_camera_missed_frames_total";
    text.counter(name, "Frames that the camera or its driver lost, by their own count.", drops.camera);
    let name = "wordsight_frames_unreadable_total";
    text.counter(name, "Frames that came and could not be read.", drops.unreadable);
    let name = "wordsight_frames_held_back_total";
    text.counter(name, "Frames that were not let in, for the board's sake.", drops.held_back);
    let name = "wordsight_stage_duration_seconds";
    text.family(name, Kind::Histogram, "What each stage took for a frame.");
    for (stage, counts) in STAGES.iter().zip(metrics.stages()) {
        text.histogram(&[("stage", stage)], &counts);
    }
    let name = "wordsight_frame_latency_seconds";
    text.family(name, Kind::Histogram, "What all stages took for a frame, without the waiting.");
    text.histogram(&[], &metrics.latency());
    let name = "wordsight_frame_age_seconds";
    text.family(name, Kind::Histogram, "From a frame's capture until its results were published.");
    text.histogram(&[], &metrics.age());
}

fn things(text: &mut Text, stream: &ServedStream) {
    let metrics = stream.live.metrics();
    let in_use = stream.requests.current();
    text.counter("wordsight_things_total", "Things that were found in frames.", metrics.things());
    text.gauge("wordsight_things_tracked", "Things that are followed now.", metrics.present());
    let (by_word, others) = metrics.appeared_by_word();
    if !by_word.is_empty() {
        let name = "wordsight_things_appeared_total";
        text.family(name, Kind::Counter, "Things that appeared, by word.");
        for (word, number) in &by_word {
            text.sample("", &[("word", word)], number);
        }
    }
    let name = "wordsight_other_things_appeared_total";
    text.counter(name, "Things that appeared, of words beyond the first thousand that did.", others);
    text.gauge("wordsight_vocabulary_words", "Words in use.", in_use.words.len());
    let name = "wordsight_score_threshold_ratio";
    text.gauge(
        name,
        "The score threshold of words without a threshold of their own.",
        in_use.score_threshold,
    );
    let name = "wordsight_as_configured";
    text.gauge(
        name,
        "Whether words and threshold are those of the configuration.",
        u8::from(in_use.is_as_configured),
    );
}

fn source(text: &mut Text, report: &HealthReport) {
    let up = u8::from(report.state == SourceState::Running);
    text.gauge("wordsight_source_up", "Whether frames come.", up);
    text.family("wordsight_source_state", Kind::Gauge, "How the source is: 1 for the state that it is in.");
    let states = [
        ("starting", SourceState::Starting),
        ("running", SourceState::Running),
        ("lost", SourceState::Lost),
        ("ended", SourceState::Ended),
    ];
    for (name, state) in states {
        text.sample("", &[("state", name)], u8::from(report.state == state));
    }
    text.counter("wordsight_source_losses_total", "How often the source was lost.", report.losses);
    text.family("wordsight_reloads_total", Kind::Counter, "Changes that were loaded, by what came of them.");
    text.sample("", &[("outcome", "taken")], report.reload.count);
    text.sample("", &[("outcome", "refused")], report.reload.refused);
    if let Some(governor) = &report.governor {
        let name = "wordsight_held_back_seconds_total";
        text.counter(
            name,
            "For how long the stream was held back, for the board's sake.",
            governor.held_back_s,
        );
        if let Some(limit) = governor.limit_fps {
            let name = "wordsight_frame_rate_limit_hertz";
            text.gauge(name, "Frames a second that are let in; absent while all are.", limit);
        }
    }
}

fn outputs(text: &mut Text, outputs: Vec<OutletStatus>) {
    if outputs.is_empty() {
        return;
    }
    let mut by_name: BTreeMap<String, OutletStatus> = BTreeMap::new();
    for output in outputs {
        by_name
            .entry(output.name.clone())
            .and_modify(|sum| {
                sum.waiting += output.waiting;
                sum.sent += output.sent;
                sum.dropped += output.dropped;
                sum.failures += output.failures;
                sum.trouble = sum.trouble.take().or_else(|| output.trouble.clone());
            })
            .or_insert(output);
    }
    let mut each = |name, kind, help, of: &dyn Fn(&OutletStatus) -> u64| {
        text.family(name, kind, help);
        for output in by_name.values() {
            text.sample("", &[("output", &output.name)], of(output));
        }
    };
    let waiting = |output: &OutletStatus| output.waiting as u64;
    each("wordsight_output_up", Kind::Gauge, "Whether an output works.", &|output| {
        u64::from(output.trouble.is_none())
    });
    each("wordsight_output_waiting_messages", Kind::Gauge, "Messages that wait for an output.", &waiting);
    each("wordsight_output_sent_total", Kind::Counter, "Messages that have arrived.", &|output| output.sent);
    let help = "Messages that were lost, because an output was slow or down.";
    each("wordsight_output_dropped_total", Kind::Counter, help, &|output| output.dropped);
    each("wordsight_output_failures_total", Kind::Counter, "How often an output failed.", &|output| {
        output.failures
    });
}

/// Samples of one family whose labels may come twice: the second is told apart by a number.
#[derive(Default)]
struct Distinct(BTreeSet<String>);

impl Distinct {
    fn name(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        let name = names.find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn of_board(text: &mut Text, readings: &Readings) {
    let mut labelled = |name, kind, help, label: &str, samples: &mut dyn Iterator<Item = (String, f64)>| {
        let mut distinct = Distinct::default();
        let mut samples = samples.peekable();
        if samples.peek().is_some() {
            text.family(name, kind, help);
            samples.for_each(|(value, sample)| text.sample("", &[(label, &distinct.name(&value))], sample));
        }
    };
    let temperatures = &readings.temperatures;
    let mut celsius = temperatures.iter().map(|zone| (zone.zone.to_string(), zone.celsius));
    labelled("wordsight_board_temperature_celsius", Kind::Gauge, "By thermal zone.", "zone", &mut celsius);
    let watts =
        |rail: &wordsight_board::Rail| Some((rail.name.to_string(), f64::from(rail.milliwatts?) / 1e3));
    let mut watts = readings.rails.iter().filter_map(watts);
    labelled("wordsight_board_power_watts", Kind::Gauge, "By power rail.", "rail", &mut watts);
    let mut hertz =
        readings.cpu_mhz.iter().enumerate().map(|(core, mhz)| (core.to_string(), f64::from(*mhz) * 1e6));
    labelled(
        "wordsight_board_cpu_frequency_hertz",
        Kind::Gauge,
        "The clock of each core.",
        "core",
        &mut hertz,
    );
    let fan = |fan: &wordsight_board::Fan| Some((fan.name.to_string(), fan.percent? / 100.0));
    let mut fans = readings.fans.iter().filter_map(fan);
    labelled(
        "wordsight_board_fan_ratio",
        Kind::Gauge,
        "How much a fan is driven, of all it could be.",
        "fan",
        &mut fans,
    );
    let mut alarms =
        readings.over_currents.iter().map(|alarm| (alarm.alarm.to_string(), alarm.events as f64));
    let help = "Events of the board's over-current alarms since it was started.";
    labelled("wordsight_board_over_current_events_total", Kind::Counter, help, "alarm", &mut alarms);

    let mut single = |name, help, value: Option<f64>| {
        value.into_iter().for_each(|value| text.gauge(name, help, value));
    };
    single("wordsight_board_input_power_watts", "What the board takes in all.", readings.watts());
    let hertz = |mhz: u32| f64::from(mhz) * 1e6;
    single("wordsight_board_gpu_frequency_hertz", "The GPU's clock.", readings.gpu_mhz.map(hertz));
    single("wordsight_board_memory_frequency_hertz", "The memory's clock.", readings.memory_mhz.map(hertz));
    let load = readings.gpu_load_percent.map(|percent| percent / 100.0);
    single("wordsight_board_gpu_load_ratio", "How busy the GPU is.", load);
    let help = "Memory that programs could still have.";
    let bytes = readings.memory_available_mib.map(|mib| mib as f64 * 1_048_576.0);
    single("wordsight_board_memory_available_bytes", help, bytes);
    let help = "How many processes wanted to run, averaged over the last minute.";
    single("wordsight_board_load_average", help, readings.load_average);
    let help = "Whether clocks are held down for heat.";
    single("wordsight_board_throttled", help, Some(f64::from(u8::from(readings.is_throttled()))));
}

fn of_process(text: &mut Text, process: &Process) {
    if let Some(time) = process.cpu_time {
        let help = "Processor time of all threads, in the program and in the kernel.";
        text.counter("process_cpu_seconds_total", help, time.as_secs_f64());
    }
    if let Some(mib) = process.resident_mib {
        text.gauge("process_resident_memory_bytes", "Memory that is resident.", mib * 1_048_576.0);
    }
}

/// What a family is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The text, and at its end the family that samples belong to.
#[derive(Default)]
struct Text(String, &'static str);

impl Text {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.1 = name;
        // Writing to a text doesn't fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
    }

    fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Counter, help);
        self.sample("", &[], value);
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample("", &[], value);
    }

    /// One sample of the family; `part` is what its name has more.
    fn sample(&mut self, part: &str, labels: &[(&str, &str)], value: impl Display) {
        let Self(text, name) = self;
        text.push_str(name);
        text.push_str(part);
        for (number, (label, value)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{label}=\"{}\"", if number == 0 { '{' } else { ',' }, Escaped(value));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }

    fn histogram(&mut self, labels: &[(&str, &str)], counts: &DurationCounts) {
        let mut sum = 0;
        let ends = BUCKETS_MS.iter().map(|ms| (ms / 1e3).to_string()).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(counts.buckets) {
            sum += count;
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", end.as_str())]).collect();
            self.sample("_bucket", &labels, sum);
        }
        self.sample("_sum", labels, counts.sum_s);
        self.sample("_count", labels, sum);
    }
}

/// A label's value as the format has it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::fuzz::served_stream;

    #[test]
    fn a_word_may_be_anything_and_stays_one_label() {
        let mut text = Text::default();
        text.family("x", Kind::Gauge, "Help.");
        text.sample("", &[("word", "a \"b\"\\c\nd é"), ("other", "")], 1.5);
        assert_eq!(
            text.0,
            "# HELP x Help.\n# TYPE x gauge\nx{word=\"a \\\"b\\\"\\\\c\\nd é\",other=\"\"} 1.5\n"
        );
    }

    #[test]
    fn a_histogram_counts_all_that_is_shorter_and_ends_with_everything() {
        let mut text = Text::default();
        text.family("x_seconds", Kind::Histogram, "Help.");
        let mut counts = served_stream().live.metrics().age();
        (counts.buckets[0], counts.buckets[14], counts.sum_s) = (2, 1, 3.5);
        text.histogram(&[("stage", "nms")], &counts);
        let has = |line: &str| assert!(text.0.contains(line), "{line} in {}", text.0);
        has("x_seconds_bucket{stage=\"nms\",le=\"0.0005\"} 2\n");
        has("x_seconds_bucket{stage=\"nms\",le=\"1\"} 2\n");
        has("x_seconds_bucket{stage=\"nms\",le=\"+Inf\"} 3\n");
        has("x_seconds_sum{stage=\"nms\"} 3.5\n");
        has("x_seconds_count{stage=\"nms\"} 3\n");
    }

    #[test]
    fn no_series_is_there_twice_whatever_a_board_calls_its_sensors() {
        let folder = tempfile::tempdir().unwrap();
        for board in wordsight_board::fixtures::Board::ALL {
            let root = folder.path().join(format!("{board:?}"));
            board.write(&root).unwrap();
            let mut readings = wordsight_board::Sampler::open(&root).read();
            let again = readings.temperatures.clone();
            again.into_iter().for_each(|zone| drop(readings.temperatures.push(zone)));
            let process = Process::default();
            let taken = Taken { board: None, readings, process, cpu_percent: None };
            let text = text(&served_stream(), Some(&taken), 0);
            let mut seen = BTreeSet::new();
            for line in text.lines() {
                let series = line.rsplit_once(' ').unwrap().0;
                assert!(line.starts_with("# HELP") || seen.insert(series.to_owned()), "{line}");
            }
        }
    }
}
