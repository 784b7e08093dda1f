//! Predicts the features of a detector that teaches boxes from the student's own maps. It is used in training only; no
//! exported student has it.
//!
//! A detector's outputs for a cell are an objectness and four sides; the features before them contain what it decides
//! by (FitNets, Romero et al., 2015; for detectors Chen et al., 2017).

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::StudentConfig;
use super::neck::cells_of;

/// A linear layer a level, from the proposal head's towers to the detector's features.
#[derive(Module, Debug)]
pub struct Imitation {
    /// Level by level.
    pub layers: Vec<Linear>,
}

impl Imitation {
    /// Untrained layers, for a detector whose cells have so many features.
    pub fn random(config: &StudentConfig, features: usize, device: &Device) -> Self {
        let layer = |_| LinearConfig::new(config.neck_channels, features).init(device);
        Self { layers: super::STRIDES.map(layer).to_vec() }
    }

    /// The features predicted from the towers' maps, `[N, cells, features]`.
    pub fn forward(&self, towers: [Tensor<4>; 3]) -> Tensor<3> {
        let levels = towers.into_iter().zip(&self.layers).map(|(map, layer)| layer.forward(cells_of(map)));
        Tensor::cat(levels.collect(), 1)
    }
}
