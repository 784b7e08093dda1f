//! Every number of this crate compared with `pycocotools` and `lvis`, on hundreds of small random sets that are full
//! of ties, borders and exceptions.
//!
//! One Python process (`reference.py`) does all cases. Where it or its packages are missing the test says that it is
//! skipped. The packages are looked for in `.deps/evaluation/python` at the checkout's root; `scripts/fetch-packages`
//! puts them there.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/skipping.rs"]
mod skipping;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use wordsight_evaluation::{
    Area, Category, Dataset, Detection, Evaluation, Frequency, GroundTruth, Image, Limit, Over, Protocol,
    evaluate, iou_thresholds,
};

const AREAS: [Area; 4] = [Area::All, Area::Small, Area::Medium, Area::Large];
const TOLERANCE: f64 = 1e-9;

#[derive(Serialize)]
struct Case {
    name: String,
    dataset: Dataset,
    detections: Vec<Detection>,
    protocol: Protocol,
}

#[derive(Deserialize)]
struct Reference {
    /// As text, which tells neighbouring numbers apart.
    iou_thresholds: Vec<String>,
    results: Vec<Numbers>,
}

#[derive(Deserialize)]
struct Numbers {
    summary: BTreeMap<String, Option<f64>>,
    odd: Option<f64>,
    /// By category, area and number of detections.
    classes: Vec<Vec<Vec<Option<ClassNumbers>>>>,
}

#[derive(Deserialize)]
struct ClassNumbers {
    precision: Vec<f64>,
    recall: Vec<f64>,
}

#[test]
fn every_number_is_that_of_the_reference_programs() {
    let cases = cases();
    let reference = match run_reference(&cases) {
        Ok(reference) => reference,
        Err(reason) => {
            return skipping::skip(
                "the comparison with pycocotools and lvis",
                &reason,
                "`make evaluation-deps`",
            );
        }
    };
    assert_eq!(iou_thresholds().map(|iou| iou.to_string()).to_vec(), reference.iou_thresholds);
    assert_eq!(reference.results.len(), cases.len());
    let mut compared = 0;
    let mut with_a_number = 0;
    let mut differences = Vec::new();
    for (case, theirs) in cases.iter().zip(&reference.results) {
        let ours = evaluate(&case.dataset, &case.detections, &case.protocol);
        for (what, ours, theirs) in pairs(case, &ours, theirs) {
            compared += 1;
            with_a_number += usize::from(theirs.is_some());
            let same = match (ours, theirs) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() <= TOLERANCE,
                (None, None) => true,
                _ => false,
            };
            if !same {
                differences.push(format!("{}: {what} is {ours:?} and not {theirs:?}", case.name));
            }
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{} cases, {compared} numbers compared, {with_a_number} of them not -1",
        cases.len()
    );
    assert!(
        differences.is_empty(),
        "{} differences, first:\n{}",
        differences.len(),
        differences[..differences.len().min(12)].join("\n")
    );
}

/// Runs `reference.py`, or says why it can't be.
fn run_reference(cases: &[Case]) -> Result<Reference, String> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = crate_folder.join("../.deps/evaluation/python");
    if !packages.is_dir() {
        return Err(format!("{} is not there; scripts/fetch-packages evaluation", packages.display()));
    }
    let mut python = Command::new("python3")
        .arg(crate_folder.join("tests/reference.py"))
        .env("PYTHONPATH", &packages)
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run python3: {error}"))?;
    let input = serde_json::to_vec(cases).map_err(|error| error.to_string())?;
    // Python reads all before it writes anything. Where it ended early, its status says more than this.
    let _ = python.stdin.take().map(|mut stdin| stdin.write_all(&input));
    let output = python.wait_with_output().map_err(|error| format!("lost python3: {error}"))?;
    if !output.status.success() {
        return Err(format!("reference.py failed ({}); its message is above", output.status));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cannot read what reference.py wrote: {error}"))
}

type Pair = (String, Option<f64>, Option<f64>);

/// What a number is, ours and theirs.
fn pairs(case: &Case, ours: &Evaluation, theirs: &Numbers) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let summary: BTreeMap<String, Option<f64>> =
        serde_json::from_value(serde_json::to_value(ours.summary()).unwrap()).unwrap();
    let names: BTreeSet<&String> = summary.keys().chain(theirs.summary.keys()).collect();
    for name in names {
        let ours = summary.get(name).copied().flatten();
        pairs.push((name.clone(), ours, theirs.summary.get(name).copied().flatten()));
    }

    let mut ids: Vec<u64> = case.dataset.categories.iter().map(|category| category.id).collect();
    ids.sort_unstable();
    let odd = ours.of_categories(|category| ids.iter().position(|&id| id == category.id).unwrap() % 2 == 1);
    pairs.push(("AP of every second category".into(), odd.average_precision(Over::default()), theirs.odd));

    let is_class_agnostic = matches!(case.protocol, Protocol::Coco { class_agnostic: true, .. });
    let by_class: Vec<Evaluation> = if is_class_agnostic {
        vec![ours.clone()]
    } else {
        ids.iter().map(|&id| ours.of_categories(|category| category.id == id)).collect()
    };
    let cutoffs: Vec<Option<usize>> = match &case.protocol {
        Protocol::Coco { max_detections, .. } => {
            let mut sorted = max_detections.clone();
            sorted.sort_unstable();
            sorted.into_iter().map(Some).collect()
        }
        Protocol::Lvis { .. } => vec![None],
    };
    assert_eq!(by_class.len(), theirs.classes.len(), "{}", case.name);
    for (class, (ours, theirs)) in by_class.iter().zip(&theirs.classes).enumerate() {
        for (area, theirs) in AREAS.into_iter().zip(theirs) {
            for (&max_detections, theirs) in cutoffs.iter().zip(theirs) {
                for (at, iou) in iou_thresholds().into_iter().enumerate() {
                    let over = Over { iou: Some(iou), area, max_detections };
                    let what = |name| format!("{name} of class {class}, {over:?}");
                    let theirs = theirs.as_ref();
                    let precision = theirs.map(|numbers| numbers.precision[at]);
                    pairs.push((what("precision"), ours.average_precision(over), precision));
                    let recall = theirs.map(|numbers| numbers.recall[at]);
                    pairs.push((what("recall"), ours.average_recall(over), recall));
                }
            }
        }
    }
    pairs
}

/// Random numbers, the same on every machine (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// What a random set is like.
#[derive(Clone, Copy)]
struct Kind {
    images: usize,
    categories: usize,
    /// Most of an image.
    truths: usize,
    /// Most of an image.
    detections: usize,
    /// How many different scores there are.
    scores: usize,
    boxes: Boxes,
    /// How often a truth is a crowd or to be ignored.
    exceptions: f64,
}

#[derive(Clone, Copy)]
enum Boxes {
    /// Anywhere, of all sizes.
    Anywhere,
    /// On a coarse grid: equal overlaps and overlaps of just a threshold.
    Grid,
    /// Squares in a row, half over the next: a detection between two overlaps both equally, and which one
    /// it takes decides what is left for another.
    Row,
    /// Squares of 32 and 96 pixels and a hair beside.
    Borders,
    /// Without area, with almost none, without end.
    Extreme,
}

const KIND: Kind = Kind {
    images: 5,
    categories: 4,
    truths: 6,
    detections: 14,
    scores: 1_000_000,
    boxes: Boxes::Anywhere,
    exceptions: 0.2,
};

fn random_box(random: &mut Random, boxes: Boxes) -> [f64; 4] {
    match boxes {
        Boxes::Anywhere => {
            let size = random.pick(&[20.0, 60.0, 200.0]);
            let mut side = |length: f64| (random.unit() + 0.05) * length;
            [side(100.0), side(100.0), side(size), side(size)]
        }
        Boxes::Grid => {
            let mut step = |count: usize| random.below(count) as f64;
            [step(3) * 10.0, step(3) * 10.0, 10.0 + step(11), 20.0]
        }
        Boxes::Row => [random.below(5) as f64 * 10.0, 0.0, 20.0, 20.0],
        Boxes::Borders => {
            let side = random.pick(&[31.999, 32.0, 32.001, 95.999, 96.0, 96.001]);
            [random.below(3) as f64, 0.0, side, random.pick(&[side, 32.0, 96.0])]
        }
        Boxes::Extreme => {
            let mut length = || random.pick(&[0.0, 1e-300, 1e-170, 1e-9, 1.0, 7.0, 1e5, 1.1e5, 1e12]);
            let (width, height) = (length(), length());
            [random.pick(&[0.0, 0.0, 1.0, -5.0]), random.pick(&[0.0, 0.0, -1e5]), width, height]
        }
    }
}

/// A box on or near another.
fn near(random: &mut Random, [x, y, width, height]: [f64; 4], boxes: Boxes) -> [f64; 4] {
    match boxes {
        _ if random.chance(0.3) => [x, y, width, height],
        Boxes::Anywhere => {
            let mut nudge = |by: f64| (random.unit() - 0.5) * by * 0.4;
            [x + nudge(width), y + nudge(height), width + nudge(width), height + nudge(height)]
        }
        // Of a box of 20 by 20: overlaps of exactly 0.5, 0.55 and so on.
        Boxes::Grid => [x, y, 10.0 + random.below(11) as f64, 20.0],
        Boxes::Row => [x + random.pick(&[-5.0, 5.0]), y, width, height],
        Boxes::Borders | Boxes::Extreme => [x + random.pick(&[0.0, 1.0]), y, width, height],
    }
}

/// A category that is in no dataset.
const UNLISTED: u64 = 777;

fn random_truth(random: &mut Random, kind: Kind, image: u64, categories: &[u64]) -> GroundTruth {
    let box_in_image = random_box(random, kind.boxes);
    let box_area = box_in_image[2] * box_in_image[3];
    let area = match random.below(4) {
        0 => random.pick(&[0.0, 1023.999, 1024.0, 1024.001, 9215.999, 9216.0, 9216.001, 1e10, 1.01e10]),
        1 => box_area * 0.6,
        _ => box_area,
    };
    GroundTruth {
        image,
        category: if random.chance(0.05) { UNLISTED } else { random.pick(categories) },
        box_in_image,
        area,
        crowd: random.chance(kind.exceptions),
        ignored: random.chance(kind.exceptions),
    }
}

fn random_set(random: &mut Random, kind: Kind) -> (Dataset, Vec<Detection>) {
    // Numbers out of order and with gaps.
    let mut image_ids: Vec<u64> = (1..=kind.images as u64).map(|index| index * 7 % 101).collect();
    let mut category_ids: Vec<u64> = (1..=kind.categories as u64).map(|index| index * 5 % 53).collect();
    random.shuffle(&mut image_ids);
    random.shuffle(&mut category_ids);
    // The last but one has no ground truth.
    let with_truths = &category_ids[..kind.categories.saturating_sub(1).max(1)];

    let mut dataset = Dataset::default();
    let mut detections = Vec::new();
    for &id in &category_ids {
        let frequency = random.pick(&[Frequency::Rare, Frequency::Common, Frequency::Frequent]);
        dataset.categories.push(Category { id, frequency: Some(frequency) });
    }
    for &image in &image_ids {
        let count = if random.chance(0.15) { 0 } else { random.below(kind.truths + 1) };
        let truths: Vec<GroundTruth> =
            (0..count).map(|_| random_truth(random, kind, image, with_truths)).collect();
        let count = if random.chance(0.15) { 0 } else { random.below(kind.detections + 1) };
        for _ in 0..count {
            let model =
                (!truths.is_empty() && random.chance(0.75)).then(|| truths[random.below(truths.len())]);
            let box_in_image = match &model {
                Some(truth) => near(random, truth.box_in_image, kind.boxes),
                None => random_box(random, kind.boxes),
            };
            let category = match &model {
                Some(truth) if random.chance(0.8) => truth.category,
                _ if random.chance(0.05) => UNLISTED,
                _ => random.pick(&category_ids),
            };
            let score = random.below(kind.scores) as f64 / kind.scores as f64;
            detections.push(Detection { image, category, score, box_in_image });
        }
        let mut some_categories =
            |probability| category_ids.iter().copied().filter(|_| random.chance(probability)).collect();
        dataset.images.push(Image {
            id: image,
            negative_categories: some_categories(0.4),
            not_exhaustive_categories: some_categories(0.25),
        });
        dataset.ground_truths.extend(truths);
    }
    random.shuffle(&mut dataset.ground_truths);
    random.shuffle(&mut detections);
    (dataset, detections)
}

/// Things of one category of which just so many are found, some wrongly on the way: recalls that are
/// hundredths, of which a nearest decimal and numpy's multiple of 0.01 may lie on two sides.
fn recall_borders(random: &mut Random, things: usize) -> (Dataset, Vec<Detection>) {
    let mut dataset = Dataset::default();
    let mut detections = Vec::new();
    dataset.categories.push(Category { id: 1, frequency: Some(Frequency::Rare) });
    let per_image = 10;
    for thing in 0..things {
        let image = (thing / per_image) as u64;
        if thing % per_image == 0 {
            dataset.images.push(Image { id: image, ..Image::default() });
        }
        let box_in_image = [(thing % per_image) as f64 * 50.0, 0.0, 40.0, 40.0];
        dataset.ground_truths.push(GroundTruth {
            image,
            category: 1,
            box_in_image,
            area: 1600.0,
            ..GroundTruth::default()
        });
        let detection = Detection { image, category: 1, score: random.unit(), box_in_image };
        if random.chance(0.8) {
            detections.push(detection);
        }
        if random.chance(0.7) {
            let elsewhere = [box_in_image[0], 200.0, 40.0, 40.0];
            detections.push(Detection { score: random.unit(), box_in_image: elsewhere, ..detection });
        }
    }
    (dataset, detections)
}

/// A detection between two things of two categories, and one on the thing of category `left_for_second`
/// only; in the file the category 5 comes before the 3.
fn between_categories(left_for_second: u64) -> (Dataset, Vec<Detection>) {
    let square = |x| [x, 0.0, 20.0, 20.0];
    let truth = |category, x| GroundTruth {
        image: 1,
        category,
        box_in_image: square(x),
        area: 400.0,
        ..GroundTruth::default()
    };
    let dataset = Dataset {
        images: vec![Image { id: 1, ..Image::default() }],
        categories: [5, 3].map(|id| Category { id, frequency: Some(Frequency::Rare) }).to_vec(),
        ground_truths: vec![truth(5, 10.0), truth(3, 0.0)],
    };
    let detection = |category, score, x| Detection { image: 1, category, score, box_in_image: square(x) };
    let second = if left_for_second == 3 { -5.0 } else { 15.0 };
    (dataset, vec![detection(3, 0.9, 5.0), detection(5, 0.8, second)])
}

/// Kinds of sets, and how many of each.
fn kinds() -> [(&'static str, Kind, usize); 14] {
    let two_scores = Kind { scores: 2, ..KIND };
    [
        ("plain", KIND, 7),
        ("no exceptions", Kind { exceptions: 0.0, ..KIND }, 3),
        ("tied scores", Kind { scores: 3, ..KIND }, 7),
        ("one score", Kind { scores: 1, boxes: Boxes::Grid, ..KIND }, 4),
        ("grid", Kind { boxes: Boxes::Grid, categories: 2, ..two_scores }, 8),
        ("row", Kind { boxes: Boxes::Row, categories: 2, images: 3, ..KIND }, 8),
        ("row of several", Kind { boxes: Boxes::Row, images: 3, truths: 8, ..KIND }, 6),
        ("borders", Kind { boxes: Boxes::Borders, categories: 2, ..KIND }, 5),
        ("extreme", Kind { boxes: Boxes::Extreme, categories: 2, truths: 8, ..KIND }, 8),
        ("crowded", Kind { exceptions: 0.7, categories: 1, boxes: Boxes::Grid, ..two_scores }, 5),
        ("one image", Kind { images: 1, categories: 1, ..two_scores }, 3),
        ("nothing there", Kind { truths: 0, ..KIND }, 1),
        ("nothing found", Kind { detections: 0, ..KIND }, 1),
        ("nothing at all", Kind { truths: 0, detections: 0, ..KIND }, 1),
    ]
}

fn cases() -> Vec<Case> {
    let mut random = Random(20_250_101);
    let coco = |max_detections: &[usize], class_agnostic| Protocol::Coco {
        max_detections: max_detections.to_vec(),
        class_agnostic,
    };
    let per_image = |most| Protocol::Lvis { limit: Limit::PerImage(most) };
    let per_category = |most| Protocol::Lvis { limit: Limit::PerCategory(most) };
    let protocols = [
        Protocol::coco(),
        coco(&[3, 1, 2], false),
        coco(&[1, 10, 300], true),
        coco(&[2, 5], true),
        Protocol::lvis(),
        per_image(4),
        Protocol::lvis_fixed(),
        per_category(5),
    ];
    let mut cases = Vec::new();
    let mut add = |name: String, (dataset, detections): (Dataset, Vec<Detection>), protocol: &Protocol| {
        cases.push(Case { name, dataset, detections, protocol: protocol.clone() });
    };
    for (name, kind, repetitions) in kinds() {
        for protocol in &protocols {
            for repetition in 0..repetitions {
                add(format!("{name} {repetition}, {protocol:?}"), random_set(&mut random, kind), protocol);
            }
        }
    }
    for things in [10, 20, 25, 40, 50, 100] {
        for protocol in [Protocol::coco(), Protocol::lvis()] {
            add(format!("{things} things, {protocol:?}"), recall_borders(&mut random, things), &protocol);
        }
    }
    for protocol in &protocols {
        for left_for_second in [3, 5] {
            let name = format!("between categories, {left_for_second} left, {protocol:?}");
            add(name, between_categories(left_for_second), protocol);
        }
    }
    // More than the protocols' own numbers of detections in an image.
    let full = Kind { images: 1, categories: 2, truths: 3, detections: 900, scores: 50, ..KIND };
    for protocol in
        [coco(&[1, 10, 100], true), coco(&[1, 10, 300], true), Protocol::lvis(), per_category(200)]
    {
        for repetition in 0..2 {
            let mut set = random_set(&mut random, full);
            while set.1.len() < 400 || set.0.ground_truths.is_empty() {
                set = random_set(&mut random, full);
            }
            add(format!("full {repetition}, {protocol:?}"), set, &protocol);
        }
    }
    cases
}
