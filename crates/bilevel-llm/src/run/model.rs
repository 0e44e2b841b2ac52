//! The model of a recipe: shaped by its sizes, or read from a checkpoint.

use std::sync::Arc;

use bilevel::ConfigError;
use sha2::{Digest, Sha256};

use super::{checkpoint::digits, list_file, memory::require_to_load};
use crate::{
    error::ReweightError,
    model::{Decoder, Entrances, Family, Frozen, Target},
    pretrained::{ChatTemplate, Checkpoint},
    recipe::{Recipe, SourceSpec, TuneSpec},
    source::Reader,
    tokenizer::Tokenizer,
    train::{Lisa, Trained},
};

/// A model before the first step.
#[derive(Clone, Debug)]
pub struct Model {
    pub decoder: Decoder,
    pub tokenizer: Tokenizer,
    /// Longest sequence of the run.
    pub context: usize,
    /// The trained list at which the checkpoint's training begins; random ones without.
    pub start: Option<Arc<Vec<f32>>>,
    pub trained: Trained,
    /// Of what networks train only a part at a time.
    pub lisa: Option<Lisa>,
    pub chat_template: Option<ChatTemplate>,
    /// Hash of everything that the checkpoint gives to the run; empty without one.
    pub hash: String,
}

impl Model {
    /// The model of a recipe; `sources` are read only to train a tokenizer. `available` are the bytes of memory that a checkpoint may
    /// take, where they are known.
    ///
    /// # Errors
    /// When the checkpoint or a source cannot be read, the checkpoint is too large, or more blocks are to be trained than there are.
    pub fn new(
        recipe: &Recipe,
        sources: &[&SourceSpec],
        available: Option<u64>,
    ) -> Result<Self, ReweightError> {
        if let Some(path) = &recipe.model.checkpoint {
            return Self::pretrained(
                recipe,
                Checkpoint::load_if(path, |decoder| require_to_load(recipe, decoder, available))?,
            );
        }
        let (sizes, tokenizer) = (recipe.model.sizes(), tokenizer(recipe, sources)?);
        Ok(Self {
            decoder: Decoder::new(sizes, tokenizer.vocabulary()),
            tokenizer,
            context: sizes.context,
            start: None,
            trained: Trained::All,
            lisa: None,
            chat_template: None,
            hash: String::new(),
        })
    }

    fn pretrained(recipe: &Recipe, checkpoint: Checkpoint) -> Result<Self, ReweightError> {
        let Checkpoint { decoder, parameters, tokenizer, chat_template } = checkpoint;
        let sizes = &decoder.architecture.sizes;
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", decoder.architecture));
        hash.update(tokenizer.to_json()?);
        hash.update(format!("{:?} {}", tokenizer.prefix(), tokenizer.end()));
        list_file::hash(&mut hash, &parameters);
        let start = Arc::new(parameters);
        let mut lisa = None;
        let require_blocks = |layers: usize| {
            ConfigError::require(
                layers <= sizes.layers,
                "tune.layers",
                layers,
                &format!("the checkpoint has {} blocks", sizes.layers),
            )
        };
        let below = |trained: usize| {
            (trained < sizes.layers).then(|| Arc::new(Entrances::new(recipe.run.cache_mib << 20)))
        };
        let frozen = || Frozen::new(&start, recipe.model.storage);
        let (trained, start) = match recipe.tune.clone() {
            TuneSpec::All => (Trained::All, start),
            TuneSpec::Lisa { layers, period, ends } => {
                require_blocks(layers)?;
                lisa = Some(Lisa { layers, period, ends });
                (Trained::All, start)
            }
            TuneSpec::Lora { rank, alpha, targets, layers } => {
                let layers = layers.unwrap_or(sizes.layers);
                require_blocks(layers)?;
                let is_gpt2 = decoder.architecture.family == Family::Gpt2;
                let all = || Target::ALL.into_iter().filter(|t| !(is_gpt2 && *t == Target::Gate)).collect();
                let targets: Vec<Target> = targets.unwrap_or_else(all);
                let blocks = sizes.layers - layers..sizes.layers;
                let adapters = decoder.adapters_in(blocks, &targets, rank, alpha).map_err(|_| {
                    ConfigError::new(
                        "tune.targets",
                        "gate",
                        "GPT-2 has no gates: q, k, v, o, up and down are there",
                    )
                })?;
                let adapters = Arc::new(adapters);
                let trained = Trained::Lora { frozen: frozen(), adapters, entrances: below(layers) };
                (trained, Arc::default())
            }
            TuneSpec::LastLayers { layers } => {
                require_blocks(layers)?;
                let selection = decoder.last_blocks(layers);
                let begun = Arc::new(selection.gather(&start));
                let trained = Trained::Part {
                    frozen: frozen(),
                    selection: Arc::new(selection),
                    entrances: below(layers),
                };
                (trained, begun)
            }
        };
        Ok(Self {
            context: recipe.model.context.unwrap_or(usize::MAX).min(sizes.context),
            decoder,
            tokenizer: tokenizer.for_data(),
            start: Some(start),
            trained,
            lisa,
            chat_template,
            hash: digits(hash),
        })
    }
}

/// The tokenizer; only training one reads the sources, once more than everything else does.
fn tokenizer(recipe: &Recipe, sources: &[&SourceSpec]) -> Result<Tokenizer, ReweightError> {
    let mut refused = None;
    let mut records = sources.iter().flat_map(|source| Reader::new(&source.data));
    let texts = std::iter::from_fn(|| match records.next()? {
        Ok(record) => Some(record),
        Err(error) => {
            refused = Some(error);
            None
        }
    });
    let spec = recipe.tokenizer.clone().unwrap_or_default();
    let tokenizer = Tokenizer::new(&spec, texts.flatten().map(|piece| piece.text));
    // What the tokenizer says of texts that end too early is of no use.
    refused.map_or(tokenizer, |error| Err(error.into()))
}
