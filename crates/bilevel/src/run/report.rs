//! What a run hands back.

use std::time::Duration;

use super::{
    Status,
    checkpoint::{Best, Checkpoint},
};
use crate::{certificate::Certificate, oracles::OracleCounts, solvers::StepInfo};

/// The end of a run: how it ended, where, at what price, and what the last hypergradient is worth.
#[derive(Clone, Debug)]
pub struct Report<X, Y, S> {
    /// How the run ended.
    pub status: Status,
    /// Steps done.
    pub steps: u64,
    /// Upper iterate after the last whole step.
    pub x: X,
    /// Lower iterate after the last whole step.
    pub y: Y,
    /// The iterate with the lowest hyper-objective, if the solver reports values.
    pub best: Option<Best<X, Y>>,
    /// What the solver knew after the last whole step.
    pub last: Option<StepInfo>,
    /// Oracle calls, those of an unfinished last step included.
    pub counts: OracleCounts,
    /// Time spent in the solver.
    pub wall: Duration,
    /// From where the run can go on. `None` when an oracle broke off a step ([`Status::NonFinite`]): the solver's
    /// state is torn then, and the last checkpoint on disk is what there is.
    pub checkpoint: Option<Checkpoint<X, Y, S>>,
}

impl<X, Y, S> Report<X, Y, S> {
    /// The certificate of the last hypergradient, if the solver certifies.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.last.as_ref()?.certificate.as_ref()
    }
}
