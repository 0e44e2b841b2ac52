//! Settings of single methods.

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::need;

/// `[reweight.scalebio]`; the defaults are the paper's (arXiv 2406.19976) and its code's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleBioSpec {
    /// Penalty α: how much more the sources count than the target for the network that sees both.
    pub alpha: f64,
    /// Largest step size of x; it follows the schedule of `train.lr`.
    pub step: f64,
    /// Decoupled weight decay of x, a pull to equal weights; of `scalebio-released` only.
    pub weight_decay: f64,
    /// Validation sequences in a step; `train.batch` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_batch: Option<usize>,
}

impl Default for ScaleBioSpec {
    fn default() -> Self {
        Self { alpha: 100.0, step: 1e-2, weight_decay: 1e-2, validation_batch: None }
    }
}

impl ScaleBioSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        need(
            self.alpha.is_finite() && self.alpha > 0.0,
            "reweight.scalebio.alpha",
            self.alpha,
            "positive, 10 to 100",
        )?;
        need(
            self.step.is_finite() && self.step > 0.0,
            "reweight.scalebio.step",
            self.step,
            "positive, about 0.01",
        )?;
        need(
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "reweight.scalebio.weight_decay",
            self.weight_decay,
            "zero or positive",
        )?;
        need(
            self.validation_batch != Some(0),
            "reweight.scalebio.validation_batch",
            0,
            "at least 1 sequence, or leave it out for train.batch",
        )
    }
}

/// `[reweight.odm]`; the defaults are the paper's (arXiv 2312.02406) and its code's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OdmSpec {
    /// Share of the past kept in the running mean of a source's reward (α), in [0, 1).
    pub smoothing: f64,
    /// Steps in which the starting weights stay; `train.warmup` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// Batches of `train.batch` sequences in a step, each of a source that is drawn anew; as many as there are sources when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draws: Option<usize>,
}

impl Default for OdmSpec {
    fn default() -> Self {
        Self { smoothing: 0.9, warmup: None, draws: None }
    }
}

impl OdmSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        need((0.0..1.0).contains(&self.smoothing), "reweight.odm.smoothing", self.smoothing, "in [0, 1)")?;
        need(
            self.draws != Some(0),
            "reweight.odm.draws",
            0,
            "at least 1 batch, or leave it out for one of each source on average",
        )
    }
}

/// `[reweight.f2ba]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct F2baSpec {
    /// Multiplier λ: how much more the sources count than the target for the network that sees both.
    pub lambda: f64,
    /// Multiplier at the end of the budget, reached geometrically; it stays when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda_end: Option<f64>,
    /// Validation sequences in a step; `train.batch` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_batch: Option<usize>,
}

impl Default for F2baSpec {
    fn default() -> Self {
        Self { lambda: 10.0, lambda_end: None, validation_batch: None }
    }
}

impl F2baSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_positive = |a: f64| a.is_finite() && a > 0.0;
        need(is_positive(self.lambda), "reweight.f2ba.lambda", self.lambda, "positive, 10 to 100")?;
        if let Some(end) = self.lambda_end {
            need(
                is_positive(end) && end >= self.lambda,
                "reweight.f2ba.lambda_end",
                end,
                &format!("at least reweight.f2ba.lambda = {}, or leave it out", self.lambda),
            )?;
        }
        need(
            self.validation_batch != Some(0),
            "reweight.f2ba.validation_batch",
            0,
            "at least 1 sequence, or leave it out for train.batch",
        )
    }
}

/// `[reweight.less]`; the defaults are the paper's (arXiv 2402.04333).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LessSpec {
    /// Places on the way of the search's network at which influences are taken, at equal distances in the budget; fewer
    /// when they would take more than half of it.
    pub checkpoints: usize,
    /// How many standard deviations of a single example's influence make a factor e between the weights of two sources.
    pub temperature: f64,
    /// Numbers to which a gradient is projected at random; influences are of whole gradients when absent, which is what a projection
    /// approximates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimension: Option<usize>,
}

impl Default for LessSpec {
    fn default() -> Self {
        Self { checkpoints: 4, temperature: 1.0, dimension: None }
    }
}

impl LessSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        need(self.checkpoints > 0, "reweight.less.checkpoints", self.checkpoints, "at least 1, usually 4")?;
        need(
            self.temperature.is_finite() && self.temperature > 0.0,
            "reweight.less.temperature",
            self.temperature,
            "positive, about 1; less tells sources further apart",
        )?;
        need(
            self.dimension != Some(0),
            "reweight.less.dimension",
            0,
            "some thousand (the paper has 8192), or leave it out for whole gradients",
        )
    }
}
