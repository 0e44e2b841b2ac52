//! The model of a recipe, and its tokenizer.

use std::path::PathBuf;

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::model::{ModelSizes, Storage};

/// `[model]`: a model that others trained, or a preset or the sizes themselves of one that is trained from scratch; a size
/// that is given replaces the preset's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// A model that others trained: a GGUF file, or a folder in the Hugging Face layout. It has its own sizes and tokenizer, so
    /// that of the other keys only `context` and `storage` may stand beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// In which numbers those parameters of a checkpoint are kept that stand still.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: Storage,
    /// A named size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<ModelPreset>,
    /// Decoder blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Width of the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Query heads; must divide the width into even head sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Key and value heads; must divide `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of the SwiGLU block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn: Option<usize>,
    /// Longest sequence, in tokens; a checkpoint's own limit when that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Base of the rotary embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
}

/// Named sizes of the decoder; parameters without the embedding, which depends on the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelPreset {
    /// 2 layers, width 48, context 96: 0.05 M.
    Nano,
    /// 2 layers, width 64, context 128: 0.1 M.
    #[default]
    Micro,
    /// 4 layers, width 128, context 256: 0.8 M.
    Mini,
    /// 6 layers, width 192, context 256: 2.4 M.
    Small,
    /// 8 layers, width 256, context 512: 5.8 M.
    Medium,
}

/// `[tokenizer]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TokenizerSpec {
    /// Every byte is a token.
    #[default]
    Bytes,
    /// A byte-level BPE trained on the sources (not on validation or test data).
    Bpe {
        /// Size of the vocabulary, special tokens and the 256 bytes included.
        vocabulary: usize,
    },
    /// A `tokenizer.json`.
    File {
        /// The file.
        path: PathBuf,
    },
}

impl ModelSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, size) in [
            ("model.layers", self.layers),
            ("model.width", self.width),
            ("model.heads", self.heads),
            ("model.kv_heads", self.kv_heads),
            ("model.ffn", self.ffn),
        ] {
            ConfigError::require(size != Some(0), field, 0, "at least 1")?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            let without =
                Self { checkpoint: None, context: None, storage: Storage::default(), ..self.clone() };
            ConfigError::require(
                without == Self::default(),
                "model.checkpoint",
                checkpoint.display(),
                "a checkpoint has its own sizes: leave preset, layers, width, heads, kv_heads, ffn and rope_base out",
            )?;
        }
        ConfigError::require(
            self.storage == Storage::F32 || self.checkpoint.is_some(),
            "model.storage",
            "bf16",
            "a model without model.checkpoint has nothing that stands still: set the checkpoint, or leave storage out",
        )?;
        if let Some(context) = self.context {
            ConfigError::require(context >= 4, "model.context", context, "at least 4 tokens")?;
        }
        if let Some(base) = self.rope_base {
            ConfigError::require(
                base.is_finite() && base > 1.0,
                "model.rope_base",
                base,
                "above 1; 10000 is usual",
            )?;
        }
        let (width, heads, kv_heads) = self.shape();
        ConfigError::require(
            width.is_multiple_of(2 * heads),
            "model.heads",
            heads,
            &format!("the width {width} must be an even multiple of the heads"),
        )?;
        ConfigError::require(
            heads.is_multiple_of(kv_heads),
            "model.kv_heads",
            kv_heads,
            &format!("must divide model.heads = {heads}"),
        )
    }
    /// (width, heads, kv_heads) with the preset's where not given.
    fn shape(&self) -> (usize, usize, usize) {
        let sizes = self.sizes();
        (sizes.width, sizes.heads, sizes.kv_heads)
    }
    /// All sizes of a model that is trained from scratch, with the preset's where not given.
    pub fn sizes(&self) -> ModelSizes {
        let (layers, width, heads, kv_heads, ffn, context) = match self.preset.unwrap_or_default() {
            ModelPreset::Nano => (2, 48, 4, 2, 128, 96),
            ModelPreset::Micro => (2, 64, 4, 2, 176, 128),
            ModelPreset::Mini => (4, 128, 4, 2, 352, 256),
            ModelPreset::Small => (6, 192, 6, 2, 512, 256),
            ModelPreset::Medium => (8, 256, 8, 4, 688, 512),
        };
        ModelSizes {
            layers: self.layers.unwrap_or(layers),
            width: self.width.unwrap_or(width),
            heads: self.heads.unwrap_or(heads),
            kv_heads: self.kv_heads.unwrap_or(kv_heads),
            ffn: self.ffn.unwrap_or(ffn),
            context: self.context.unwrap_or(context),
            rope_base: self.rope_base.unwrap_or(10_000.0),
        }
    }
}
