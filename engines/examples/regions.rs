//! Runs a student on a photograph, and prints its best regions. With ONNX Runtime as the Makefile sets it:
//!
//!     cargo run -p wordsight-engines --example regions -- demo/student.onnx demo/photographs/cinema.jpg
#![allow(missing_docs)]

use std::path::Path;

use wordsight_detection::Preprocessor;
use wordsight_engines::{CpuEngine, Engine, Regions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(student), Some(photograph)) = (arguments.next(), arguments.next()) else {
        return Err("name a student and a photograph".into());
    };
    let mut engine = CpuEngine::open(Path::new(&student), 0)?;
    let mut preprocessor = Preprocessor::new(engine.facts().resize);
    let mut input = vec![0; preprocessor.output_len()];
    let rgb = image::open(photograph)?.into_rgb8();
    let letterbox = preprocessor.run(&rgb, rgb.width() as usize, rgb.height() as usize, &mut input);
    let mut regions = Regions::default();
    engine.infer(&input, &mut regions)?;
    let mut best: Vec<(&f32, &[f32; 4])> = regions.objectness.iter().zip(&regions.boxes_in_input).collect();
    best.sort_by(|a, b| b.0.total_cmp(a.0));
    for (objectness, box_in_input) in best.into_iter().take(5) {
        println!("{objectness:.2} {:?}", letterbox.box_in_frame_from_input(*box_in_input));
    }
    Ok(())
}
