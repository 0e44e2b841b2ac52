//! Which parameters of a pretrained model are trained.

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::need;
use crate::model::Target;

/// `[tune]`: what of a checkpoint is trained; the rest stands still and is held in memory once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TuneSpec {
    /// Every parameter.
    #[default]
    All,
    /// The last blocks and the norm before the head. The head stands still, since in most models it is the embedding too.
    LastLayers {
        /// Blocks that are trained, counted from the end.
        layers: usize,
    },
    /// A few blocks at a time, drawn anew every `period` steps; the optimiser remembers nothing of the others (LISA,
    /// arXiv 2403.17919).
    Lisa {
        /// Blocks that are trained at a time.
        #[serde(default = "default_layers")]
        layers: usize,
        /// Steps between draws.
        #[serde(default = "default_period")]
        period: u64,
        /// Whether embedding, last norm and head are always trained.
        #[serde(default = "default_ends")]
        ends: bool,
    },
    /// Low-rank changes of the matrices of blocks (LoRA, arXiv 2106.09685): (alpha / rank)·B A is added to each, B begins at
    /// zero.
    Lora {
        /// Rank of the changes.
        #[serde(default = "default_rank")]
        rank: usize,
        /// Scale of the changes, times the rank.
        #[serde(default = "default_alpha")]
        alpha: f64,
        /// The matrices that are changed; every one of a block when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        targets: Option<Vec<Target>>,
        /// Blocks that are changed, counted from the end; all of them when absent. What the others put out is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layers: Option<usize>,
    },
}

fn default_layers() -> usize {
    2
}
fn default_period() -> u64 {
    20
}
fn default_ends() -> bool {
    true
}
fn default_rank() -> usize {
    8
}
fn default_alpha() -> f64 {
    16.0
}

impl TuneSpec {
    /// Whether what is not trained stands still for good, and is shared.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::LastLayers { .. } | Self::Lora { .. })
    }

    /// The name of the kind in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LastLayers { .. } => "last-layers",
            Self::Lisa { .. } => "lisa",
            Self::Lora { .. } => "lora",
        }
    }

    pub(super) fn validate(&self, has_checkpoint: bool) -> Result<(), ConfigError> {
        if *self == Self::All {
            return Ok(());
        }
        need(
            has_checkpoint,
            "tune.kind",
            self.name(),
            "a model without model.checkpoint begins at random numbers, all of which want training: set the checkpoint, or leave [tune] out",
        )?;
        match self {
            Self::All => Ok(()),
            Self::LastLayers { layers } => need(*layers > 0, "tune.layers", layers, "at least 1"),
            Self::Lisa { layers, period, .. } => {
                need(*layers > 0, "tune.layers", layers, "at least 1; 2 is usual")?;
                need(*period > 0, "tune.period", period, "at least 1 step; 20 is usual")
            }
            Self::Lora { rank, alpha, targets, layers } => {
                let at_least_one = "at least 1, or leave it out for all";
                need(layers.is_none_or(|n| n > 0), "tune.layers", 0, at_least_one)?;
                need((1..=4096).contains(rank), "tune.rank", rank, "1 to 4096; 8 or 16 are usual")?;
                need(
                    alpha.is_finite() && *alpha > 0.0,
                    "tune.alpha",
                    alpha,
                    "a positive number, usually once or twice the rank",
                )?;
                let Some(targets) = targets else { return Ok(()) };
                need(!targets.is_empty(), "tune.targets", "[]", "name at least one, or leave it out for all")
            }
        }
    }
}
