//! What this machine says of itself. `cargo run -p wordsight-board --example readings`
#![allow(missing_docs)]

use std::path::Path;

use wordsight_board::{Machine, Sampler};

fn main() {
    let root = Path::new("/");
    let machine = Machine::read(root);
    println!(
        "{}",
        machine.board.or(machine.cpu).unwrap_or("a machine that doesn't say what it is".to_owned())
    );
    let readings = Sampler::open(root).read();
    if let Some((zone, margin_c)) = readings.hottest() {
        println!("{}: {} °C, {margin_c} °C below where it is slowed", zone.zone, zone.celsius);
    }
    if let Some(watts) = readings.watts() {
        println!("{watts} W");
    }
}
