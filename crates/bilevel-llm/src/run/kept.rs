//! What is kept of chains: where one stands, what it hands over, and what its model was judged by.

use serde::{Deserialize, Serialize};

use crate::{
    eval::Scores,
    methods::Search,
    recipe::EvaluateSpec,
    result::{LedgerReport, Phase, SeedResult, Timing, TraceRow},
};

/// Everything of a chain but its networks; JSON in its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainState<M> {
    pub phase: Phase,
    pub search: Search<M>,
    pub evaluations: u64,
    pub rows: Vec<TraceRow>,
    pub seconds: f64,
    pub found: Option<Found>,
    pub timings: Vec<Timing>,
}

/// The end of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub weights: Vec<f64>,
    pub ledger: Option<LedgerReport>,
    pub online_test_loss: Option<f64>,
    pub predicted: Option<f64>,
}

/// What a chain hands over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainResult {
    /// Its line in the result.
    pub seed: SeedResult,
    /// Its part of the trace.
    pub rows: Vec<TraceRow>,
    /// Test losses of the retrained model, example by example.
    pub scores: Scores,
    /// Clock times.
    pub timings: Vec<Timing>,
}

/// What one model did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What was asked.
    pub asked: EvaluateSpec,
    /// Losses on the examples that are held out of each source.
    pub sources: Vec<Scores>,
    /// For each test example that was asked: whether the answer was right, and whether there was one.
    pub answers: Vec<(bool, bool)>,
    /// Test examples without a final answer of their own.
    pub left_out: u64,
}
