//! RoI pooling in the exported graph: what [`crate::student::roi`] computes in training.

use wordsight_distill_kernels::{BINS, SAMPLES};
use wordsight_onnx::{Attribute, Graph, Value};

use crate::student::roi::sample_offsets;
use crate::student::{STRIDES, StudentConfig};

/// Which cells each of K regions covers and how much.
pub struct Shares {
    /// Rows of the fine map, `[K * BINS, height]`.
    rows: Value,
    /// Columns of the fine map, `[K, width, BINS]`.
    columns: Value,
    /// Shares of the coarse map's cells, `[K, height * width]`.
    pub coarse: Value,
}

impl Shares {
    /// Adds the weights' computation from boxes `[K,4]` in input pixels.
    pub fn add(graph: &mut Graph, config: &StudentConfig, boxes: &Value) -> Self {
        let sizes = graph.ints(&[1; 4]);
        let [x1, y1, x2, y2] =
            graph.node_with_outputs("Split", &[boxes, &sizes], &[("axis", Attribute::Int(1))]);
        let [fine, _, coarse] = config.grids();

        let rows = bin_weights(graph, &y1, &y2, STRIDES[0], fine);
        let rows = graph.reshape(&rows, &[-1, fine as i64]);
        let columns = bin_weights(graph, &x1, &x2, STRIDES[0], fine);
        let columns = graph.transpose(&columns, &[0, 2, 1]);

        let down = mean_weights(graph, &y1, &y2, STRIDES[2], coarse);
        let down = graph.reshape(&down, &[-1, coarse as i64, 1]);
        let across = mean_weights(graph, &x1, &x2, STRIDES[2], coarse);
        let across = graph.reshape(&across, &[-1, 1, coarse as i64]);
        let shares = graph.mul(&down, &across);
        let coarse = graph.reshape(&shares, &[-1, (coarse * coarse) as i64]);
        Self { rows, columns, coarse }
    }

    /// Pools a fine map `[1,C,h,w]` into `[K, BINS * C * BINS]`.
    pub fn pool(&self, graph: &mut Graph, config: &StudentConfig, map: &Value) -> Value {
        let (side, bins, channels) = (config.grids()[0] as i64, BINS as i64, config.region_channels as i64);
        let by_row = graph.transpose(map, &[0, 2, 1, 3]);
        let by_row = graph.reshape(&by_row, &[side, channels * side]);
        let rows = graph.matmul(&self.rows, &by_row);
        let rows = graph.reshape(&rows, &[-1, bins * channels, side]);
        let pooled = graph.matmul(&rows, &self.columns);
        graph.reshape(&pooled, &[-1, bins * channels * bins])
    }
}

/// `[K, BINS, cells]` from sides `[K,1]`.
fn bin_weights(graph: &mut Graph, from: &Value, to: &Value, stride: usize, cells: usize) -> Value {
    let tents = tents(graph, from, to, stride, cells);
    let by_bin = graph.reshape(&tents, &[-1, BINS as i64, SAMPLES as i64, cells as i64]);
    mean(graph, &by_bin, 2)
}

/// `[K, cells]` from sides `[K,1]`.
fn mean_weights(graph: &mut Graph, from: &Value, to: &Value, stride: usize, cells: usize) -> Value {
    let tents = tents(graph, from, to, stride, cells);
    mean(graph, &tents, 1)
}

/// Bilinear weights of every sampling point on every cell, `[K, BINS * SAMPLES, cells]`.
fn tents(graph: &mut Graph, from: &Value, to: &Value, stride: usize, cells: usize) -> Value {
    let (scale, half, one) = (graph.scalar(1.0 / stride as f32), graph.scalar(0.5), graph.scalar(1.0));
    let [from, to] = [from, to].map(|side| {
        let scaled = graph.mul(side, &scale);
        graph.sub(&scaled, &half)
    });
    let length = graph.sub(&to, &from);
    let offsets = graph.exact_floats(&[1, BINS * SAMPLES], &sample_offsets());
    let along = graph.mul(&length, &offsets);
    let points = graph.add(&from, &along);
    let points = graph.clip(&points, 0.0, (cells - 1) as f32);
    let points = graph.reshape(&points, &[-1, (BINS * SAMPLES) as i64, 1]);
    let positions: Vec<f32> = (0..cells).map(|cell| cell as f32).collect();
    let positions = graph.exact_floats(&[1, 1, cells], &positions);
    let apart = graph.sub(&positions, &points);
    let apart = graph.node("Abs", &[&apart], &[]);
    let tents = graph.sub(&one, &apart);
    graph.node("Relu", &[&tents], &[])
}

fn mean(graph: &mut Graph, x: &Value, axis: i64) -> Value {
    graph.node("ReduceMean", &[x], &[("axes", Attribute::Ints(&[axis])), ("keepdims", Attribute::Int(0))])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use burn::tensor::{Device, Tensor, TensorData};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use wordsight_engines::{Input, OnnxSession, TensorView};
    use wordsight_onnx::Storage;
    use wordsight_onnx::proto::ElementType;

    use super::*;
    use crate::student::roi::Pooling;

    const CHANNELS: usize = 5;
    const REGIONS: usize = 40;

    fn config() -> StudentConfig {
        StudentConfig { region_channels: CHANNELS, ..StudentConfig::new(8) }
    }

    /// Boxes of all sizes, some touching the border, two thinner than a cell.
    fn boxes(side: f32) -> Vec<[f32; 4]> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut boxes: Vec<[f32; 4]> = (0..REGIONS - 4)
            .map(|_| {
                let (w, h) = (rng.random_range(4.0..side), rng.random_range(4.0..side));
                let (x, y) = (rng.random_range(0.0..=side - w), rng.random_range(0.0..=side - h));
                [x, y, x + w, y + h]
            })
            .collect();
        boxes.extend([[0.0, 0.0, side, side], [0.0, 0.0, 3.0, 3.0], [side - 2.0, 10.0, side, 90.0]]);
        boxes.push([100.0, 100.0, 101.0, 101.0]);
        boxes
    }

    /// The graph that pools by matrix products and, beside it, by ONNX's own operator.
    fn both(config: &StudentConfig) -> Vec<u8> {
        let [side, _, coarse] = config.grids().map(|cells| cells as i64);
        let (regions, channels, bins) = (REGIONS as i64, CHANNELS as i64, BINS as i64);
        let mut graph = Graph::new("pooling", Storage::F32);
        let map = graph.input("map", ElementType::Float, &[1, channels, side, side]);
        let boxes = graph.input("boxes", ElementType::Float, &[regions, 4]);
        let shares = Shares::add(&mut graph, config, &boxes);
        let ours = shares.pool(&mut graph, config, &map);
        let images = graph.ints(&[0; REGIONS]);
        let theirs = graph.node(
            "RoiAlign",
            &[&map, &boxes, &images],
            &[
                ("coordinate_transformation_mode", Attribute::Text("half_pixel")),
                ("mode", Attribute::Text("avg")),
                ("output_height", Attribute::Int(bins)),
                ("output_width", Attribute::Int(bins)),
                ("sampling_ratio", Attribute::Int(SAMPLES as i64)),
                ("spatial_scale", Attribute::Float(1.0 / STRIDES[0] as f32)),
            ],
        );
        graph.output(&ours, "ours", ElementType::Float, &[regions, bins * channels * bins]);
        graph.output(&theirs, "theirs", ElementType::Float, &[regions, channels, bins, bins]);
        graph.output(&shares.coarse, "coarse", ElementType::Float, &[regions, coarse * coarse]);
        wordsight_onnx::encode(&graph.into_model(&[]))
    }

    #[test]
    fn matrix_products_equal_onnx_runtimes_roi_align_and_what_training_computes() {
        let config = config();
        let [side, _, coarse_side] = config.grids();
        let boxes = boxes(config.input_size as f32);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let map: Vec<f32> = (0..CHANNELS * side * side).map(|_| rng.random_range(-1.0..1.0)).collect();
        let flat: Vec<f32> = boxes.iter().flatten().copied().collect();

        let mut session = OnnxSession::from_bytes(&both(&config), "pooling", 1).unwrap();
        let inputs = [
            Input { name: "map", shape: &[1, CHANNELS, side, side], data: TensorView::F32(&map) },
            Input { name: "boxes", shape: &[REGIONS, 4], data: TensorView::F32(&flat) },
        ];
        let outputs = session.run(&inputs).unwrap();
        let [ours, theirs, coarse] = [0, 1, 2].map(|output| &outputs[output].data);

        // Ours lie as bin row, channel, bin column; RoiAlign's as channel, bin row, bin column.
        let place = |region: usize, channel: usize, i: usize, j: usize| {
            ((region * BINS + i) * CHANNELS + channel) * BINS + j
        };
        let mut worst = 0.0_f32;
        for (at, theirs) in theirs.iter().enumerate() {
            let (j, i) = (at % BINS, at / BINS % BINS);
            let (channel, region) = (at / (BINS * BINS) % CHANNELS, at / (BINS * BINS * CHANNELS));
            worst = worst.max((ours[place(region, channel, i, j)] - theirs).abs());
        }
        assert!(worst < 1e-4, "apart by {worst}");

        // In training the channels come last: in the map, and behind both bins.
        let device = Device::flex();
        let cells = side * side;
        let last: Vec<f32> =
            (0..map.len()).map(|place| map[place % CHANNELS * cells + place / CHANNELS]).collect();
        let map = Tensor::<4>::from_data(TensorData::new(last, [1, side, side, CHANNELS]), &device);
        let pooling = Pooling::new(&config, &[boxes]);
        let trained: Vec<f32> = pooling.pool(&map).into_data().iter().collect();
        let in_order: Vec<f32> = (0..trained.len())
            .map(|at| {
                let (j, channel) = (at % BINS, at / BINS % CHANNELS);
                let bins = at / (BINS * CHANNELS);
                trained[(bins * BINS + j) * CHANNELS + channel]
            })
            .collect();
        let shares: Vec<f32> = pooling.shares_of_coarse(&map).into_data().iter().collect();
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert_eq!((in_order.len(), shares.len()), (ours.len(), coarse.len()));
        assert!(apart(&in_order, ours) < 1e-4 && apart(&shares, coarse) < 1e-5);
        let regions = shares.chunks_exact(coarse_side * coarse_side);
        assert!(regions.into_iter().all(|region| (region.iter().sum::<f32>() - 1.0).abs() < 1e-4));
    }
}
