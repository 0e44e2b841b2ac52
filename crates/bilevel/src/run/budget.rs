//! How much a run may spend.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use crate::{error::ConfigError, oracles::OracleCounts};

/// Limits of a run, each optional; the first one reached ends it.
///
/// A budget is checked before each step, so it is overshot by less than one step. It belongs to the run and is not part
/// of a checkpoint: a resumed run may be given a larger one. Counts, steps and time are of the whole run, what was
/// spent before a checkpoint included.
///
/// ```
/// use bilevel::run::Budget;
/// let budget = Budget { steps: Some(100), ..Budget::default() };
/// assert!(budget.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Upper steps.
    pub steps: Option<u64>,
    /// Gradients of both levels, a second-order product counted as two
    /// ([`OracleCounts::gradient_equivalents`]).
    pub gradients: Option<u64>,
    /// Samples touched by oracle calls of both levels.
    pub samples: Option<u64>,
    /// Seconds spent in the solver; observers and checkpoints are not counted.
    pub seconds: Option<f64>,
}

impl Budget {
    /// A limit on steps alone.
    pub fn steps(steps: u64) -> Self {
        Self { steps: Some(steps), ..Self::default() }
    }

    /// Checks that a limit on time is a number and not negative.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.seconds {
            Some(seconds) => ConfigError::require(
                Duration::try_from_secs_f64(seconds).is_ok(),
                "budget.seconds",
                seconds,
                "give zero or a positive number of seconds",
            ),
            None => Ok(()),
        }
    }

    /// The status with which the run ends before its next step, if a limit is reached.
    pub fn exhausted(&self, steps: u64, counts: &OracleCounts, wall: Duration) -> Option<Status> {
        let reached = |limit: Option<u64>, spent: u64| limit.is_some_and(|limit| spent >= limit);
        if reached(self.steps, steps) {
            Some(Status::OutOfSteps)
        } else if reached(self.gradients, counts.gradient_equivalents()) {
            Some(Status::OutOfGradients)
        } else if reached(self.samples, counts.samples()) {
            Some(Status::OutOfSamples)
        } else if self.seconds.is_some_and(|seconds| wall.as_secs_f64() >= seconds) {
            Some(Status::OutOfTime)
        } else {
            None
        }
    }

    /// Share of the budget that is spent, 0 to 1, of the limit that is nearest; 0 without limits.
    pub fn share(&self, steps: u64, counts: &OracleCounts, wall: Duration) -> f64 {
        let part = |limit: Option<f64>, spent: f64| limit.map_or(0.0, |limit| (spent / limit).min(1.0));
        part(self.steps.map(|limit| limit as f64), steps as f64)
            .max(part(self.gradients.map(|limit| limit as f64), counts.gradient_equivalents() as f64))
            .max(part(self.samples.map(|limit| limit as f64), counts.samples() as f64))
            .max(part(self.seconds, wall.as_secs_f64()))
    }
}
