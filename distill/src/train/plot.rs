//! Draws the course of a training.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use wordsight_files::Durability;

use super::Metrics;

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (960, 540);

/// Draws the losses, each relative to its first value, and the validation's recall as SVG.
pub fn draw(metrics: &[Metrics], path: &Path) -> Result<()> {
    write(path, |svg| draw_chart(metrics, svg))
}

/// Writes what is drawn to a file.
fn write(
    path: &Path,
    draw: impl FnOnce(&mut String) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg)
        .and_then(|()| Ok(wordsight_files::replace(path, Durability::Whole, svg.as_bytes())?))
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw_chart(metrics: &[Metrics], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let Some((first, last)) = metrics.first().zip(metrics.last()) else { return Ok(()) };
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Training: losses relative to the start, recall of validation objects", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0..last.step.max(1), 0.0..1.3_f32)?;
    chart.configure_mesh().x_desc("step").y_desc("relative loss; recall").draw()?;

    type Series = (&'static str, RGBColor, fn(&Metrics) -> Option<f32>);
    let losses: [Series; 5] = [
        ("objectness", BLUE, |m| Some(m.objectness)),
        ("boxes", RED, |m| Some(m.boxes)),
        ("refined boxes", CYAN, |m| Some(m.refined)),
        ("text", GREEN, |m| Some(m.text)),
        ("image", MAGENTA, |m| Some(m.image)),
    ];
    for (name, colour, of) in losses {
        let start = of(first).unwrap_or(1.0).max(1e-6);
        if metrics.iter().all(|m| of(m) == Some(0.0)) {
            continue;
        }
        let points = metrics.iter().filter_map(|m| Some((m.step, of(m)? / start)));
        chart
            .draw_series(LineSeries::new(points, &colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    let recall = metrics.iter().filter_map(|m| Some((m.step, m.recall_of_ten?)));
    chart
        .draw_series(LineSeries::new(recall, BLACK.stroke_width(2)))?
        .label("recall by 10 proposals, IoU 0.5")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.stroke_width(2)));
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE.mix(0.8)).draw()?;
    root.present()?;
    Ok(())
}

/// A training among others in one picture.
pub struct Curve {
    /// What it is called there.
    pub name: String,
    /// Its validated lines of metrics, in order.
    pub points: Vec<Metrics>,
}

/// Draws what trainings' validations said over the processor time that their steps had taken, as SVG: AR@100 of
/// proposals in full lines, objects named rightly in thin ones.
///
/// # Errors
/// When the picture can't be written.
pub fn draw_curves(curves: &[Curve], path: &Path) -> Result<()> {
    write(path, |svg| draw_curves_chart(curves, svg))
}

fn draw_curves_chart(curves: &[Curve], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let minutes = |point: &Metrics| point.processor_seconds / 60.0;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let longest = points().map(minutes).fold(1e-3, f64::max);
    let highest =
        points().flat_map(|point| [point.average_recall, point.named]).flatten().fold(0.1, f32::max);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Validation over processor time", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..longest * 1.02, 0.0..highest * 1.1)?;
    chart.configure_mesh().x_desc("processor time of the steps, minutes").y_desc("share").draw()?;
    for (place, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(place).to_rgba();
        for (measure, width) in [("AR@100", 3), ("named", 1)] {
            let of = |point: &Metrics| if measure == "named" { point.named } else { point.average_recall };
            let line = curve.points.iter().filter_map(|point| Some((minutes(point), of(point)?)));
            let style = colour.stroke_width(width);
            chart
                .draw_series(LineSeries::new(line, style))?
                .label(format!("{}: {measure}", curve.name))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}
