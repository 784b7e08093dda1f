//! The frozen backbone's feature maps, computed once.
//!
//! Flows in: scenes (images and COCO annotations), the backbone's weights and a teacher. Flows out: a
//! folder, the *cache*, with one file of feature maps and one of teacher embeddings, both FP16 rows of
//! fixed length that memory-map, and a manifest that says what they are of.
//!
//! The surprising thing: resuming needs no bookkeeping. Rows are appended in order, so a file's length
//! says how far an earlier run came; an incomplete last row is cut off and computed again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use half::f16;
use image::RgbImage;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use wordsight_detection::Preprocessor;
use wordsight_engines::{Input, OnnxSession, TensorView};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, Storage, Value};
use wordsight_teacher::efficientnet::{EfficientNetLite, Stage, Weights};

use crate::coco::Dataset;
use crate::progress;
use crate::student::{BACKBONE_CHANNELS, StudentConfig};

/// Images that one worker handles before rows are written: bounds memory and what a kill can cost.
const CHUNK_PER_WORKER: usize = 16;

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
    /// Size of the teacher's embeddings.
    pub embedding_size: usize,
    /// The teacher whose embeddings these are.
    pub teacher: String,
    /// Scenes.
    pub images: usize,
    /// Objects in them.
    pub annotations: usize,
}

/// A cache, memory-mapped.
pub struct Cache {
    /// What it is of.
    pub manifest: Manifest,
    /// The scenes' annotations.
    pub dataset: Dataset,
    config: StudentConfig,
    features: Mmap,
    teacher: Option<Mmap>,
}

impl Cache {
    /// Opens a finished cache.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = read_manifest(folder)?.with_context(|| {
            format!(
                "{} is not a feature cache; make one with `wordsight-distill precompute`",
                folder.display()
            )
        })?;
        let config =
            StudentConfig { input_size: manifest.input_size, ..StudentConfig::new(manifest.embedding_size) };
        let dataset = Dataset::load(&folder.join("annotations.json"))?;
        let features = map_file(&folder.join("features.f16"), manifest.images * feature_row(&config) * 2)?;
        let teacher =
            map_file(&folder.join("teacher.f16"), manifest.annotations * manifest.embedding_size * 2).ok();
        Ok(Self { manifest, dataset, config, features, teacher })
    }

    /// Appends the feature map of one level of scene `index` to `out`.
    pub fn read_level(&self, index: usize, level: usize, out: &mut Vec<f32>) {
        let sizes = level_sizes(&self.config);
        let start = index * feature_row(&self.config) + sizes[..level].iter().sum::<usize>();
        extend_widened(&self.features, start, sizes[level], out);
    }

    /// The teacher's embedding of annotation number `index` (its place in the file).
    pub fn teacher_embedding(&self, index: usize) -> Vec<f32> {
        let size = self.manifest.embedding_size;
        let mut embedding = Vec::with_capacity(size);
        if let Some(teacher) = &self.teacher {
            extend_widened(teacher, index * size, size, &mut embedding);
        }
        embedding
    }
}

/// Computes a cache in `output` for the scenes in `scenes` (as `wordsight-distill scenes` lays them out).
///
/// `teachers`: one a worker; embedding a crop is most of the work.
pub fn precompute(
    scenes: &Path,
    weights: &Weights,
    mut teachers: Vec<wordsight_teacher::Teacher>,
    config: &StudentConfig,
    output: &Path,
) -> Result<()> {
    let dataset = Dataset::load(&scenes.join("annotations.json"))?;
    let teacher = teachers.first().map(|teacher| teacher.id().to_owned()).context("a teacher is needed")?;
    let manifest = Manifest {
        input_size: config.input_size,
        embedding_size: config.embedding_size,
        teacher,
        images: dataset.images.len(),
        annotations: dataset.annotations.len(),
    };
    start_or_resume(output, &manifest, &dataset)?;

    let images = scenes.join("images");
    let open = |file_name: &str| -> Result<RgbImage> {
        let path = images.join(file_name);
        let picture =
            image::open(&path).with_context(|| format!("cannot read the scene {}", path.display()))?;
        Ok(picture.to_rgb8())
    };

    let mut extractors: Vec<FeatureExtractor> =
        teachers.iter().map(|_| FeatureExtractor::new(weights, config)).collect::<Result<_>>()?;
    let rows =
        Rows { path: output.join("features.f16"), length: feature_row(config), count: manifest.images };
    rows.append_missing("features", &mut extractors, |extractor, index| {
        Ok(extractor.extract(&open(&dataset.images[index].file_name)?)?.concat())
    })?;

    let files: std::collections::HashMap<u64, &str> =
        dataset.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
    let rows =
        Rows { path: output.join("teacher.f16"), length: config.embedding_size, count: manifest.annotations };
    rows.append_missing("teacher", &mut teachers, |teacher, index| {
        let annotation = &dataset.annotations[index];
        let picture = open(files[&annotation.image_id])?;
        let mut embeddings = teacher.embed_crops(&picture, &[annotation.corners_in_frame()])?;
        embeddings.pop().context("the teacher returned no embedding")
    })
}

/// Keeps an earlier run's rows if they are of the same things; otherwise says so and stops.
fn start_or_resume(folder: &Path, manifest: &Manifest, dataset: &Dataset) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let annotations = folder.join("annotations.json");
    match read_manifest(folder)? {
        Some(earlier) => ensure!(
            &earlier == manifest && &Dataset::load(&annotations)? == dataset,
            "{} holds the features of other scenes, or of another teacher ({}, {} scenes): remove it or name another folder",
            folder.display(),
            earlier.teacher,
            earlier.images
        ),
        None => {
            dataset.save(&annotations)?;
            let path = folder.join("manifest.json");
            fs::write(&path, serde_json::to_string_pretty(manifest)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join("manifest.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?))
}

/// A file of rows of FP16 numbers, all of one length.
struct Rows {
    path: PathBuf,
    /// Numbers a row.
    length: usize,
    /// Rows in a finished file.
    count: usize,
}

impl Rows {
    /// Computes the rows that the file lacks, each worker on its own thread, and appends them in order.
    fn append_missing<W: Send>(
        &self,
        what: &'static str,
        workers: &mut [W],
        compute: impl Fn(&mut W, usize) -> Result<Vec<f32>> + Sync,
    ) -> Result<()> {
        let context = || format!("cannot write {}; is the disk full?", self.path.display());
        let file = OpenOptions::new().create(true).append(true).open(&self.path).with_context(context)?;
        let done = file.metadata().with_context(context)?.len() as usize / (2 * self.length);
        let done = done.min(self.count);
        file.set_len((done * 2 * self.length) as u64).with_context(context)?;
        let mut file = BufWriter::new(file);

        let bar = progress::bar(self.count as u64, what);
        bar.set_position(done as u64);
        let indices: Vec<usize> = (done..self.count).collect();
        for chunk in indices.chunks(CHUNK_PER_WORKER * workers.len().max(1)) {
            let share = chunk.len().div_ceil(workers.len().max(1));
            let parts: Vec<Vec<Vec<f32>>> = workers
                .par_iter_mut()
                .zip(chunk.par_chunks(share))
                .map(|(worker, part)| {
                    let rows = part.iter().map(|&index| {
                        bar.inc(1);
                        compute(worker, index)
                    });
                    rows.collect::<Result<_>>()
                })
                .collect::<Result<_>>()?;
            for row in parts.iter().flatten() {
                ensure!(
                    row.len() == self.length,
                    "a row of {} numbers where {} belong",
                    row.len(),
                    self.length
                );
                let bytes: Vec<u8> = row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
                file.write_all(&bytes).with_context(context)?;
            }
        }
        bar.finish();
        file.flush().with_context(context)
    }
}

fn map_file(path: &Path, length: usize) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: the file is ours and nothing writes to a finished cache; if somebody does cut it while it
    // is mapped, the process ends on a bus error rather than reading another's memory.
    let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
    ensure!(
        map.len() == length,
        "{} has {} bytes of {length}: run `wordsight-distill precompute` again, it goes on where it stopped",
        path.display(),
        map.len()
    );
    Ok(map)
}

fn extend_widened(bytes: &[u8], start: usize, count: usize, out: &mut Vec<f32>) {
    let bytes = &bytes[start * 2..(start + count) * 2];
    out.extend(bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()));
}

/// Numbers in the maps of one scene, level by level.
fn level_sizes(config: &StudentConfig) -> [usize; 3] {
    std::array::from_fn(|level| config.map_shape(level, 1).iter().product())
}

/// Numbers in all maps of one scene.
fn feature_row(config: &StudentConfig) -> usize {
    level_sizes(config).iter().sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn rows_cut_short_by_a_kill_are_computed_again_and_nothing_is_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let rows = Rows { path: folder.path().join("rows.f16"), length: 3, count: 100 };
        let compute = |_: &mut (), index: usize| Ok(vec![index as f32, 0.5, -1.0]);
        rows.append_missing("test", &mut [(), ()], compute).unwrap();
        let whole = fs::read(&rows.path).unwrap();
        assert_eq!(whole.len(), 100 * 3 * 2);

        fs::write(&rows.path, &whole[..whole.len() / 2 + 1]).unwrap();
        let computed = std::sync::Mutex::new(Vec::new());
        rows.append_missing("test", &mut [(), ()], |worker, index| {
            computed.lock().unwrap().push(index);
            compute(worker, index)
        })
        .unwrap();
        assert_eq!(fs::read(&rows.path).unwrap(), whole);
        let mut computed = computed.into_inner().unwrap();
        computed.sort_unstable();
        assert_eq!(computed, (50..100).collect::<Vec<_>>(), "only what was missing");
    }
}
