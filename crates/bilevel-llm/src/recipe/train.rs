//! How the model of a recipe is trained.

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{is_default, need};

/// `[train]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// `adamw` or `sgd` (with momentum 0.9).
    pub optimizer: Optimizer,
    /// Largest step size.
    pub lr: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// The cosine ends at this fraction of `lr`.
    pub final_fraction: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Sequences of each source in a step.
    pub batch: usize,
    /// Each source's batch is worked off in so many parts; the result does not depend on it, the memory does.
    pub accumulation: usize,
    /// Whether blocks keep their input only and the backward pass computes the rest anew; the result does not depend on it, the
    /// memory and the time do.
    #[serde(skip_serializing_if = "is_default")]
    pub recompute: bool,
    /// Largest norm of the gradient; no clipping when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::Adamw,
            lr: 3e-3,
            warmup: 20,
            final_fraction: 0.01,
            weight_decay: 0.01,
            batch: 4,
            accumulation: 1,
            recompute: false,
            clip: Some(1.0),
        }
    }
}

/// How the model's parameters move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay, β = (0.9, 0.99), ε = 1e-8.
    #[default]
    Adamw,
    /// Gradient descent with momentum 0.9.
    Sgd,
}

impl TrainSpec {
    /// Examples of a source in a part of a batch, at most.
    pub fn part(&self) -> usize {
        self.batch.div_ceil(self.accumulation)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        need(
            self.lr.is_finite() && self.lr > 0.0,
            "train.lr",
            self.lr,
            "a positive step size, about 3e-3 for adamw",
        )?;
        need(
            (0.0..=1.0).contains(&self.final_fraction),
            "train.final_fraction",
            self.final_fraction,
            "between 0 and 1",
        )?;
        need(
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "train.weight_decay",
            self.weight_decay,
            "zero or positive",
        )?;
        need(self.batch > 0, "train.batch", self.batch, "at least 1 sequence of each source")?;
        need(
            self.accumulation > 0 && self.accumulation <= self.batch,
            "train.accumulation",
            self.accumulation,
            "between 1 and train.batch",
        )?;
        if let Some(clip) = self.clip {
            need(clip.is_finite() && clip > 0.0, "train.clip", clip, "positive, or leave it out")?;
        }
        Ok(())
    }
}
