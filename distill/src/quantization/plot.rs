//! Draws the report of a quantisation.
//!
//! Each figure has a column and each student a row; a dot is the student's value, the line that of the student in
//! float. Below, where layers were tried one by one, is what each costs alone.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use wordsight_engines::Agreement;

use super::Sensitivity;

/// Width of the picture in pixels; its height follows what is in it.
const WIDTH: i32 = 1080;
/// Around everything.
const MARGIN: i32 = 16;
/// What the names of students and of layers take.
const NAMES: i32 = 150;
/// Between columns.
const GAP: i32 = 26;
/// Of a student's row, and of a layer's.
const ROW: i32 = 30;
const BAR_ROW: i32 = 17;
/// Of a heading.
const HEADING: i32 = 26;
/// The costliest layers that the picture has.
const MOST_BARS: usize = 24;

const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(222, 226, 232);
const GREY: RGBColor = RGBColor(125, 132, 142);
const DOT: RGBColor = RGBColor(31, 107, 182);
const PINNED: RGBColor = RGBColor(205, 92, 40);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A row of the picture; the first is the student in float.
pub struct Student {
    /// Its method.
    pub name: String,
    /// How near it is to the one in float, which has none.
    pub agreement: Option<Agreement>,
    /// Its time in that of the one in float.
    pub relative_time: f64,
    /// AP50 over all words, from 0 to 1.
    pub ap50: Option<f64>,
    /// AP50 over novel words.
    pub novel_ap50: Option<f64>,
}

/// A column of the picture.
struct Figure {
    title: &'static str,
    /// The least width of its axis: differences smaller than a twentieth of it are noise.
    span: f64,
    of: fn(&Student) -> Option<f64>,
    written: fn(f64) -> String,
}

const FIGURES: [Figure; 6] = [
    Figure {
        title: "time of float's",
        span: 0.2,
        of: |s| Some(s.relative_time),
        written: |x| format!("{x:.2}"),
    },
    Figure {
        title: "median cosine",
        span: 0.004,
        of: |s| Some(s.agreement.map_or(1.0, |agreement| agreement.median_cosine.into())),
        written: |x| format!("{x:.4}"),
    },
    Figure {
        title: "lowest tenth",
        span: 0.02,
        of: |s| Some(s.agreement.map_or(1.0, |agreement| agreement.lowest_tenth.into())),
        written: |x| format!("{x:.4}"),
    },
    Figure {
        title: "regions kept, %",
        span: 20.0,
        of: |s| Some(100.0 * s.agreement.map_or(1.0, |agreement| f64::from(agreement.regions_kept))),
        written: |x| format!("{x:.1}"),
    },
    Figure { title: "AP50", span: 4.0, of: |s| Some(100.0 * s.ap50?), written: |x| format!("{x:.1}") },
    Figure {
        title: "AP50, novel words",
        span: 4.0,
        of: |s| Some(100.0 * s.novel_ap50?),
        written: |x| format!("{x:.1}"),
    },
];

/// Draws students against the first, which is in float, and the costliest of the layers that were tried alone.
///
/// # Errors
/// When the file can't be written.
pub fn draw(
    students: &[Student],
    sensitivities: &[Sensitivity],
    pinned: &BTreeSet<String>,
    path: &Path,
) -> Result<()> {
    let mut svg = String::new();
    draw_all(students, sensitivities, pinned, &mut svg)
        .and_then(|()| {
            Ok(wordsight_files::replace(path, wordsight_files::Durability::Whole, svg.as_bytes())?)
        })
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw_all(
    students: &[Student],
    sensitivities: &[Sensitivity],
    pinned: &BTreeSet<String>,
    svg: &mut String,
) -> Outcome {
    let figures: Vec<&Figure> = FIGURES
        .iter()
        .filter(|figure| students.iter().any(|student| (figure.of)(student).is_some()))
        .collect();
    let bars = &sensitivities[..sensitivities.len().min(MOST_BARS)];
    let rows = ROW * students.len() as i32;
    let bars_top = MARGIN + 2 * HEADING + rows + MARGIN;
    let bars_height = if bars.is_empty() { 0 } else { HEADING + BAR_ROW * bars.len() as i32 + MARGIN };
    let root =
        SVGBackend::with_string(svg, (WIDTH as u32, (bars_top + bars_height) as u32)).into_drawing_area();
    root.fill(&WHITE)?;

    let title = "The quantised student against the one in float (line); every axis has its own scale";
    write(&root, title, (MARGIN, MARGIN + 6), 16, &INK, HPos::Left)?;
    let top = MARGIN + 2 * HEADING;
    for (at, student) in students.iter().enumerate() {
        let y = top + ROW * at as i32 + ROW / 2;
        write(&root, &student.name, (MARGIN, y), 14, &INK, HPos::Left)?;
        root.draw(&PathElement::new([(MARGIN + NAMES, y), (WIDTH - MARGIN, y)], FAINT))?;
    }
    let count = figures.len().max(1) as i32;
    let width = (WIDTH - 2 * MARGIN - NAMES - GAP * (count - 1)) / count;
    for (at, figure) in figures.into_iter().enumerate() {
        let left = MARGIN + NAMES + (width + GAP) * at as i32;
        column(&root, figure, students, [left, top, width, rows])?;
    }
    if !bars.is_empty() {
        layers(&root, bars, pinned, bars_top)?;
    }
    root.present()?;
    Ok(())
}

/// One figure of every student, in a box of left, top, width and height.
fn column(root: &Area<'_>, figure: &Figure, students: &[Student], place: [i32; 4]) -> Outcome {
    let [left, top, width, height] = place;
    let values: Vec<Option<f64>> = students.iter().map(figure.of).collect();
    let known = || values.iter().flatten().copied();
    let (low, high) =
        known().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let spread = (high - low).max(figure.span);
    let (from, reach) = (f64::midpoint(low, high) - 0.625 * spread, 1.25 * spread);
    let x_of = |value: f64| left + (f64::from(width) * (value - from) / reach) as i32;

    write(root, figure.title, (left + width / 2, top - 12), 13, &INK, HPos::Center)?;
    // White keeps the rows' lines out of the gaps.
    root.draw(&Rectangle::new([(left - GAP, top), (left - 1, top + height)], WHITE.filled()))?;
    let float = values.first().copied().flatten().map(x_of);
    if let Some(x) = float {
        root.draw(&PathElement::new([(x, top), (x, top + height)], GREY.stroke_width(1)))?;
    }
    for (at, value) in values.into_iter().enumerate() {
        let Some(value) = value else { continue };
        let (x, y) = (x_of(value), top + ROW * at as i32 + ROW / 2);
        let colour = if at == 0 { GREY } else { DOT };
        root.draw(&Circle::new((x, y), 5, colour.filled()))?;
        let written = (figure.written)(value);
        let wide = 7 * written.len() as i32 + 4;
        // On the side where there is room for it, and not over the line.
        let hides_line = float.is_some_and(|line| (x + 1..x + 9 + wide).contains(&line));
        let to_left = x > left + width / 2 || (hides_line && x - 9 - wide > left);
        let (side, anchor) = if to_left { (-9, HPos::Right) } else { (9, HPos::Left) };
        let near = x + side;
        let far = near + if to_left { -wide } else { wide };
        root.draw(&Rectangle::new([(near.min(far), y - 8), (near.max(far), y + 8)], WHITE.filled()))?;
        write(root, &written, (near, y), 13, &colour, anchor)?;
    }
    Ok(())
}

/// What layers cost alone, as bars.
fn layers(root: &Area<'_>, layers: &[Sensitivity], pinned: &BTreeSet<String>, top: i32) -> Outcome {
    let title = "Layers alone in integers, the costliest: mean of 1 - cosine (bar), share of regions lost; orange: pinned to float";
    write(root, title, (MARGIN, top + 6), 16, &INK, HPos::Left)?;
    let left = MARGIN + NAMES;
    // To the right the numbers.
    let width = WIDTH - 2 * MARGIN - NAMES - 150;
    let largest = layers.iter().map(|layer| layer.error).fold(f32::MIN_POSITIVE, f32::max);
    for (at, layer) in layers.iter().enumerate() {
        let y = top + HEADING + BAR_ROW * at as i32;
        let middle = y + BAR_ROW / 2;
        let colour = if pinned.contains(&layer.layer) { PINNED } else { DOT };
        let end = left + ((layer.error / largest).max(0.0) * width as f32) as i32;
        write(root, &layer.layer, (left - 8, middle), 12, &INK, HPos::Right)?;
        root.draw(&Rectangle::new([(left, y + 2), (end.max(left + 1), y + BAR_ROW - 2)], colour.filled()))?;
        let numbers = format!("{:.5}, {:.1}%", layer.error, 100.0 * layer.regions_lost);
        write(root, &numbers, (end + 8, middle), 12, &colour, HPos::Left)?;
    }
    Ok(())
}

/// Text whose place is the middle of its height.
fn write(
    root: &Area<'_>,
    text: &str,
    place: (i32, i32),
    size: i32,
    colour: &RGBColor,
    anchor: HPos,
) -> Outcome {
    let style =
        TextStyle::from(("sans-serif", size).into_font()).color(colour).pos(Pos::new(anchor, VPos::Center));
    root.draw(&Text::new(text.to_owned(), place, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_picture_has_a_row_a_student_and_a_bar_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.svg");
        let student = |name: &str, agreement, relative_time| Student {
            name: name.to_owned(),
            agreement,
            relative_time,
            ap50: Some(0.2),
            novel_ap50: None,
        };
        let moved = Agreement { median_cosine: 0.9988, lowest_tenth: 0.9899, regions_kept: 0.736 };
        let students = [student("float", None, 1.0), student("mse", Some(moved), 0.58)];
        let layer = |name: &str| Sensitivity { layer: name.to_owned(), error: 0.001, regions_lost: 0.25 };
        let pinned = BTreeSet::from(["backbone/Conv_24".to_owned()]);
        draw(&students, &[layer("backbone/Conv_24"), layer("pyramid/Conv_330")], &pinned, &path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        for told in ["float", "mse", "0.9899", "73.6", "0.58", "AP50", "backbone/Conv_24", "25.0%"] {
            assert!(drawn.contains(told), "{told}: {drawn}");
        }
        assert!(!drawn.contains("novel"), "nobody evaluated novel words");
        assert_eq!(drawn.matches("#CD5C28").count(), 2, "the bar of the pinned layer, and its numbers");
    }
}
