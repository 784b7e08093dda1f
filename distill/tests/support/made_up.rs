//! A student that trains in seconds and what it trains on: a narrow backbone of random weights, and small pictures of
//! one coloured rectangle each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use half::f16;
use image::{Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use wordsight_distill::coco::{Dataset, Image};
use wordsight_distill::student::backbone::DETAIL_CHANNELS;
use wordsight_distill::student::{BACKBONE_CHANNELS, Head, Student, StudentConfig};
use wordsight_standin::efficientnet::{EfficientNetLite, Weights};
use wordsight_standin::pth::NamedTensor;

/// Side of the pictures and of the student's input.
pub const SIDE: usize = 64;
/// Numbers in an embedding.
pub const EMBEDDING: usize = 8;
/// The words and the colours of their rectangles.
pub const WORDS: [(&str, [u8; 3]); 4] =
    [("red", [240, 30, 30]), ("green", [30, 220, 40]), ("blue", [30, 40, 240]), ("yellow", [240, 220, 20])];
/// Pictures of each set: the teacher looked at the first set's.
const SEEN: usize = 40;
const UNSEEN: usize = 16;
const VALIDATION: usize = 16;

/// A row of length 1.
fn unit(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row: Vec<f32> = (0..EMBEDDING).map(|_| rng.random_range(-1.0..1.0)).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / length).collect()
}

/// Embeddings of the words: rows of a Hadamard matrix, none like another.
pub fn words() -> Vec<Vec<f32>> {
    let sign =
        |word: usize, at: usize| if ((word + 1) & at).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let row = |word| (0..EMBEDDING).map(|at| sign(word, at) / (EMBEDDING as f32).sqrt()).collect();
    (0..WORDS.len()).map(row).collect()
}

/// What a layer with ReLU6 answers where it sees nothing: the middle, or dozens of random layers would lose what is seen.
const MIDDLE: f32 = 3.0;

/// Random weights with the names and the maps of EfficientNet-Lite0, but narrow.
pub fn backbone_weights() -> Weights {
    let mut made = MadeWeights { weights: Weights::new(), rng: ChaCha8Rng::seed_from_u64(6) };
    let [fine, middle, coarse] = BACKBONE_CHANNELS;
    let channels = [8, 8, fine, DETAIL_CHANNELS, middle, 16, coarse];
    let kernels = [3, 3, 5, 3, 5, 5, 3];
    made.add("_conv_stem", "_bn0", [8, 3, 3, 3], 0.0, MIDDLE);
    let (mut block, mut inputs) = (0, 8);
    for ((outputs, kernel), depth) in channels.into_iter().zip(kernels).zip(EfficientNetLite::LITE0.depths) {
        for _ in 0..depth {
            let hidden = if block == 0 { inputs } else { 16 };
            let mut add = |part: &str, norm: &str, shape, before, behind| {
                let [part, norm] = [part, norm].map(|name| format!("_blocks.{block}.{name}"));
                made.add(&part, &norm, shape, before, behind);
            };
            if block > 0 {
                add("_expand_conv", "_bn0", [hidden, inputs, 1, 1], 0.0, MIDDLE);
            }
            add("_depthwise_conv", "_bn1", [hidden, 1, kernel, kernel], MIDDLE, MIDDLE);
            add("_project_conv", "_bn2", [outputs, hidden, 1, 1], MIDDLE, 0.0);
            (block, inputs) = (block + 1, outputs);
        }
    }
    made.add("_conv_head", "_bn1", [12, coarse, 1, 1], 0.0, MIDDLE);
    let classifier: Vec<f32> = (0..60).map(|_| made.rng.random_range(-0.5..0.5)).collect();
    made.weights.insert("_fc.weight".to_owned(), NamedTensor { shape: vec![5, 12], data: classifier });
    made.weights.insert("_fc.bias".to_owned(), NamedTensor { shape: vec![5], data: vec![0.0; 5] });
    made.weights
}

struct MadeWeights {
    weights: Weights,
    rng: ChaCha8Rng,
}

impl MadeWeights {
    /// A convolution and its batch normalisation, which turns a mean of `before` into one of `behind`.
    fn add(&mut self, name: &str, norm: &str, shape: [usize; 4], before: f32, behind: f32) {
        let summed: usize = shape[1..].iter().product();
        // Uniform numbers of the variance that keeps a map's.
        let most = (3.0 / summed as f32).sqrt();
        let data: Vec<f32> = (0..shape[0] * summed).map(|_| self.rng.random_range(-most..most)).collect();
        let mean = data.chunks_exact(summed).map(|weights| before * weights.iter().sum::<f32>()).collect();
        let all = |value: f32| vec![value; shape[0]];
        for (field, data) in
            [("weight", all(1.0)), ("bias", all(behind)), ("running_mean", mean), ("running_var", all(1.0))]
        {
            let tensor = NamedTensor { shape: vec![shape[0]], data };
            self.weights.insert(format!("{norm}.{field}"), tensor);
        }
        self.weights.insert(format!("{name}.weight"), NamedTensor { shape: shape.to_vec(), data });
    }
}

/// The student's sizes.
pub fn sizes() -> StudentConfig {
    StudentConfig {
        input_size: SIDE,
        detail_branch: true,
        region_quality: true,
        neck_channels: 16,
        neck_depth: 1,
        tower_depth: 1,
        region_channels: 8,
        region_width: 32,
        embedding_size: EMBEDDING,
        proposals: 40,
    }
}

/// A student, or one with a fresh region head; the same each time, on a processor that knows gradients.
pub fn student(head: Option<Head>) -> Student {
    student_on(&Device::flex().autodiff(), head)
}

/// The same on another device.
pub fn student_on(device: &Device, head: Option<Head>) -> Student {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let names: Vec<Vec<f32>> = (0..5).map(|_| unit(&mut rng)).collect();
    let weights = backbone_weights();
    // The generator is the process's, and numbers are drawn when they are first asked for.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock();
    device.seed(1);
    let student = Student::new(&sizes(), &weights, &names, device).unwrap();
    let student = match head {
        Some(head) => {
            let convolution = EfficientNetLite::LITE0.head_convolution(&weights).unwrap();
            student.with_fresh_head(&sizes(), &convolution, head, WORDS.len(), device)
        }
        None => student,
    };
    weights_of(&student);
    student
}

/// All numbers of a part of a student.
pub fn weights_of<M: Module>(module: &M) -> Vec<f32> {
    struct Numbers(Vec<f32>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut numbers = Numbers(Vec::new());
    module.visit(&mut numbers);
    numbers.0
}

/// Writes two sets and one for validation: `sets.toml` and `validation.toml`; returns both paths. `with_teacher`: the
/// first set has embeddings of its objects.
pub fn write_sets(folder: &Path, with_teacher: bool) -> [PathBuf; 2] {
    let seen = write_pictures(folder, "seen", SEEN);
    write_pictures(folder, "unseen", UNSEEN);
    write_pictures(folder, "validation", VALIDATION);
    if with_teacher {
        write_embeddings(&folder.join("embeddings"), &seen);
    }
    let set = |name: &str, complete: &str, more: &str| {
        format!(
            "[[set]]\nname = \"{name}\"\nformat = \"coco\"\nannotations = \"{name}.json\"\ncomplete = \"{complete}\"\n{more}\n"
        )
    };
    let embeddings = if with_teacher { "embeddings = \"embeddings\"" } else { "" };
    let training = set("seen", "exhaustive", embeddings) + &set("unseen", "its-words", "");
    [("sets.toml", training), ("validation.toml", set("validation", "exhaustive", ""))].map(|(name, text)| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    })
}

/// A picture's box and word.
pub type Rectangle = ([f32; 4], usize);

/// Writes pictures of one rectangle each into the folder `images` of another, and their annotations beside it.
pub fn write_pictures(folder: &Path, set: &str, count: usize) -> Vec<Rectangle> {
    fs::create_dir_all(folder.join("images")).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(set.bytes().map(u64::from).sum());
    let (mut rectangles, mut images, mut annotations) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=count {
        let [width, height] = [(); 2].map(|()| rng.random_range(22..34_u32));
        let [x, y] = [width, height].map(|length| rng.random_range(0..SIDE as u32 - length));
        let word = rng.random_range(0..WORDS.len());
        let picture = RgbImage::from_fn(SIDE as u32, SIDE as u32, |px, py| {
            let inside = (x..x + width).contains(&px) && (y..y + height).contains(&py);
            let noise = rng.random_range(0..12);
            Rgb(if inside { WORDS[word].1 } else { [50 + noise, 52 + noise, 48 + noise] })
        });
        let file_name = format!("{set}-{id}.png");
        picture.save(folder.join("images").join(&file_name)).unwrap();
        images.push(json!({ "id": id, "file_name": file_name, "width": SIDE, "height": SIDE }));
        annotations.push(json!({
            "id": id, "image_id": id, "category_id": word + 1, "bbox": [x, y, width, height],
            "area": width * height, "iscrowd": 0,
        }));
        rectangles.push(([x, y, x + width, y + height].map(|side| side as f32), word));
    }
    let categories: Vec<Value> =
        WORDS.iter().zip(1..).map(|((name, _), id)| json!({ "id": id, "name": name })).collect();
    let file = json!({ "images": images, "annotations": annotations, "categories": categories });
    fs::write(folder.join(format!("{set}.json")), file.to_string()).unwrap();
    rectangles
}

/// What the teacher says of the first set's objects: their words' embeddings.
fn write_embeddings(folder: &Path, rectangles: &[Rectangle]) {
    let bytes =
        |rows: &[f32]| -> Vec<u8> { rows.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect() };
    let words = words();
    let mut rows = Vec::new();
    for &(box_in_image, word) in rectangles {
        let boxes = [box_in_image, [0.0; 4]];
        rows.extend(boxes.iter().flatten().flat_map(|side: &f32| side.to_le_bytes()));
        rows.extend(bytes(&words[word]));
        rows.extend(bytes(&[0.0; EMBEDDING]));
    }
    let manifest = json!({
        "per_image": 2, "images": rectangles.len(), "proposals": "made up", "teacher": "made up",
        "embedding_size": EMBEDDING,
    });
    let image = |id: u64| Image {
        id,
        file_name: format!("seen-{id}.png"),
        width: SIDE as u32,
        height: SIDE as u32,
        exhaustive: true,
    };
    let images = (1..=rectangles.len() as u64).map(image).collect();
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("embeddings.bin"), rows).unwrap();
    Dataset { images, ..Dataset::default() }.save(&folder.join("images.json")).unwrap();
}
