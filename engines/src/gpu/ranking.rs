//! Ranks words on the GPU: the similarities of all regions to all words, and the best words of each region.

use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaSlice, DeviceRepr, LaunchConfig};
use wordsight_detection::RankingTable;

use super::device::{Device, GpuError};
use super::kernels::{Kernel, Kernels, blocks};

/// A tile of `similarities`, as `kernels.cu` has it: regions and columns.
const TILE: (usize, usize) = (32, 64);
/// Threads of a block of either kernel.
const THREADS: u32 = 256;

/// `kernels.cu`'s `Similarities`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct SimilarityParameters {
    text: u64,
    image: u64,
    words: u64,
    logits: u64,
    regions: i32,
    columns: i32,
    size: i32,
    scale: f32,
}

/// Embeddings a region: with a softmax two, with a sigmoid one.
fn heads(table: &RankingTable) -> usize {
    if table.is_sigmoid { 1 } else { 2 }
}

// SAFETY: plain numbers in C's layout.
unsafe impl DeviceRepr for SimilarityParameters {}

/// `kernels.cu`'s `Ranking`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RankParameters {
    logits: u64,
    objectness: u64,
    logit_shift: u64,
    logit_scale: u64,
    text_weights: u64,
    thresholds: u64,
    words: u64,
    scores: u64,
    regions: i32,
    columns: i32,
    words_per_region: i32,
    objectness_weight: f32,
    lowest_threshold: f32,
}

// SAFETY: as above.
unsafe impl DeviceRepr for RankParameters {}

/// The network's outputs that words are ranked by, on the GPU.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    /// Always there.
    pub objectness: Option<&'a CudaSlice<f32>>,
    /// Always there.
    pub text: Option<&'a CudaSlice<f32>>,
    /// With a softmax.
    pub image: Option<&'a CudaSlice<f32>>,
    /// With a sigmoid.
    pub logit_shift: Option<&'a CudaSlice<f32>>,
    /// With a sigmoid.
    pub logit_scale: Option<&'a CudaSlice<f32>>,
}

/// The best words of each region, whatever the vocabulary.
pub(super) struct RankedWords {
    /// `[regions, words_per_region]`; -1 where there is none.
    pub words: CudaSlice<i32>,
    /// `[regions, words_per_region]`.
    pub scores: CudaSlice<f32>,
    pub words_per_region: usize,
}

fn len(output: Option<&CudaSlice<f32>>) -> usize {
    output.map_or(0, CudaSlice::len)
}

/// # Panics
/// When a table and a student's outputs are not of one size.
fn check_sizes(table: &RankingTable, outputs: Outputs<'_>) {
    let (regions, size) = (len(outputs.objectness), table.embedding_size);
    assert_eq!(
        table.background_and_words.len(),
        (1 + table.thresholds.len()) * size,
        "an embedding a word and the background's"
    );
    assert_eq!(
        len(outputs.text) + len(outputs.image),
        heads(table) * regions * size,
        "regions' embeddings, of as many heads as the scores take"
    );
    let shifted = if table.is_sigmoid { regions } else { 0 };
    let found = (len(outputs.logit_shift), len(outputs.logit_scale));
    assert_eq!(found, (shifted, shifted), "regions' shifts and scales");
}

/// One vocabulary on the GPU.
pub(super) struct Ranking {
    /// Those of the vocabulary before, where it has as many words a region: a graph copies them from there.
    pub answers: Arc<RankedWords>,
    similarities: SimilarityParameters,
    rank: RankParameters,
    heads: u32,
    _tables: [CudaSlice<f32>; 4],
}

impl Ranking {
    /// A vocabulary in the place of the one `before`, if there is one.
    pub fn new(
        device: &Device,
        table: &RankingTable,
        outputs: Outputs<'_>,
        before: Option<&Self>,
    ) -> Result<Self, GpuError> {
        check_sizes(table, outputs);
        let (regions, size) = (len(outputs.objectness), table.embedding_size);
        let columns = 1 + table.thresholds.len();
        let answers = match before {
            Some(before) if before.answers.words_per_region == table.words_per_region => {
                Arc::clone(&before.answers)
            }
            _ => Arc::new(RankedWords::new(device, regions, table.words_per_region)?),
        };
        let logits: CudaSlice<f32> = device.zeros(heads(table) * regions * columns)?;
        let vocabulary = device.copy_of(&table.background_and_words)?;
        let text_weights = device.copy_of(&table.text_weights)?;
        let thresholds = device.copy_of(&table.thresholds)?;
        // A vocabulary in memory has fewer words than that, and a student fewer regions.
        let number = |size: usize| size as i32;
        // 0 where there is none, which the kernels don't read.
        let address = |output: Option<&CudaSlice<f32>>| output.map_or(0, |output| device.address(output));
        let similarities = SimilarityParameters {
            text: address(outputs.text),
            image: address(outputs.image),
            words: device.address(&vocabulary),
            logits: device.address(&logits),
            regions: number(regions),
            columns: number(columns),
            size: number(size),
            scale: table.inverse_temperature,
        };
        let rank = RankParameters {
            logits: similarities.logits,
            objectness: address(outputs.objectness),
            logit_shift: address(outputs.logit_shift),
            logit_scale: address(outputs.logit_scale),
            text_weights: device.address(&text_weights),
            thresholds: device.address(&thresholds),
            words: device.address(&answers.words),
            scores: device.address(&answers.scores),
            regions: number(regions),
            columns: number(columns),
            words_per_region: number(table.words_per_region),
            objectness_weight: table.objectness_weight,
            lowest_threshold: table.thresholds.iter().copied().fold(f32::INFINITY, f32::min),
        };
        let tables = [logits, vocabulary, text_weights, thresholds];
        Ok(Self { answers, similarities, rank, heads: heads(table) as u32, _tables: tables })
    }

    /// Queues the ranking of what the network's outputs hold then.
    pub fn queue(&self, device: &Device, kernels: &Kernels) -> Result<(), GpuError> {
        let [similarities, rank] = self.configs();
        // SAFETY: the tables are this struct's own and made for these sizes; the outputs are the engine's, live as long
        // as this, and were measured in `new`.
        unsafe {
            kernels.launch(device, Kernel::Similarities, similarities, &self.similarities)?;
            kernels.launch(device, Kernel::Rank, rank, &self.rank)
        }
    }

    /// Has a graph that was captured with the vocabulary before rank by this one, which lives as long as it; the answers
    /// are the same. After an error the graph is of no use.
    pub fn patch(&self, graph: &CudaGraph, kernels: &Kernels) -> Result<(), GpuError> {
        let [similarities, rank] = self.configs();
        // SAFETY: as above.
        unsafe {
            kernels.patch(graph, Kernel::Similarities, similarities, &self.similarities)?;
            kernels.patch(graph, Kernel::Rank, rank, &self.rank)
        }
    }

    /// The threads of either kernel.
    fn configs(&self) -> [LaunchConfig; 2] {
        let (regions, columns) = (self.rank.regions as usize, self.rank.columns as usize);
        let tiles = (blocks(columns, TILE.1), blocks(regions, TILE.0), self.heads);
        [tiles, (blocks(regions, 1), 1, 1)].map(|grid_dim| LaunchConfig {
            grid_dim,
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        })
    }
}

impl RankedWords {
    fn new(device: &Device, regions: usize, words_per_region: usize) -> Result<Self, GpuError> {
        let places = regions * words_per_region;
        Ok(Self { words: device.zeros(places)?, scores: device.zeros(places)?, words_per_region })
    }
}
