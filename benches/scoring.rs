//! Words and regions: 100 regions against 1 to 100,000 words of 384 numbers, and the demo's own frames against 1,203.
//!
//!     cargo bench --manifest-path benches/Cargo.toml --bench scoring
//!
//! After criterion's figures come tables of the shortest of many runs, which on a busy machine say more.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use wordsight_detection::{
    DetectionSettings, Preprocessor, RegionsView, ScoreFunction, Scorer, TextWeights, Vocabulary, Word,
};
use wordsight_engines::{CpuEngine, Engine, Regions, StudentFacts};

const REGIONS: usize = 100;
const SIZE: usize = 384;
const TEMPERATURE: f32 = 0.02;
const TEXT_WEIGHTS: TextWeights = TextWeights { trained: 0.67, others: 0.33 };
const OBJECTNESS_WEIGHT: f32 = 0.5;
/// What a frame takes the shipped student on two cores of the machine that the bar was set on.
const FRAME: Duration = Duration::from_millis(20);
/// LVIS's words.
const MANY: usize = 1203;

/// As the demo has them.
const SHIPPED: DetectionSettings = DetectionSettings {
    score_threshold: 0.3,
    nms_iou: 0.4,
    voting_iou: 0.4,
    max_detections: 20,
    words_per_region: 1,
    weak_fraction: 1.0,
};

/// Numbers that look like none in particular, around 0.
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5
    }

    /// A direction: `share` of it a given one, the rest by chance.
    fn around(&mut self, given: &[f32], share: f32) -> Vec<f32> {
        let chance: Vec<f32> = (0..SIZE).map(|_| self.uniform() + self.uniform() + self.uniform()).collect();
        let length = length(&chance);
        unit(given.iter().zip(&chance).map(|(x, y)| share * x + (1.0 - share) * y / length).collect())
    }
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn unit(mut row: Vec<f32>) -> Vec<f32> {
    let length = length(&row);
    row.iter_mut().for_each(|x| *x /= length);
    row
}

fn vocabulary(embeddings: Vec<f32>, teacher: &str) -> Vocabulary {
    let words = (0..embeddings.len() / SIZE)
        .map(|index| Word { trained_on: index % 3 == 0, ..Word::new(format!("word {index}")) });
    Vocabulary {
        teacher: teacher.into(),
        student: None,
        words: words.collect(),
        prompts: vec!["{}".into()],
        embeddings,
        embedding_size: SIZE,
    }
}

/// Regions without any that the objectness lets off, and words that have a direction in common, as CLIP's have.
struct Scene {
    vocabulary: Vocabulary,
    background: Vec<f32>,
    boxes: Vec<[f32; 4]>,
    objectness: Vec<f32>,
    text: Vec<f32>,
    image: Vec<f32>,
}

impl Scene {
    /// The first `things` regions are a word each, the others nothing.
    fn new(words: usize, things: usize) -> Self {
        let numbers = &mut Numbers(7);
        let common = numbers.around(&[0.0; SIZE], 0.0);
        let embeddings: Vec<f32> = (0..words).flat_map(|_| numbers.around(&common, 0.4)).collect();
        let background = numbers.around(&common, 0.6);
        let mut regions = || -> Vec<f32> {
            let regions = (0..REGIONS).flat_map(|region| {
                let word = &embeddings[region * 7 % words * SIZE..][..SIZE];
                if region < things { numbers.around(word, 0.7) } else { numbers.around(&background, 0.5) }
            });
            regions.collect()
        };
        let (text, image) = (regions(), regions());
        let boxes = (0..REGIONS).map(|region| {
            let left = 5.0 * region as f32;
            [left, 0.0, left + 9.0, 9.0]
        });
        Self {
            vocabulary: vocabulary(embeddings, "bench"),
            background,
            boxes: boxes.collect(),
            objectness: vec![0.9; REGIONS],
            text,
            image,
        }
    }

    fn scorer(&self) -> Scorer {
        let function = ScoreFunction::Softmax {
            temperature: TEMPERATURE,
            background: self.background.clone(),
            text_weights: TEXT_WEIGHTS,
        };
        Scorer::new(&self.vocabulary, &function, OBJECTNESS_WEIGHT).unwrap()
    }

    fn rank(&self, scorer: &mut Scorer, settings: &DetectionSettings) {
        let regions = RegionsView::of_two_heads(&self.boxes, &self.objectness, &self.text, &self.image);
        scorer.rank(regions, settings);
    }
}

/// The shortest of some runs, after one that makes room.
fn shortest(runs: usize, mut work: impl FnMut()) -> Duration {
    work();
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    times.min().unwrap_or_default()
}

fn share(time: Duration) -> f64 {
    100.0 * time.as_secs_f64() / FRAME.as_secs_f64()
}

/// Everything within reach of its threshold by objectness, and every head needed.
fn worst(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100 regions within reach, 1,203 words");
    println!("\n{:<44}{:>12}{:>12}", "100 regions within reach, 1,203 words", "ms", "of 20 ms");
    let unlimited = DetectionSettings { score_threshold: 0.0, ..SHIPPED };
    for (name, things, settings) in [
        ("none is reported", 0, SHIPPED),
        ("5 are reported", 5, SHIPPED),
        ("20 are reported", 20, SHIPPED),
        ("100 are reported", 100, SHIPPED),
        ("no threshold: all in float", 20, unlimited),
    ] {
        let scene = Scene::new(MANY, things);
        let mut scorer = scene.scorer();
        let mut found = Vec::new();
        let time = shortest(300, || scene.rank(&mut scorer, &settings));
        println!("{name:<44}{:>12.3}{:>11.1}%", 1e3 * time.as_secs_f64(), share(time));
        group.bench_function(name, |bencher| bencher.iter(|| scene.rank(&mut scorer, &settings)));
        if things == 100 {
            scene.rank(&mut scorer, &settings);
            let time = shortest(300, || scorer.select(&settings, black_box(&mut found)));
            println!("{:<44}{:>12.3}{:>11.1}%", "of these, settling", 1e3 * time.as_secs_f64(), share(time));
        }
    }
    group.finish();
}

/// What a word costs, by how many there are.
fn by_words(_: &mut Criterion) {
    let unlimited = DetectionSettings { score_threshold: 0.0, ..SHIPPED };
    println!("\n100 regions within reach: ranking, ms, and ns a word (of that at 1,203)");
    println!("{:>8}{:>34}{:>34}", "words", "threshold 0.3, 5 are reported", "no threshold: all in float");
    let mut lines: Vec<(usize, [Duration; 2])> = Vec::new();
    for words in [1, 10, 100, 1203, 10_000, 100_000] {
        let scene = Scene::new(words, 5);
        let mut scorer = scene.scorer();
        let runs = (400_000 / words).clamp(15, 300);
        let times =
            [SHIPPED, unlimited].map(|settings| shortest(runs, || scene.rank(&mut scorer, &settings)));
        lines.push((words, times));
    }
    let a_word =
        |(words, times): &(usize, [Duration; 2]), at: usize| times[at].as_secs_f64() * 1e9 / *words as f64;
    let measure = lines.iter().find(|line| line.0 == MANY).unwrap();
    for line in &lines {
        print!("{:>8}", line.0);
        for at in 0..2 {
            let (time, price) = (1e3 * line.1[at].as_secs_f64(), a_word(line, at));
            print!("{time:>14.3}{price:>12.0}{:>8.2}", price / a_word(measure, at));
        }
        println!();
    }
}

/// The demo's words and others around them, as alike as they are among themselves.
fn words_around(real: &[Vec<f32>], count: usize) -> Vec<f32> {
    let numbers = &mut Numbers(11);
    let mean = unit((0..SIZE).map(|at| real.iter().map(|word| word[at]).sum()).collect());
    let mut words: Vec<Vec<f32>> = real.iter().take(count).cloned().collect();
    while words.len() < count {
        // Some near a real word, most on their own: cosines among them of 0.1 to 0.8, 0.3 in the middle.
        let near = &real[words.len() % real.len()];
        let nearness = (numbers.uniform() + 0.5) * 0.7;
        let given = unit(mean.iter().zip(near).map(|(x, y)| (1.0 - nearness) * x + nearness * y).collect());
        words.push(numbers.around(&given, 0.4));
    }
    words.concat()
}

/// The shipped student on the demo's clip.
fn demo(_: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let Ok(mut engine) = CpuEngine::open(&folder.join("student.onnx"), 0) else {
        println!(
            "\nThe demo's frames need ONNX Runtime: `make deps`, and ORT_DYLIB_PATH as the Makefile sets it."
        );
        return;
    };
    let (frames, engine_time) = regions_of(&mut engine, &std::fs::read(folder.join("clip.mjpeg")).unwrap());
    let mut real: Vec<Vec<f32>> = Vec::new();
    for name in ["words", "other-words"] {
        let words = Vocabulary::load(&folder.join(name).with_extension("safetensors")).unwrap();
        real.extend(words.embeddings.chunks_exact(SIZE).map(<[f32]>::to_vec));
    }
    println!(
        "\nThe demo's {} frames (the engine's shortest: {engine_time:.1?}); a frame's ranking and settling",
        frames.len()
    );
    println!(
        "{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "words", "median ms", "longest ms", "median", "longest", "reported"
    );
    for count in [real.len(), MANY] {
        print_row(count, &words_around(&real, count), engine.facts(), &frames);
    }
}

/// The regions of all frames of a clip, and the shortest time that the engine took for one.
fn regions_of(engine: &mut CpuEngine, clip: &[u8]) -> (Vec<Regions>, Duration) {
    let mut preprocessor = Preprocessor::new(engine.facts().resize);
    let mut input = vec![0; preprocessor.output_len()];
    let (mut frames, mut shortest) = (Vec::new(), Duration::MAX);
    for jpeg in jpegs(clip) {
        let picture = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).unwrap().to_rgb8();
        preprocessor.run(&picture, picture.width() as usize, picture.height() as usize, &mut input);
        let mut regions = Regions::default();
        let start = Instant::now();
        engine.infer(&input, &mut regions).unwrap();
        shortest = shortest.min(start.elapsed());
        frames.push(regions);
    }
    (frames, shortest)
}

/// Scores all frames by a vocabulary of so many words, and prints what that takes.
fn print_row(count: usize, embeddings: &[f32], student: &StudentFacts, frames: &[Regions]) {
    let vocabulary = vocabulary(embeddings.to_vec(), &student.teacher);
    let mut scorer = Scorer::new(&vocabulary, &student.scores, student.objectness_weight).unwrap();
    let (mut found, mut told) = (Vec::new(), 0);
    let mut times: Vec<Duration> = Vec::new();
    for regions in frames {
        times.push(shortest(30, || scorer.detect(regions.view(), &SHIPPED, &mut found)));
        told += found.len();
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let ms = |time: Duration| 1e3 * time.as_secs_f64();
    println!(
        "{count:>8}{:>12.3}{:>12.3}{:>11.1}%{:>11.1}%{told:>12}",
        ms(median),
        ms(longest),
        share(median),
        share(longest)
    );
}

/// The pictures of a Motion-JPEG file.
fn jpegs(clip: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts =
        clip.windows(3).enumerate().filter(|(_, bytes)| *bytes == [0xff, 0xd8, 0xff]).map(|(at, _)| at);
    let mut starts = starts.chain([clip.len()]).peekable();
    std::iter::from_fn(move || {
        let start = starts.next()?;
        Some(&clip[start..*starts.peek()?])
    })
}

criterion_group!(benches, worst, by_words, demo);
criterion_main!(benches);
