//! What a reweighting run leaves behind: `weights.json`, `trace.jsonl`, `timings.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::{LedgerSpec, Method};

/// `weights.json`: everything that was learned, how sure it is, and what it rests on. Holds no clock time, so that
/// equal runs give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this file's form.
    pub schema: u32,
    /// Versions of the programs and libraries that decide numbers, by name.
    pub versions: BTreeMap<String, String>,
    /// The sources, in the order of every list of weights and per-source losses in this file and in the trace
    /// (ascending by name).
    pub sources: Vec<SourceInfo>,
    /// The validation set.
    pub validation: DataInfo,
    /// The test set.
    pub test: DataInfo,
    /// Validation examples that overlap with the test set.
    #[serde(default)]
    pub validation_overlap_with_test: u64,
    /// The model that was trained.
    pub model: ModelInfo,
    /// The device that made large products; absent where the processor did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Seeds of the run.
    pub seeds: Vec<u64>,
    /// Token budget of each method and seed, in forward-token units.
    pub budget: u64,
    /// One entry for each method, in the order of the recipe.
    pub methods: Vec<MethodResult>,
    /// Differences in test loss, each method against uniform and proportional (those that ran).
    pub comparisons: Vec<Comparison>,
    /// What the user should know: short sources, truncation, overlap with the validation set, seeds too few.
    pub warnings: Vec<String>,
    /// The recipe, as TOML.
    pub recipe: String,
}

impl RunResult {
    /// The result of a method; without one that of HG-MS if it ran, or else of the first. `None` when the method did not run.
    pub fn of(&self, method: Option<Method>) -> Option<&MethodResult> {
        let wanted = method.unwrap_or(Method::HgMs);
        let found = self.methods.iter().find(|m| m.method == wanted);
        found.or_else(|| self.methods.first().filter(|_| method.is_none()))
    }

    /// The methods that ran, for messages.
    pub fn known(&self) -> String {
        self.methods.iter().map(|m| m.method.name()).collect::<Vec<_>>().join(", ")
    }
}

/// A data set as it was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataInfo {
    /// Records in use.
    pub examples: u64,
    /// Records that were left out as duplicates or overlaps.
    #[serde(default)]
    pub removed: u64,
    /// Tokens of all examples (after truncation).
    pub tokens: u64,
    /// Tokens under the loss.
    pub loss_tokens: u64,
    /// Examples cut to the context.
    pub truncated: u64,
    /// SHA-256 of the files' bytes, in order.
    pub sha256: String,
}

/// A source as it was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// Its size and hash, what is held out of it included.
    #[serde(flatten)]
    pub data: DataInfo,
    /// What of it no model was trained on; absent when the recipe asks for no loss on sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// Records that repeat an earlier one of the same source, by the rule of `data.deduplicate` (exact ones are counted even
    /// when they stay).
    #[serde(default)]
    pub duplicates: u64,
    /// Records that repeat one of a source that comes earlier by name.
    #[serde(default)]
    pub duplicates_of_others: u64,
    /// Records that overlap with the validation set; see `source::Overlap`.
    pub overlap_with_validation: u64,
    /// Records that overlap with the test set.
    pub overlap_with_test: u64,
}

impl SourceInfo {
    /// Tokens of the examples that are trained on.
    pub fn trained_tokens(&self) -> u64 {
        self.data.tokens - self.held_out.map_or(0, |held| held.tokens)
    }
}

/// Examples of a source that retrained models are judged on, and that no model is trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Examples (windows of text count one each): at most a twentieth of the source, so none of a source of fewer than 20.
    pub examples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens under the loss.
    pub loss_tokens: u64,
}

/// The trained model's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Parameters.
    pub parameters: u64,
    /// Those that are trained at a time; absent in results of earlier versions.
    #[serde(default)]
    pub trained: Option<u64>,
    /// Decoder blocks.
    pub layers: usize,
    /// Width.
    pub width: usize,
    /// Longest sequence.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
}

/// What one method found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    /// The method.
    pub method: Method,
    /// Final weights with their noise bars over the seeds, one for each source.
    pub weights: Vec<WeightBar>,
    /// One entry for each seed.
    pub seeds: Vec<SeedResult>,
    /// Mean over the seeds of the test loss of the retrained models, nats per token under the loss.
    pub test_loss: f64,
    /// Standard deviation of that over the seeds; absent with one seed.
    pub test_loss_sd: Option<f64>,
    /// What else the retrained models do; absent in results of earlier versions.
    #[serde(default)]
    pub evaluation: Option<Evaluation>,
}

/// How the retrained models of a method do, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Test loss, nats per token under the loss.
    pub test_loss: Estimate,
    /// Loss on the examples that are held out of each source, in the order of the sources; absent for a source of which none is.
    /// Empty when not asked for.
    pub source_losses: Vec<Option<Estimate>>,
    /// Exact match on test examples; absent when not asked for.
    pub exact_match: Option<ExactMatch>,
}

/// A mean with its 95 % interval from the bootstrap over examples and, where there are several, seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

/// How often a model's final answer is the example's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExactMatch {
    /// Share of right answers.
    pub share: Estimate,
    /// That share for each seed.
    pub seeds: Vec<f64>,
    /// Examples that were asked.
    pub examples: u64,
    /// Test examples looked at that have no final answer of their own (cut to the context, or without the mark); not asked.
    pub left_out: u64,
    /// Share of the model's texts without a final answer.
    pub unanswered: f64,
}

/// A weight and its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightBar {
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds; absent with one seed.
    pub sd: Option<f64>,
    /// Passes over the source that training the whole budget in this proportion by sampling would make.
    pub epochs: f64,
}

/// What one method found with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Final weights.
    pub weights: Vec<f64>,
    /// Ledger of the run that found them; absent for fixed weights, which cost nothing to find.
    pub search: Option<LedgerReport>,
    /// Ledger of the retraining with the final weights.
    pub retraining: LedgerReport,
    /// Cycles whose hypergradient was below its noise; the weights stayed.
    pub no_signal: u64,
    /// Cycles in all.
    pub cycles: u64,
    /// Test loss of the model of the search itself (its budget went partly to the search); absent where nothing was searched, or the
    /// weights were set only when the search had ended.
    pub online_test_loss: Option<f64>,
    /// Change of the validation loss that the method expected of its weights in place of the starting ones, before a model was trained
    /// with them; absent of a method without such an estimate.
    #[serde(default)]
    pub predicted_change: Option<f64>,
    /// Validation loss of the retrained model on the whole validation set.
    pub validation_loss: f64,
    /// Test loss of the retrained model, nats per token under the loss.
    pub test_loss: f64,
    /// Accuracy of the retrained model's most likely next token, on test tokens under the loss.
    pub test_accuracy: f64,
}

/// A token ledger by entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerReport {
    /// The budget, in forward-token units.
    pub budget: f64,
    /// What was spent, in forward-token units.
    pub spent: f64,
    /// The entries, in a fixed order.
    pub entries: Vec<LedgerLine>,
    /// Units per token of each entry.
    pub weights: LedgerSpec,
    /// Training steps of the winner.
    pub steps: u64,
}

/// One entry of a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Name of the entry, in words.
    pub entry: String,
    /// Tokens.
    pub tokens: u64,
    /// Units per token; zero for what is not counted.
    pub weight: f64,
    /// tokens × weight.
    pub units: f64,
}

/// A paired comparison of two methods' retrained models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The method.
    pub method: Method,
    /// What it is compared with.
    pub baseline: Method,
    /// Test loss of `method` minus that of `baseline`, nats per token; negative is better.
    pub difference: f64,
    /// Its standard error: paired bootstrap over test examples and, where there are several, over seeds.
    pub standard_error: f64,
    /// 95 % interval of the paired bootstrap over examples and seeds.
    pub interval: (f64, f64),
    /// What may be said; below two standard errors it is `NoDifference`.
    pub verdict: Verdict,
    /// The same of exact match; absent when it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<ExactMatchDifference>,
}

/// A paired comparison of the final answers of two methods' retrained models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExactMatchDifference {
    /// Share of right answers of `method` minus that of `baseline`; positive is better.
    pub difference: f64,
    /// Its standard error, as of the test loss, but not below that of examples on which both models are equally right.
    pub standard_error: f64,
    /// 95 % interval of the paired bootstrap over examples and seeds.
    pub interval: (f64, f64),
    /// What may be said; below two standard errors it is `NoDifference`.
    pub verdict: Verdict,
}

/// Outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Lower loss, or more right answers, by more than two standard errors.
    Better,
    /// Within two standard errors.
    NoDifference,
    /// Higher loss, or fewer right answers, by more than two standard errors.
    Worse,
    /// One seed: how much the models differ from seed to seed is not known, and nothing may be said.
    OneSeed,
}

/// Which part of a method's work a trace row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The weights are being learned.
    Search,
    /// A fresh model is trained with the final weights.
    Retraining,
}

/// A line of `trace.jsonl`: the state after a training step. Rows of a method, seed and phase stand together, in
/// the order of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceRow {
    /// The method.
    pub method: Method,
    /// The seed.
    pub seed: u64,
    /// Search or retraining.
    pub phase: Phase,
    /// Training steps done.
    pub step: u64,
    /// Forward-token units spent.
    pub spent: f64,
    /// Weights p.
    pub weights: Vec<f64>,
    /// Step size of the training step that comes next.
    pub step_size: f64,
    /// Σ p_i L_i on the last training batch, with the weights of its step; absent at step 0.
    pub train_loss: Option<f64>,
    /// L_i on the last training batch, absent for a source that had no part in it; empty at step 0.
    pub source_losses: Vec<Option<f64>>,
    /// Loss on the traced part of the validation set, when it was measured at this step.
    pub validation_loss: Option<f64>,
    /// In the first row of a retraining: what the method expects of its weights, as in [`SeedResult::predicted_change`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_change: Option<f64>,
    /// The certificate of the cycle that ended with this step, if one did.
    pub certificate: Option<CycleCertificate>,
}

/// The certificate of one cycle of the practical HG-MS (or of alignment, as far as it applies).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CycleCertificate {
    /// max_i |∇L_i(y)| / max_i |∇L_i(y at the start)|; near zero, the sources are fitted and p has no effect.
    pub r: f64,
    /// |G|, the running mean of the hypergradient in x.
    pub gradient_norm: f64,
    /// |G_A − G_B| of the two half-batches' running means.
    pub noise: f64,
    /// The hypergradient in x, one entry for each source.
    pub gradient: Vec<f64>,
    /// Whether p stayed because nothing rose above the noise (r < 1e-3 or gradient_norm < noise).
    pub no_signal: bool,
    /// Residual of the linear solve relative to |∇L_val|, the larger of the two halves; absent without a solve.
    pub solve_residual: Option<f64>,
    /// The damping: 1/(ηT) in the optimiser's metric, or γ; absent without a solve.
    pub damping: Option<f64>,
    /// The continuations of SELECT, empty when there was no selection.
    pub continuations: Vec<Continuation>,
}

/// One continuation of SELECT.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continuation {
    /// Its training loss, mean over its steps.
    pub train_loss: f64,
    /// Its validation loss at the end.
    pub validation_loss: f64,
    /// Whether it won.
    pub is_winner: bool,
}

/// `timings.json`: clock time, kept apart from everything that equal runs repeat to the byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds of each method, seed and phase; a resumed run counts the time before and after.
    pub rows: Vec<Timing>,
}

/// Clock time of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The method.
    pub method: Method,
    /// The seed.
    pub seed: u64,
    /// The phase.
    pub phase: Phase,
    /// Seconds.
    pub seconds: f64,
    /// Training tokens (winner's) per second of it.
    pub tokens_per_second: f64,
}
