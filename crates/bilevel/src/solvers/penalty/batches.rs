//! Batches of both levels for methods with stochastic gradients.

use serde::{Deserialize, Serialize};

use crate::{
    error::{ConfigError, OracleError, OracleResult},
    oracles::Oracles,
    problem::{Objective, Problem, Sample},
    sampling::{Draw, Sampler},
};

/// A source of batches for each level; both average over everything when no batch size is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batches {
    upper: Option<Sampler>,
    lower: Option<Sampler>,
}

/// The indices of one batch, or everything.
pub(in crate::solvers) struct Indices(Option<Vec<u64>>);

impl Indices {
    pub fn sample(&self) -> Sample<'_> {
        self.0.as_deref().map_or(Sample::Full, Sample::Batch)
    }
}

impl Batches {
    /// No batches: everything is averaged over.
    pub(in crate::solvers) fn full() -> Self {
        Self { upper: None, lower: None }
    }
    /// Independent draws from the terms of each level, or fresh ones where the level is a stream. Batches of different
    /// `purpose`, 0, 1, 2, …, are independent.
    pub(in crate::solvers) fn new<P: Problem>(
        oracles: &Oracles<P>,
        size: Option<u64>,
        seed: u64,
        purpose: u16,
    ) -> OracleResult<Self> {
        let sampler = |stream: u16, n: Option<u64>| {
            let draw = n.map_or(Draw::Fresh, |n| Draw::Independent { n });
            size.map(|size| Sampler::new(seed, stream, draw, size)).transpose()
        };
        let no_terms = |error: ConfigError| OracleError::failed("n_samples", error);
        Ok(Self {
            upper: sampler(2 * purpose, oracles.upper.n_samples()).map_err(no_terms)?,
            lower: sampler(2 * purpose + 1, oracles.lower.n_samples()).map_err(no_terms)?,
        })
    }
    /// The next batch of f.
    pub(in crate::solvers) fn upper(&mut self) -> Indices {
        Indices(self.upper.as_mut().map(Sampler::next_batch))
    }
    /// The next batch of g.
    pub(in crate::solvers) fn lower(&mut self) -> Indices {
        Indices(self.lower.as_mut().map(Sampler::next_batch))
    }
}
