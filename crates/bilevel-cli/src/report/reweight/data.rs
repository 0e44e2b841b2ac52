//! What the report reads of a result folder.

use std::collections::BTreeMap;

use bilevel_llm::result::{Evaluation, ExactMatchDifference, HeldOut, Verdict};
use serde::Deserialize;

use super::super::{
    chart::{COLOURS, group_class},
    page::{Cell, escape},
};

/// What the report needs of `weights.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub versions: BTreeMap<String, String>,
    pub sources: Vec<Source>,
    pub validation: Data,
    pub test: Data,
    pub validation_overlap_with_test: Option<f64>,
    pub model: Model,
    pub device: Option<String>,
    pub seeds: Vec<u64>,
    pub budget: Option<f64>,
    pub methods: Vec<PerMethod>,
    pub comparisons: Vec<Comparison>,
    pub warnings: Vec<String>,
    pub recipe: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Data {
    pub examples: Option<f64>,
    pub tokens: Option<f64>,
    pub loss_tokens: Option<f64>,
    pub truncated: Option<f64>,
    pub removed: Option<f64>,
    pub sha256: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Source {
    pub name: String,
    #[serde(flatten)]
    pub data: Data,
    pub held_out: Option<HeldOut>,
    pub duplicates: Option<f64>,
    pub duplicates_of_others: Option<f64>,
    pub overlap_with_validation: Option<f64>,
    pub overlap_with_test: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    pub parameters: Option<f64>,
    pub trained: Option<f64>,
    pub layers: Option<f64>,
    pub width: Option<f64>,
    pub context: Option<f64>,
    pub vocabulary: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PerMethod {
    pub method: String,
    pub weights: Vec<Weight>,
    pub seeds: Vec<PerSeed>,
    pub test_loss: Option<f64>,
    pub test_loss_sd: Option<f64>,
    pub evaluation: Option<Evaluation>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Weight {
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    pub epochs: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PerSeed {
    pub seed: u64,
    pub weights: Vec<Option<f64>>,
    pub search: Option<Ledger>,
    pub retraining: Option<Ledger>,
    pub no_signal: u64,
    pub cycles: u64,
    pub online_test_loss: Option<f64>,
    pub predicted_change: Option<f64>,
    pub validation_loss: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ledger {
    pub spent: Option<f64>,
    pub entries: Vec<LedgerLine>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LedgerLine {
    pub entry: String,
    pub tokens: Option<f64>,
    pub weight: Option<f64>,
    pub units: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Comparison {
    pub method: String,
    pub baseline: String,
    pub difference: Option<f64>,
    pub standard_error: Option<f64>,
    pub verdict: Option<Verdict>,
    pub exact_match: Option<ExactMatchDifference>,
}

/// A line of `trace.jsonl`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    pub method: String,
    pub seed: u64,
    pub phase: String,
    pub step: u64,
    pub spent: Option<f64>,
    pub weights: Vec<Option<f64>>,
    pub source_losses: Vec<Option<f64>>,
    pub validation_loss: Option<f64>,
    pub certificate: Option<Certificate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub r: Option<f64>,
    pub gradient_norm: Option<f64>,
    pub noise: Option<f64>,
    pub no_signal: bool,
    pub solve_residual: Option<f64>,
}

/// `timings.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Timings {
    pub rows: Vec<Timing>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Timing {
    pub method: String,
    pub seconds: Option<f64>,
}

impl Outcome {
    /// The method that the report is about: the bilevel one if it ran.
    pub fn main(&self) -> Option<&PerMethod> {
        self.methods.iter().find(|m| m.method == "hg-ms").or_else(|| self.methods.first())
    }
    pub fn colour(&self, method: &str) -> usize {
        self.group(method) % COLOURS
    }
    /// A method's name behind the dot that it has in charts.
    pub fn name(&self, method: &str) -> Cell {
        let class = group_class(self.group(method));
        Cell::Html(format!("<span class=\"key {class}\"></span>{}", escape(method)))
    }
    /// The place of a method among those of the run.
    fn group(&self, method: &str) -> usize {
        self.methods.iter().position(|m| m.method == method).unwrap_or(0)
    }
    pub fn comparison(&self, method: &str, baseline: &str) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| c.method == method && c.baseline == baseline)
    }
}

impl PerMethod {
    /// Whether the search went from weights to weights with one model in training, so that the weights lie on a way; the search for
    /// others tries mixtures, or measures, and sets the weights when it has ended.
    pub fn moved_weights(&self) -> bool {
        self.seeds.iter().any(|seed| seed.online_test_loss.is_some())
    }
}

/// What may be said, and its colour.
pub fn said(verdict: Option<Verdict>) -> (&'static str, &'static str) {
    match verdict {
        Some(Verdict::Better) => ("good", "better"),
        Some(Verdict::Worse) => ("bad", "worse"),
        Some(Verdict::OneSeed) => ("soft", "one seed, no verdict"),
        Some(Verdict::NoDifference) | None => ("soft", "no difference"),
    }
}
