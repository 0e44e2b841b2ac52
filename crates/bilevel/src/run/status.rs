//! How a run ends.

use serde::{Deserialize, Serialize};

use crate::certificate::Finding;

/// The end of a run. Every normal end has a name; errors are for oracles and files that fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Status {
    /// Stationary to the asked accuracy, with every fatal row of the certificate passed.
    Converged,
    /// Stationary to the asked accuracy on the branch that was followed; S(x) was not explored, so a better selection may
    /// exist.
    LocallyConverged,
    /// The budget of steps is spent.
    OutOfSteps,
    /// The budget of gradients is spent.
    OutOfGradients,
    /// The budget of samples is spent.
    OutOfSamples,
    /// The budget of time is spent.
    OutOfTime,
    /// No acceptable step was found twice in a row, at tightened tolerances.
    Stalled,
    /// An observer asked to stop.
    Stopped {
        /// Its reason.
        why: String,
    },
    /// The certificate found that the hypergradient is not to be trusted; the finding's name is the status.
    Flagged {
        /// What was found.
        finding: Finding,
    },
    /// The lower iterate of g + weight·f ran off to infinity: f falls without bound along S(x) at this sign of the weight,
    /// or the lower level is unbounded.
    PenaltyUnbounded {
        /// Weight of f.
        weight: f64,
        /// Norm of the iterate.
        norm: f64,
    },
    /// An oracle answered with NaN or an infinity.
    NonFinite {
        /// The step (from 1) during which it happened; 0 before the first.
        step: u64,
        /// The oracle.
        oracle: String,
    },
}

impl Status {
    /// The name of the end: `Converged`, `OutOfSteps`, …, or the finding's own name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Converged => "Converged",
            Self::LocallyConverged => "LocallyConverged",
            Self::OutOfSteps => "OutOfSteps",
            Self::OutOfGradients => "OutOfGradients",
            Self::OutOfSamples => "OutOfSamples",
            Self::OutOfTime => "OutOfTime",
            Self::Stalled => "Stalled",
            Self::Stopped { .. } => "Stopped",
            Self::Flagged { finding } => finding.name(),
            Self::PenaltyUnbounded { .. } => "PenaltyUnbounded",
            Self::NonFinite { .. } => "NonFinite",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped { why } => write!(f, "Stopped: {why}"),
            Self::Flagged { finding } => write!(f, "{finding}"),
            Self::PenaltyUnbounded { weight, norm } => write!(
                f,
                "PenaltyUnbounded: the minimiser of g + ({weight}) f in y ran off to a norm of {norm:.3e}; \
                 use a method whose nodes have positive weights, such as high-order-f2ba, or regularise the lower level"
            ),
            Self::NonFinite { step, oracle } => {
                write!(f, "NonFinite: {oracle} returned a value that is not finite in step {step}")
            }
            other => f.write_str(other.name()),
        }
    }
}
