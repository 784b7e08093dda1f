//! Training on a small made-up cache: it learns, and it can be stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wordsight_distill::coco::{Annotation, Category, Dataset, Image};
use wordsight_distill::features::{Cache, Manifest};
use wordsight_distill::student::{BACKBONE_CHANNELS, STRIDES, Student, StudentConfig};
use wordsight_distill::train::{self, Checkpoint, TrainConfig};
use wordsight_teacher::efficientnet::{Classifier, FoldedConvolution};

const SIDE: usize = 64;
const EMBEDDING: usize = 8;
const SCENES: usize = 440;
const WORDS: usize = 4;

fn unit(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row: Vec<f32> = (0..EMBEDDING).map(|_| rng.random_range(-1.0..1.0)).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / length).collect()
}

/// Scenes with one object each, whose features are bright where the object is.
fn write_cache(folder: &Path) -> Cache {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let words: Vec<Vec<f32>> = (0..WORDS).map(|_| unit(&mut rng)).collect();
    let mut dataset = Dataset {
        categories: (1..=WORDS as u64).map(|id| Category { id, name: format!("word {id}") }).collect(),
        ..Dataset::default()
    };
    let (mut features, mut teacher) = (Vec::new(), Vec::new());
    for id in 1..=SCENES as u64 {
        let (x, y) = (rng.random_range(0.0..24.0_f32), rng.random_range(0.0..24.0_f32));
        let category_id = rng.random_range(1..=WORDS as u64);
        dataset.images.push(Image {
            id,
            file_name: format!("{id}.jpg"),
            width: SIDE as u32,
            height: SIDE as u32,
            exhaustive: true,
        });
        let bbox = [x, y, 32.0, 32.0];
        dataset.annotations.push(Annotation {
            id,
            image_id: id,
            category_id,
            bbox,
            area: 1024.0,
            iscrowd: 0,
        });
        for (stride, channels) in STRIDES.into_iter().zip(BACKBONE_CHANNELS) {
            let grid = SIDE / stride;
            for at in 0..channels * grid * grid {
                let (cx, cy) = ((at % grid * stride) as f32, (at / grid % grid * stride) as f32);
                let inside = cx + 4.0 > x && cx < x + 32.0 && cy + 4.0 > y && cy < y + 32.0;
                features.push(if inside { 1.0 } else { -0.2 } + rng.random_range(-0.1..0.1));
            }
        }
        teacher.extend(&words[category_id as usize - 1]);
    }
    let manifest = Manifest {
        input_size: SIDE,
        embedding_size: EMBEDDING,
        teacher: "made up".to_owned(),
        images: SCENES,
        annotations: SCENES,
    };
    let bytes =
        |rows: &[f32]| -> Vec<u8> { rows.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect() };
    fs::write(folder.join("features.f16"), bytes(&features)).unwrap();
    fs::write(folder.join("teacher.f16"), bytes(&teacher)).unwrap();
    fs::write(folder.join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    dataset.save(&folder.join("annotations.json")).unwrap();
    Cache::open(folder).unwrap()
}

fn student_config() -> StudentConfig {
    StudentConfig {
        input_size: SIDE,
        pyramid_channels: 8,
        region_width: 16,
        embedding_size: EMBEDDING,
        proposals: 40,
    }
}

fn student() -> Student {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.1..0.1)).collect() };
    let head = FoldedConvolution { shape: [12, 320, 1, 1], weight: numbers(12 * 320), bias: numbers(12) };
    let classifier = Classifier { classes: 5, features: 12, weight: numbers(60), bias: numbers(5) };
    let names: Vec<Vec<f32>> = (0..5).map(|_| unit(&mut rng)).collect();
    let device = Device::flex().autodiff();
    device.seed(1);
    Student::new(&student_config(), &head, &classifier, &names, &device).unwrap()
}

fn train(student: Student, config: &TrainConfig, cache: &Cache, folder: &Path, stop: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let words: Vec<Vec<f32>> = (0..WORDS).map(|_| unit(&mut rng)).collect();
    train::train(student, &student_config(), config, cache, &words, folder, &AtomicBool::new(stop)).unwrap();
}

#[test]
fn a_training_killed_and_resumed_learns_what_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let cache = write_cache(folder.path());
    let config =
        TrainConfig { steps: 12, batch: 4, warm_up: 2, checkpoint_every: 5, ..TrainConfig::default() };

    let start = student();
    let whole = folder.path().join("whole");
    train(start.clone(), &config, &cache, &whole, false);

    // The flag stops after one step, with a checkpoint; then the run goes on from it.
    let parts = folder.path().join("parts");
    train(start, &config, &cache, &parts, true);
    assert_eq!(Checkpoint::resume(&parts, &config).unwrap().step, 1);
    train(student(), &config, &cache, &parts, false);

    let [whole_state, parts_state] = [&whole, &parts].map(|run| Checkpoint::resume(run, &config).unwrap());
    assert_eq!((whole_state.step, parts_state.step), (12, 12));
    let last = |state: &Checkpoint| state.metrics.last().unwrap().clone();
    assert!((last(&whole_state).objectness - last(&parts_state).objectness).abs() < 1e-4);
    let [whole, parts] =
        [&whole, &parts].map(|run| weights(&Checkpoint::finished(run, student()).unwrap().0));
    assert_eq!(whole.len(), parts.len());
    let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-6, "the weights are apart by {apart}");
}

/// All numbers that a student learns.
fn weights(student: &Student) -> Vec<f32> {
    struct Numbers(Vec<f32>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut numbers = Numbers(Vec::new());
    student.visit(&mut numbers);
    numbers.0
}

#[test]
fn training_finds_the_bright_objects() {
    let folder = tempfile::tempdir().unwrap();
    let cache = write_cache(folder.path());
    let config = TrainConfig { steps: 150, batch: 8, warm_up: 10, ..TrainConfig::default() };
    let run = folder.path().join("run");
    train(student(), &config, &cache, &run, false);
    assert!(run.join("training.svg").is_file());
    let metrics = Checkpoint::resume(&run, &config).unwrap().metrics;
    let (first, last) = (metrics.first().unwrap(), metrics.last().unwrap());
    assert!(last.boxes < 0.75 * first.boxes, "box loss from {} to {}", first.boxes, last.boxes);
    let recall = last.recall_of_ten.unwrap();
    assert!(recall > 0.8, "ten proposals cover {recall} of the objects");
}

#[test]
fn a_run_with_other_settings_is_not_resumed_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let cache = write_cache(folder.path());
    let config = TrainConfig { steps: 1, batch: 4, ..TrainConfig::default() };
    let run = folder.path().join("run");
    train(student(), &config, &cache, &run, false);
    let other = TrainConfig { learning_rate: 0.5, ..config };
    let error = Checkpoint::resume(&run, &other).unwrap_err().to_string();
    assert!(error.contains("other settings"), "{error}");
}
