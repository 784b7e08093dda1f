//! Average precision of three detections, by COCO's rules. `cargo run -p wordsight-evaluation --example average_precision`
#![allow(missing_docs)]

use wordsight_evaluation::{Category, Dataset, Detection, GroundTruth, Image, Protocol, evaluate};

fn main() {
    let truth = |left: f64| GroundTruth {
        image: 1,
        category: 3,
        box_in_image: [left, 10.0, 40.0, 40.0],
        area: 1600.0,
        ..GroundTruth::default()
    };
    let dataset = Dataset {
        images: vec![Image { id: 1, ..Image::default() }],
        categories: vec![Category { id: 3, frequency: None }],
        ground_truths: vec![truth(10.0), truth(100.0)],
    };
    let detection = |left: f64, score: f64| Detection {
        image: 1,
        category: 3,
        score,
        box_in_image: [left, 10.0, 40.0, 40.0],
    };
    // One that fits, one that is off by a few pixels, and one where nothing is.
    let found = [detection(10.0, 0.9), detection(105.0, 0.8), detection(200.0, 0.7)];
    let summary = evaluate(&dataset, &found, &Protocol::coco()).summary();
    println!("AP {:?}, AP50 {:?}", summary.ap, summary.ap50);
}
