//! The recipe of a reweighting run: everything that decides its numbers, as one TOML file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bilevel::ConfigError;
use serde::{Deserialize, Serialize};

use crate::error::ReweightError;

/// The whole recipe. See the fields for what each key means; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seeds, token budget, result folder.
    pub run: RunSpec,
    /// Size of the decoder.
    #[serde(default)]
    pub model: ModelSpec,
    /// How text becomes tokens.
    #[serde(default)]
    pub tokenizer: TokenizerSpec,
    /// The sources to weigh, at least one.
    #[serde(rename = "source")]
    pub sources: Vec<SourceSpec>,
    /// Examples of the target that the weights are fitted to.
    pub validation: DataSpec,
    /// Examples of the target that the final models are judged on; never seen by any method.
    pub test: DataSpec,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// A checkpoint is written every so many training steps.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// The validation loss is traced this many times in a run (plus its end).
    #[serde(default = "default_evaluations")]
    pub evaluations: u64,
}

/// `[model]`: a preset, or the sizes themselves; a size that is given replaces the preset's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
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
    /// Longest sequence, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Base of the rotary embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
}

/// Named sizes of the decoder; parameters without the embedding, which depends on the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// `[[source]]`: a name, and the keys of [`DataSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct SourceSpec {
    /// Its name: letters, digits, `-`, `_`, `.`; random streams belong to the name, not to the place in the recipe.
    pub name: String,
    /// Where its examples are.
    #[serde(flatten)]
    pub data: DataSpec,
}

/// By hand, since a flattened struct cannot refuse unknown keys.
impl TryFrom<toml::Table> for SourceSpec {
    type Error = String;
    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let name = match table.remove("name") {
            Some(toml::Value::String(name)) => name,
            Some(other) => return Err(format!("source name {other} is not a string")),
            None => return Err("a [[source]] without a name".into()),
        };
        let data = DataSpec::deserialize(table).map_err(|e| e.message().to_owned())?;
        Ok(Self { name, data })
    }
}

/// Files and the meaning of their fields. When no field is named, the names are guessed from the first record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// One file or several: `.jsonl`, `.json` (a list of records) or `.txt` (documents separated by blank lines).
    pub path: Paths,
    /// Field of the prompt, on which there is no loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Field of the response, on which the loss is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Field of a list of messages (`role`/`content` or `from`/`value`); the loss is on the assistant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// Field of running text, all of it under the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How the prompt is made of fields: `"Question: {question}\nAnswer: "`. Replaces `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Records left out at the start of the (concatenated) files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u64,
    /// Records taken after these; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<u64>,
}

/// One path or a list of paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// One file.
    One(PathBuf),
    /// Several, read in this order.
    Many(Vec<PathBuf>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Paths {
    /// The files in order.
    pub fn as_slice(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
    fn as_mut_slice(&mut self) -> &mut [PathBuf] {
        match self {
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }
}

/// `[train]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            clip: Some(1.0),
        }
    }
}

/// How the model's parameters move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay, β = (0.9, 0.99), ε = 1e-8.
    #[default]
    Adamw,
    /// Gradient descent with momentum 0.9.
    Sgd,
}

/// A way to choose the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Select among short continuations, then differentiate (the practical HG-MS).
    HgMs,
    /// Equal weights.
    Uniform,
    /// Weights in proportion to the sources' tokens.
    Proportional,
    /// One-step gradient alignment ⟨∇L_i, ∇L_val⟩.
    Alignment,
    /// Exhaustive grid on the simplex, at most three sources.
    Grid,
}

impl Method {
    /// Its name in recipes and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::HgMs => "hg-ms",
            Self::Uniform => "uniform",
            Self::Proportional => "proportional",
            Self::Alignment => "alignment",
            Self::Grid => "grid",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// `[reweight]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReweightSpec {
    /// Methods to run, each with the same budget.
    pub methods: Vec<Method>,
    /// Training steps between two updates of the weights.
    pub cycle: u64,
    /// Short continuations among which HG-MS selects (n_c); 1 turns selection off.
    pub continuations: usize,
    /// Training steps of a continuation, at most `cycle`.
    pub continuation_steps: u64,
    /// Continuations with a training loss above the least by more than this are not selected (τ_loss, nats).
    pub loss_tolerance: f64,
    /// Damping of the linear system.
    pub damping: Damping,
    /// Conjugate-gradient steps.
    pub cg_steps: u64,
    /// Validation sequences for ∇L_val, each cycle.
    pub validation_batch: usize,
    /// Sequences of each source for ⟨∇L_i, v⟩, each cycle.
    pub source_batch: usize,
    /// Sequences of each source for the Gauss–Newton products, each cycle.
    pub curvature_batch: usize,
    /// How x moves.
    pub upper: Upper,
    /// How far x moves.
    pub step: UpperStep,
    /// Share of the past kept in the running mean of the hypergradient (averaging over cycles), in [0, 1).
    pub averaging: f64,
    /// The final weights are the mean of p over this last fraction of the cycles, in (0, 1].
    pub average_last: f64,
    /// Largest weight of any source; must be at least 1/K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Starting weights by source name, all sources, sum 1; uniform when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<BTreeMap<String, f64>>,
    /// Spacing of the grid on the simplex.
    pub grid_step: f64,
}

impl Default for ReweightSpec {
    fn default() -> Self {
        Self {
            methods: vec![Method::HgMs, Method::Uniform, Method::Proportional, Method::Alignment],
            cycle: 20,
            continuations: 2,
            continuation_steps: 4,
            loss_tolerance: 0.05,
            damping: Damping::Horizon,
            cg_steps: 3,
            validation_batch: 64,
            source_batch: 16,
            curvature_batch: 8,
            upper: Upper::Mirror,
            step: UpperStep::default(),
            averaging: 0.5,
            average_last: 0.25,
            cap: None,
            initial: None,
            grid_step: 0.25,
        }
    }
}

/// Damping of (H_GN + damping) v = ∇L_val.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "DampingField", into = "DampingField")]
pub enum Damping {
    /// D/(ηT): T remaining steps, η their mean step size, D the optimiser's diagonal.
    #[default]
    Horizon,
    /// γI with this γ.
    Fixed(f64),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "\"horizon\" or a positive number")]
enum DampingField {
    Number(f64),
    Word(DampingWord),
}
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DampingWord {
    Horizon,
}
impl From<DampingField> for Damping {
    fn from(field: DampingField) -> Self {
        match field {
            DampingField::Number(gamma) => Self::Fixed(gamma),
            DampingField::Word(DampingWord::Horizon) => Self::Horizon,
        }
    }
}
impl From<Damping> for DampingField {
    fn from(damping: Damping) -> Self {
        match damping {
            Damping::Fixed(gamma) => Self::Number(gamma),
            Damping::Horizon => Self::Word(DampingWord::Horizon),
        }
    }
}

/// How x moves along the averaged hypergradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upper {
    /// Exponentiated gradient on p, scaled by the running root mean square over all sources.
    #[default]
    Mirror,
    /// Adam on x, coordinate by coordinate.
    Adam,
}

/// The step in x, in units of the scaled hypergradient. TOML: `step = 0.3`, or `step = { reach = 3.0 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "UpperStepField", into = "UpperStepField")]
pub enum UpperStep {
    /// This far in each cycle.
    PerCycle(f64),
    /// This far over the whole budget: a cycle moves x by its share of the units spent. Methods whose hypergradients
    /// cost more have fewer cycles, and move as far all the same.
    Reach(f64),
}

impl Default for UpperStep {
    fn default() -> Self {
        Self::PerCycle(0.3)
    }
}

impl UpperStep {
    /// The step of a cycle that spent this share of the budget.
    pub fn of_cycle(self, share: f64) -> f64 {
        match self {
            Self::PerCycle(step) => step,
            Self::Reach(reach) => reach * share,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number for each cycle, or { reach = … } over the whole budget")]
enum UpperStepField {
    Number(f64),
    Table(ReachField),
}
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReachField {
    reach: f64,
}
impl From<UpperStepField> for UpperStep {
    fn from(field: UpperStepField) -> Self {
        match field {
            UpperStepField::Number(step) => Self::PerCycle(step),
            UpperStepField::Table(ReachField { reach }) => Self::Reach(reach),
        }
    }
}
impl From<UpperStep> for UpperStepField {
    fn from(step: UpperStep) -> Self {
        match step {
            UpperStep::PerCycle(step) => Self::Number(step),
            UpperStep::Reach(reach) => Self::Table(ReachField { reach }),
        }
    }
}

/// `[ledger]`: forward-token units per token of each entry; the usual estimates are the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
fn default_checkpoint_every() -> u64 {
    50
}
fn default_evaluations() -> u64 {
    12
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
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
        if let TokenizerSpec::File { path } = &mut self.tokenizer {
            *path = folder.join(&path);
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
        need(run.checkpoint_every > 0, "run.checkpoint_every", 0, "at least 1 step")?;
        need(run.evaluations > 0, "run.evaluations", 0, "at least 1")?;
        self.model.validate()?;
        if let TokenizerSpec::Bpe { vocabulary } = self.tokenizer {
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
            source.data.validate(&format!("source.{}", source.name))?;
        }
        self.validation.validate("validation")?;
        self.test.validate("test")?;
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

impl ModelSpec {
    fn validate(&self) -> Result<(), ConfigError> {
        for (field, size) in [
            ("model.layers", self.layers),
            ("model.width", self.width),
            ("model.heads", self.heads),
            ("model.kv_heads", self.kv_heads),
            ("model.ffn", self.ffn),
        ] {
            ConfigError::require(size != Some(0), field, 0, "at least 1")?;
        }
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
    /// All sizes, with the preset's where not given.
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

/// The sizes of a decoder, vocabulary apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSizes {
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the SwiGLU block.
    pub ffn: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary embedding.
    pub rope_base: f64,
}

impl DataSpec {
    fn validate(&self, table: &str) -> Result<(), ConfigError> {
        need(!self.path.as_slice().is_empty(), &format!("{table}.path"), "[]", "give at least one file")?;
        let kinds = [
            self.prompt.is_some() || self.response.is_some() || self.template.is_some(),
            self.messages.is_some(),
            self.text.is_some(),
        ];
        need(
            kinds.iter().filter(|&&k| k).count() <= 1,
            table,
            "several kinds of fields",
            "name either prompt (or template) and response, or messages, or text",
        )?;
        need(
            !kinds[0] || (self.response.is_some() && (self.prompt.is_some() || self.template.is_some())),
            &format!("{table}.response"),
            self.response.as_deref().unwrap_or("(absent)"),
            "a prompt (or template) and a response go together",
        )?;
        need(
            self.prompt.is_none() || self.template.is_none(),
            &format!("{table}.template"),
            self.template.as_deref().unwrap_or(""),
            "give prompt or template, not both",
        )?;
        need(self.take != Some(0), &format!("{table}.take"), 0, "at least 1, or leave it out for all records")
    }
}

impl TrainSpec {
    fn validate(&self) -> Result<(), ConfigError> {
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

impl ReweightSpec {
    fn validate(&self, names: &[&str]) -> Result<(), ConfigError> {
        let k = names.len();
        need(!self.methods.is_empty(), "reweight.methods", "[]", "give at least one method")?;
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        need(
            methods.len() == self.methods.len(),
            "reweight.methods",
            self.methods.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "),
            "each method once",
        )?;
        need(
            k <= 3 || !self.methods.contains(&Method::Grid),
            "reweight.methods",
            "grid",
            &format!("the grid is for at most 3 sources, this recipe has {k}; leave it out"),
        )?;
        need(self.cycle > 0, "reweight.cycle", self.cycle, "at least 1 step")?;
        need(
            self.continuations > 0,
            "reweight.continuations",
            self.continuations,
            "1 (no selection) or more",
        )?;
        need(
            self.continuation_steps > 0 && self.continuation_steps <= self.cycle,
            "reweight.continuation_steps",
            self.continuation_steps,
            &format!("between 1 and reweight.cycle = {}", self.cycle),
        )?;
        need(
            self.loss_tolerance.is_finite() && self.loss_tolerance >= 0.0,
            "reweight.loss_tolerance",
            self.loss_tolerance,
            "zero or positive, in nats",
        )?;
        if let Damping::Fixed(gamma) = self.damping {
            need(
                gamma.is_finite() && gamma > 0.0,
                "reweight.damping",
                gamma,
                "\"horizon\" or a positive number; the curvature is singular without damping",
            )?;
        }
        need(
            (1..=10).contains(&self.cg_steps),
            "reweight.cg_steps",
            self.cg_steps,
            "between 1 and 10; more steps amplify the noise of small batches",
        )?;
        need(
            self.validation_batch >= 2,
            "reweight.validation_batch",
            self.validation_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        need(
            self.source_batch >= 2,
            "reweight.source_batch",
            self.source_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        need(
            self.curvature_batch >= 2,
            "reweight.curvature_batch",
            self.curvature_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        match self.step {
            UpperStep::PerCycle(step) => {
                need(step.is_finite() && step > 0.0, "reweight.step", step, "positive, about 0.3")?;
            }
            UpperStep::Reach(reach) => {
                need(reach.is_finite() && reach > 0.0, "reweight.step.reach", reach, "positive, about 3")?;
            }
        }
        need((0.0..1.0).contains(&self.averaging), "reweight.averaging", self.averaging, "in [0, 1)")?;
        need(
            self.average_last > 0.0 && self.average_last <= 1.0,
            "reweight.average_last",
            self.average_last,
            "in (0, 1]",
        )?;
        if let Some(cap) = self.cap {
            need(
                cap * k as f64 >= 1.0 && cap <= 1.0,
                "reweight.cap",
                cap,
                &format!("between 1/K = {:.4} and 1", 1.0 / k as f64),
            )?;
        }
        need(
            self.grid_step > 0.0
                && self.grid_step <= 1.0
                && ((1.0 / self.grid_step).round() * self.grid_step - 1.0).abs() < 1e-9,
            "reweight.grid_step",
            self.grid_step,
            "1/n for a whole n, for instance 0.25",
        )?;
        if let Some(initial) = &self.initial {
            for (name, &weight) in initial {
                need(
                    names.contains(&name.as_str()),
                    &format!("reweight.initial.{name}"),
                    weight,
                    &format!("no source has that name; the sources are {}", names.join(", ")),
                )?;
                need(
                    weight > 0.0 && weight <= 1.0,
                    &format!("reweight.initial.{name}"),
                    weight,
                    "weights lie in the simplex: each above 0 (a zero could never rise again) and at most 1",
                )?;
            }
            if let Some(missing) = names.iter().find(|n| !initial.contains_key(**n)) {
                return Err(ConfigError::new(
                    format!("reweight.initial.{missing}"),
                    "(absent)",
                    "give every source a starting weight, or none",
                ));
            }
            let sum: f64 = initial.values().sum();
            need(
                (sum - 1.0).abs() < 1e-6,
                "reweight.initial",
                format!("sum {sum}"),
                "weights must sum to 1",
            )?;
        }
        Ok(())
    }
}

/// A parse error in the terms of the recipe: an unknown key gets its nearest match, everything its line.
fn explain(error: &toml::de::Error, text: &str) -> ConfigError {
    let line = error.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or_else(String::new, |l| format!("recipe, line {l}"));
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if (message.starts_with("unknown field") || message.starts_with("unknown variant")) && quoted.len() > 1 {
        let (unknown, known) = (quoted[0], &quoted[1..]);
        let nearest = known.iter().min_by_key(|k| edit_distance(unknown, k)).expect("at least one known key");
        return ConfigError::new(
            place,
            format!("`{unknown}`"),
            format!("unknown; did you mean `{nearest}`? Known here: {}", known.join(", ")),
        );
    }
    let shown = line.and_then(|l| text.lines().nth(l - 1)).unwrap_or("").trim();
    ConfigError::new(place, shown, message.replace('\n', " "))
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
