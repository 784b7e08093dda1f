//! `wordsight-distill learning-curves`: several trainings side by side, over the time that they took.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use wordsight_distill::eval::tables::{aligned, percent};
use wordsight_distill::train::{Checkpoint, Curve, Metrics, draw_curves};

use super::report::write_json;

/// Arguments of `learning-curves`.
#[derive(Args)]
pub struct Arguments {
    /// Folders that `train --validation` wrote; each is named by its last part.
    #[arg(required = true)]
    trainings: Vec<PathBuf>,
    /// Draw them as SVG: recall and naming over processor time.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Prints what the trainings' validations said, and when.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { trainings, plot, json } = arguments;
    super::check_report(&super::inputs(trainings.iter().map(Some)), json.as_ref(), plot.as_ref())?;
    let curves = trainings.iter().map(|folder| open(folder)).collect::<Result<Vec<_>>>()?;
    let mut lines = vec![
        ["training", "step", "minutes", "of processor", "images/s", "AR@100", "by ten", "named"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for curve in &curves {
        lines.extend(curve.points.iter().map(|point| line(&curve.name, point)));
    }
    print!("{}", aligned(&lines));
    if let Some(plot) = plot {
        draw_curves(&curves, plot)?;
    }
    let curves = curves.iter().map(|curve| json!({ "training": curve.name, "points": curve.points }));
    write_json(json.as_deref(), &curves.collect::<Vec<_>>())
}

/// A training's lines of metrics that were validated.
fn open(folder: &Path) -> Result<Curve> {
    let mut points = Checkpoint::open(folder)?.metrics;
    points.retain(|line| line.average_recall.is_some());
    let shown = folder.display();
    ensure!(!points.is_empty(), "{shown} was measured on nothing: train it with --validation");
    let is_timed = points.iter().all(|line| line.processor_seconds > 0.0);
    ensure!(is_timed, "{shown} is of an older version, which didn't write down its time: train it again");
    let name = folder.canonicalize()?.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Curve { name: name.unwrap_or_else(|| shown.to_string()), points })
}

fn line(name: &str, point: &Metrics) -> Vec<String> {
    let minutes = |seconds: f64| format!("{:.1}", seconds / 60.0);
    let share = |share: Option<f32>| percent(share.map(f64::from));
    vec![
        name.to_owned(),
        point.step.to_string(),
        minutes(point.seconds),
        minutes(point.processor_seconds),
        format!("{:.1}", point.images_per_second),
        share(point.average_recall),
        share(point.recall_of_ten),
        share(point.named),
    ]
}
