//! Compares two reports by the moving-block bootstrap, with as much certainty as two runs allow.
//!
//! Takes the reports A and B, and gives ratios B/A with intervals and a verdict in words. It computes every figure anew
//! from resampled runs (the bootstrap: Efron, 1979). Frames of a run are not independent, for a clock that changes or a
//! busy second slows many in a row. So it resamples blocks of consecutive frames, from anywhere in the run: the
//! moving-block bootstrap (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of
//! Statistics 17, 1989). Single frames would make intervals several times too narrow.
//!
//! **How long a block is.** It must outlast what makes neighbours alike, and there must be several of them. The rule
//! of n^(1/3) frames (Hall, Horowitz and Jing, Biometrika 82, 1995) has the right growth for large n and knows nothing
//! of the first: of 1,200 frames in ten seconds it would make blocks of 11, a tenth of a second, while governors, heat
//! and other programs act over a good part of a second. So a block is a second; more where there would be over
//! [`MOST_BLOCKS`] of them, less where there would be under [`FEWEST_BLOCKS`], and n^(1/3) frames at the least. Spread
//! estimated from so few blocks is itself uncertain, and the intervals are widened for that. Simulated runs of ten
//! seconds whose noise has a memory of a sixth of a second come to false alarms in 4 % of comparisons; of half a
//! second, in 10 %: measure for a minute where the machine is restless.
//!
//! **How sure.** The intervals of all rows hold *together* with 95 % (each at 1 - 5 %/rows: Bonferroni), so that one of
//! twenty comparisons of a program with itself calls anything different, and not one of four.
//!
//! An interval that leaves out 1 isn't enough for a verdict. No resampling of one run sees what is slower than a block,
//! such as a board that heats up. So the halves of each run are held against each other too, and a difference between A
//! and B that is no larger than that inside A or inside B isn't called one. And no single run shows what differs from
//! one run to the next (where the memory lies, who else is there): the table says so.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use wordsight_board::Machine;

use super::report::{Report, nearest_rank};

/// The confidence with which the intervals of all rows hold together.
const CONFIDENCE: f64 = 0.95;
/// How often each run is resampled.
const RESAMPLES: usize = 2000;
/// Fewer blocks than these say little about how blocks vary.
const FEWEST_BLOCKS: usize = 8;
/// More blocks than these add little to what is known of their spread, and longer ones outlast slower noise (Schmeiser,
/// "Batch size effects in the analysis of simulation output", Operations Research 30, 1982).
const MOST_BLOCKS: usize = 30;
/// Frames without which nothing is tested.
const FEWEST_FRAMES: usize = 30;
/// Frames beyond a percentile without which it isn't tested: the bootstrap of an extreme value is wrong.
const FEWEST_BEYOND: f64 = 5.0;
/// The figures that are tested, and where they come from.
const FIGURES: [Figure; 6] = [
    Figure { name: "rate", unit: "frames/s", percent: 50.0, of: |report| report.fps, more_is_better: true },
    Figure {
        name: "end to end, median",
        unit: "ms",
        percent: 50.0,
        of: |report| report.stages_ms.end_to_end.median,
        more_is_better: false,
    },
    Figure {
        name: "end to end, p95",
        unit: "ms",
        percent: 95.0,
        of: |report| report.stages_ms.end_to_end.p95,
        more_is_better: false,
    },
    Figure {
        name: "end to end, p99",
        unit: "ms",
        percent: 99.0,
        of: |report| report.stages_ms.end_to_end.p99,
        more_is_better: false,
    },
    Figure {
        name: "engine, median",
        unit: "ms",
        percent: 50.0,
        of: |report| report.stages_ms.engine.median,
        more_is_better: false,
    },
    Figure {
        name: "age, median",
        unit: "ms",
        percent: 50.0,
        of: |report| report.stages_ms.age.median,
        more_is_better: false,
    },
];

struct Figure {
    name: &'static str,
    unit: &'static str,
    /// How far out in the distribution it lies.
    percent: f64,
    of: fn(&Report) -> f64,
    more_is_better: bool,
}

impl Figure {
    fn fewest_frames(&self) -> usize {
        let beyond = FEWEST_BEYOND / (1.0 - self.percent / 100.0);
        (beyond.round() as usize).max(FEWEST_FRAMES)
    }
}

/// What two reports have to say about one another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// A's file.
    pub a: String,
    /// B's file.
    pub b: String,
    /// The confidence with which all intervals hold together.
    pub confidence: f64,
    /// How often each run was resampled.
    pub resamples: usize,
    /// Rows of samples in a block, of A and of B.
    pub block_rows: [usize; 2],
    /// The figures.
    pub rows: Vec<Row>,
    /// What else isn't the same in A and B.
    pub differences: Vec<Difference>,
}

/// One figure of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// A's.
    pub a: Option<f64>,
    /// B's.
    pub b: Option<f64>,
    /// B's in A's.
    pub ratio: Option<f64>,
    /// Where the ratio lies, from and to.
    pub interval: Option<[f64; 2]>,
    /// How far the second half of a run was from its first, of A or of B, whichever is more; 0.01 is a hundredth.
    pub drift: Option<f64>,
    /// In words.
    pub verdict: Verdict,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// B is faster.
    #[serde(rename = "faster")]
    Faster,
    /// B is slower.
    #[serde(rename = "slower")]
    Slower,
    /// The interval has 1 in it, or the runs drift by as much: not that they are equal.
    #[serde(rename = "no difference shown")]
    NoDifferenceShown,
    /// There are too few frames for a verdict.
    #[serde(rename = "too few frames")]
    TooFewFrames,
    /// Each run has only one such value: nothing says how it varies.
    #[serde(rename = "one value a run")]
    OneValueARun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifferenceShown => "no difference shown",
            Self::TooFewFrames => "too few frames",
            Self::OneValueARun => "one value a run",
        })
    }
}

/// Something that isn't the same in A and B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: &'static str,
    /// In A.
    pub a: String,
    /// In B.
    pub b: String,
}

impl Comparison {
    /// Whether B is slower than A in anything.
    pub fn is_slower(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Slower)
    }

    /// Writes the comparison as JSON: to a file, whole or not at all, or for `-` to the standard output.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        super::json::write(self, path)
    }
}

/// Holds B against A; the names are for the table. The same reports give the same comparison every time.
pub fn compare(a: (&str, &Report), b: (&str, &Report)) -> Comparison {
    compare_by(RESAMPLES, a, b)
}

fn compare_by(resamples: usize, (a_name, a): (&str, &Report), (b_name, b): (&str, &Report)) -> Comparison {
    let runs = [Run::of(a), Run::of(b)];
    let frames = runs.each_ref().map(Run::len).into_iter().min().unwrap_or(0);
    let tested = FIGURES.iter().filter(|figure| frames >= figure.fewest_frames()).count();
    let tail = (1.0 - CONFIDENCE) / (2 * tested.max(1)) as f64;
    // Fixed, so that nobody can draw until the verdict pleases.
    let mut dice = Dice(0x5eed);
    let resampled = if tested > 0 {
        runs.each_ref().map(|run| run.resample(resamples, &mut dice))
    } else {
        Default::default()
    };
    let drifts = runs.each_ref().map(Run::drift);
    let rows = FIGURES.iter().enumerate().map(|(at, figure)| {
        let (a, b) = ((figure.of)(a), (figure.of)(b));
        let ratio = ratio_of(a, b);
        let mut row = Row { a: Some(a), b: Some(b), ratio, ..Row::untested(figure.name, figure.unit) };
        row.verdict = Verdict::TooFewFrames;
        let (true, Some(ratio)) = (frames >= figure.fewest_frames(), ratio) else { return row };
        let deviations = resampled[0].iter().zip(&resampled[1]).map(|(a, b)| b[at] - a[at]);
        let drift = drifts[0][at].abs().max(drifts[1][at].abs());
        let Some([low, high]) = quantiles(deviations.collect(), tail) else { return row };
        row.interval = Some([ratio * low.exp(), ratio * high.exp()]);
        row.drift = drift.is_finite().then(|| drift.exp_m1());
        row.verdict = verdict_of(figure, ratio.ln(), [low, high], drift);
        row
    });
    let rows = rows.chain(rows_of_one_value(a, b)).collect();
    let block_rows = runs.each_ref().map(Run::block_length);
    Comparison {
        a: a_name.to_owned(),
        b: b_name.to_owned(),
        confidence: CONFIDENCE,
        resamples,
        block_rows,
        rows,
        differences: differences(a, b),
    }
}

impl Row {
    fn untested(name: &'static str, unit: &'static str) -> Self {
        let verdict = Verdict::OneValueARun;
        Self { name, unit, a: None, b: None, ratio: None, interval: None, drift: None, verdict }
    }
}

fn ratio_of(a: f64, b: f64) -> Option<f64> {
    let ratio = b / a;
    (ratio > 0.0 && ratio.is_finite()).then_some(ratio)
}

fn verdict_of(figure: &Figure, difference: f64, [low, high]: [f64; 2], drift: f64) -> Verdict {
    let leaves_out_equality = difference + low > 0.0 || difference + high < 0.0;
    // A drift that can't be told is a reason to call nothing different.
    if !leaves_out_equality || !drift.is_finite() || difference.abs() <= drift {
        Verdict::NoDifferenceShown
    } else if (difference > 0.0) == figure.more_is_better {
        Verdict::Faster
    } else {
        Verdict::Slower
    }
}

/// The quantiles that leave out `tail` on either side.
fn quantiles(mut values: Vec<f64>, tail: f64) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values.first()?, values.last()?);
    if !first.is_finite() || !last.is_finite() {
        return None;
    }
    let low = nearest_rank(100.0 * tail, values.len());
    Some([values[low], values[values.len() - 1 - low]])
}

fn rows_of_one_value(a: &Report, b: &Report) -> Vec<Row> {
    let row = |name, unit, of: fn(&Report) -> Option<f64>| {
        let (a, b) = (of(a), of(b));
        let ratio = a.zip(b).and_then(|(a, b)| ratio_of(a, b));
        Row { a, b, ratio, ..Row::untested(name, unit) }
    };
    let rows = [
        row("processor", "% of a core", |report| Some(report.cpu?.percent_of_one_core)),
        row("memory, peak", "MiB", |report| Some(report.memory?.peak_mib)),
        row("allocations", "a frame", |report| Some(report.allocations?.per_frame)),
    ];
    rows.into_iter().filter(|row| row.a.is_some() || row.b.is_some()).collect()
}

/// The samples of a run, ready to be resampled.
struct Run {
    /// When the frame before the first row was published, and each row's.
    at: Vec<u64>,
    every: f64,
    end_to_end: Column,
    engine: Column,
    age: Column,
}

/// For each of [`FIGURES`], the logarithm of something.
type Logarithms = [f64; FIGURES.len()];
/// A stretch of rows: where it begins, and how many.
type Block = (usize, usize);

impl Run {
    /// The first row is taken for its time only: it is unknown how long the frame before it is gone.
    fn of(report: &Report) -> Self {
        let samples = &report.samples_us;
        let column = |values: &[u64]| Column::of(values.get(1..).unwrap_or_default());
        Self {
            at: samples.at.clone(),
            every: samples.every as f64,
            end_to_end: column(&samples.stages.end_to_end),
            engine: column(&samples.stages.engine),
            age: column(&samples.stages.age),
        }
    }

    fn len(&self) -> usize {
        self.at.len().saturating_sub(1)
    }

    fn block_length(&self) -> usize {
        let rows = self.len();
        let microseconds = self.microseconds_of((0, rows)).max(1);
        let a_second = (rows as f64 * 1e6 / microseconds as f64).round() as usize;
        let least = (rows as f64).cbrt().ceil() as usize;
        a_second.max(rows / MOST_BLOCKS).min(rows / FEWEST_BLOCKS).max(least)
    }

    fn microseconds_of(&self, (start, length): Block) -> u64 {
        match (self.at.get(start), self.at.get(start + length)) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        }
    }

    /// The figures of so many resampled runs, as logarithms of their ratios to those of the run as it was.
    ///
    /// They are drawn apart a little: from k blocks the spread comes out too small by (k-1)/k in the square, and is
    /// itself uncertain as in Student's distribution of k-1 degrees of freedom, whose variance is (k-1)/(k-3).
    fn resample(&self, resamples: usize, dice: &mut Dice) -> Vec<Logarithms> {
        let (rows, block) = (self.len(), self.block_length());
        let mut counts = Vec::new();
        let whole = self.figures(&[(0, rows)], &mut counts);
        let number = (rows / block).max(4) as f64;
        let widening = (number / (number - 3.0)).sqrt();
        let mut blocks = Vec::new();
        let mut one = || {
            blocks.clear();
            let mut left = rows;
            while left > 0 {
                let length = block.min(left);
                blocks.push((dice.below(rows - length + 1), length));
                left -= length;
            }
            let figures = self.figures(&blocks, &mut counts);
            std::array::from_fn(|at| widening * (figures[at] - whole[at]))
        };
        (0..resamples).map(|_| one()).collect()
    }

    /// The logarithm of the ratio of the second half's figures to the first's.
    fn drift(&self) -> Logarithms {
        let half = self.len() / 2;
        let mut counts = Vec::new();
        let first = self.figures(&[(0, half)], &mut counts);
        let second = self.figures(&[(half, self.len() - half)], &mut counts);
        std::array::from_fn(|at| second[at] - first[at])
    }

    /// The logarithms of the figures of these stretches together.
    fn figures(&self, blocks: &[Block], counts: &mut Vec<u32>) -> Logarithms {
        let rows: usize = blocks.iter().map(|(_, length)| length).sum();
        let microseconds: u64 = blocks.iter().map(|block| self.microseconds_of(*block)).sum();
        let rate = self.every * rows as f64 * 1e6 / microseconds as f64;
        let [median, p95, p99] = self.end_to_end.percentiles([50.0, 95.0, 99.0], blocks, counts);
        let [engine] = self.engine.percentiles([50.0], blocks, counts);
        let [age] = self.age.percentiles([50.0], blocks, counts);
        [rate, median, p95, p99, engine, age].map(f64::ln)
    }
}

/// A column of samples as places in the list of its distinct values: the percentiles of a resampled run are then
/// counted, in a tenth of the time that sorting takes.
struct Column {
    values: Vec<u64>,
    places: Vec<u32>,
}

impl Column {
    fn of(column: &[u64]) -> Self {
        let mut values = column.to_vec();
        values.sort_unstable();
        values.dedup();
        let place = |value: &u64| values.partition_point(|other| other < value) as u32;
        Self { places: column.iter().map(place).collect(), values }
    }

    /// Percentiles, in rising order, of the rows in these stretches; `counts` is scratch.
    fn percentiles<const N: usize>(
        &self,
        percents: [f64; N],
        blocks: &[Block],
        counts: &mut Vec<u32>,
    ) -> [f64; N] {
        counts.clear();
        counts.resize(self.values.len(), 0);
        let mut total = 0;
        for &(start, length) in blocks {
            let places = self.places.get(start..start + length).unwrap_or_default();
            total += places.len();
            places.iter().for_each(|place| counts[*place as usize] += 1);
        }
        if total == 0 {
            return [f64::NAN; N];
        }
        let mut values = self.values.iter().zip(counts.iter());
        let (mut seen, mut value) = (0, f64::NAN);
        percents.map(|percent| {
            let rank = nearest_rank(percent, total);
            while seen <= rank {
                let Some((next, count)) = values.next() else { break };
                seen += *count as usize;
                value = *next as f64;
            }
            value
        })
    }
}

/// Random numbers that are the same every time: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", OOPSLA 2014).
pub struct Dice(pub u64);

impl Dice {
    /// A number of 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another that isn't 0, which here is so small that the bias of a multiplication doesn't count.
    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// What isn't the same in two reports, of all that could be the reason for another number.
fn differences(a: &Report, b: &Report) -> Vec<Difference> {
    let told = |what, of: &dyn Fn(&Report) -> String| {
        let or_unknown = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
        let (a, b) = (of(a), of(b));
        (a != b).then(|| Difference { what, a: or_unknown(a), b: or_unknown(b) })
    };
    let machine = |what, of: fn(&Machine) -> Option<String>| {
        told(what, &|report| of(&report.machine).unwrap_or_default())
    };
    let megahertz = |limit: Option<u32>| limit.map(|mhz| format!("{mhz} MHz"));
    let found = [
        told("mode", &|report| report.settings.mode.to_string()),
        told("camera's rate", &|report| {
            report.settings.camera_fps.map_or_else(String::new, |fps| format!("{fps} frames/s"))
        }),
        told("governor", &|report| match report.governed {
            Some(governed) => format!("held the stream back for {:.0} s", governed.seconds),
            None => "held nothing back".to_owned(),
        }),
        told("engine", &|report| report.settings.engine.clone()),
        told("engine's version", &|report| report.settings.engine_version.clone().unwrap_or_default()),
        told("precision", &|report| report.settings.precision.clone()),
        told("threads", &|report| {
            report.settings.threads.map_or_else(String::new, |threads| threads.to_string())
        }),
        told("student", &|report| report.settings.student.sha256.chars().take(12).collect()),
        told("words", &|report| report.settings.vocabulary.words.to_string()),
        told("source", &|report| report.settings.source.clone()),
        told("frames", &|report| {
            let frame = &report.settings.frame;
            format!("{}x{} {}", frame.width, frame.height, frame.format)
        }),
        told("program", &|report| format!("wordsight {}", report.wordsight)),
        machine("board", |machine| machine.board.clone()),
        machine("processor", |machine| machine.cpu.clone()),
        machine("cores", |machine| Some(machine.cores_allowed.or(machine.cores)?.to_string())),
        machine("graphics", |machine| Some(machine.gpus.join(", "))),
        machine("driver", |machine| machine.nvidia_driver.clone()),
        machine("L4T", |machine| machine.l4t.clone()),
        machine("system", |machine| machine.os.clone()),
        machine("kernel", |machine| machine.kernel.clone()),
        machine("power mode", |machine| machine.power_mode.clone()),
        machine("governor", |machine| machine.governor.clone()),
        told("limit of the CPU", &|report| megahertz(report.machine.cpu_limit_mhz).unwrap_or_default()),
        told("limit of the GPU", &|report| megahertz(report.machine.gpu_limit_mhz).unwrap_or_default()),
    ];
    let mut found: Vec<Difference> = found.into_iter().flatten().collect();
    let keys = || a.settings.config.keys().chain(b.settings.config.keys());
    let changed: std::collections::BTreeSet<&String> =
        keys().filter(|key| a.settings.config.get(*key) != b.settings.config.get(*key)).collect();
    for key in changed {
        let shown = |report: &Report| {
            let value = report.settings.config.get(key);
            format!("{key} = {}", value.map_or_else(|| "unknown".to_owned(), ToString::to_string))
        };
        found.push(Difference { what: "configuration", a: shown(a), b: shown(b) });
    }
    found
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}\n", self.a, self.b)?;
        let interval = format!("{:.0} % interval", 100.0 * self.confidence);
        writeln!(
            f,
            "{:<23}{:>10}{:>10}{:>8}  {interval:<16}{:>7}  verdict on B",
            "", "A", "B", "B/A", "drift"
        )?;
        for row in &self.rows {
            let name = format!("{}, {}", row.name, row.unit);
            let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), significant);
            let interval = row.interval.map_or_else(
                || "-".to_owned(),
                |[low, high]| format!("{} to {}", significant(low), significant(high)),
            );
            let drift = row.drift.map_or_else(|| "-".to_owned(), |drift| format!("{:.1} %", 100.0 * drift));
            let (a, b) = (value(row.a), value(row.b));
            let line =
                format!("{name:<23}{a:>10}{b:>10}{ratio:>8}  {interval:<16}{drift:>7}  {}", row.verdict);
            writeln!(f, "{line}")?;
        }
        if !self.differences.is_empty() {
            writeln!(f, "\nNot the same in A and B, and so perhaps the reason:")?;
            for Difference { what, a, b } in &self.differences {
                writeln!(f, "  {what:<18} {a} | {b}")?;
            }
        }
        write!(
            f,
            "\nIntervals: moving-block bootstrap, {} resamples, blocks of {} and {} rows; all hold together.\n\
             Drift: between the halves of a run, A's or B's; what isn't larger is called no difference.\n\
             A and B are one run each, and two runs of one program differ too: measure A twice and\n\
             compare these two to see by how much, and trust nothing smaller.\n",
            self.resamples, self.block_rows[0], self.block_rows[1]
        )
    }
}

/// Four digits or so.
fn significant(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 10_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests;
