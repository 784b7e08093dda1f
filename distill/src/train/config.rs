//! The settings of a training.

use burn::grad_clipping::GradientClippingConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, ModuleOptimizer, SgdConfig};
use serde::{Deserialize, Serialize};

use crate::student::{Head, TrainFrom};

/// What a training changes; the rest of the student stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Learn {
    /// Everything at once.
    All,
    /// All but the region head: where things are.
    Proposals,
    /// The region head: what they are. The rest stays, so that heads trained on the same proposals can be compared.
    Regions,
}

/// An optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Loshchilov and Hutter, 2019.
    #[value(name = "adamw")]
    AdamW,
    /// With Nesterov's momentum of 0.9, as ViLD's own training has without Nesterov.
    Sgd,
}

impl Optimizer {
    pub(super) fn init(self, weight_decay: f32) -> ModuleOptimizer {
        let clipping = Some(GradientClippingConfig::Norm(5.0));
        match self {
            Self::AdamW => {
                AdamWConfig::new().with_weight_decay(weight_decay).with_grad_clipping(clipping).init()
            }
            Self::Sgd => {
                let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
                SgdConfig::new()
                    .with_weight_decay(Some(WeightDecayConfig::new(weight_decay)))
                    .with_momentum(Some(momentum))
                    .with_gradient_clipping(clipping)
                    .init()
            }
        }
    }
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// What changes.
    pub learn: Learn,
    /// From where on the backbone changes.
    pub train_from: TrainFrom,
    /// A region head that starts from nothing; by default it is ViLD-ensemble's, from the classifier.
    pub fresh_head: Option<Head>,
    /// Which optimiser.
    pub optimizer: Optimizer,
    /// Steps in all.
    pub steps: usize,
    /// Pictures a step.
    pub batch: usize,
    /// Sides of the input in pixels, multiples of 32; a step draws one.
    pub sides: Vec<usize>,
    /// The share of steps at the end that see whole photographs: no mosaics, the scale changed less.
    pub plain_share: f32,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// The backbone's learning rate as a fraction of it.
    pub backbone_rate: f64,
    /// Steps of warm-up, before the cosine.
    pub warm_up: usize,
    /// Weight decay: decoupled in AdamW, on the gradient in SGD.
    pub weight_decay: f32,
    /// Weight of the box loss; objectness weighs 1.
    pub box_weight: f32,
    /// Weight of what a detector teaches of boxes and objectness, where there is one, against the annotations' 1.
    #[serde(default)]
    pub box_teacher_weight: f32,
    /// Weight of what the features are apart that it answers from.
    #[serde(default)]
    pub imitation_weight: f32,
    /// Weight of the detector's scores of words as soft targets of the text embedding.
    #[serde(default)]
    pub soft_word_weight: f32,
    /// Share of what regions' quality should be that the detector says, the annotations the rest; 0 to 1.
    #[serde(default)]
    pub soft_quality_share: f32,
    /// Weight of how well regions' boxes fit.
    #[serde(default)]
    pub quality_weight: f32,
    /// Weight of the text loss.
    pub text_weight: f32,
    /// ViLD's w: weight of the image loss.
    pub image_weight: f32,
    /// Weight of what holds the backbone's classifier to its opinions before training.
    #[serde(default)]
    pub retain_weight: f32,
    /// Share of the region head's hidden numbers that a step leaves out (dropout).
    #[serde(default)]
    pub dropout: f32,
    /// Temperature of the text loss.
    pub temperature: f32,
    /// Weight of empty cells and background in photographs that are not exhaustively annotated, 0 to 1.
    pub doubtful_weight: f32,
    /// What a step leaves of the weights' moving average.
    pub average_decay: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
}

/// What the shipped student was trained with (demo/student.md).
impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            learn: Learn::All,
            train_from: TrainFrom::Heads,
            fresh_head: None,
            optimizer: Optimizer::AdamW,
            steps: 6000,
            batch: 16,
            sides: vec![416, 416, 512],
            plain_share: 0.15,
            learning_rate: 1e-3,
            backbone_rate: 0.3,
            warm_up: 200,
            weight_decay: 0.05,
            box_weight: 2.0,
            box_teacher_weight: 1.0,
            imitation_weight: 1.0,
            soft_word_weight: 1.5,
            soft_quality_share: 0.5,
            quality_weight: 3.0,
            text_weight: 1.0,
            image_weight: 0.25,
            retain_weight: 1.0,
            dropout: 0.15,
            temperature: 0.01,
            doubtful_weight: 0.4,
            average_decay: 0.999,
            seed: 1,
            checkpoint_every: 500,
        }
    }
}

impl TrainConfig {
    /// The region head that this training has.
    pub fn head(&self) -> Head {
        self.fresh_head.unwrap_or(Head::VildEnsemble)
    }

    /// Linear warm-up, then a cosine to a hundredth.
    pub(super) fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let progress = (step - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
        self.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_warms_up_and_falls_to_a_hundredth() {
        let config = TrainConfig { steps: 1000, warm_up: 100, ..TrainConfig::default() };
        assert!(config.learning_rate_at(0) < 0.02 * config.learning_rate);
        assert!((config.learning_rate_at(100) - config.learning_rate).abs() < 1e-9);
        assert!((config.learning_rate_at(1000) - 0.01 * config.learning_rate).abs() < 1e-9);
    }
}
