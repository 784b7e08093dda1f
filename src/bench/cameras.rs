//! The report of several cameras on one engine: what each got, and how old its results were.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::report::Statistics;
use super::table::row;

/// What came of one camera.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraRates {
    /// What it is called.
    pub name: String,
    /// Frames that were published in the measured time.
    pub frames: u64,
    /// Of these a second.
    pub fps: f64,
    /// From a frame's capture until its results were published, milliseconds.
    pub age_ms: Statistics,
    /// Frames that a newer one pushed out.
    pub dropped: u64,
    /// Allocations of all stages, of a frame.
    pub allocations_per_frame: f64,
}

/// What came of several cameras on one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CamerasReport {
    /// What ran the student.
    pub engine: String,
    /// The source that all of them have.
    pub source: String,
    /// How many frames a second each camera gives.
    pub camera_fps: f64,
    /// For how long was measured, seconds.
    pub seconds: f64,
    /// One camera alone that gives frames as fast as they are taken, frames a second.
    pub one_camera_fps: f64,
    /// All cameras together, frames a second.
    pub total_fps: f64,
    /// The same as a part of what one camera alone gets.
    pub of_one_camera: f64,
    /// How evenly the engine is shared: 1 where all get the same, 1/n where one gets all (Jain, Chiu and Hawe, 1984).
    pub jains_index: f64,
    /// What a round takes in which each camera has a turn, milliseconds.
    pub round_ms: f64,
    /// The oldest result of any camera, in rounds.
    pub oldest_in_rounds: f64,
    /// Each camera.
    pub cameras: Vec<CameraRates>,
}

/// What is known of a run with several cameras.
pub struct CamerasMeasured {
    /// What ran the student.
    pub engine: String,
    /// The source that all of them have.
    pub source: String,
    /// How many frames a second each camera gives.
    pub camera_fps: f64,
    /// For how long was measured.
    pub measured: Duration,
    /// One camera alone that gives frames as fast as they are taken, frames a second.
    pub one_camera_fps: f64,
    /// Each camera.
    pub cameras: Vec<CameraRates>,
}

impl CamerasReport {
    /// What follows from what was measured.
    pub fn of(measured: CamerasMeasured) -> Self {
        let CamerasMeasured { engine, source, camera_fps, measured, one_camera_fps, cameras } = measured;
        let total_fps: f64 = cameras.iter().map(|camera| camera.fps).sum();
        let round_ms = 1e3 * cameras.len() as f64 / total_fps;
        let oldest_ms = cameras.iter().map(|camera| camera.age_ms.max).fold(0.0, f64::max);
        Self {
            engine,
            source,
            camera_fps,
            seconds: measured.as_secs_f64(),
            one_camera_fps,
            total_fps,
            of_one_camera: total_fps / one_camera_fps,
            jains_index: jains_index(cameras.iter().map(|camera| camera.fps)),
            round_ms,
            oldest_in_rounds: oldest_ms / round_ms,
            cameras,
        }
    }

    /// Writes it as JSON: to a file, or to the standard output (`-`).
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        super::json::write(self, path)
    }
}

/// The square of the sum over the sum of the squares and the number.
fn jains_index(rates: impl Iterator<Item = f64> + Clone) -> f64 {
    let (sum, squares) = (rates.clone().sum::<f64>(), rates.clone().map(|rate| rate * rate).sum::<f64>());
    sum * sum / (rates.count() as f64 * squares)
}

impl fmt::Display for CamerasReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "engine", &self.engine)?;
        row(
            f,
            "cameras",
            &format!("{} of {:.1} frames/s: {}", self.cameras.len(), self.camera_fps, self.source),
        )?;
        let together = format!(
            "{:.1} frames/s, {:.3} of one camera alone ({:.1})",
            self.total_fps, self.of_one_camera, self.one_camera_fps
        );
        row(f, "together", &together)?;
        row(f, "fairness", &format!("{:.4} (Jain's index)", self.jains_index))?;
        row(f, "age", &format!("{:.2} rounds of {:.0} ms at most", self.oldest_in_rounds, self.round_ms))?;
        writeln!(f)?;
        let width = self.cameras.iter().map(|camera| camera.name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:<width$}  frames  frames/s  age p50    p99    max ms  dropped  allocations",
            "camera"
        )?;
        for CameraRates { name, frames, fps, age_ms, dropped, allocations_per_frame } in &self.cameras {
            writeln!(
                f,
                "{name:<width$}  {frames:>6}  {fps:>8.2}  {:>7.1}  {:>5.1}  {:>5.1}     {dropped:>7}  {allocations_per_frame:>11.2}",
                age_ms.median, age_ms.p99, age_ms.max
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_where_all_get_the_same_and_one_nth_where_one_gets_all() {
        assert!((jains_index([3.0; 16].into_iter()) - 1.0).abs() < 1e-12);
        assert!((jains_index([8.0, 0.0, 0.0, 0.0].into_iter()) - 0.25).abs() < 1e-12);
        // 10^2 / (2 * 68)
        assert!((jains_index([8.0, 2.0].into_iter()) - 100.0 / 136.0).abs() < 1e-12);
    }
}
