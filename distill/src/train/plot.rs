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
    let mut svg = String::new();
    draw_chart(metrics, &mut svg)
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
