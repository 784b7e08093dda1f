//! The plot of a report: latency over time, and its histogram beside it.
//!
//! Draws a [`Report`] as an SVG, a PNG or both, as the file's name asks. Both parts share the axis of latency, so that
//! a hump on the right can be found as a stripe on the left, and the percentiles stand at the height of the frames that
//! they are.
//!
//! A few frames a hundred times slower than the rest don't squeeze the rest to a line. They are drawn at the upper
//! edge, and counted there.

mod picture;
mod raster;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use noto_sans_mono_bitmap::RasterHeight;
use wordsight_board::Machine;

use self::picture::{Anchor, Colour, Picture, Point, Shape, Text, letter_width};
use super::report::{Report, Statistics};

const WIDTH: usize = 1600;
const HEIGHT: usize = 900;
/// Of the time axis: left, right.
const TIME: [f64; 2] = [92.0, 1080.0];
/// Of the histogram.
const OFTEN: [f64; 2] = [1100.0, 1340.0];
/// Where the percentiles are written.
const LABELS: f64 = 1376.0;
/// Of both: top, bottom.
const LATENCY: [f64; 2] = [150.0, 790.0];
/// Height of a bar of the histogram.
const BAR: f64 = 4.0;
/// From one label to the next.
const LABEL_STEP: f64 = 20.0;
/// A slowest frame so many times the 99th percentile is beyond the upper edge.
const FAR_OUT: f64 = 1.6;
/// Points of a line of medians.
const MEDIANS: usize = 240;
/// Dots above which those that fall on one pixel are drawn as one.
const MANY_DOTS: usize = 4000;

const INK: Colour = [38, 42, 50];
const GREY: Colour = [118, 125, 135];
const FAINT: Colour = [228, 231, 236];
const DROPPED: Colour = [190, 20, 50];
/// Okabe and Ito's, which people with any kind of colour vision tell apart.
const ORANGE: Colour = [213, 94, 0];
const BLUE: Colour = [0, 114, 178];
const GREEN: Colour = [0, 158, 115];

const SMALL: RasterHeight = RasterHeight::Size16;
const LARGE: RasterHeight = RasterHeight::Size24;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Its name ends otherwise.
    #[error("{} names neither an SVG nor a PNG: write FILE.svg, FILE.png, or FILE for both", .0.display())]
    UnknownKind(PathBuf),
    /// It can't be written.
    #[error("cannot write the picture {}: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// Where a picture goes, known to be of a kind that can be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlotPath(PathBuf);

impl FromStr for PlotPath {
    type Err = PlotError;
    fn from_str(text: &str) -> Result<Self, PlotError> {
        let path = PathBuf::from(text);
        let is_known = match path.extension() {
            Some(extension) => extension == "svg" || extension == "png",
            None => path.file_name().is_some(),
        };
        if is_known { Ok(Self(path)) } else { Err(PlotError::UnknownKind(path)) }
    }
}

impl PlotPath {
    /// The files that it stands for: itself, or without an extension one of each kind.
    pub fn files(&self) -> Vec<PathBuf> {
        match self.0.extension() {
            Some(_) => vec![self.0.clone()],
            None => vec![self.0.with_extension("svg"), self.0.with_extension("png")],
        }
    }
}

/// Draws a report.
///
/// # Errors
/// When a file can't be written.
pub fn draw(report: &Report, path: &PlotPath) -> Result<(), PlotError> {
    let picture = layout(report);
    for path in path.files() {
        let is_svg = path.extension().is_some_and(|extension| extension == "svg");
        let written = crate::files::write_result(&path, |output| {
            if is_svg {
                output.write_all(picture.svg().as_bytes())
            } else {
                raster::write_png(&picture, output)
            }
        });
        written.map_err(|reason| PlotError::Unwritable { path: path.clone(), reason })?;
    }
    Ok(())
}

/// A duration of every frame.
struct Series<'a> {
    name: &'static str,
    colour: Colour,
    microseconds: &'a [u64],
    statistics: &'a Statistics,
}

/// From values to places, and back in words.
struct Axes {
    seconds: f64,
    ms: f64,
}

impl Axes {
    fn x(&self, microseconds: u64) -> f64 {
        TIME[0] + (TIME[1] - TIME[0]) * (microseconds as f64 / 1e6 / self.seconds).min(1.0)
    }

    /// What is beyond the axis is at its end.
    fn y(&self, ms: f64) -> f64 {
        LATENCY[1] - (LATENCY[1] - LATENCY[0]) * (ms / self.ms).min(1.0)
    }
}

fn layout(report: &Report) -> Picture {
    let samples = &report.samples_us;
    let (stages, statistics) = (&samples.stages, &report.stages_ms);
    // From the bottom to the top: the age is above the others, and the most scattered.
    let all = [
        ("age", ORANGE, &stages.age, &statistics.age),
        ("end to end", BLUE, &stages.end_to_end, &statistics.end_to_end),
        ("engine", GREEN, &stages.engine, &statistics.engine),
    ];
    let series: Vec<Series<'_>> = all
        .into_iter()
        .filter(|(.., statistics)| statistics.max > 0.0)
        .map(|(name, colour, microseconds, statistics)| Series { name, colour, microseconds, statistics })
        .collect();
    let largest = |of: fn(&Statistics) -> f64| series.iter().map(|it| of(it.statistics)).fold(0.0, f64::max);
    let (p99, max) = (largest(|it| it.p99), largest(|it| it.max));
    let top = if max > FAR_OUT * p99 { 1.2 * p99 } else { max };
    let last = samples.at.last().map_or(0.0, |at| *at as f64 / 1e6);
    let axes = Axes { seconds: last.max(report.seconds).max(1e-3), ms: (1.06 * top).max(1e-3) };

    let mut shapes = Vec::new();
    write_heading(&mut shapes, report, &series);
    draw_axes(&mut shapes, &axes);
    for it in &series {
        shapes.push(dots(it, &samples.at, &axes));
        draw_histogram(&mut shapes, it, &axes);
    }
    series.iter().for_each(|it| draw_medians(&mut shapes, it, &samples.at, &axes));
    draw_drops(&mut shapes, &samples.drops_at, &axes);
    write_percentiles(&mut shapes, &series, &axes);
    write_outliers(&mut shapes, &series, samples.every, &axes);
    Picture { width: WIDTH, height: HEIGHT, shapes }
}

fn text(at: Point, text: impl Into<String>, size: RasterHeight, colour: Colour, anchor: Anchor) -> Shape {
    Shape::Text(Text { at, text: text.into(), size, colour, anchor })
}

/// As much of a text as there is room for.
fn fitting(text: &str, size: RasterHeight, width: f64) -> String {
    let room = (width / letter_width(size)) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
}

fn write_heading(shapes: &mut Vec<Shape>, report: &Report, series: &[Series<'_>]) {
    let settings = &report.settings;
    let threads = settings.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
    let title = format!("{:.1} frames/s: {}, {}{threads}", report.fps, settings.engine, settings.precision);
    let camera = settings.camera_fps.map_or_else(String::new, |fps| format!(" at {fps} frames/s"));
    let efficiency = (report.bare_engine_fps.zip(report.pipeline_efficiency))
        .map_or_else(String::new, |(bare, part)| {
            format!(" · engine alone {bare:.1} frames/s, the pipeline {part:.3} of it")
        });
    let dropped = report.drops.total();
    let frames = report.frames;
    let subtitle = format!(
        "{}{camera} · {frames} frames in {:.1} s, {dropped} dropped{efficiency}",
        settings.mode, report.seconds
    );
    let room = WIDTH as f64 - 2.0 * 24.0;
    shapes.push(text((24.0, 36.0), fitting(&title, LARGE, room), LARGE, INK, Anchor::Start));
    shapes.push(text((24.0, 68.0), fitting(&subtitle, SMALL, room), SMALL, GREY, Anchor::Start));
    let mut x = TIME[0];
    for it in series {
        shapes.push(Shape::Area([x, 112.0, x + 14.0, 126.0], it.colour, 1.0));
        shapes.push(text((x + 22.0, 119.0), it.name, SMALL, INK, Anchor::Start));
        x += 22.0 + letter_width(SMALL) * (it.name.len() + 3) as f64;
    }
    if !report.samples_us.drops_at.is_empty() {
        shapes.push(Shape::Area([x + 6.0, 112.0, x + 8.0, 126.0], DROPPED, 1.0));
        shapes.push(text((x + 22.0, 119.0), "a frame dropped", SMALL, INK, Anchor::Start));
    }
    let of = format!("{} · {}", footer(&report.machine), settings.source);
    let made = format!("wordsight {}, {}", report.wordsight, report.started_at);
    let room = room - letter_width(SMALL) * (made.len() + 3) as f64;
    let foot = HEIGHT as f64 - 24.0;
    shapes.push(text((24.0, foot), fitting(&of, SMALL, room), SMALL, GREY, Anchor::Start));
    shapes.push(text((WIDTH as f64 - 24.0, foot), made, SMALL, GREY, Anchor::End));
}

fn footer(machine: &Machine) -> String {
    let mode = machine.power_mode.as_ref().map(|mode| format!("power mode {mode}"));
    let cores = machine.cores_allowed.or(machine.cores).map(|cores| format!("{cores} cores"));
    let what = machine.board.clone().or_else(|| machine.cpu.clone());
    let parts: Vec<String> =
        [what, cores].into_iter().flatten().chain(machine.gpus.iter().take(1).cloned()).chain(mode).collect();
    if parts.is_empty() { machine.architecture.clone() } else { parts.join(", ") }
}

fn draw_axes(shapes: &mut Vec<Shape>, axes: &Axes) {
    let [left, right] = TIME;
    let [top, bottom] = LATENCY;
    for ms in ticks(axes.ms, 7) {
        let y = axes.y(ms);
        for [from, to] in [TIME, OFTEN] {
            shapes.push(Shape::Area([from, y - 0.5, to, y + 0.5], FAINT, 1.0));
        }
        shapes.push(text((left - 12.0, y), shown(ms), SMALL, GREY, Anchor::End));
    }
    shapes.push(text((left - 12.0, top - 31.0), "ms", SMALL, GREY, Anchor::End));
    for seconds in ticks(axes.seconds, 10) {
        let x = axes.x((seconds * 1e6) as u64);
        shapes.push(Shape::Area([x - 0.5, bottom, x + 0.5, bottom + 6.0], GREY, 1.0));
        shapes.push(text((x, bottom + 20.0), shown(seconds), SMALL, GREY, Anchor::Middle));
    }
    shapes.push(text(((left + right) / 2.0, bottom + 44.0), "seconds", SMALL, GREY, Anchor::Middle));
    let middle = f64::midpoint(OFTEN[0], OFTEN[1]);
    shapes.push(text((middle, bottom + 20.0), "how often,", SMALL, GREY, Anchor::Middle));
    shapes.push(text((middle, bottom + 44.0), "each to its own peak", SMALL, GREY, Anchor::Middle));
    for [from, to] in [TIME, OFTEN] {
        shapes.push(Shape::Area([from, bottom - 0.5, to, bottom + 1.0], GREY, 1.0));
    }
}

/// Round numbers from 0 to an end, at most so many and one.
fn ticks(end: f64, most: usize) -> Vec<f64> {
    let least = end / most as f64;
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least);
    let step = step.unwrap_or(10.0 * power);
    (0..=most).map(|at| at as f64 * step).take_while(|value| *value <= end).collect()
}

/// A round number, without the noise of its making.
fn shown(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

fn dots(series: &Series<'_>, at: &[u64], axes: &Axes) -> Shape {
    let places = at.iter().zip(series.microseconds);
    let mut points: Vec<Point> =
        places.map(|(at, microseconds)| (axes.x(*at), axes.y(*microseconds as f64 / 1e3))).collect();
    let is_many = points.len() > MANY_DOTS;
    if is_many {
        let pixels: BTreeSet<(i64, i64)> =
            points.iter().map(|(x, y)| (x.floor() as i64, y.floor() as i64)).collect();
        points = pixels.into_iter().map(|(x, y)| (x as f64 + 0.5, y as f64 + 0.5)).collect();
    }
    let (radius, opacity) = if is_many { (1.0, 0.3) } else { (1.8, 0.35) };
    Shape::Dots(points, radius, series.colour, opacity)
}

fn draw_histogram(shapes: &mut Vec<Shape>, series: &Series<'_>, axes: &Axes) {
    let [top, bottom] = LATENCY;
    let mut counts = vec![0_u32; ((bottom - top) / BAR) as usize];
    for microseconds in series.microseconds {
        let bar = ((bottom - axes.y(*microseconds as f64 / 1e3)) / BAR) as usize;
        // What is beyond the axis is counted there in words.
        if let Some(count) = counts.get_mut(bar) {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    for (bar, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let width = 0.96 * (OFTEN[1] - OFTEN[0]) * f64::from(count) / f64::from(most);
        let y = bottom - BAR * bar as f64;
        shapes.push(Shape::Area([OFTEN[0], y - BAR, OFTEN[0] + width, y], series.colour, 0.5));
    }
}

/// The median around each of many moments.
fn draw_medians(shapes: &mut Vec<Shape>, series: &Series<'_>, at: &[u64], axes: &Axes) {
    let end = axes.seconds * 1e6;
    let reach = end / MEDIANS as f64;
    let mut points = Vec::new();
    for moment in 0..=MEDIANS {
        let middle = end * moment as f64 / MEDIANS as f64;
        let first = at.partition_point(|at| (*at as f64) < middle - 1.5 * reach);
        let last = at.partition_point(|at| (*at as f64) <= middle + 1.5 * reach);
        let mut near = series.microseconds.get(first..last).unwrap_or_default().to_vec();
        near.sort_unstable();
        if let Some(median) = near.get(near.len() / 2) {
            points.push((axes.x(middle as u64), axes.y(*median as f64 / 1e3)));
        }
    }
    // White beneath keeps a line apart from its dots.
    shapes.push(Shape::Line(points.clone(), 4.5, [255; 3]));
    shapes.push(Shape::Line(points, 2.2, series.colour));
}

fn draw_drops(shapes: &mut Vec<Shape>, drops_at: &[u64], axes: &Axes) {
    let places: BTreeSet<i64> = drops_at.iter().map(|at| axes.x(*at).round() as i64).collect();
    let bottom = LATENCY[1];
    let mark = |x: i64| Shape::Area([x as f64 - 1.0, bottom - 14.0, x as f64 + 1.0, bottom], DROPPED, 0.8);
    shapes.extend(places.into_iter().map(mark));
}

/// Median, p95 and p99 of all, each at its height or as near as there is room.
fn write_percentiles(shapes: &mut Vec<Shape>, series: &[Series<'_>], axes: &Axes) {
    let mut marks: Vec<(f64, f64, Colour, String)> = Vec::new();
    for it in series {
        let of = it.statistics;
        for (percentile, ms, length) in
            [("median", of.median, 46.0), ("p95", of.p95, 28.0), ("p99", of.p99, 14.0)]
        {
            marks.push((axes.y(ms), length, it.colour, format!("{} {percentile} {}", it.name, digits(ms))));
        }
    }
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let heights: Vec<f64> = marks.iter().map(|mark| mark.0).collect();
    let spread = spread(&heights, LABEL_STEP, [LATENCY[0], LATENCY[1]]);
    let right = OFTEN[1];
    for ((y, length, colour, label), label_y) in marks.into_iter().zip(spread) {
        shapes.push(Shape::Area([right - length, y - 1.0, right, y + 1.0], colour, 1.0));
        shapes.push(Shape::Line(vec![(right, y), (LABELS - 6.0, label_y)], 1.0, colour));
        shapes.push(text((LABELS, label_y), label, SMALL, colour, Anchor::Start));
    }
}

fn digits(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

/// Places for labels, at least `step` apart, between bounds, and altogether as near as can be (in the least squares)
/// to where they want to be, which is in rising order: neighbours that are too near move apart around their mean
/// (pool adjacent violators).
fn spread(wanted: &[f64], step: f64, [top, bottom]: [f64; 2]) -> Vec<f64> {
    // Without the steps the places only have to rise.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        let mut pool = (wanted - step * at as f64, 1);
        while let Some(&(sum, count)) = pools.last()
            && sum / count as f64 >= pool.0 / pool.1 as f64
        {
            pool = (pool.0 + sum, pool.1 + count);
            pools.pop();
        }
        pools.push(pool);
    }
    let lowest = (bottom - step * wanted.len().saturating_sub(1) as f64).max(top);
    let places = pools.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    places.enumerate().map(|(at, place)| place.clamp(top, lowest) + step * at as f64).collect()
}

/// Says how many frames are beyond the upper edge.
fn write_outliers(shapes: &mut Vec<Shape>, series: &[Series<'_>], every: u64, axes: &Axes) {
    let beyond =
        |it: &Series<'_>| it.microseconds.iter().filter(|x| **x as f64 / 1e3 > axes.ms).count() as u64;
    let most = series.iter().map(beyond).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    let slowest = series.iter().map(|it| it.statistics.max).fold(0.0, f64::max);
    let about = if every > 1 { "about " } else { "" };
    let frames = if most * every == 1 { "frame" } else { "frames" };
    let told = format!("{about}{} {frames} beyond, up to {} ms", most * every, digits(slowest));
    shapes.push(text((TIME[1], LATENCY[0] - 31.0), told, SMALL, INK, Anchor::End));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn a_name_without_an_ending_asks_for_both_kinds_and_another_ending_for_none() {
        let files = |name: &str| name.parse::<PlotPath>().map(|path| path.files());
        assert_eq!(files("out/a.svg").unwrap(), [Path::new("out/a.svg")]);
        assert_eq!(files("a.png").unwrap(), [Path::new("a.png")]);
        assert_eq!(files("a").unwrap(), [Path::new("a.svg"), Path::new("a.png")]);
        for wrong in ["a.pdf", "a.SVGZ", "..", ""] {
            let error = files(wrong).unwrap_err().to_string();
            assert!(error.contains("FILE.svg, FILE.png, or FILE for both"), "{error}");
        }
    }

    #[test]
    fn both_kinds_are_drawn_and_tell_the_rate_and_the_percentiles() {
        let folder = tempfile::tempdir().unwrap();
        let path: PlotPath = folder.path().join("plot").to_str().unwrap().parse().unwrap();
        draw(&report(), &path).unwrap();
        let [svg, png] = path.files().try_into().unwrap();
        let svg = std::fs::read_to_string(svg).unwrap();
        for told in
            ["100.0 frames/s: TensorRT, INT8", "engine median 5.00", "end to end p95 11.50", "age p99 20.40"]
        {
            assert!(svg.contains(told), "{told}");
        }
        let png = image::open(png).unwrap().into_rgb8();
        assert_eq!(png.dimensions(), (WIDTH as u32, HEIGHT as u32));
        for colour in [ORANGE, BLUE, GREEN, DROPPED] {
            assert!(png.pixels().any(|pixel| pixel.0 == colour) || colour == DROPPED, "{colour:?}");
        }
    }

    #[test]
    fn a_frame_far_out_is_counted_and_does_not_squeeze_the_rest() {
        let mut report = report();
        report.samples_us.stages.age[500] = 900_000;
        report.stages_ms.age.max = 900.0;
        let svg = layout(&report).svg();
        assert!(svg.contains("1 frame beyond, up to 900 ms"), "{svg}");
        assert!(svg.contains(">20</text>") && !svg.contains(">500</text>"), "the axis ends near 25 ms");
    }

    #[test]
    fn a_report_without_frames_is_drawn_empty() {
        let mut report = report();
        report.samples_us = Default::default();
        report.stages_ms = Default::default();
        report.seconds = 0.0;
        assert!(layout(&report).svg().contains("frames/s"));
    }

    #[test]
    fn many_frames_make_no_large_file() {
        let mut report = report();
        let columns = &mut report.samples_us;
        columns.at = (0..20_000).map(|frame| frame * 500).collect();
        columns.stages.age = vec![20_000; 20_000];
        columns.stages.engine = vec![5000; 20_000];
        columns.stages.end_to_end = vec![6000; 20_000];
        assert!(layout(&report).svg().len() < 300_000);
    }

    #[test]
    fn ticks_are_round_numbers_up_to_the_end() {
        assert_eq!(ticks(10.0, 10), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!(ticks(13.2, 7), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(
            ticks(0.034, 7).into_iter().map(shown).collect::<Vec<_>>(),
            ["0", "0.005", "0.01", "0.015", "0.02", "0.025", "0.03"]
        );
    }

    #[test]
    fn labels_move_apart_around_where_they_want_to_be() {
        assert_eq!(spread(&[10.0, 50.0], 20.0, [0.0, 100.0]), [10.0, 50.0]);
        assert_eq!(spread(&[40.0, 40.0, 40.0], 20.0, [0.0, 100.0]), [20.0, 40.0, 60.0]);
        assert_eq!(spread(&[95.0, 99.0], 20.0, [0.0, 100.0]), [80.0, 100.0]);
        assert_eq!(spread(&[0.0, 1.0], 20.0, [0.0, 100.0]), [0.0, 20.0]);
        assert!(spread(&[], 20.0, [0.0, 100.0]).is_empty());
    }
}
