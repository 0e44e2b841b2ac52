//! The recipe of a reweighting run: everything that decides its numbers, as one TOML file.

mod cleaning;
mod data;
mod evaluate;
mod given;
mod method;
mod model;
mod reweight;
mod settings;
mod train;
mod tune;

use std::path::{Path, PathBuf};

use bilevel::{ConfigError, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::ReweightError, model::Storage};

pub use cleaning::{CleaningSpec, Deduplicate, OnOverlap};
pub use data::{DataSpec, Paths, SourceSpec};
pub use evaluate::{AnswerForm, EvaluateSpec};
pub use given::Given;
pub use method::Method;
pub use model::{ModelPreset, ModelSpec, TokenizerSpec};
pub(crate) use reweight::grid_points;
pub use reweight::{Damping, ReweightSpec, Upper, UpperStep};
pub use settings::{F2baSpec, LessSpec, OdmSpec, RegMixSpec, Regression, ScaleBioSpec};
pub use train::{Optimizer, TrainSpec};
pub use tune::TuneSpec;

/// The whole recipe. See the fields for what each key means; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seeds, token budget, result folder.
    pub run: RunSpec,
    /// Size of the decoder.
    #[serde(default)]
    pub model: ModelSpec,
    /// Which part of a checkpoint is trained.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tune: TuneSpec,
    /// How text becomes tokens: bytes when absent. A checkpoint has its own tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerSpec>,
    /// The sources to weigh, at least one.
    #[serde(rename = "source")]
    pub sources: Vec<SourceSpec>,
    /// Examples of the target that the weights are fitted to.
    pub validation: DataSpec,
    /// Examples of the target that the final models are judged on; never seen by any method.
    pub test: DataSpec,
    /// Duplicates, overlaps, and where tokens are kept.
    #[serde(default)]
    pub data: CleaningSpec,
    /// What is measured of the retrained models.
    #[serde(default)]
    pub evaluate: EvaluateSpec,
    /// How the models are trained.
    #[serde(default)]
    pub train: TrainSpec,
    /// How the weights are learned, and the baselines.
    #[serde(default)]
    pub reweight: ReweightSpec,
    /// Weights of the token ledger.
    #[serde(default)]
    pub ledger: LedgerSpec,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Seeds; each method runs once for each. Weights get noise bars from them: three are the least.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
    /// Token budget of each method and seed, in forward-token units: a training step costs three per token.
    pub budget: u64,
    /// Result folder.
    #[serde(default = "default_out")]
    pub out: PathBuf,
    /// Folder where relative data paths start; the recipe's own folder when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Threads; all cores when absent. The numbers of a run do not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Where large matrix products are made. The numbers of a run depend on it, by rounding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub device: DeviceKind,
    /// MiB for what the frozen blocks of a model that is tuned in part put out, so that it is computed once for each
    /// example; what does not fit is computed again each time. The numbers of a run do not depend on it.
    #[serde(default = "default_cache_mib", skip_serializing_if = "is_default_cache_mib")]
    pub cache_mib: u64,
    /// A checkpoint is written every so many training steps.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// The validation loss is traced this many times in a run (plus its end).
    #[serde(default = "default_evaluations")]
    pub evaluations: u64,
}

/// Where large matrix products are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// On the processor.
    #[default]
    Cpu,
    /// On an NVIDIA device, by cuBLAS, in f32; the program must be built with the feature `cuda`.
    Cuda,
}

/// `[ledger]`: forward-token units per token of each entry; the usual estimates are the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSpec {
    /// A training token (forward and backward).
    pub training: f64,
    /// A token of a validation loss, used for selection.
    pub evaluation: f64,
    /// A token of a gradient.
    pub gradient: f64,
    /// A token of a Gauss–Newton product.
    pub gauss_newton: f64,
    /// A token of a directional derivative.
    pub directional: f64,
}

impl Default for LedgerSpec {
    fn default() -> Self {
        Self { training: 3.0, evaluation: 1.0, gradient: 3.0, gauss_newton: 6.0, directional: 2.0 }
    }
}

fn default_seeds() -> Vec<u64> {
    vec![1, 2, 3]
}
fn default_out() -> PathBuf {
    PathBuf::from("runs/reweight")
}
fn default_cache_mib() -> u64 {
    1024
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_default_cache_mib(mib: &u64) -> bool {
    *mib == default_cache_mib()
}
fn default_checkpoint_every() -> u64 {
    50
}
fn default_evaluations() -> u64 {
    12
}
/// Whether a key says nothing, and is left out where a recipe is written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn need(allowed: bool, field: &str, value: impl std::fmt::Display, remedy: &str) -> Result<(), ConfigError> {
    ConfigError::require(allowed, field, value, remedy)
}

impl Recipe {
    /// Reads and validates a recipe file. Relative data paths start at `run.data` (itself relative to the recipe's
    /// folder), and are made absolute-or-relative-to-here; `run.out` stays relative to the current folder.
    pub fn load(path: &Path) -> Result<Self, ReweightError> {
        Self::load_with_data(path, None)
    }

    /// As [`Recipe::load`], with another folder where relative data paths start (relative to the current one).
    pub fn load_with_data(path: &Path, data: Option<&Path>) -> Result<Self, ReweightError> {
        let text = std::fs::read_to_string(path).map_err(|e| ReweightError::io(path, e))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        match data {
            None => Self::parse(&text, folder),
            Some(data) => {
                let mut recipe: Self = toml::from_str(&text).map_err(|e| explain(&e, &text))?;
                recipe.run.data = None;
                recipe.set_data_folder(data);
                recipe.validate()?;
                Ok(recipe)
            }
        }
    }

    /// Parses and validates a recipe whose relative data paths start at `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ReweightError> {
        let mut recipe: Self = toml::from_str(text).map_err(|e| explain(&e, text))?;
        let root = recipe.run.data.take().map_or_else(|| folder.to_path_buf(), |d| folder.join(d));
        recipe.set_data_folder(&root);
        recipe.validate()?;
        Ok(recipe)
    }

    /// Makes relative data paths start at `folder`.
    pub fn set_data_folder(&mut self, folder: &Path) {
        let specs = self.sources.iter_mut().map(|s| &mut s.data);
        for spec in specs.chain([&mut self.validation, &mut self.test]) {
            for path in spec.path.as_mut_slice() {
                *path = folder.join(&path);
            }
        }
        if let Some(scratch) = &mut self.data.scratch {
            *scratch = folder.join(&scratch);
        }
        if let Some(TokenizerSpec::File { path }) = &mut self.tokenizer {
            *path = folder.join(&path);
        }
        for given in [&mut self.reweight.given, &mut self.reweight.initial] {
            if let Some(Given::File(path) | Given::OfMethod { file: path, .. }) = given {
                *path = folder.join(&path);
            }
        }
        if let Some(checkpoint) = &mut self.model.checkpoint {
            *checkpoint = folder.join(&checkpoint);
        }
    }

    /// The recipe as TOML.
    ///
    /// # Panics
    /// Never: every recipe is representable in TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is made of tables, strings and numbers")
    }

    /// Checks every field against its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let run = &self.run;
        need(!run.seeds.is_empty(), "run.seeds", "[]", "give at least one seed; three for noise bars")?;
        let mut seeds = run.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        need(seeds.len() == run.seeds.len(), "run.seeds", format!("{:?}", run.seeds), "each seed once")?;
        need(run.budget > 0, "run.budget", run.budget, "a positive number of forward-token units")?;
        need(run.threads != Some(0), "run.threads", 0, "at least 1, or leave it out for all cores")?;
        need(
            run.cache_mib <= 1 << 30,
            "run.cache_mib",
            run.cache_mib,
            "at most 1073741824, and no more than the machine has",
        )?;
        need(run.checkpoint_every > 0, "run.checkpoint_every", 0, "at least 1 step")?;
        need(run.evaluations > 0, "run.evaluations", 0, "at least 1")?;
        self.model.validate()?;
        let has_checkpoint = self.model.checkpoint.is_some();
        self.tune.validate(has_checkpoint)?;
        need(
            self.model.storage == Storage::F32 || self.tune.is_shared(),
            "model.storage",
            "bf16",
            "only what stands still is kept in bf16: set tune.kind to \"lora\" or \"last-layers\", or leave storage out",
        )?;
        need(
            !has_checkpoint || self.tokenizer.is_none(),
            "tokenizer",
            "given beside model.checkpoint",
            "leave [tokenizer] out: a checkpoint has its own",
        )?;
        if let Some(TokenizerSpec::Bpe { vocabulary }) = self.tokenizer {
            need(
                (260..=1_000_000).contains(&vocabulary),
                "tokenizer.vocabulary",
                vocabulary,
                "between 260 (the 256 bytes and the special tokens) and 1000000",
            )?;
        }
        need(!self.sources.is_empty(), "source", "[]", "give at least one [[source]]")?;
        let mut names = std::collections::BTreeSet::new();
        for source in &self.sources {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            need(
                !source.name.is_empty() && source.name.chars().all(legal),
                "source.name",
                &source.name,
                "letters, digits, `-`, `_` and `.` only",
            )?;
            need(names.insert(&source.name), "source.name", &source.name, "each source needs its own name")?;
            source.data.validate(&format!("source.{}", source.name), has_checkpoint)?;
        }
        self.validation.validate("validation", has_checkpoint)?;
        self.test.validate("test", has_checkpoint)?;
        self.data.validate()?;
        self.evaluate.validate()?;
        self.train.validate()?;
        self.reweight.validate(&names.iter().map(|n| n.as_str()).collect::<Vec<_>>())?;
        let ledger = &self.ledger;
        for (field, weight) in [
            ("ledger.training", ledger.training),
            ("ledger.evaluation", ledger.evaluation),
            ("ledger.gradient", ledger.gradient),
            ("ledger.gauss_newton", ledger.gauss_newton),
            ("ledger.directional", ledger.directional),
        ] {
            need(weight.is_finite() && weight >= 0.0, field, weight, "a finite number that is not negative")?;
        }
        need(ledger.training > 0.0, "ledger.training", ledger.training, "positive, or no budget ever ends")
    }
}

/// The JSON schema of recipes, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Recipe).to_value()
}

/// A parse error in the terms of the recipe: an unknown key gets its nearest match, everything its line.
fn explain(error: &toml::de::Error, text: &str) -> ConfigError {
    let line = error.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or_else(String::new, |l| format!("recipe, line {l}"));
    let message = error.message();
    if let Some((unknown, known)) = names::unknown_word(message)
        && let Some(nearest) = names::nearest(unknown, known.iter().copied())
    {
        return ConfigError::new(
            place,
            format!("`{unknown}`"),
            format!("unknown; did you mean `{nearest}`? Known here: {}", known.join(", ")),
        );
    }
    let shown = line.and_then(|l| text.lines().nth(l - 1)).unwrap_or("").trim();
    ConfigError::new(place, shown, message.replace('\n', " "))
}

#[cfg(test)]
mod tests;
