//! What every algorithm is: immutable settings, a state of its own, one step.

pub mod acc_f2ba;
pub mod adapag;
pub mod af2ba;
pub mod alt_pbgd;
pub mod ba;
pub mod bome;
pub mod f2ba;
pub mod f2ba_plus;
pub mod f2sa;
pub mod f2sa_p;
pub mod g_pbgd;
pub mod galet;
pub mod gradient_norm_barrier;
pub mod hg_ms;
pub mod high_order_f2ba;
pub mod hjfbio;
pub mod implicit;
pub mod lancbio;
pub mod meha;
pub mod mgbio;
pub mod pbgd_free;
pub mod penalised_gradient;
pub mod penalty;
pub mod prox_f2ba;
pub mod prox_f2ba_single_loop;
pub mod registry;
pub mod residual_corrected;
pub mod saba;
pub mod slm_reconstructed;
pub mod soba;
pub mod srba;
pub mod subbio;
pub mod superquantile_gibbs;
pub mod v_pbgd;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{
    certificate::Certificate,
    error::{ConfigError, OracleResult},
    oracles::Oracles,
    problem::Problem,
    run::Status,
};

/// Which hyper-objective an algorithm descends when S(x) is not one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HyperObjective {
    /// F(x) = min of f over S(x).
    Optimistic,
    /// F(x) = max of f over S(x).
    Pessimistic,
    /// f at the point of S(x) that the algorithm's own lower iteration arrives at.
    Selected,
    /// The minimum over y of f + λ(g − min g), within O(1/λ) of the optimistic one.
    Penalised,
}

impl HyperObjective {
    /// The word for it in configuration files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Optimistic => "optimistic",
            Self::Pessimistic => "pessimistic",
            Self::Selected => "selected",
            Self::Penalised => "penalised",
        }
    }
}

impl fmt::Display for HyperObjective {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a solver knows after one step, at no extra oracle call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepInfo {
    /// Hyper-objective at the iterate that the step started from, if known.
    pub value: Option<f64>,
    /// The solver's own measure of stationarity (norm of the hypergradient or of the prox-gradient); NaN where it has
    /// none, as at a lower level without a minimiser. JSON has no such number: it is `null` there.
    #[serde(deserialize_with = "number_or_nan")]
    pub stationarity: f64,
    /// What the hypergradient of this step is worth, if the solver certifies.
    pub certificate: Option<Certificate>,
    /// The run ends here, for this reason.
    pub end: Option<Status>,
    /// Named numbers for the trace.
    pub extras: Vec<(String, f64)>,
}

/// A number as JSON has it, with NaN for `null`.
fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A solver's own state: everything needed to go on exactly where it stopped.
pub trait State<X, Y>: Serialize + DeserializeOwned {
    /// The current upper and lower iterate.
    fn iterate(&self) -> (&X, &Y);
}

/// An algorithm. `self` holds hyper-parameters only and never changes.
pub trait Solver<P: Problem> {
    /// What one step changes.
    type State: State<P::X, P::Y>;
    /// Name in configuration files, traces and checkpoints.
    const NAME: &'static str;
    /// Name of this solver; another than [`Solver::NAME`] only for one that was chosen at run time.
    fn name(&self) -> &'static str {
        Self::NAME
    }
    /// Which hyper-objective it descends.
    fn target(&self) -> HyperObjective;
    /// Checks every setting; called before the first oracle call.
    fn validate(&self) -> Result<(), ConfigError>;
    /// The state at the start.
    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State>;
    /// One upper step.
    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo>;
}
