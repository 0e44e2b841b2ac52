//! MEHA: the gap to the Moreau envelope as penalty, one step of each variable.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    penalty::{PairState, not_negative, positive, report, step_x, step_y, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// Single-loop descent of f/c_k + g − (Moreau envelope of g), with a weight c_k that grows.
///
/// # Problem
///
/// g weakly convex in y; no PŁ condition. X and Y may be constrained by their prox.
///
/// # Method
///
/// In this order, each line with the newest values:
///
/// ```text
/// 1  z ← prox(z − step_z(∇_y g(x, z) + (z − y)/γ))
/// 2  y ← prox(y − step_y(∇_y f/c_k + ∇_y g(x, y) − (y − z)/γ))
/// 3  x ← prox(x − step_x(∇_x f/c_k + ∇_x g(x, y) − ∇_x g(x, z))),     c_k = c(k + 1)^e
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `gamma` | γ (1/`gamma_1` of BOAT) | 0.5 | ours; BOAT: 100 |
/// | `weight` | c | 1 | ours; BOAT: 0.2 |
/// | `exponent` | e | 0.25 | BOAT; the paper: below 1/2 |
/// | `step_x` | α | 0.1 | ours |
/// | `step_y` | β | 0.2 | ours |
/// | `step_z` | η | 0.2 | ours; BOAT: 0.001 |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// 2 `grad_y` and 2 `grad_x` of g, one `grad_y` and one `grad_x` of f.
///
/// # Guarantee
///
/// K^(−(1 − 2e)/2) for the residual of the penalised problem. A posted review says that the range of parameters of its Theorem 2 is
/// empty.
///
/// # Target
///
/// Optimistic, with a bias O(1/c_k) that falls as slowly as c_k grows.
///
/// # Deviations
///
/// Whether the paper updates by old or by newest values was not to be had; the order is that of BOAT, which uses c_0 = 0.2 in its
/// first step whatever c is. That is not followed.
///
/// # Source
///
/// R. Liu, Z. Liu, W. Yao, S. Zeng, J. Zhang, *Moreau Envelope for Nonconvex Bi-Level Optimization: A Single-Loop and
/// Hessian-Free Solution Strategy*, ICML 2024, arXiv 2405.09927; order from callous-youth/BOAT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meha {
    /// Parameter γ of the envelope.
    pub gamma: f64,
    /// First weight c.
    pub weight: f64,
    /// Exponent e of the growth of the weight.
    pub exponent: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of z.
    pub step_z: f64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Meha {
    fn default() -> Self {
        Self { gamma: 0.5, weight: 1.0, exponent: 0.25, step_x: 0.1, step_y: 0.2, step_z: 0.2, tol: None }
    }
}

impl<P: Problem> Solver<P> for Meha {
    type State = PairState<P::X, P::Y>;
    const NAME: &'static str = "meha";

    fn target(&self) -> HyperObjective {
        HyperObjective::Optimistic
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("gamma", self.gamma)?;
        positive("weight", self.weight)?;
        not_negative("exponent", self.exponent)?;
        let remedy = "give a number below 0.5, the paper's bound";
        ConfigError::require(self.exponent < 0.5, "exponent", self.exponent, remedy)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(PairState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let PairState { x, y, z, step } = state;
        let c = self.weight * (*step as f64 + 1.0).powf(self.exponent);
        let pull = self.gamma.recip();

        // ∇_y g(x, z) + (z − y)/γ
        let mut d = oracles.lower.grad_y(x, z, Sample::Full)?;
        d.axpy(pull, z);
        d.axpy(-pull, y);
        let by_z = step_y(oracles, z, &d, self.step_z);

        // ∇_y f/c + ∇_y g(x, y) − (y − z)/γ
        let mut d = oracles.lower.grad_y(x, y, Sample::Full)?;
        d.axpy(c.recip(), &oracles.upper.grad_y(x, y, Sample::Full)?);
        d.axpy(-pull, y);
        d.axpy(pull, z);
        let by_y = step_y(oracles, y, &d, self.step_y);

        // ∇_x f/c + ∇_x g(x, y) − ∇_x g(x, z)
        let mut d = oracles.lower.grad_x(x, y, Sample::Full)?;
        d.axpy(c.recip(), &oracles.upper.grad_x(x, y, Sample::Full)?);
        d.axpy(-1.0, &oracles.lower.grad_x(x, z, Sample::Full)?);
        let by_x = step_x(oracles, x, &d, self.step_x);

        *step += 1;
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", c)]))
    }
}

impl Registered for Meha {
    const CARD: Card = Card {
        title: "MEHA",
        summary: "single loop on f and the gap to the Moreau envelope of g",
        paper: "arXiv 2405.09927",
        targets: &[HyperObjective::Optimistic],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.02, step_z: 0.02, ..Self::default() }
    }
}
