//! The order in which an epoch sees the photographs.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;

use super::Sets;

/// Keeps the generators of epochs apart from those of pictures.
const EPOCH_STREAM: u64 = 1 << 62;

/// The visits of every epoch, by (seed, epoch).
pub(super) struct Order {
    /// Each set's photographs and how many visits an epoch they have in all.
    sets: Vec<(Range<usize>, usize)>,
    seed: u64,
    /// The last epoch that was asked for.
    epoch: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// Of some sets with their weights.
    pub fn new(sets: &Sets, seed: u64) -> Self {
        let visits =
            |photographs: usize, weight: f32| (photographs as f64 * f64::from(weight)).round() as usize;
        let sets = sets
            .sets
            .iter()
            .map(|set| (set.photographs.clone(), visits(set.photographs.len(), set.weight)))
            .filter(|(photographs, _)| !photographs.is_empty());
        Self { sets: sets.collect(), seed, epoch: None }
    }

    /// Visits an epoch.
    pub fn length(&self) -> usize {
        self.sets.iter().map(|(_, visits)| visits).sum()
    }

    /// The photographs of an epoch in their order: each as often as its set's weight says, and where that is no whole
    /// number, another part of them once more each epoch.
    pub fn epoch(&mut self, epoch: u64) -> &[u32] {
        let Self { sets, seed, epoch: last } = self;
        if last.as_ref().is_none_or(|(known, _)| *known != epoch) {
            *last = Some((epoch, shuffled(sets, *seed, epoch)));
        }
        last.as_ref().map_or(&[], |(_, visits)| visits)
    }
}

fn shuffled(sets: &[(Range<usize>, usize)], seed: u64, epoch: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(EPOCH_STREAM | epoch);
    let mut visits: Vec<u32> = Vec::new();
    for (photographs, count) in sets {
        let (times, rest) = (count / photographs.len(), count % photographs.len());
        for _ in 0..times {
            visits.extend(photographs.clone().map(|place| place as u32));
        }
        let once_more = index::sample(&mut rng, photographs.len(), rest);
        visits.extend(once_more.iter().map(|place| (photographs.start + place) as u32));
    }
    visits.shuffle(&mut rng);
    visits
}
