//! Which parameters of a pretrained model are trained.

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::need;

/// `[tune]`: what of a checkpoint is trained; the rest stands still and is held in memory once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

impl TuneSpec {
    /// Whether everything is trained, as without the table.
    pub(super) fn is_all(&self) -> bool {
        *self == Self::All
    }

    pub(super) fn validate(self, has_checkpoint: bool) -> Result<(), ConfigError> {
        let Self::LastLayers { layers } = self else { return Ok(()) };
        need(
            has_checkpoint,
            "tune.kind",
            "last-layers",
            "a model without model.checkpoint begins at random numbers, all of which want training: set the checkpoint, or leave [tune] out",
        )?;
        need(layers > 0, "tune.layers", layers, "at least 1")
    }
}
