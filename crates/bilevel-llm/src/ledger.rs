//! The token budget: what each method spends, by entry, in the unit of one token forward.

use serde::{Deserialize, Serialize};

use crate::{
    recipe::LedgerSpec,
    result::{LedgerLine, LedgerReport},
};

/// What tokens are spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Training steps of the run that goes on.
    Training,
    /// Training steps of continuations that were not selected.
    LosingContinuations,
    /// Validation losses for selection.
    Selection,
    /// ∇L_val.
    ValidationGradient,
    /// Gauss–Newton products.
    GaussNewton,
    /// ⟨∇L_i, v⟩.
    Directional,
    /// Losses of two models on the sources, to compare them.
    Pairs,
    /// Gradients of single examples.
    Examples,
    /// Validation and test losses that only inform the reader; not counted, for any method.
    Observation,
}

impl Entry {
    /// All entries, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Training,
        Self::LosingContinuations,
        Self::Selection,
        Self::ValidationGradient,
        Self::GaussNewton,
        Self::Directional,
        Self::Pairs,
        Self::Examples,
        Self::Observation,
    ];
    fn words(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::LosingContinuations => "losing continuations",
            Self::Selection => "selection on validation data",
            Self::ValidationGradient => "validation gradients",
            Self::GaussNewton => "Gauss-Newton products",
            Self::Directional => "directional derivatives of the sources",
            Self::Pairs => "losses of two models compared",
            Self::Examples => "gradients of single examples",
            Self::Observation => "evaluation for the trace (not counted)",
        }
    }
    fn weight(self, weights: &LedgerSpec) -> f64 {
        match self {
            Self::Training | Self::LosingContinuations => weights.training,
            Self::Selection | Self::Pairs => weights.evaluation,
            Self::ValidationGradient | Self::Examples => weights.gradient,
            Self::GaussNewton => weights.gauss_newton,
            Self::Directional => weights.directional,
            Self::Observation => 0.0,
        }
    }
}

/// A running account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    budget: f64,
    weights: LedgerSpec,
    tokens: [u64; 9],
}

impl Ledger {
    /// An empty account.
    pub fn new(budget: f64, weights: LedgerSpec) -> Self {
        Self { budget, weights, tokens: [0; 9] }
    }
    /// Units that so many tokens of an entry cost.
    pub fn price(&self, entry: Entry, tokens: u64) -> f64 {
        entry.weight(&self.weights) * tokens as f64
    }
    /// Writes tokens to an entry.
    pub fn charge(&mut self, entry: Entry, tokens: u64) {
        self.tokens[entry as usize] += tokens;
    }
    /// Units that all of these cost.
    pub fn price_of(&self, charges: &[(Entry, u64)]) -> f64 {
        charges.iter().map(|&(entry, tokens)| self.price(entry, tokens)).sum()
    }
    /// Writes all of these.
    pub fn charge_all(&mut self, charges: &[(Entry, u64)]) {
        for &(entry, tokens) in charges {
            self.charge(entry, tokens);
        }
    }
    /// Tokens of an entry.
    pub fn tokens(&self, entry: Entry) -> u64 {
        self.tokens[entry as usize]
    }
    /// Units spent.
    pub fn spent(&self) -> f64 {
        Entry::ALL.iter().map(|&e| self.price(e, self.tokens(e))).sum()
    }
    /// Units in all.
    pub fn budget(&self) -> f64 {
        self.budget
    }
    /// Units left.
    pub fn left(&self) -> f64 {
        self.budget - self.spent()
    }
    /// Spent share of the budget, at most 1.
    pub fn progress(&self) -> f64 {
        (self.spent() / self.budget).min(1.0)
    }
    /// The account as it is printed.
    pub fn report(&self, steps: u64) -> LedgerReport {
        let line = |&entry: &Entry| LedgerLine {
            entry: entry.words().to_owned(),
            tokens: self.tokens(entry),
            weight: entry.weight(&self.weights),
            units: self.price(entry, self.tokens(entry)),
        };
        LedgerReport {
            budget: self.budget,
            spent: self.spent(),
            entries: Entry::ALL.iter().map(line).collect(),
            weights: self.weights,
            steps,
        }
    }
}
