//! The frozen backbone's feature maps, computed once.
//!
//! Flows in: scenes (images and COCO annotations) and the backbone's weights. Flows out: a folder, the
//! *cache*, with a [`Table`] of feature maps (FP16), the annotations, and a manifest that says what they
//! are of.
//!
//! The surprising thing: maps are stored as the exported student computes them, from weights rounded to
//! FP16, so that training sees what the device will.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use wordsight_detection::Preprocessor;
use wordsight_engines::{Input, OnnxSession, TensorView};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, Storage, Value};
use wordsight_teacher::efficientnet::{EfficientNetLite, Stage, Weights};

use crate::coco::Dataset;
use crate::photographs::open_picture;
use crate::student::{BACKBONE_CHANNELS, StudentConfig};
use crate::table::{self, Shard, Table};

/// Adds the image's normalisation and the frozen backbone to a graph; returns the maps at strides
/// 8, 16 and 32. `image`: uint8 `[N,3,S,S]`.
pub fn add_backbone(
    graph: &mut Graph,
    weights: &Weights,
    config: &StudentConfig,
    image: &Value,
) -> Result<[Stage; 3]> {
    let network = EfficientNetLite::LITE0;
    let floats = graph.cast(image, ElementType::Float);
    let normalised = EfficientNetLite::add_normalisation(graph, &floats);
    let stages = network.add_stages(graph, weights, &normalised, config.input_size, config.input_size)?;
    // Stages of strides 2, 4, 8, 16, 16, 32, 32: the last of each stride has seen most.
    let [.., fine, _, middle, _, coarse] = stages.as_slice() else {
        anyhow::bail!("{} has {} stages; the pyramid needs seven", network.name, stages.len());
    };
    let maps = [fine.clone(), middle.clone(), coarse.clone()];
    ensure!(
        maps.each_ref().map(|map| map.channels) == BACKBONE_CHANNELS,
        "the backbone's maps have {:?} channels; the pyramid needs {BACKBONE_CHANNELS:?}",
        maps.each_ref().map(|map| map.channels)
    );
    Ok(maps)
}

/// The backbone alone as a model, weights stored as in the exported student, so that training sees
/// the very features that the device will.
fn backbone_model(weights: &Weights, config: &StudentConfig) -> Result<ModelProto> {
    let mut graph = Graph::new("backbone", Storage::F16);
    let side = config.input_size as i64;
    let image = graph.input("image", ElementType::Uint8, &[1, 3, side, side]);
    let maps = add_backbone(&mut graph, weights, config, &image)?;
    for (map, name) in maps.iter().zip(["fine", "middle", "coarse"]) {
        let shape = [1, map.channels, map.height, map.width].map(|d| d as i64);
        graph.output(&map.value, name, ElementType::Float, &shape);
    }
    Ok(graph.into_model(&[]))
}

/// Runs the frozen backbone on photographs of any size.
pub struct FeatureExtractor {
    session: OnnxSession,
    preprocessor: Preprocessor,
    image: Vec<u8>,
    side: usize,
}

impl FeatureExtractor {
    /// For the weights in EfficientNet-Lite0's `.pth`, on one thread.
    pub fn new(weights: &Weights, config: &StudentConfig) -> Result<Self> {
        let model = wordsight_onnx::encode(&backbone_model(weights, config)?);
        let session = OnnxSession::from_bytes(&model, "the backbone", 1)?;
        let preprocessor = Preprocessor::new(config.input_size, config.input_size);
        let image = vec![0; preprocessor.output_len()];
        Ok(Self { session, preprocessor, image, side: config.input_size })
    }

    /// The maps at strides 8, 16 and 32, each row-major `[C,h,w]`.
    pub fn extract(&mut self, picture: &RgbImage) -> Result<[Vec<f32>; 3]> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        self.preprocessor.run(picture.as_raw(), width, height, &mut self.image);
        let shape = [1, 3, self.side, self.side];
        let input = Input { name: "image", shape: &shape, data: TensorView::U8(&self.image) };
        let maps: Vec<Vec<f32>> = self.session.run(&[input])?.into_iter().map(|tensor| tensor.data).collect();
        let maps = maps.try_into().map_err(|_| anyhow::anyhow!("the backbone did not return three maps"))?;
        Ok(maps)
    }

    /// The student's input that the last picture became, uint8 `[1,3,S,S]`.
    pub fn input(&self) -> &[u8] {
        &self.image
    }
}

/// What a cache is of; an earlier run's rows are only kept if all of it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Side of the student's input in pixels.
    pub input_size: usize,
    /// Scenes.
    pub images: usize,
    /// SHA-256 over the backbone's weights and the scenes' annotations.
    pub content: String,
}

/// A cache, memory-mapped.
pub struct Cache {
    /// What it is of.
    pub manifest: Manifest,
    /// The scenes' annotations.
    pub dataset: Dataset,
    sizes: [usize; 3],
    features: Mmap,
}

impl Cache {
    /// Opens a finished cache.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest: Manifest = table::read_manifest(folder)?.with_context(|| {
            format!(
                "{} is not a feature cache; make one with `wordsight-distill precompute`",
                folder.display()
            )
        })?;
        let config = StudentConfig { input_size: manifest.input_size, ..StudentConfig::new(0) };
        let dataset = Dataset::load(&folder.join(ANNOTATIONS))?;
        let features = features_table(folder, &manifest).map()?;
        Ok(Self { manifest, dataset, sizes: level_sizes(&config), features })
    }

    /// Appends the feature map of one level of scene `index` to `out`.
    pub fn read_level(&self, index: usize, level: usize, out: &mut Vec<f32>) {
        let start = index * self.sizes.iter().sum::<usize>() + self.sizes[..level].iter().sum::<usize>();
        table::extend_from_f16(&self.features, start, self.sizes[level], out);
    }
}

/// Computes a cache, or a shard of one, in `output` for the scenes in `scenes` (as `wordsight-distill
/// scenes` lays them out).
pub fn precompute(
    scenes: &Path,
    weights: &Weights,
    config: &StudentConfig,
    shard: Shard,
    output: &Path,
) -> Result<()> {
    let dataset = Dataset::load(&scenes.join(ANNOTATIONS))?;
    let content = serde_json::to_vec(&dataset)?;
    let model = wordsight_onnx::encode(&backbone_model(weights, config)?);
    let manifest = Manifest {
        input_size: config.input_size,
        images: dataset.images.len(),
        content: table::digest(&[&model, &content]),
    };
    table::start_or_resume(output, &manifest, "the features")?;
    dataset.save(&output.join(ANNOTATIONS))?;

    let images = scenes.join("images");
    let mut extractors: Vec<FeatureExtractor> =
        (0..table::workers()).map(|_| FeatureExtractor::new(weights, config)).collect::<Result<_>>()?;
    features_table(output, &manifest).append_missing(
        shard,
        "features",
        &mut extractors,
        |extractor, index| {
            let picture = open_picture(&images.join(&dataset.images[index].file_name))?;
            Ok(table::f16_bytes(&extractor.extract(&picture)?.concat()))
        },
    )
}

/// Joins a cache's shards; says how many scenes it has, or nothing where the folder is no cache.
pub fn merge(folder: &Path) -> Result<Option<usize>> {
    let Ok(Some(manifest)) = table::read_manifest::<Manifest>(folder) else { return Ok(None) };
    features_table(folder, &manifest).merge().map(Some)
}

/// The annotations' file in a folder of scenes and in a cache.
const ANNOTATIONS: &str = "annotations.json";

fn features_table(folder: &Path, manifest: &Manifest) -> Table {
    let config = StudentConfig { input_size: manifest.input_size, ..StudentConfig::new(0) };
    let numbers: usize = level_sizes(&config).iter().sum();
    Table { path: folder.join("features.f16"), row_bytes: numbers * 2, rows: manifest.images }
}

/// Numbers in the maps of one scene, level by level.
fn level_sizes(config: &StudentConfig) -> [usize; 3] {
    std::array::from_fn(|level| config.map_shape(level, 1).iter().product())
}
