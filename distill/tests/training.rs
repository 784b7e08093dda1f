//! Training on a small made-up cache: it learns, and it can be stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wordsight_distill::coco::{Annotation, Category, Dataset, Image};
use wordsight_distill::device::TrainDevice;
use wordsight_distill::embed::Embedded;
use wordsight_distill::features::{Cache, Manifest};
use wordsight_distill::student::{BACKBONE_CHANNELS, Head, STRIDES, Student, StudentConfig};
use wordsight_distill::train::{self, Checkpoint, Learn, Material, Optimizer, TrainConfig};
use wordsight_teacher::efficientnet::{Classifier, FoldedConvolution};

const SIDE: usize = 64;
const EMBEDDING: usize = 8;
const SCENES: usize = 440;
/// The teacher looked at the first of the scenes only.
const EMBEDDED: u64 = 100;
const WORDS: usize = 4;

fn unit(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row: Vec<f32> = (0..EMBEDDING).map(|_| rng.random_range(-1.0..1.0)).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / length).collect()
}

/// Scenes with one object each, whose features are bright where the object is, and the teacher's
/// embedding of the objects in some of them.
fn write_cache(folder: &Path) -> (Cache, Embedded) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let words: Vec<Vec<f32>> = (0..WORDS).map(|_| unit(&mut rng)).collect();
    let mut dataset = Dataset {
        categories: (1..=WORDS as u64).map(|id| Category { id, name: format!("word {id}") }).collect(),
        ..Dataset::default()
    };
    let bytes =
        |rows: &[f32]| -> Vec<u8> { rows.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect() };
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
        if id > EMBEDDED {
            continue;
        }
        let [x1, y1, x2, y2] = [x, y, x + 32.0, y + 32.0];
        let boxes = [[x1, y1, x2, y2], [0.0; 4]];
        teacher.extend(boxes.iter().flatten().flat_map(|side: &f32| side.to_le_bytes()));
        teacher.extend(bytes(&words[category_id as usize - 1]));
        teacher.extend(bytes(&[0.0; EMBEDDING]));
    }
    let manifest = Manifest { input_size: SIDE, images: SCENES, content: "made up".to_owned() };
    fs::write(folder.join("features.f16"), bytes(&features)).unwrap();
    fs::write(folder.join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    dataset.save(&folder.join("annotations.json")).unwrap();

    let embeddings = folder.join("embeddings");
    fs::create_dir(&embeddings).unwrap();
    let manifest = serde_json::json!({
        "per_image": 2, "images": EMBEDDED, "proposals": "made up", "teacher": "made up", "embedding_size": EMBEDDING,
    });
    fs::write(embeddings.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(embeddings.join("embeddings.bin"), teacher).unwrap();
    dataset.images.truncate(EMBEDDED as usize);
    Dataset { images: dataset.images, ..Dataset::default() }.save(&embeddings.join("images.json")).unwrap();
    (Cache::open(folder).unwrap(), Embedded::open(&embeddings).unwrap())
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
    student_with(None)
}

/// A student, or one with a fresh region head.
fn student_with(head: Option<Head>) -> Student {
    student_on(&Device::flex().autodiff(), head)
}

fn student_on(device: &Device, head: Option<Head>) -> Student {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.1..0.1)).collect() };
    let convolution =
        FoldedConvolution { shape: [12, 320, 1, 1], weight: numbers(12 * 320), bias: numbers(12) };
    let classifier = Classifier { classes: 5, features: 12, weight: numbers(60), bias: numbers(5) };
    let names: Vec<Vec<f32>> = (0..5).map(|_| unit(&mut rng)).collect();
    device.seed(1);
    let student = Student::new(&student_config(), &convolution, &classifier, &names, device).unwrap();
    match head {
        Some(head) => student.with_fresh_head(&student_config(), &convolution, head, WORDS, device),
        None => student,
    }
}

fn train(student: Student, config: &TrainConfig, lessons: &(Cache, Embedded), folder: &Path, stop: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let words: Vec<Vec<f32>> = (0..WORDS).map(|_| unit(&mut rng)).collect();
    let material = Material { cache: &lessons.0, embedded: Some(&lessons.1), words: &words };
    train::train(student, &student_config(), config, material, folder, &AtomicBool::new(stop)).unwrap();
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
        [&whole, &parts].map(|run| weights(&Checkpoint::open(run).unwrap().student(run, student()).unwrap()));
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

#[test]
fn every_head_learns_from_its_own_losses() {
    let folder = tempfile::tempdir().unwrap();
    let lessons = write_cache(folder.path());
    for head in Head::ALL {
        let config = TrainConfig {
            learn: Learn::Regions,
            fresh_head: Some(head),
            optimizer: if head == Head::Vild { Optimizer::Sgd } else { Optimizer::AdamW },
            learning_rate: if head == Head::Vild { 0.05 } else { 5e-3 },
            steps: 75,
            batch: 8,
            warm_up: 2,
            ..TrainConfig::default()
        };
        let run = folder.path().join(head.name());
        let untrained = student_with(Some(head));
        let before = weights(&untrained);
        train(untrained, &config, &lessons, &run, false);
        let metrics = Checkpoint::resume(&run, &config).unwrap().metrics;
        let (first, last) = (metrics.first().unwrap(), metrics.last().unwrap());
        let (words, crops) = (head != Head::VildImage, !matches!(head, Head::Supervised | Head::VildText));
        assert_eq!((last.text > 0.0, last.image > 0.0), (words, crops), "{}", head.name());
        assert_eq!((last.objectness, last.boxes), (0.0, 0.0), "proposals stay as they are");
        assert!(!words || last.text < first.text, "{}: text {} to {}", head.name(), first.text, last.text);
        assert!(
            !crops || last.image < first.image,
            "{}: image {} to {}",
            head.name(),
            first.image,
            last.image
        );
        let trained = Checkpoint::open(&run).unwrap().student(&run, student_with(Some(head))).unwrap();
        assert_ne!(before, weights(&trained));
    }
}

#[test]
fn a_head_that_learns_crops_is_not_trained_without_them() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = write_cache(folder.path());
    let config = TrainConfig { steps: 1, fresh_head: Some(Head::Vild), ..TrainConfig::default() };
    let words = vec![vec![1.0; EMBEDDING]; WORDS];
    let material = Material { cache: &cache, embedded: None, words: &words };
    let run = folder.path().join("run");
    let student = student_with(config.fresh_head);
    let stop = AtomicBool::new(false);
    let error =
        train::train(student, &student_config(), &config, material, &run, &stop).unwrap_err().to_string();
    assert!(error.contains("vild") && error.contains("--embeddings"), "{error}");
}

#[test]
fn a_gpu_learns_what_the_processor_does() {
    let gpu = match TrainDevice::Cuda(0).open() {
        Ok(gpu) => gpu,
        Err(reason) => {
            // Not by println!, which the test runner keeps to itself when a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {reason:#}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = write_cache(folder.path());
    let config = TrainConfig { steps: 20, batch: 4, warm_up: 2, ..TrainConfig::default() };
    let start = folder.path().join("start.bpk");
    student().save(&start).unwrap();
    let [on_cpu, on_gpu] = [Device::flex().autodiff(), gpu].map(|device| {
        let place = tempfile::tempdir().unwrap();
        train(student_on(&device, None).load(&start).unwrap(), &config, &cache, place.path(), false);
        let last = Checkpoint::open(place.path()).unwrap().metrics.pop().unwrap();
        [last.objectness, last.boxes, last.refined, last.text, last.image]
    });
    for (cpu, gpu) in on_cpu.into_iter().zip(on_gpu) {
        assert!((cpu - gpu).abs() <= 0.02 * cpu.abs(), "{on_cpu:?} {on_gpu:?}");
    }
}
