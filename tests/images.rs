//! Images for containers: made of the packages, started by runc, a Jetson's under QEMU. `make images` makes the packages and
//! runs this.
//!
//! `scripts/check-images` makes, starts and looks. It is given a student that sees colours, since the shipped one takes many
//! seconds a frame where all is emulated.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;

use support::*;

#[test]
#[ignore = "takes packages, root and QEMU: make images"]
fn every_image_sees_what_this_machine_sees_and_serves_it() {
    let bench = Bench::new();
    let pictures = [[RED, GREEN, GREY, BLUE], [BLUE, BLUE, RED, GREY], [GREY, GREEN, GREEN, RED]];
    for (number, colours) in pictures.into_iter().enumerate() {
        bench.write(&format!("frames/{number}.jpg"), jpeg(320, 180, colours, None));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-images");
    let status = Command::new(script).arg(bench.path("")).status().unwrap();
    assert!(status.success(), "{status}: see above");
}
