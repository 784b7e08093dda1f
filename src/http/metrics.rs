//! Metrics for Prometheus, in its text format 0.0.4.
//!
//! Writes snapshots of what is counted as text. Names are as the field has them: base units (seconds, bytes, hertz),
//! `_total` for what only grows, and `process_` for what every program tells.
//!
//! Two outputs or two sensors of a board may have one name, and a series must not be there twice: counters of the same
//! name are summed, and a second sensor gets a number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::Arc;

use wordsight_board::{Process, Readings};

use super::board::Taken;
use super::served_stream::ServedStream;
use crate::health::SourceState;
use crate::job::{Stage, ZoneCount, Zones};
use crate::publish::{BUCKETS_MS, DurationCounts, OutletStatus, STAGES};

/// Their type.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All numbers; those of a stream with its camera's name, where there are several.
pub(super) fn text(streams: &[&ServedStream], board: Option<&Taken>, listeners: usize) -> String {
    let mut text = Text::default();
    text.family("wordsight_build_info", Kind::Gauge, "Which wordsight this is.");
    text.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    frames(&mut text, streams);
    things(&mut text, streams);
    let zones = |stream: &&ServedStream| Some((stream.camera.clone(), stream.live.zones()?));
    at_zones(&mut text, &streams.iter().filter_map(zones).collect::<Vec<_>>());
    source(&mut text, streams);
    text.gauges(streams, "wordsight_viewers", "Who has pictures sent.", |stream| stream.live.viewers());
    text.gauge("wordsight_event_listeners", "Who is told of events over HTTP.", listeners);
    let help = "Pictures that were drawn and compressed.";
    text.counters(streams, "wordsight_pictures_total", help, |stream| stream.live.metrics().pictures());
    outputs(&mut text, streams);
    if let Some(Taken { readings, process, .. }) = board {
        of_board(&mut text, readings);
        of_process(&mut text, process);
    }
    text.text
}

fn frames(text: &mut Text, streams: &[&ServedStream]) {
    let drops = |stream: &ServedStream| stream.counters.drops(false);
    let help = "Frames that were published.";
    text.counters(streams, "wordsight_frames_total", help, |stream| stream.live.metrics().frames());
    let name = "wordsight_frames_dropped_total";
    text.family(name, Kind::Counter, "Frames that a newer one pushed out while they waited for a stage.");
    text.each(streams, |text, stream| {
        for stage in Stage::ALL.into_iter().skip(1) {
            text.sample("", &[("before", stage.name())], drops(stream).before[stage as usize]);
        }
    });
    let name = "wordsight_camera_missed_frames_total";
    let help = "Frames that the camera or its driver lost, by their own count.";
    text.counters(streams, name, help, |stream| drops(stream).camera);
    let name = "wordsight_frames_unreadable_total";
    text.counters(streams, name, "Frames that came and could not be read.", |stream| {
        drops(stream).unreadable
    });
    let name = "wordsight_frames_held_back_total";
    let help = "Frames that were not let in, for the board's sake or because of `max_fps`.";
    text.counters(streams, name, help, |stream| drops(stream).held_back);
    let name = "wordsight_stage_duration_seconds";
    text.family(name, Kind::Histogram, "What each stage took for a frame.");
    text.each(streams, |text, stream| {
        for (stage, counts) in STAGES.iter().zip(stream.live.metrics().stages()) {
            text.histogram(&[("stage", stage)], &counts);
        }
    });
    let name = "wordsight_frame_latency_seconds";
    text.family(name, Kind::Histogram, "What all stages took for a frame, without the waiting.");
    text.each(streams, |text, stream| text.histogram(&[], &stream.live.metrics().latency()));
    let name = "wordsight_frame_age_seconds";
    text.family(name, Kind::Histogram, "From a frame's capture until its results were published.");
    text.each(streams, |text, stream| text.histogram(&[], &stream.live.metrics().age()));
}

fn things(text: &mut Text, streams: &[&ServedStream]) {
    let help = "Things that were found in frames.";
    text.counters(streams, "wordsight_things_total", help, |stream| stream.live.metrics().things());
    let help = "Things that are followed now.";
    text.gauges(streams, "wordsight_things_tracked", help, |stream| stream.live.metrics().present());
    let by_word = |stream: &ServedStream| stream.live.metrics().appeared_by_word();
    if streams.iter().any(|stream| !by_word(stream).0.is_empty()) {
        let name = "wordsight_things_appeared_total";
        text.family(name, Kind::Counter, "Things that appeared, by word.");
        text.each(streams, |text, stream| {
            for (word, number) in &by_word(stream).0 {
                text.sample("", &[("word", word)], number);
            }
        });
    }
    let name = "wordsight_other_things_appeared_total";
    let help = "Things that appeared, of words beyond the first thousand that did.";
    text.counters(streams, name, help, |stream| by_word(stream).1);
    let in_use = |stream: &ServedStream| stream.requests.current();
    text.gauges(streams, "wordsight_vocabulary_words", "Words in use.", |stream| in_use(stream).words.len());
    let name = "wordsight_score_threshold_ratio";
    let help = "The score threshold of words without a threshold of their own.";
    text.gauges(streams, name, help, |stream| in_use(stream).score_threshold);
    let name = "wordsight_as_configured";
    let help = "Whether words and threshold are those of the configuration.";
    text.gauges(streams, name, help, |stream| u8::from(in_use(stream).is_as_configured));
}

/// What is counted at the zones and lines of each stream that has some, with its camera's name.
fn at_zones(text: &mut Text, of: &[(Option<String>, Arc<Zones>)]) {
    let mut each = |name, kind, help, samples: &dyn Fn(&mut Text, &Zones)| {
        text.family(name, kind, help);
        for (camera, zones) in of {
            text.camera.clone_from(camera);
            samples(text, zones);
        }
        text.camera = None;
    };
    if of.iter().any(|(_, zones)| !zones.zones.is_empty()) {
        each("wordsight_zone_things", Kind::Gauge, "Things that are in a zone now.", &|text, zones| {
            of_zones(text, zones, |count| count.now.into());
        });
        let help = "Things that have entered a zone.";
        each("wordsight_zone_entries_total", Kind::Counter, help, &|text, zones| {
            of_zones(text, zones, |count| count.entered.total);
        });
    }
    if of.iter().any(|(_, zones)| !zones.lines.is_empty()) {
        let help = "Things that have crossed a line.";
        each("wordsight_line_crossings_total", Kind::Counter, help, &|text, zones| {
            for (line, sides) in zones.lines.iter().zip(&zones.counts().lines) {
                for (direction, words) in line.directions.iter().zip(sides) {
                    for (word, count) in words {
                        let labels = [("line", &*line.name), ("direction", direction), ("word", word)];
                        text.sample("", &labels, count.total);
                    }
                }
            }
        });
    }
}

fn of_zones(text: &mut Text, zones: &Zones, number: impl Fn(&ZoneCount) -> u64) {
    for (zone, words) in zones.zones.iter().zip(&zones.counts().zones) {
        for (word, count) in words {
            text.sample("", &[("zone", &zone.name), ("word", word)], number(count));
        }
    }
}

fn source(text: &mut Text, streams: &[&ServedStream]) {
    let state = |stream: &ServedStream| stream.health.report().state;
    text.gauges(streams, "wordsight_source_up", "Whether frames come.", |stream| {
        u8::from(state(stream) == SourceState::Running)
    });
    text.family("wordsight_source_state", Kind::Gauge, "How the source is: 1 for the state that it is in.");
    let states = [
        ("starting", SourceState::Starting),
        ("running", SourceState::Running),
        ("lost", SourceState::Lost),
        ("ended", SourceState::Ended),
    ];
    text.each(streams, |text, stream| {
        for (name, of) in states {
            text.sample("", &[("state", name)], u8::from(state(stream) == of));
        }
    });
    let help = "How often the source was lost.";
    text.counters(streams, "wordsight_source_losses_total", help, |stream| stream.health.report().losses);
    text.family("wordsight_reloads_total", Kind::Counter, "Changes that were loaded, by what came of them.");
    text.each(streams, |text, stream| {
        let reload = stream.health.report().reload;
        text.sample("", &[("outcome", "taken")], reload.count);
        text.sample("", &[("outcome", "refused")], reload.refused);
    });
    governed(text, streams);
}

fn governed(text: &mut Text, streams: &[&ServedStream]) {
    let governor = |stream: &&ServedStream| stream.health.report().governor;
    let governed: Vec<&ServedStream> =
        streams.iter().copied().filter(|stream| governor(stream).is_some()).collect();
    if governed.is_empty() {
        return;
    }
    let name = "wordsight_held_back_seconds_total";
    let help = "For how long the stream was held back, for the board's sake.";
    text.counters(&governed, name, help, |stream| {
        governor(&stream).map_or(0.0, |governor| governor.held_back_s)
    });
    let limit = |stream: &ServedStream| governor(&stream)?.limit_fps;
    let limited: Vec<&ServedStream> = governed.into_iter().filter(|stream| limit(stream).is_some()).collect();
    if !limited.is_empty() {
        let name = "wordsight_frame_rate_limit_hertz";
        let help = "Frames a second that are let in; absent while all are.";
        text.gauges(&limited, name, help, |stream| limit(stream).unwrap_or_default());
    }
}

/// A stream's outputs by their names; counters of those with the same name are summed.
fn by_name(stream: &ServedStream) -> BTreeMap<String, OutletStatus> {
    let mut by_name: BTreeMap<String, OutletStatus> = BTreeMap::new();
    for output in stream.live.outlets().iter().map(|outlet| outlet.status()) {
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
    by_name
}

fn outputs(text: &mut Text, streams: &[&ServedStream]) {
    let outputs: Vec<BTreeMap<String, OutletStatus>> = streams.iter().map(|stream| by_name(stream)).collect();
    if outputs.iter().all(BTreeMap::is_empty) {
        return;
    }
    let mut each = |name, kind, help, of: &dyn Fn(&OutletStatus) -> u64| {
        text.family(name, kind, help);
        for (stream, outputs) in streams.iter().zip(&outputs) {
            text.camera.clone_from(&stream.camera);
            for output in outputs.values() {
                text.sample("", &[("output", &output.name)], of(output));
            }
        }
        text.camera = None;
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
struct Text {
    text: String,
    family: &'static str,
    /// What is put to every sample as its label `camera`.
    camera: Option<String>,
}

impl Text {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        // Writing to a text doesn't fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
    }

    /// Samples of each stream, of the family that was begun.
    fn each(&mut self, streams: &[&ServedStream], samples: impl Fn(&mut Self, &ServedStream)) {
        for stream in streams {
            self.camera.clone_from(&stream.camera);
            samples(self, stream);
        }
        self.camera = None;
    }

    fn of_each<T: Display>(
        &mut self,
        streams: &[&ServedStream],
        (name, kind, help): (&'static str, Kind, &str),
        value: impl Fn(&ServedStream) -> T,
    ) {
        self.family(name, kind, help);
        self.each(streams, |text, stream| text.sample("", &[], value(stream)));
    }

    fn counters<T: Display>(
        &mut self,
        streams: &[&ServedStream],
        name: &'static str,
        help: &str,
        value: impl Fn(&ServedStream) -> T,
    ) {
        self.of_each(streams, (name, Kind::Counter, help), value);
    }

    fn gauges<T: Display>(
        &mut self,
        streams: &[&ServedStream],
        name: &'static str,
        help: &str,
        value: impl Fn(&ServedStream) -> T,
    ) {
        self.of_each(streams, (name, Kind::Gauge, help), value);
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
        let Self { text, family, camera } = self;
        text.push_str(family);
        text.push_str(part);
        let camera = camera.as_deref().map(|camera| ("camera", camera));
        for (number, (label, value)) in camera.iter().chain(labels).enumerate() {
            let _ = write!(text, "{}{label}=\"{}\"", if number == 0 { '{' } else { ',' }, Escaped(value));
        }
        if camera.is_some() || !labels.is_empty() {
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
            text.text,
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
        let has = |line: &str| assert!(text.text.contains(line), "{line} in {}", text.text);
        has("x_seconds_bucket{stage=\"nms\",le=\"0.0005\"} 2\n");
        has("x_seconds_bucket{stage=\"nms\",le=\"1\"} 2\n");
        has("x_seconds_bucket{stage=\"nms\",le=\"+Inf\"} 3\n");
        has("x_seconds_sum{stage=\"nms\"} 3.5\n");
        has("x_seconds_count{stage=\"nms\"} 3\n");
    }

    #[test]
    fn what_there_is_of_several_cameras_has_their_names_and_each_family_stands_there_once() {
        let of = |name: &str| ServedStream { camera: Some(name.to_owned()), ..served_stream() };
        let (door, yard) = (of("front \"door\""), of("yard"));
        let text = text(&[&door, &yard], None, 0);
        assert!(text.contains("wordsight_frames_total{camera=\"front \\\"door\\\"\"} 0\n"), "{text}");
        assert!(
            text.contains("wordsight_frames_dropped_total{camera=\"yard\",before=\"engine\"} 0\n"),
            "{text}"
        );
        let mut families = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            assert!(families.insert(line), "{line} twice");
        }
        assert!(text.contains("wordsight_event_listeners 0\n"), "what is the device's has no camera");
    }

    #[test]
    fn zones_and_lines_are_told_by_word() {
        let zones = Zones::made_up();
        zones.entered(0, "cat", 0);
        zones.entered(0, "cat", 0);
        zones.exited(0, "cat");
        zones.crossed(0, false, "dog", 0);
        let mut text = Text::default();
        at_zones(&mut text, &[(Some("door".to_owned()), Arc::new(zones))]);
        for line in [
            "wordsight_zone_things{camera=\"door\",zone=\"yard\",word=\"cat\"} 1\n",
            "wordsight_zone_entries_total{camera=\"door\",zone=\"yard\",word=\"cat\"} 2\n",
            "wordsight_line_crossings_total{camera=\"door\",line=\"gate\",direction=\"out\",word=\"dog\"} 1\n",
        ] {
            assert!(text.text.contains(line), "{line} in {}", text.text);
        }
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
            let text = text(&[&served_stream()], Some(&taken), 0);
            let mut seen = BTreeSet::new();
            for line in text.lines() {
                let series = line.rsplit_once(' ').unwrap().0;
                assert!(line.starts_with("# HELP") || seen.insert(series.to_owned()), "{line}");
            }
        }
    }
}
