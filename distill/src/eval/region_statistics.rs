//! What a student's regions are like on ordinary photographs, which words by example need.
//!
//! Runs the student on photographs, and gives the mean region of each head and where regions differ most
//! ([`RegionStatistics`]).

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nalgebra::{DMatrix, SymmetricEigen};
use wordsight_detection::{Component, Preprocessor, RegionStatistics, ScoreFunction};
use wordsight_engines::{CpuEngine, Engine, Regions};

use crate::photographs::open_picture;
use crate::progress;

/// How many directions in which regions differ most are told apart, and how much of the mean variance is added to theirs:
/// of 8 to all and of 4 to 16, no choice names half a point more.
const COMPONENTS: usize = 16;
const SHRINKAGE: f32 = 6.0;

/// What the regions of a student are like on photographs.
///
/// # Errors
/// When a photograph can't be read, or the student fails.
pub fn measure_regions(engine: &mut CpuEngine, photographs: &[PathBuf]) -> Result<RegionStatistics> {
    let facts = engine.facts();
    if let ScoreFunction::Sigmoid = facts.scores {
        bail!(
            "words by example are for students whose scores are a softmax's, and this one's are a sigmoid's"
        );
    }
    let size = facts.embedding_size;
    let mut preprocessor = Preprocessor::new(facts.resize);
    let mut input = vec![0; preprocessor.output_len()];
    let (mut text, mut image, mut regions) = (Vec::new(), Vec::new(), Regions::default());
    let bar = progress::bar(photographs.len() as u64, "photographs");
    for path in photographs {
        let picture = open_picture(path)?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        preprocessor.run(picture.as_raw(), width, height, &mut input);
        engine.infer(&input, &mut regions)?;
        text.extend_from_slice(&regions.text_embeddings);
        image.extend_from_slice(&regions.image_embeddings);
        bar.inc(1);
    }
    bar.finish_and_clear();
    statistics_of(&text, &image, size).context("the photographs' regions are all alike")
}

/// Of regions: the embeddings of both heads, `[K, D]` each, row-major. None of fewer than two regions, or of regions that
/// are all alike. The shares of the components are those of a shrunken covariance's inverse (Ledoit and Wolf, 2004).
fn statistics_of(text: &[f32], image: &[f32], size: usize) -> Option<RegionStatistics> {
    let mean = |rows: &[f32]| DMatrix::from_column_slice(size, rows.len() / size, rows).column_mean();
    if text.len() < 2 * size {
        return None;
    }
    let (text_mean, image_mean) = (mean(text), mean(image));
    let mut differences = DMatrix::from_column_slice(size, text.len() / size, text);
    differences.column_iter_mut().for_each(|mut region| region -= &text_mean);
    let covariance = &differences * differences.transpose() / differences.ncols() as f32;
    let SymmetricEigen { eigenvectors, eigenvalues } = covariance.symmetric_eigen();
    let shrinkage = SHRINKAGE * eigenvalues.mean();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
    let component = |&place: &usize| Component {
        // Five digits are enough, and half as long in a student's file.
        direction: eigenvectors.column(place).iter().map(|value| (value * 1e5).round() / 1e5).collect(),
        share: shrinkage / (eigenvalues[place].max(0.0) + shrinkage),
    };
    let components = order.iter().take(COMPONENTS).map(component).collect();
    let [text_mean, image_mean] = [text_mean, image_mean].map(|mean| mean.as_slice().to_vec());
    let mut statistics = RegionStatistics { text_mean, image_mean, spread: 1.0, components };
    let length = |region: &[f32]| {
        let products = statistics.weighted(region).into_iter().zip(region).map(|(a, b)| a * b);
        products.sum::<f32>().max(0.0).sqrt()
    };
    statistics.spread = differences.column_iter().map(|region| length(region.as_slice())).sum::<f32>()
        / differences.ncols() as f32;
    statistics.check(size).is_ok().then_some(statistics)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statistics_are_those_of_all_regions_and_need_regions_that_differ() {
        // They differ most along the first number.
        let text = [0.8, 0.1, 0.0, -0.8, 0.1, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0];
        let image = [1.0, 0.0, 0.0].repeat(4);
        let found = statistics_of(&text, &image, 3).unwrap();
        assert_eq!(found.image_mean, [1.0, 0.0, 0.0]);
        assert!(
            found.text_mean.iter().zip([0.0, 0.1, 0.0]).all(|(value, known)| (value - known).abs() < 1e-6)
        );
        let Component { direction, share } = &found.components[0];
        assert!((direction[0].abs() - 1.0).abs() < 1e-4 && *share < 1.0, "{found:?}");
        assert!(found.components.iter().all(|other| other.share >= *share));
        assert!(
            (found.spread - (1.6 * share.sqrt() + 0.2 * found.components[1].share.sqrt()) / 4.0).abs() < 1e-4
        );
        assert_eq!(statistics_of(&image, &text, 3), None);
        assert_eq!(statistics_of(&[], &[], 3), None);
    }
}
