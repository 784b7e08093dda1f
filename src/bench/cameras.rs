//! The report of several cameras on one engine: what each got, and how old its results were.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::report::Statistics;
use super::table::row;

/// What is asked of a camera.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraSetup {
    /// What it is called.
    pub name: String,
    /// What it sees.
    pub source: String,
    /// How many frames a second a source gives that is no camera.
    pub camera_fps: Option<f64>,
    /// How many turns of the engine it gets beside others, which have 1.
    pub priority: f64,
    /// The most frames a second.
    pub max_fps: Option<f64>,
}

/// What came of one camera.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraRates {
    /// What is asked of it.
    #[serde(flatten)]
    pub setup: CameraSetup,
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
    /// For how long was measured, seconds.
    pub seconds: f64,
    /// One alone that gives frames as fast as they are taken, frames a second; nothing where the first is a camera.
    pub one_camera_fps: Option<f64>,
    /// All cameras together, frames a second.
    pub total_fps: f64,
    /// The same as a part of what one camera alone gets.
    pub of_one_camera: Option<f64>,
    /// How evenly the engine is shared (Jain, Chiu and Hawe, 1984), by what each gets over its fair share: 1 where that is the
    /// same for all, 1/n where one gets all. Fair is the max-min share by priority: who gives less than that gets all of its
    /// frames run, and the others share what is left.
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
    /// For how long was measured.
    pub measured: Duration,
    /// One alone that gives frames as fast as they are taken, frames a second, if that was measured.
    pub one_camera_fps: Option<f64>,
    /// Each camera.
    pub cameras: Vec<CameraRates>,
}

impl CamerasReport {
    /// What follows from what was measured.
    pub fn of(measured: CamerasMeasured) -> Self {
        let CamerasMeasured { engine, measured, one_camera_fps, cameras } = measured;
        let total_fps: f64 = cameras.iter().map(|camera| camera.fps).sum();
        let given =
            |camera: &CameraRates| camera.fps * (1.0 + camera.dropped as f64 / camera.frames.max(1) as f64);
        let asked: Vec<[f64; 2]> =
            cameras.iter().map(|camera| [given(camera), camera.setup.priority]).collect();
        let shares = fair_shares(total_fps, &asked);
        let satisfied: Vec<f64> = cameras
            .iter()
            .zip(shares)
            .map(|(camera, share)| camera.fps / share.max(f64::MIN_POSITIVE))
            .collect();
        let round_ms = 1e3 * cameras.len() as f64 / total_fps;
        let oldest_ms = cameras.iter().map(|camera| camera.age_ms.max).fold(0.0, f64::max);
        Self {
            engine,
            seconds: measured.as_secs_f64(),
            one_camera_fps,
            total_fps,
            of_one_camera: one_camera_fps.map(|alone| total_fps / alone),
            jains_index: jains_index(satisfied.into_iter()),
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

/// Divides what there is by weight; who asks for less than its share gets what it asks for, and the others share the rest
/// (weighted max-min fairness). `asked`: how much, and with what weight.
fn fair_shares(total: f64, asked: &[[f64; 2]]) -> Vec<f64> {
    let mut shares: Vec<Option<f64>> = vec![None; asked.len()];
    loop {
        let open = || asked.iter().zip(&shares).filter(|(_, share)| share.is_none());
        let left = total - shares.iter().flatten().sum::<f64>();
        let unit = left.max(0.0) / open().map(|([_, weight], _)| weight).sum::<f64>();
        let is_content = |[wanted, weight]: &[f64; 2]| *wanted <= unit * weight;
        let content: Vec<bool> =
            asked.iter().zip(&shares).map(|(of, share)| share.is_none() && is_content(of)).collect();
        if !content.contains(&true) {
            let of = |([_, weight], share): (&[f64; 2], &Option<f64>)| share.unwrap_or(unit * weight);
            return asked.iter().zip(&shares).map(of).collect();
        }
        for ((share, [wanted, _]), is_content) in shares.iter_mut().zip(asked).zip(content) {
            if is_content {
                *share = Some(*wanted);
            }
        }
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
        row(f, "cameras", &self.cameras.len().to_string())?;
        let of_one =
            self.of_one_camera.zip(self.one_camera_fps).map_or_else(String::new, |(of_one, alone)| {
                format!(", {of_one:.3} of one camera alone ({alone:.1})")
            });
        row(f, "together", &format!("{:.1} frames/s{of_one}", self.total_fps))?;
        row(f, "fairness", &format!("{:.4} (Jain's index)", self.jains_index))?;
        row(f, "age", &format!("{:.2} rounds of {:.0} ms at most", self.oldest_in_rounds, self.round_ms))?;
        writeln!(f)?;
        let lengths = self.cameras.iter().map(|camera| camera.setup.name.chars().count());
        let width = lengths.max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:<width$}  gives  frames  frames/s  age p50    p99    max ms  dropped  allocations  source",
            "camera"
        )?;
        for CameraRates { setup, frames, fps, age_ms, dropped, allocations_per_frame } in &self.cameras {
            let gives = setup.camera_fps.map_or_else(String::new, |fps| format!("{fps:.1}"));
            writeln!(
                f,
                "{:<width$}  {gives:>5}  {frames:>6}  {fps:>8.2}  {:>7.1}  {:>5.1}  {:>5.1}     {dropped:>7}  \
                 {allocations_per_frame:>11.2}  {}",
                setup.name, age_ms.median, age_ms.p99, age_ms.max, setup.source
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

    #[test]
    fn who_asks_for_less_than_its_share_gets_that_and_the_others_share_the_rest_by_weight() {
        let shares = |total, asked: &[[f64; 2]]| fair_shares(total, asked);
        assert_eq!(shares(12.0, &[[10.0, 1.0], [10.0, 1.0], [10.0, 1.0]]), [4.0; 3]);
        assert_eq!(shares(12.0, &[[2.0, 1.0], [10.0, 1.0], [10.0, 1.0]]), [2.0, 5.0, 5.0]);
        assert_eq!(shares(12.0, &[[2.0, 1.0], [20.0, 1.0], [20.0, 4.0]]), [2.0, 2.0, 8.0]);
        // What the second leaves, the first and third get: 4 is not enough for the third then.
        assert_eq!(shares(10.0, &[[9.0, 1.0], [1.0, 2.0], [5.0, 1.0]]), [4.5, 1.0, 4.5]);
        assert_eq!(shares(10.0, &[[1.0, 1.0], [2.0, 1.0]]), [1.0, 2.0], "all get what they ask for");
        assert_eq!(shares(0.0, &[[1.0, 1.0]]), [0.0]);
    }
}
