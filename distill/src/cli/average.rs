//! `wordsight-distill average`: the mean of the weights of several students.
//!
//! Trainings that start from one student end in the same basin of the loss, and the mean of their weights is often
//! better than each: Wortsman et al., Model soups, ICML 2022; between a student and its fine-tuned version, WiSE-FT,
//! CVPR 2022.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use half::f16;
use wordsight_engines::StudentFacts;
use wordsight_files::Content;
use wordsight_onnx::proto::{ElementType, ModelProto, TensorProto};
use wordsight_onnx::{metadata, set_metadata};

/// The background's embedding, which is a weight that stands among the facts.
const BACKGROUND: &str = "wordsight.background";
/// Facts that students must share for their weights to mean the same.
const SHARED_FACTS: [&str; 3] = ["wordsight.format", "wordsight.teacher", "wordsight.sizes"];

/// Arguments of `average`.
#[derive(Args)]
pub struct Arguments {
    /// Students that `export` wrote in float, all trained from one. Temperature and the other facts are the first's.
    #[arg(required = true, num_args = 2..)]
    students: Vec<PathBuf>,
    /// The student to write.
    #[arg(long, short)]
    output: PathBuf,
}

/// Writes the mean of students.
pub fn run(arguments: &Arguments) -> Result<()> {
    let paths = &arguments.students;
    super::inputs(paths.iter().map(Some)).check(&arguments.output, Content::Onnx)?;
    let mut students =
        paths.iter().map(|path| Ok(wordsight_onnx::read(path)?)).collect::<Result<Vec<_>>>()?;
    let mut mean = students.remove(0);
    for (place, (other, path)) in students.iter().zip(&paths[1..]).enumerate() {
        // Of n students before it each weighs n / (n + 1) of what it did.
        let share = 1.0 / (place as f32 + 2.0);
        mix(&mut mean, other, share)
            .with_context(|| format!("{} and {} can't be averaged", paths[0].display(), path.display()))?;
    }
    let background = background_of(&mean)?;
    let length = background.iter().map(|x| x * x).sum::<f32>().sqrt();
    ensure!(length > 0.0, "the students' {BACKGROUND} cancel each other out");
    set_background(&mut mean, background.iter().map(|x| x / length))?;
    // The mean's regions are others: `measure-regions` says which.
    set_metadata(&mut mean, StudentFacts::REGION_STATISTICS, None);
    wordsight_onnx::write(&mean, &arguments.output)?;
    println!("{}: the mean of {} students", arguments.output.display(), paths.len());
    Ok(())
}

/// Moves a student's weights by `share` of the way to another's.
fn mix(student: &mut ModelProto, other: &ModelProto, share: f32) -> Result<()> {
    for fact in SHARED_FACTS {
        let [own, others] = [&*student, other].map(|model| metadata(model, fact));
        ensure!(own.is_some(), "the first is no student: it has no {fact}");
        ensure!(own == others, "their {fact} differs: they weren't trained from one student");
    }
    mix_background(student, other, share)?;
    let (Some(own), Some(graph)) = (&mut student.graph, &other.graph) else { bail!("one has no graph") };
    let is_same = own.node == graph.node && own.initializer.len() == graph.initializer.len();
    ensure!(is_same, "their graphs differ: export both again with this program");
    let others: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for tensor in &mut own.initializer {
        let other =
            others.get(tensor.name.as_str()).with_context(|| format!("{} is missing", tensor.name))?;
        mix_tensor(tensor, other, share)?;
    }
    Ok(())
}

fn background_of(student: &ModelProto) -> Result<Vec<f32>> {
    let text = metadata(student, BACKGROUND).with_context(|| format!("there is no {BACKGROUND}"))?;
    serde_json::from_str(text).with_context(|| format!("{BACKGROUND} is no list of numbers"))
}

fn set_background(student: &mut ModelProto, background: impl Iterator<Item = f32>) -> Result<()> {
    let background: Vec<f32> = background.collect();
    if let Some(entry) = student.metadata_props.iter_mut().find(|entry| entry.key == BACKGROUND) {
        entry.value = serde_json::to_string(&background)?;
    }
    Ok(())
}

/// Leaves the background as long as it comes out: it is normalised when all students are in it.
fn mix_background(student: &mut ModelProto, other: &ModelProto, share: f32) -> Result<()> {
    let (own, others) = (background_of(student)?, background_of(other)?);
    ensure!(own.len() == others.len(), "their {BACKGROUND} differs in length");
    set_background(student, own.iter().zip(&others).map(|(a, b)| a + (b - a) * share))
}

fn mix_tensor(tensor: &mut TensorProto, other: &TensorProto, share: f32) -> Result<()> {
    if tensor == other {
        return Ok(());
    }
    let name = &tensor.name;
    ensure!(tensor.dims == other.dims && tensor.data_type == other.data_type, "{name} differs in its shape");
    ensure!(tensor.raw_data.len() == other.raw_data.len(), "{name} differs in its length");
    let mixed = |a: f32, b: f32| a + (b - a) * share;
    let (own, others) = (&mut tensor.raw_data, &other.raw_data);
    match ElementType::try_from(tensor.data_type) {
        Ok(ElementType::Float) => {
            for (own, other) in own.as_chunks_mut::<4>().0.iter_mut().zip(others.as_chunks::<4>().0) {
                *own = mixed(f32::from_le_bytes(*own), f32::from_le_bytes(*other)).to_le_bytes();
            }
        }
        Ok(ElementType::Float16) => {
            let wide = |bytes: &[u8; 2]| f16::from_le_bytes(*bytes).to_f32();
            for (own, other) in own.as_chunks_mut::<2>().0.iter_mut().zip(others.as_chunks::<2>().0) {
                *own = f16::from_f32(mixed(wide(own), wide(other))).to_le_bytes();
            }
        }
        _ => {
            bail!("{name} holds other whole numbers: average students in float, and quantize what comes out")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use wordsight_onnx::{Graph, Storage};

    use super::*;

    /// A student of one layer whose weights are all `weight`, with a background.
    fn student(weight: f32, background: &str, sizes: &str) -> ModelProto {
        let mut graph = Graph::new("student", Storage::F16);
        let image = graph.input("image", ElementType::Float, &[1, 64]);
        let weights = graph.floats(&[64, 64], &[weight; 64 * 64]);
        let bias = graph.floats(&[64], &[weight; 64]);
        let output = graph.linear(&image, &weights, &bias);
        graph.output(&output, "boxes", ElementType::Float, &[1, 64]);
        graph.into_model(&[
            ("wordsight.format", "1".to_owned()),
            ("wordsight.teacher", "made up".to_owned()),
            ("wordsight.sizes", sizes.to_owned()),
            ("wordsight.temperature", weight.to_string()),
            (BACKGROUND, background.to_owned()),
        ])
    }

    fn written(folder: &Path, name: &str, student: &ModelProto) -> PathBuf {
        let path = folder.join(name);
        wordsight_onnx::write(student, &path).unwrap();
        path
    }

    fn averaged(students: &[ModelProto]) -> Result<ModelProto> {
        let folder = tempfile::tempdir().unwrap();
        let name = |place: usize| format!("{place}.onnx");
        let students = students.iter().enumerate();
        let students =
            students.map(|(place, student)| written(folder.path(), &name(place), student)).collect();
        let output = folder.path().join("mean.onnx");
        run(&Arguments { students, output: output.clone() })?;
        Ok(wordsight_onnx::read(&output)?)
    }

    #[test]
    fn the_mean_of_students_is_that_of_their_weights_and_keeps_the_firsts_facts() {
        let students = [(1.0, "[1.0,0.0]"), (2.0, "[0,1]"), (6.0, "[1,0]")];
        let students = students.map(|(weight, background)| student(weight, background, "{}"));
        for count in [2, 3] {
            let mean = averaged(&students[..count]).unwrap();
            let expected = student([1.5, 3.0][count - 2], "[]", "{}").graph;
            assert_eq!(mean.graph, expected, "{count} students");
            assert_eq!(metadata(&mean, "wordsight.temperature"), Some("1"));
            let background: Vec<f32> = serde_json::from_str(metadata(&mean, BACKGROUND).unwrap()).unwrap();
            let wanted = [[0.5_f32.sqrt(); 2], [2.0 / 5.0_f32.sqrt(), 1.0 / 5.0_f32.sqrt()]][count - 2];
            assert!(background.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{background:?}");
        }
        assert_eq!(averaged(&[students[0].clone(), students[0].clone()]).unwrap(), students[0]);
    }

    #[test]
    fn students_whose_weights_mean_something_else_are_refused_with_the_reason() {
        let refused =
            |other: ModelProto| format!("{:#}", averaged(&[student(1.0, "[1,0]", "{}"), other]).unwrap_err());
        assert!(refused(student(1.0, "[1,0]", "{\"input_size\":64}")).contains("wordsight.sizes differs"));
        assert!(refused(student(1.0, "[1,0,0]", "{}")).contains("wordsight.background differs"));
        assert!(refused(student(1.0, "[-1,0]", "{}")).contains("cancel each other out"));
        let mut deeper = student(1.0, "[1,0]", "{}");
        deeper.graph.as_mut().unwrap().node.pop();
        assert!(refused(deeper).contains("graphs differ"));
        let mut integers = student(1.0, "[1,0]", "{}");
        let weights = &mut integers.graph.as_mut().unwrap().initializer[0];
        weights.data_type = ElementType::Int8 as i32;
        assert!(refused(integers).contains("differs in its shape"));
    }
}
