//! `wordsight bench`: a measured stream in, a table, JSON and a picture out; or two old measurements in, a comparison
//! out.
//!
//! A comparison needs neither a student nor the machine that measured. It reads two files.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::flags::CommonArgs;
use super::many_cameras::{measure_cameras, measure_configured};
use super::measure::{Wanted, measure};
use super::print::print;
use super::swaps::measure_swaps;
use crate::bench::{Board, Estimate, Mode, PlotPath, Report, compare, draw};
use crate::config::ConfigError;
use crate::files::{Content, Inputs, is_standard_output};
use crate::service::EngineTarget;
use crate::settings::FramesPerSecond;

/// Measures a stream, or compares two measurements.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How long frames are counted, seconds
    #[arg(long, value_name = "N", default_value = "10")]
    seconds: NonZeroU32,
    /// How long frames run before any is counted, seconds
    #[arg(long, value_name = "N", default_value = "2")]
    warm_up: u32,
    /// How frames follow one another
    #[arg(long, default_value = "throughput")]
    mode: Mode,
    /// The camera's frames per second, with --mode live
    #[arg(long, value_name = "X")]
    fps: Option<FramesPerSecond>,
    /// A file or folder, played again and again, or v4l2://, csi://, rtsp://, gst:, test://
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// Decode a file's frames anew each time; without it they are read once and played from memory
    #[arg(long)]
    decode: bool,
    /// Hold each inference to at least so many milliseconds: what a slower engine does to age and drops
    #[arg(long, value_name = "MS")]
    least_inference_ms: Option<NonZeroU32>,
    /// Write the measurement (or the comparison) as JSON: to a file, or to the standard output (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Draw latency over time and its histogram: FILE.svg, FILE.png, or FILE for both
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotPath>,
    /// Measure instead what it costs to swap vocabularies while the stream runs, of so many words each: 10,1000,20000
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with_all = ["seconds", "warm_up", "plot", "least_inference_ms"])]
    swaps: Option<Vec<NonZeroUsize>>,
    /// Measure instead so many cameras on one engine, each with the source and the frames a second of a camera; without it,
    /// a configuration's [[camera]] are measured, if it has any
    #[arg(long, value_name = "N", conflicts_with_all = ["mode", "plot", "swaps"])]
    cameras: Option<NonZeroUsize>,
    /// Measure nothing, and compare two measurements that --json wrote: B against A
    #[arg(
        long,
        num_args = 2,
        value_names = ["A.json", "B.json"],
        conflicts_with_all = ["seconds", "warm_up", "mode", "fps", "source", "decode", "least_inference_ms", "plot", "swaps", "cameras", "CommonArgs"]
    )]
    compare: Option<Vec<PathBuf>>,
    /// Measure nothing, and estimate what the student's network would take on a board with its clocks locked
    #[arg(
        long,
        value_name = "BOARD",
        conflicts_with_all = ["seconds", "warm_up", "mode", "fps", "source", "decode", "least_inference_ms", "plot", "swaps", "cameras", "compare"]
    )]
    estimate: Option<Board>,
    /// Exit with 1 when the comparison shows B slower in anything
    #[arg(long, requires = "compare")]
    fail_if_slower: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl BenchArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.check_outputs()?;
        if let Some([a, b]) = self.compare.as_deref() {
            return self.compare(a, b);
        }
        if let Some(board) = self.estimate {
            return self.estimate(board);
        }
        if let Some(sizes) = &self.swaps {
            return self.measure_swaps(sizes);
        }
        if self.cameras.is_some() || !self.common.load_config()?.cameras().is_empty() {
            return self.measure_cameras();
        }
        let report = measure(&self.common, &self.wanted())?;
        self.tell(&report)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Nothing that is read is written.
    fn check_outputs(&self) -> anyhow::Result<()> {
        let inputs = match &self.compare {
            Some(reports) => Inputs::of(reports.iter().map(PathBuf::as_path)),
            None => {
                let mut config = self.common.load_config()?;
                self.source.iter().for_each(|source| config.set_source(source));
                let mut inputs = self.common.inputs(&config, config.source_uri().ok().as_ref());
                let of_cameras = config.cameras().iter().filter_map(|camera| camera.source_uri().ok());
                of_cameras.for_each(|uri| uri.path().into_iter().for_each(|path| inputs.add_pictures(path)));
                inputs
            }
        };
        let check = |path: &Path, content| inputs.check(path, content).map_err(ConfigError::from);
        self.json.as_deref().map(|path| check(path, Content::Json)).transpose()?;
        for path in self.plot.iter().flat_map(PlotPath::files) {
            let is_svg = path.extension().is_some_and(|extension| extension == "svg");
            check(&path, if is_svg { Content::Svg } else { Content::Png })?;
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            seconds: Duration::from_secs(self.seconds.get().into()),
            warm_up: Duration::from_secs(self.warm_up.into()),
            mode: self.mode,
            fps: self.fps,
            source: self.source.as_deref(),
            decodes: self.decode,
            least_inference: self.least_inference_ms.map(|ms| Duration::from_millis(ms.get().into())),
        }
    }

    /// What is wanted of the cameras that a configuration lists.
    fn wanted_of_configured(&self) -> anyhow::Result<Wanted<'_>> {
        let flags = [(self.source.is_some(), "--source"), (self.plot.is_some(), "--plot")];
        match flags.into_iter().find_map(|(is_given, flag)| is_given.then_some(flag)) {
            Some(flag) => Err(ConfigError::FlagOfOneSource(flag).into()),
            None => Ok(self.wanted()),
        }
    }

    fn measure_swaps(&self, sizes: &[NonZeroUsize]) -> anyhow::Result<ExitCode> {
        let sizes: Vec<usize> = sizes.iter().map(|words| words.get()).collect();
        let report = measure_swaps(&self.common, &self.wanted(), &sizes)?;
        self.show(&report, |path| {
            report.write(path).with_context(|| format!("cannot write {}", path.display()))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn measure_cameras(&self) -> anyhow::Result<ExitCode> {
        let report = match self.cameras {
            Some(cameras) => measure_cameras(&self.common, &self.wanted(), cameras.get())?,
            None => measure_configured(&self.common, &self.wanted_of_configured()?)?,
        };
        self.show(&report, |path| {
            report.write(path).with_context(|| format!("cannot write {}", path.display()))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn estimate(&self, board: Board) -> anyhow::Result<ExitCode> {
        let student = EngineTarget::of(&self.common.load_config()?)?.student;
        let shown = student.display();
        let estimate = Estimate::of(&wordsight_onnx::read(&student)?, &shown.to_string(), board)
            .map_err(|reason| anyhow::anyhow!("there is no estimate of {shown}: {reason}"))?;
        self.show(&estimate, |path| {
            estimate.write(path).with_context(|| format!("cannot write the estimate {}", path.display()))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where a report was asked to go. The file first: a picture that can't be written doesn't lose the measurement.
    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        self.show(report, |path| Ok(report.write(path)?))?;
        self.plot.as_ref().map(|path| draw(report, path)).transpose()?;
        Ok(())
    }

    /// Writes what was found as JSON where that was asked for, and prints it as a table unless that is the standard output.
    fn show(
        &self,
        found: &impl Display,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let json = self.json.as_deref();
        json.map(write).transpose()?;
        if !json.is_some_and(is_standard_output) {
            print(found)?;
        }
        Ok(())
    }

    fn compare(&self, a: &Path, b: &Path) -> anyhow::Result<ExitCode> {
        let reports = [Report::read(a)?, Report::read(b)?];
        let names = [a, b].map(|path| path.display().to_string());
        let comparison = compare((&names[0], &reports[0]), (&names[1], &reports[1]));
        self.show(&comparison, |path| {
            comparison.write(path).with_context(|| format!("cannot write the comparison {}", path.display()))
        })?;
        let failed = self.fail_if_slower && comparison.is_slower();
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::bench::example;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parsed(arguments: &str) -> Result<BenchArgs, ErrorKind> {
        let arguments = ["bench"].into_iter().chain(arguments.split_whitespace());
        Program::try_parse_from(arguments).map(|program| program.bench).map_err(|error| error.kind())
    }

    #[test]
    fn ten_seconds_as_fast_as_it_goes_are_measured_unless_told_otherwise() {
        let args = parsed("").unwrap();
        assert_eq!((args.seconds.get(), args.warm_up, args.mode), (10, 2, Mode::Throughput));
        let args = parsed("--mode live --fps 30 --seconds 60 --warm-up 0 --student s.onnx").unwrap();
        assert_eq!((args.seconds.get(), args.warm_up, args.mode), (60, 0, Mode::Live));
    }

    #[test]
    fn a_comparison_takes_two_files_and_nothing_that_measures() {
        assert_eq!(parsed("--compare a b --json - --fail-if-slower").unwrap().compare.unwrap().len(), 2);
        assert_eq!(parsed("--compare a").unwrap_err(), ErrorKind::WrongNumberOfValues);
        assert_eq!(parsed("--compare a b c").unwrap_err(), ErrorKind::UnknownArgument);
        for other in
            ["--seconds 3", "--mode live", "--fps 3", "--source x", "--student x", "--plot x", "--threads 1"]
        {
            assert_eq!(
                parsed(&format!("--compare a b {other}")).unwrap_err(),
                ErrorKind::ArgumentConflict,
                "{other}"
            );
        }
        assert_eq!(parsed("--fail-if-slower").unwrap_err(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn an_estimate_is_of_a_known_board_and_takes_a_student_and_nothing_that_measures() {
        for (name, board) in [
            ("orin-nano", Board::OrinNano),
            ("orin-nano-super", Board::OrinNanoSuper),
            ("orin-nx", Board::OrinNx),
            ("agx-orin", Board::AgxOrin),
        ] {
            let args = parsed(&format!("--estimate {name} --student s.onnx --json -")).unwrap();
            assert_eq!(args.estimate, Some(board));
        }
        assert_eq!(parsed("--estimate tx2").unwrap_err(), ErrorKind::InvalidValue);
        for other in ["--seconds 3", "--source x", "--compare a b", "--swaps 3"] {
            let refused = parsed(&format!("--estimate orin-nx {other}")).unwrap_err();
            assert_eq!(refused, ErrorKind::ArgumentConflict, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_measured_or_drawn_is_known_before_it_begins() {
        for wrong in ["--seconds 0", "--warm-up -1", "--fps 0", "--mode fast", "--plot x.pdf"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_report_goes_to_the_file_and_to_the_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let args = parsed(&format!("--json {} --plot {}", path("r.json"), path("r"))).unwrap();
        args.tell(&example()).unwrap();
        assert_eq!(Report::read(Path::new(&path("r.json"))).unwrap(), example());
        assert!(Path::new(&path("r.svg")).exists() && Path::new(&path("r.png")).exists());
    }
}
