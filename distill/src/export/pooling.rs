//! RoI pooling in the graph: what [`crate::student::roi`] computes beforehand for training.

use wordsight_onnx::{Attribute, Graph, Value};

use crate::student::roi::{BINS, SAMPLES, sample_offsets};
use crate::student::{STRIDES, StudentConfig};

/// Which cells each of K regions covers and how much.
pub struct Shares {
    /// Rows of the fine map, [K * BINS, height].
    rows: Value,
    /// Columns of the fine map, [K, width, BINS].
    columns: Value,
    /// Shares of the coarse map's cells, [K, height * width].
    pub coarse: Value,
}

impl Shares {
    /// Adds the weights' computation from boxes [K,4] in input pixels.
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

    /// Pools a fine map [1,C,h,w] into [K, BINS * C * BINS].
    pub fn pool(&self, graph: &mut Graph, config: &StudentConfig, map: &Value) -> Value {
        let (side, bins, channels) = (config.grids()[0] as i64, BINS as i64, config.pyramid_channels as i64);
        let by_row = graph.transpose(map, &[0, 2, 1, 3]);
        let by_row = graph.reshape(&by_row, &[side, channels * side]);
        let rows = graph.matmul(&self.rows, &by_row);
        let rows = graph.reshape(&rows, &[-1, bins * channels, side]);
        let pooled = graph.matmul(&rows, &self.columns);
        graph.reshape(&pooled, &[-1, bins * channels * bins])
    }
}

/// [K, BINS, cells] from sides [K,1].
fn bin_weights(graph: &mut Graph, from: &Value, to: &Value, stride: usize, cells: usize) -> Value {
    let tents = tents(graph, from, to, stride, cells);
    let by_bin = graph.reshape(&tents, &[-1, BINS as i64, SAMPLES as i64, cells as i64]);
    mean(graph, &by_bin, 2)
}

/// [K, cells] from sides [K,1].
fn mean_weights(graph: &mut Graph, from: &Value, to: &Value, stride: usize, cells: usize) -> Value {
    let tents = tents(graph, from, to, stride, cells);
    mean(graph, &tents, 1)
}

/// Bilinear weights of every sampling point on every cell, [K, BINS * SAMPLES, cells].
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
