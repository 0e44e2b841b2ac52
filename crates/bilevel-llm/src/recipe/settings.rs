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

/// `[reweight.regmix]`; see also `reweight.proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegMixSpec {
    /// How the losses of the proxies are regressed on their mixtures.
    pub regression: Regression,
    /// Proxies in a leaf of a tree, at least.
    pub leaf: usize,
}

/// A regression of losses on mixtures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Regression {
    /// Of the logarithm, linearly: a dozen proxies are enough.
    Linear,
    /// Of the logarithm, by boosted trees: sources that help together only are seen, from about a hundred proxies on.
    Trees,
}

impl Default for RegMixSpec {
    /// The line, since a dozen proxies, which is what a budget usually pays for, make no tree; leaves as in the paper's released
    /// code (the default of `LightGBM`).
    fn default() -> Self {
        Self { regression: Regression::Linear, leaf: 20 }
    }
}

impl RegMixSpec {
    /// Of so many proxies those that say when enough trees are grown: an eighth, as in the paper's released code (128 of 1,000).
    pub fn judges(proxies: usize) -> usize {
        proxies.div_ceil(8)
    }

    /// The fewest proxies of which a tree can have two leaves: n − ⌈n/8⌉ = ⌊7n/8⌋ is at least 2 · `leaf`.
    pub fn least_proxies(&self) -> usize {
        self.leaf.saturating_mul(16).div_ceil(7)
    }

    pub(super) fn validate(&self, proxies: usize) -> Result<(), ConfigError> {
        need(
            self.leaf > 0,
            "reweight.regmix.leaf",
            self.leaf,
            "at least 1, usually 20, fewer for few proxies",
        )?;
        let least = self.least_proxies();
        need(
            self.regression == Regression::Linear || proxies >= least,
            "reweight.proxies",
            proxies,
            &format!(
                "at least {least} for trees with {} proxies in a leaf; give more proxies, a smaller reweight.regmix.leaf, or regression = \"linear\"",
                self.leaf
            ),
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
