//! Suppression of overlapping boxes as ordinary operators: what [`crate::student::suppression`] computes, in the graph.

use wordsight_onnx::proto::ElementType;
use wordsight_onnx::{Attribute, Graph, Value};

use crate::student::StudentConfig;
use crate::student::suppression::{OVERLAP, ROUNDS, candidates};

/// Boxes are compared in this many input pixels, so that areas are numbers that FP16 can hold.
const UNIT: f32 = 32.0;

/// The best proposals, objectness `[K]` and boxes in input pixels `[K,4]`, of all cells' objectness `[1,cells]` and boxes
/// `[cells,4]`.
pub fn add(graph: &mut Graph, config: &StudentConfig, objectness: &Value, boxes: &Value) -> (Value, Value) {
    let cells = config.centres_in_input().len();
    let candidates = candidates(config.proposals, cells) as i64;
    let [objectness, order] = best(graph, objectness, candidates);
    let boxes = in_order(graph, boxes, &order);
    let boxes = graph.clip(&boxes, 0.0, config.input_size as f32);
    let covers = covers(graph, &boxes, candidates);
    // Which candidates stand, as 0 or 1, `[1,candidates]`; before the first round all do.
    let mut stands = graph.reduce_sum(&covers, &[0]);
    for round in 0..ROUNDS {
        let covered = if round == 0 { stands } else { graph.matmul(&stands, &covers) };
        let half = graph.scalar(0.5);
        let free = graph.node("Less", &[&covered, &half], &[]);
        stands = graph.cast(&free, ElementType::Float);
    }
    // What stands comes before what doesn't.
    let rank = graph.add(&objectness, &stands);
    let [_, order] = best(graph, &rank, config.proposals as i64);
    let objectness = graph.reshape(&objectness, &[-1]);
    (in_order(graph, &objectness, &order), in_order(graph, &boxes, &order))
}

/// The `count` highest of `[1,n]`, and their places `[count]`.
fn best(graph: &mut Graph, ranks: &Value, count: i64) -> [Value; 2] {
    let count = graph.ints(&[count]);
    let [highest, order] = graph.node_with_outputs("TopK", &[ranks, &count], &[("axis", Attribute::Int(1))]);
    [highest, graph.reshape(&order, &[-1])]
}

/// Rows by their places.
pub fn in_order(graph: &mut Graph, rows: &Value, order: &Value) -> Value {
    graph.node("Gather", &[rows, order], &[("axis", Attribute::Int(0))])
}

/// 1 where the row's box is the better of two that overlap too much, `[n,n]`; boxes `[n,4]`, the best first.
fn covers(graph: &mut Graph, boxes: &Value, count: i64) -> Value {
    let unit = graph.scalar(1.0 / UNIT);
    let boxes = graph.mul(boxes, &unit);
    let ones = graph.ints(&[1; 4]);
    let columns: [Value; 4] =
        graph.node_with_outputs("Split", &[&boxes, &ones], &[("axis", Attribute::Int(1))]);
    let rows = columns.clone().map(|column| graph.reshape(&column, &[1, count]));
    let [width, height] = [0, 1].map(|axis| {
        let from = graph.node("Max", &[&columns[axis], &rows[axis]], &[]);
        let to = graph.node("Min", &[&columns[axis + 2], &rows[axis + 2]], &[]);
        let length = graph.sub(&to, &from);
        graph.node("Relu", &[&length], &[])
    });
    let common = graph.mul(&width, &height);
    let [of_columns, of_rows] = [&columns, &rows].map(|sides| {
        let (width, height) = (graph.sub(&sides[2], &sides[0]), graph.sub(&sides[3], &sides[1]));
        graph.mul(&width, &height)
    });
    // common > OVERLAP (a + b - common), without a division.
    let both = graph.add(&of_columns, &of_rows);
    let share = graph.scalar(OVERLAP / (1.0 + OVERLAP));
    let enough = graph.mul(&both, &share);
    let close = graph.node("Greater", &[&common, &enough], &[]);
    let ranks: Vec<f32> = (0..count).map(|rank| rank as f32).collect();
    let (down, across) =
        (graph.exact_floats(&[ranks.len(), 1], &ranks), graph.exact_floats(&[1, ranks.len()], &ranks));
    let better = graph.node("Less", &[&down, &across], &[]);
    let covers = graph.node("And", &[&close, &better], &[]);
    graph.cast(&covers, ElementType::Float)
}
