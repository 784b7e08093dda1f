//! Training on small made-up pictures: it learns, it can be stopped, and it changes only what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};
use support::made_up::{self, SIDE, sizes, student, weights_of};
use wordsight_distill::device::TrainDevice;
use wordsight_distill::sets::Sets;
use wordsight_distill::student::{Backbone, Features, Head, Student, TrainFrom};
use wordsight_distill::train::{self, Checkpoint, Learn, Material, Metrics, Optimizer, TrainConfig};
use wordsight_standin::pth;

/// A folder of made-up sets.
struct Lessons {
    folder: tempfile::TempDir,
    material: Material,
}

impl Lessons {
    fn new() -> Self {
        Self::made(true)
    }

    fn made(with_teacher: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [sets, validation] =
            made_up::write_sets(folder.path(), with_teacher).map(|path| Arc::new(Sets::load(&path).unwrap()));
        let material = Material {
            sets,
            validation: Some(validation),
            words: made_up::words(),
            validation_words: made_up::words(),
            box_teacher: None,
            pretrained: None,
            threads: 1,
            cache_bytes: 1 << 20,
        };
        Self { folder, material }
    }

    fn path(&self, run: &str) -> PathBuf {
        self.folder.path().join(run)
    }

    /// Trains in a folder of this name, until the end or for one step.
    fn train(&self, student: Student, config: &TrainConfig, run: &str, stop: bool) -> Checkpoint {
        let stop = AtomicBool::new(stop);
        train::train(student, &sizes(), config, &self.material, &self.path(run), &stop).unwrap()
    }

    /// The weights as a run left them, and their moving average.
    fn weights(&self, run: &str, head: Option<Head>) -> [Student; 2] {
        let folder = self.path(run);
        let last = student(head).load(&folder.join("checkpoint/student.bpk")).unwrap();
        let averaged = Checkpoint::open(&folder).unwrap().student(&folder, student(head)).unwrap();
        [last, averaged]
    }
}

fn config(steps: usize) -> TrainConfig {
    TrainConfig {
        steps,
        batch: 8,
        warm_up: 2,
        sides: vec![SIDE],
        train_from: TrainFrom::Stem,
        ..TrainConfig::default()
    }
}

#[test]
fn a_training_killed_and_resumed_learns_what_an_uninterrupted_one_does() {
    let mut lessons = Lessons::new();
    let backbone = Backbone::pretrained(&made_up::backbone_weights(), &Device::flex()).unwrap();
    lessons.material.pretrained = Some(backbone);
    let config = TrainConfig { checkpoint_every: 5, sides: vec![64, 96], ..config(12) };
    let whole = lessons.train(student(None), &config, "whole", false);

    // The flag stops after one step, with a checkpoint; then the run goes on from it.
    assert_eq!(lessons.train(student(None), &config, "parts", true).step, 1);
    let parts = lessons.train(student(None), &config, "parts", false);
    assert_eq!((whole.step, parts.step), (12, 12));
    let [whole_line, parts_line] = [&whole, &parts].map(|run| run.metrics.last().unwrap());
    let measured = |line: &Metrics| (line.recall_of_ten, line.average_recall, line.named);
    assert_eq!(measured(whole_line), measured(parts_line));
    assert!(whole_line.forgotten > 0.0, "the classifier is held to what it said before training");

    let [whole, parts] = ["whole", "parts"].map(|run| lessons.weights(run, None).map(|s| weights_of(&s)));
    assert!(whole[0] != weights_of(&student(None)), "it learnt nothing");
    assert!(whole == parts, "the weights differ");
}

/// At a temperature that a student of a few channels can learn at.
const TEMPERATURE: f32 = 0.1;

#[test]
fn training_finds_the_rectangles() {
    let lessons = Lessons::new();
    let config = TrainConfig {
        plain_share: 1.0,
        learning_rate: 8e-3,
        backbone_rate: 0.3,
        warm_up: 40,
        temperature: TEMPERATURE,
        average_decay: 0.98,
        image_weight: 1.0,
        // A head of so few channels has none to spare.
        dropout: 0.0,
        ..config(200)
    };
    let metrics = lessons.train(student(None), &config, "run", false).metrics;
    assert!(lessons.path("run/training.svg").is_file());
    let (first, last) = (metrics.first().unwrap(), metrics.last().unwrap());
    for (what, first, last) in [
        ("box", first.boxes, last.boxes),
        ("objectness", first.objectness, last.objectness),
        ("text", first.text, last.text),
        ("image", first.image, last.image),
    ] {
        assert!(last < 0.75 * first, "{what} loss from {first} to {last}");
    }
    let recall = last.recall_of_ten.unwrap();
    assert!(recall > 0.8, "ten proposals cover {recall} of the objects");
    assert!(last.average_recall.is_some() && last.named.is_some(), "{last:?}");
}

#[test]
fn a_run_with_other_settings_is_not_resumed_by_mistake() {
    let lessons = Lessons::new();
    let config = config(1);
    lessons.train(student(None), &config, "run", false);
    let other = TrainConfig { learning_rate: 0.5, ..config };
    let error = Checkpoint::resume(&lessons.path("run"), &other).unwrap_err().to_string();
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn every_head_learns_from_its_own_losses_and_nothing_else_changes() {
    let lessons = Lessons::new();
    for head in Head::ALL {
        let is_sgd = head == Head::Vild;
        let config = TrainConfig {
            learn: Learn::Regions,
            temperature: TEMPERATURE,
            fresh_head: Some(head),
            optimizer: if is_sgd { Optimizer::Sgd } else { Optimizer::AdamW },
            learning_rate: if is_sgd { 0.05 } else { 5e-3 },
            plain_share: 1.0,
            ..config(75)
        };
        let metrics = lessons.train(student(Some(head)), &config, head.name(), false).metrics;
        let (first, last) = (metrics.first().unwrap(), metrics.last().unwrap());
        let (words, crops) = (head != Head::VildImage, !matches!(head, Head::Supervised | Head::VildText));
        assert_eq!((last.text > 0.0, last.image > 0.0), (words, crops), "{}", head.name());
        assert_eq!((last.objectness, last.boxes), (0.0, 0.0), "proposals stay as they are");
        for (learns, first, last) in [(words, first.text, last.text), (crops, first.image, last.image)] {
            assert!(!learns || last < first, "{}: from {first} to {last}", head.name());
        }
        let (before, [trained, _]) = (student(Some(head)), lessons.weights(head.name(), Some(head)));
        assert_ne!(weights_of(&before.regions), weights_of(&trained.regions), "{}", head.name());
        let rest = |student: &Student| {
            [weights_of(&student.backbone), weights_of(&student.neck), weights_of(&student.proposals)]
        };
        assert!(rest(&before) == rest(&trained), "{}", head.name());
        assert_eq!(weights_of(&before.refiner), weights_of(&trained.refiner), "{}", head.name());
    }
}

#[test]
fn a_fresh_head_that_learns_crops_is_not_trained_without_them() {
    let lessons = Lessons::made(false);
    let config = TrainConfig { fresh_head: Some(Head::Vild), ..config(1) };
    let (student, stop) = (student(config.fresh_head), AtomicBool::new(false));
    let error = train::train(student, &sizes(), &config, &lessons.material, &lessons.path("run"), &stop);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("vild") && error.contains("wordsight-distill embed"), "{error}");
}

/// The stem's weights, and each block's with its stride.
fn parts_of(backbone: &Backbone) -> Vec<(usize, Vec<f32>)> {
    let mut stride = 2;
    let mut parts = vec![(1, weights_of(&backbone.stem))];
    for block in &backbone.blocks {
        stride *= block.depthwise.convolution.stride;
        parts.push((stride, weights_of(block)));
    }
    parts
}

#[test]
fn what_lies_before_the_first_layer_that_trains_stays_exactly_as_it_was() {
    let lessons = Lessons::new();
    for (from, least_stride) in
        [(TrainFrom::Stem, 1), (TrainFrom::Stride16, 16), (TrainFrom::Heads, usize::MAX)]
    {
        let config = TrainConfig { train_from: from, ..config(4) };
        let run = format!("{from:?}");
        // Stopped and resumed, so that a checkpoint's weights are no other layers'.
        lessons.train(student(None), &config, &run, true);
        lessons.train(student(None), &config, &run, false);
        let before = student(None);
        for trained in lessons.weights(&run, None) {
            let pairs = parts_of(&before.backbone).into_iter().zip(parts_of(&trained.backbone));
            for ((stride, before), (_, after)) in pairs {
                assert_eq!(before == after, stride < least_stride, "{from:?}: a block of stride {stride}");
            }
            let changes = |a: Vec<f32>, b: Vec<f32>| a != b;
            assert!(
                changes(weights_of(&before.backbone.detail), weights_of(&trained.backbone.detail)),
                "{from:?}"
            );
            assert!(changes(weights_of(&before.neck), weights_of(&trained.neck)), "{from:?}");
            // The classifier behind the region head never trains.
            assert_eq!(weights_of(&before.regions.cells), weights_of(&trained.regions.cells));
            assert_eq!(weights_of(&before.regions.mixture), weights_of(&trained.regions.mixture));
        }
    }
}

/// The student as it was before detail branches: all of it is one backbone.
fn without_detail_branch(mut student: Student) -> Student {
    student.backbone.detail = Vec::new();
    student.neck.detail = None;
    student
}

#[test]
fn a_student_that_gets_a_detail_branch_keeps_what_it_learnt_of_fine_strides_there() {
    let pretrained = student(None).backbone;
    let mut trained = without_detail_branch(student(None));
    // Of stride 8 on: what a training of --train-from stride8 changes.
    for block in &mut trained.backbone.blocks[3..] {
        block.project.bias = block.project.bias.clone().map(|bias| bias.add_scalar(0.1));
    }
    let image = Tensor::<4>::ones([1, SIDE, SIDE, 3], &trained.device());
    let maps = |features: Features| features.maps.map(|map| map.into_data().iter().collect::<Vec<f32>>());
    let [fine, ..] = maps(trained.backbone.forward(image.clone()));
    let [_, middle, coarse] = maps(pretrained.forward(image.clone()));
    let with_branch = trained.with_detail_branch(Backbone { detail: Vec::new(), ..pretrained });
    let features = with_branch.backbone.forward(image.clone());
    assert!(features.detail.is_some());
    let [its_fine, its_middle, its_coarse] = maps(features);
    assert_eq!(its_fine, fine);
    assert_eq!((its_middle, its_coarse), (middle, coarse), "the classifier's");
    let map = |student: &Student| {
        let features = student.backbone.forward(image.clone());
        student.neck.forward(&features).1.into_data().iter().collect::<Vec<f32>>()
    };
    let mut without = with_branch.clone();
    without.neck.detail = None;
    assert_eq!(map(&with_branch), map(&without), "the branch adds nothing to stride 16 before training");
}

#[test]
fn proposals_are_learnt_without_a_change_to_the_region_head() {
    let lessons = Lessons::new();
    lessons.train(student(None), &TrainConfig { learn: Learn::Proposals, ..config(2) }, "run", false);
    let (before, [trained, _]) = (student(None), lessons.weights("run", None));
    assert_eq!(weights_of(&before.regions), weights_of(&trained.regions));
    assert_ne!(weights_of(&before.refiner), weights_of(&trained.refiner));
}

#[test]
fn a_gpu_learns_what_the_processor_does() {
    let gpu = match TrainDevice::Cuda(0).open() {
        Ok(gpu) => gpu,
        Err(reason) => {
            return support::skipping::skip_anywhere(&format!("SKIPPED: training on a GPU: {reason:#}"));
        }
    };
    let lessons = Lessons::new();
    let start = lessons.path("start.bpk");
    student(None).save(&start).unwrap();
    let devices = [("cpu", Device::flex().autodiff()), ("gpu", gpu)];
    let [on_cpu, on_gpu] = devices.map(|(run, device)| {
        let student = made_up::student_on(&device, None).load(&start).unwrap();
        let last = lessons.train(student, &config(20), run, false).metrics.pop().unwrap();
        [last.objectness, last.boxes, last.refined, last.text, last.image]
    });
    for (cpu, gpu) in on_cpu.into_iter().zip(on_gpu) {
        assert!((cpu - gpu).abs() <= 0.02 * cpu.abs(), "{on_cpu:?} {on_gpu:?}");
    }
}

/// `train` and `export` as a program, on made-up sets, with the tiny CLIP of the teacher's tests and the real backbone.
struct Program {
    folder: tempfile::TempDir,
    backbone: PathBuf,
}

impl Program {
    fn new() -> Option<Self> {
        support::needed(".deps/onnxruntime/libonnxruntime.so.1", "run `make deps` first")?;
        let backbone = support::needed(".deps/efficientnet-lite0.pth", "run `make host-deps` first")?;
        let folder = tempfile::tempdir().unwrap();
        made_up::write_sets(folder.path(), false);
        Some(Self { folder, backbone })
    }

    fn run(&self, command: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .args(command.split(' '))
            .arg("--teacher")
            .arg(support::checkout("teacher/tests/fixtures/clip"))
            .arg("--backbone")
            .arg(&self.backbone)
            .env("ORT_DYLIB_PATH", support::checkout(".deps/onnxruntime/libonnxruntime.so.1"))
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn succeed(&self, command: &str) {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Trains so that nothing changes: what is left is what it started from.
    fn train_nothing(&self, more: &str) {
        let settings = "--steps 1 --batch 4 --sides 96 --learning-rate 0 --warm-up 0";
        self.succeed(&format!("train --sets sets.toml {settings} {more}"));
    }

    fn averaged(&self, run: &str) -> Student {
        let folder = self.folder.path().join(run);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let sizes = checkpoint.sizes(&folder).unwrap();
        let weights = pth::read_pth(&self.backbone).unwrap();
        let device = Device::flex();
        let names = vec![vec![0.0; sizes.embedding_size]; 1000];
        let student = Student::new(&sizes, &weights, &names, &device).unwrap();
        let student = match checkpoint.config.fresh_head {
            Some(head) => {
                let words = checkpoint.words.len();
                wordsight_distill::start::with_fresh_head(student, &sizes, &weights, head, words).unwrap()
            }
            None => student,
        };
        checkpoint.student(&folder, student).unwrap()
    }
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f32::max)
}

#[test]
fn a_torn_picture_ends_a_training_by_name_or_is_left_out_by_name() {
    let Some(program) = Program::new() else { return };
    let torn = program.folder.path().join("images/seen-3.png");
    let whole = fs::read(&torn).unwrap();
    fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let sizes = "--neck-channels 8 --tower-depth 1 --region-width 16";
    // All 56 photographs are in the first batches.
    let train = format!("train --sets sets.toml --steps 8 --batch 8 --sides 96 --warm-up 0 {sizes}");
    let ended = program.run(&format!("{train} -o ended"));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && told.contains("seen-3.png") && !told.contains("panicked"), "{told}");
    let done = program.run(&format!("{train} --skip-unreadable -o done"));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("left out") && told.contains("seen-3.png"), "{told}");
}

#[test]
fn too_few_photographs_to_validate_on_are_told_before_the_first_step_with_how_many_it_takes() {
    let Some(program) = Program::new() else { return };
    let refused = program.run("train --sets sets.toml --batch 17 --validation validation.toml -o never");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{told}");
    assert!(told.contains("16 photographs are too few") && told.contains("a batch of them, 17"), "{told}");
    assert!(!program.folder.path().join("never").exists());
}

#[test]
fn a_training_starts_from_an_exported_student_and_from_another_training() {
    let Some(program) = Program::new() else { return };
    let sizes = "--neck-channels 8 --tower-depth 1 --region-width 16";
    let settings = "--steps 3 --batch 4 --sides 96 --warm-up 1 --validation validation.toml";
    program.succeed(&format!("train --sets sets.toml {settings} {sizes} -o first"));
    program.succeed("export --training first --input-size 96 -o student.onnx");
    let first = program.averaged("first");
    assert!(weights_of(&first.refiner.shifts).iter().any(|x| *x != 0.0), "it learnt nothing");

    program.train_nothing("--start-from first -o from-training");
    let same = program.averaged("from-training");
    assert!(farthest(&weights_of(&first), &weights_of(&same)) < 1e-6);

    program.train_nothing("--start-from student.onnx -o from-file");
    let rounded = program.averaged("from-file");
    let parts = |student: &Student| {
        let regions = &student.regions;
        [
            ("backbone", weights_of(&student.backbone)),
            ("neck", weights_of(&student.neck)),
            ("proposals", weights_of(&student.proposals)),
            ("refiner", weights_of(&student.refiner)),
            ("first hidden layer", [weights_of(&regions.hidden), weights_of(&regions.from_cells)].concat()),
            ("second hidden layer", weights_of(&regions.hidden2)),
            ("embeddings", [weights_of(&regions.text), weights_of(&regions.image)].concat()),
            // The file has the background's direction alone.
            ("background", regions.background().into_data().iter().collect()),
        ]
    };
    for ((part, trained), (_, read)) in parts(&first).iter().zip(parts(&rounded)) {
        let apart = farthest(trained, &read);
        assert!(apart < 1e-3, "{part}: apart by {apart}, which is more than FP16 rounds");
    }

    // A fresh head on the boxes of the first; and a training of its own goes on only as what it is.
    program.train_nothing("--start-from student.onnx --learn regions --fresh-head supervised -o fresh");
    let fresh = program.averaged("fresh");
    assert!(fresh.regions.mixture.is_none() && fresh.regions.words().is_some());
    assert!(farthest(&weights_of(&first.proposals), &weights_of(&fresh.proposals)) < 1e-3);
    let wrong = program.run("train --sets sets.toml --start-from fresh -o wrong");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("has a fresh head"), "{told}");
    assert!(!program.folder.path().join("wrong").exists());

    fs::write(program.folder.path().join("no-student.onnx"), b"no model").unwrap();
    let wrong = program.run("train --sets sets.toml --start-from no-student.onnx -o wrong");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("no-student.onnx"), "{told}");
}
