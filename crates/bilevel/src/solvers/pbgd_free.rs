//! PBGD-Free: the value-gap penalty without its gradient in x.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    alt_pbgd::descend_penalised,
    penalty::{Descent, at_least_one, positive, report, step_x},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// Descends ∇_x f alone at y ≈ argmin f/λ + g. **Wrong wherever the implicit term matters**, and so asks to be told that it may run.
///
/// # Problem
///
/// PŁ lower level and a "flat" f: λ[∇_x g(x, y) − ∇_x g(x, z)] must be negligible. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  y ← prox(y − step_y(∇_y f/λ + ∇_y g(x, y))) until the prox-gradient is at most lower_tol, at most max_lower_steps times
/// 2  x ← prox(x − step_x ∇_x f(x, y))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `drops_implicit_term` | – | false: refused | ours; `true` is the user's word that the dropped term may be dropped |
/// | `lambda` | γ | 10 | released code: 10 to 15 |
/// | `step_x`, `step_y` | – | 0.01 | released code |
/// | `lower_tol` | – | 1e-4 | released code |
/// | `max_lower_steps` | – | 1000 | released code: 100 to 1000 |
///
/// # Cost
///
/// K `grad_y` of g, K `grad_y` and one `grad_x` of f.
///
/// # Guarantee
///
/// As ALT-PBGD under the flatness condition; none without it.
///
/// # Target
///
/// None but under the flatness condition, where it is ALT-PBGD's. The dropped term tends to −∇²_xy g·H⁺∇_y f, the whole implicit part
/// of the hypergradient.
///
/// # Deviations
///
/// It never ends a run as converged: without a z it cannot tell a stationary point from a lower level without a minimum, nor what
/// the dropped term is worth.
///
/// # Source
///
/// arXiv 2507.20400 and 2511.16796; released code Liuyuan999/PBGD_Free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PbgdFree {
    /// Has to be set: the implicit term of the hypergradient is dropped.
    pub drops_implicit_term: bool,
    /// Weight λ of g against f in the lower loop.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y on g + f/λ.
    pub step_y: f64,
    /// Prox-gradient at which the lower loop ends.
    pub lower_tol: f64,
    /// Most steps of the lower loop.
    pub max_lower_steps: u64,
}

impl Default for PbgdFree {
    fn default() -> Self {
        Self {
            drops_implicit_term: false,
            lambda: 10.0,
            step_x: 0.01,
            step_y: 0.01,
            lower_tol: 1e-4,
            max_lower_steps: 1000,
        }
    }
}

/// State of [`PbgdFree`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct PbgdFreeState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
}

impl<X: Vector, Y: Vector> State<X, Y> for PbgdFreeState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for PbgdFree {
    type State = PbgdFreeState<P::X, P::Y>;
    const NAME: &'static str = "pbgd-free";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("lower_tol", self.lower_tol)?;
        at_least_one("max_lower_steps", self.max_lower_steps)?;
        ConfigError::require(
            self.drops_implicit_term,
            "drops_implicit_term",
            self.drops_implicit_term,
            "pbgd-free follows ∇_x f alone and is wrong wherever the lower solution's reaction to x matters; \
             set it to true to accept that, or use alt-pbgd",
        )
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(PbgdFreeState { x, y })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let PbgdFreeState { x, y } = state;
        let rule = Descent::plain(self.max_lower_steps, self.step_y).until(self.lower_tol);
        let by_y = descend_penalised(oracles, x, y, self.lambda, rule)?;
        let d = oracles.upper.grad_x(x, y, Sample::Full)?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        Ok(report(&[by_x, by_y], None, &[("lambda", self.lambda)]))
    }
}

impl Registered for PbgdFree {
    const CARD: Card = Card {
        title: "PBGD-Free",
        summary: "follows ∇_x f alone at a penalised y; wrong wherever the implicit term matters",
        paper: "arXiv 2507.20400",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { drops_implicit_term: true, max_lower_steps: 20, ..Self::default() }
    }
}
