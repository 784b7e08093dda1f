//! `wordsight student`: what a student's file says, and whether its network answers as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use wordsight_detection::ScoreFunction;
use wordsight_engines::{CpuEngine, Engine, Regions, StudentFacts};

use super::print::print;

/// Checks students.
#[derive(Debug, Subcommand)]
pub enum StudentCommand {
    /// Reads a student's file, runs it on made-up frames, and says what is wrong with it
    Check(CheckArgs),
}

/// Checks a student.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The student (.onnx)
    #[arg(value_name = "FILE")]
    student: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl StudentCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Check(args) = self;
        args.run()
    }
}

/// What a check finds.
#[derive(Debug, Serialize)]
struct Checked {
    teacher: String,
    input_width: usize,
    input_height: usize,
    resize: &'static str,
    resize_filter: &'static str,
    padding: [u8; 3],
    regions: usize,
    embedding_size: usize,
    scores: &'static str,
    outputs: Vec<&'static str>,
    examples: bool,
    milliseconds: f64,
    problems: Vec<String>,
    /// Metadata that means nothing: perhaps misspelt.
    unknown_keys: Vec<String>,
    /// Metadata that means nothing in this student, with its values, which nobody has looked at.
    unused_keys: BTreeMap<&'static str, String>,
}

impl CheckArgs {
    /// What is wrong with the answers, and whether the file declares what its graph makes: TensorRT goes by the one, ONNX
    /// Runtime by the other.
    fn problems(&self, answers: &[Regions], facts: &StudentFacts) -> Vec<String> {
        let mut problems = problems(answers, facts);
        let declared = wordsight_onnx::read(&self.student)
            .map_err(anyhow::Error::from)
            .and_then(|model| Ok(StudentFacts::of_model(&model, &self.student.display().to_string())?));
        match declared {
            Ok(declared) if declared == *facts => {}
            Ok(_) => problems.push("its declared outputs are others than its graph makes".to_owned()),
            Err(error) => problems.push(format!("as it is declared, {error}")),
        }
        problems
    }

    fn run(self) -> anyhow::Result<ExitCode> {
        let mut engine = CpuEngine::open(&self.student, 0)?;
        let facts = engine.facts().clone();
        let (answers, shortest) = answers(&mut engine, &facts)?;
        let checked = Checked {
            input_width: facts.input_width(),
            input_height: facts.input_height(),
            resize: facts.resize.mode.name(),
            resize_filter: facts.resize.filter.name(),
            padding: facts.resize.padding,
            regions: facts.proposals,
            embedding_size: facts.embedding_size,
            scores: match facts.scores {
                ScoreFunction::Softmax { .. } => "softmax",
                ScoreFunction::Sigmoid => "sigmoid",
            },
            outputs: facts.outputs.iter().map(|output| output.name()).collect(),
            examples: facts.region_statistics.is_some()
                && matches!(facts.scores, ScoreFunction::Softmax { .. }),
            milliseconds: 1e3 * shortest.as_secs_f64(),
            problems: self.problems(&answers, &facts),
            unknown_keys: unknown_keys(&self.student),
            unused_keys: unused_keys(&self.student),
            teacher: facts.teacher,
        };
        if self.json {
            print(&(serde_json::to_string_pretty(&checked)? + "\n"))?;
        } else {
            print(&checked.table())?;
        }
        Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Checked {
    fn table(&self) -> String {
        let Self { input_width, input_height, resize, resize_filter, regions, embedding_size, .. } = self;
        let padding =
            if *resize == "stretch" { String::new() } else { format!(", padding {:?}", self.padding) };
        let examples = if self.examples { "takes examples" } else { "takes no examples" };
        let mut table = format!(
            "input       {input_width}x{input_height}, {resize}, {resize_filter}{padding}\n\
             regions     {regions}, embeddings of {embedding_size}\n\
             scores      {}\n\
             outputs     {}\n\
             teacher     {}; {examples}\n\
             speed       {:.1} ms a frame on the processor\n",
            self.scores,
            self.outputs.join(", "),
            self.teacher,
            self.milliseconds
        );
        for key in &self.unknown_keys {
            table += &format!("unknown     the key `{key}` means nothing: is it misspelt?\n");
        }
        for (key, value) in &self.unused_keys {
            table +=
                &format!("unused      `{key}` is {value}, and has no effect on a student of this kind\n");
        }
        for problem in &self.problems {
            table += &format!("wrong       {problem}\n");
        }
        table
            + if self.problems.is_empty() {
                "ok: a student\n"
            } else {
                "docs/bring.md says what a student answers\n"
            }
    }
}

/// Keys of a student's file that begin as its own do and mean nothing.
fn unknown_keys(student: &Path) -> Vec<String> {
    let model = wordsight_onnx::read(student).ok();
    let keys = model.iter().flat_map(|model| &model.metadata_props).map(|entry| &entry.key);
    let unknown =
        keys.filter(|key| key.starts_with("wordsight.") && !StudentFacts::KEYS.contains(&key.as_str()));
    unknown.cloned().collect()
}

/// The longest value of a key that is shown.
const LONGEST_SHOWN: usize = 40;

/// Keys of a student's file that have no effect in it, with their values.
fn unused_keys(student: &Path) -> BTreeMap<&'static str, String> {
    let Ok(model) = wordsight_onnx::read(student) else { return BTreeMap::new() };
    let shown = |key: &str| {
        let value = wordsight_onnx::metadata(&model, key).unwrap_or_default();
        let cut: String = value.chars().take(LONGEST_SHOWN).collect();
        if cut.len() < value.len() { format!("{cut:?}...") } else { format!("{cut:?}") }
    };
    let unused = StudentFacts::unused_keys(&model, &student.display().to_string()).unwrap_or_default();
    unused.into_iter().map(|key| (key, shown(key))).collect()
}

/// What a student answers to a grey frame, soft waves and noise, and the shortest time that it took.
fn answers(engine: &mut CpuEngine, facts: &StudentFacts) -> anyhow::Result<(Vec<Regions>, Duration)> {
    let (width, plane) = (facts.input_width(), facts.input_width() * facts.input_height());
    let waves = |at: usize| {
        let (x, y) = ((at % plane % width) as f32, (at % plane / width) as f32);
        ((0.05 * x).sin() * 60.0 + (0.03 * y + (at / plane) as f32).cos() * 60.0 + 128.0) as u8
    };
    // Knuth's multiplicative hash: looks like noise, and is the same everywhere.
    let noise = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let frames: [&dyn Fn(usize) -> u8; 3] = [&|_| 127, &waves, &noise];
    let (mut answers, mut shortest) = (Vec::new(), Duration::MAX);
    for frame in frames {
        let image: Vec<u8> = (0..3 * plane).map(frame).collect();
        let (mut regions, began) = (Regions::default(), Instant::now());
        engine.infer(&image, &mut regions)?;
        shortest = shortest.min(began.elapsed());
        answers.push(regions);
    }
    Ok((answers, shortest))
}

/// How far an embedding's length may be from 1.
const LENGTH_TOLERANCE: f32 = 1e-2;

/// What no student answers.
fn problems(answers: &[Regions], facts: &StudentFacts) -> Vec<String> {
    let mut problems = Vec::new();
    for output in &facts.outputs {
        let name = output.name();
        let values = || answers.iter().flat_map(|regions| regions.output(*output)).copied();
        if let Some(value) = values().find(|value| !value.is_finite()) {
            // Nothing else that is said of such numbers means anything.
            problems.push(format!("`{name}` has {value} in it"));
            continue;
        }
        if answers.windows(2).all(|pair| pair[0].output(*output) == pair[1].output(*output))
            && !name.starts_with("logit_")
        {
            problems.push(format!(
                "`{name}` is the same for a grey frame, waves and noise: it doesn't depend on the image"
            ));
        }
        let out_of = |range: std::ops::RangeInclusive<f32>| values().find(|value| !range.contains(value));
        match name {
            "objectness" => {
                if let Some(value) = out_of(0.0..=1.0) {
                    problems.push(format!(
                        "`objectness` has {value} in it, and must be from 0 to 1: is the sigmoid missing?"
                    ));
                }
            }
            "logit_scale" => {
                if let Some(value) = out_of(f32::MIN_POSITIVE..=f32::MAX) {
                    problems.push(format!("`logit_scale` has {value} in it, and must be above 0"));
                }
            }
            "text_embeddings" | "image_embeddings" => {
                let lengths = answers.iter().flat_map(|regions| {
                    regions
                        .output(*output)
                        .chunks_exact(facts.embedding_size)
                        .map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt())
                });
                let worst = lengths.max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs())).unwrap_or(1.0);
                if (worst - 1.0).abs() > LENGTH_TOLERANCE {
                    problems.push(format!(
                        "rows of `{name}` must have the length 1, and one has {worst}: divide them by it"
                    ));
                }
            }
            _ => {}
        }
    }
    let are_finite = |regions: &Regions| regions.boxes_in_input.iter().flatten().all(|side| side.is_finite());
    if answers.iter().all(are_finite) {
        problems.extend(problem_of_boxes(answers, facts));
    }
    problems
}

fn problem_of_boxes(answers: &[Regions], facts: &StudentFacts) -> Option<String> {
    let boxes: Vec<[f32; 4]> =
        answers.iter().flat_map(|regions| regions.boxes_in_input.iter().copied()).collect();
    let count = boxes.len().max(1) as f32;
    let share =
        |is: &dyn Fn(&[f32; 4]) -> bool| boxes.iter().filter(|sides| is(sides)).count() as f32 / count;
    let (width, height) = (facts.input_width() as f32, facts.input_height() as f32);
    if share(&|[left, top, right, bottom]| right > left && bottom > top) < 0.5 {
        return Some(
            "most `boxes` have no area: they must be left, top, right, bottom, and not centre and size"
                .to_owned(),
        );
    }
    if share(&|sides| sides.iter().all(|side| side.abs() <= 2.0)) > 0.9 && width.min(height) > 8.0 {
        return Some(
            "`boxes` are within 2 pixels: they must be in pixels of the input, and not in shares of it"
                .to_owned(),
        );
    }
    let is_inside = |[left, top, right, bottom]: &[f32; 4]| {
        *right > 0.0 && *bottom > 0.0 && *left < width && *top < height
    };
    (share(&is_inside) < 0.5).then(|| {
        format!("most `boxes` lie outside of the input, which is {width}x{height}: are they in other pixels?")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_detection::ResizeSettings;
    use wordsight_engines::StudentOutput;

    use super::*;

    fn facts() -> StudentFacts {
        use StudentOutput::{Boxes, LogitScale, LogitShift, Objectness, TextEmbeddings};
        StudentFacts {
            teacher: "t".to_owned(),
            resize: ResizeSettings::letterbox(64, 48),
            outputs: vec![Boxes, Objectness, TextEmbeddings, LogitShift, LogitScale],
            proposals: 2,
            embedding_size: 2,
            scores: ScoreFunction::Sigmoid,
            objectness_weight: 0.5,
            region_statistics: None,
            stated_id: None,
            training: serde_json::Value::Null,
        }
    }

    /// Good answers to two frames.
    fn good() -> Vec<Regions> {
        let answer = |by: f32| Regions {
            boxes_in_input: vec![[by, 2.0, 30.0, 40.0], [20.0, 10.0, 60.0 + by, 48.0]],
            objectness: vec![0.5, 0.1 * by],
            text_embeddings: vec![by.cos(), by.sin(), 0.0, 1.0],
            logit_shift: vec![-by, 0.0],
            logit_scale: vec![3.0, 4.0],
            ..Regions::default()
        };
        vec![answer(1.0), answer(2.0)]
    }

    fn told(change: impl Fn(&mut Regions)) -> String {
        let mut answers = good();
        answers.iter_mut().for_each(change);
        problems(&answers, &facts()).join("; ")
    }

    #[test]
    fn a_student_has_no_problem_and_each_fault_of_an_exporter_has_its_sentence() {
        assert_eq!(told(|_| ()), "");
        for (change, says) in [
            ((|regions| regions.boxes_in_input[0] = [f32::NAN; 4]) as fn(&mut Regions), "`boxes` has NaN"),
            (|regions| regions.objectness[0] = 7.0, "is the sigmoid missing"),
            (|regions| regions.logit_scale[1] = 0.0, "must be above 0"),
            (|regions| regions.text_embeddings[3] = 5.0, "one has 5"),
            (|regions| regions.objectness = vec![0.5, 0.5], "`objectness` is the same"),
            (
                |regions| {
                    regions
                        .boxes_in_input
                        .iter_mut()
                        .for_each(|sides| *sides = [30.0, 30.0, 9.0 + sides[0], 9.0])
                },
                "centre and size",
            ),
            (
                |regions| {
                    regions.boxes_in_input.iter_mut().for_each(|sides| *sides = sides.map(|side| side / 64.0))
                },
                "in shares of it",
            ),
            (
                |regions| {
                    regions
                        .boxes_in_input
                        .iter_mut()
                        .for_each(|sides| *sides = sides.map(|side| side + 500.0))
                },
                "in other pixels",
            ),
        ] {
            let told = told(change);
            assert!(told.contains(says), "{says}: {told}");
        }
    }

    #[test]
    fn what_is_infinite_is_told_once() {
        let faults: [fn(&mut Regions); 4] = [
            |regions| regions.boxes_in_input = vec![[f32::INFINITY; 4]; 2],
            |regions| regions.objectness = vec![f32::INFINITY; 2],
            |regions| regions.logit_scale = vec![f32::INFINITY; 2],
            |regions| regions.text_embeddings = vec![f32::INFINITY; 4],
        ];
        for fault in faults {
            let told = told(fault);
            assert!(told.ends_with("has inf in it") && !told.contains(';'), "{told}");
        }
    }
}
