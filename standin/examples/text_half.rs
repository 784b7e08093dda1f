//! Cuts the text half out of a teacher, as a device needs it.
//!
//! ```sh
//! cargo run -p wordsight-standin --example text_half -- .deps/teacher text-teacher
//! ```

use std::path::PathBuf;

use wordsight_standin::StandinError;
use wordsight_standin::text_only::{Weights, cut};

fn main() -> Result<(), StandinError> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [teacher, output] = folders.as_slice() else {
        println!("usage: text_half TEACHER OUTPUT");
        return Ok(());
    };
    let cut = cut(teacher, Weights::Small, output)?;
    println!("{} in {}: a cosine of {:.5} at the least", cut.id, output.display(), cut.least_cosine);
    Ok(())
}
