//! ALT-PBGD: the value-gap penalty with accurate alternating lower solves.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    penalty::{
        Descent, PairState, at_least_one, descend, descend_lower, direction_x, positive, report, step_x,
        tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// Solves both lower problems to a tolerance before each step in x, whose size does not depend on λ.
///
/// # Problem
///
/// PŁ lower level, f and g smooth. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  z ← prox(z − step_z ∇_y g(x, z)) until the prox-gradient is at most lower_tol, at most max_lower_steps times
///    y ← prox(y − step_y(∇_y f/λ + ∇_y g(x, y))) likewise
/// 2  x ← prox(x − step_x(∇_x f(x, y) + λ[∇_x g(x, y) − ∇_x g(x, z)]))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `lambda` | γ | 10 | released code: 10 to 15 |
/// | `step_x` | η | 0.01 | released code |
/// | `step_y`, `step_z` | – | 0.01 | released code |
/// | `lower_tol` | – | 1e-4 | released code |
/// | `max_lower_steps` | – | 1000 | released code: 100 to 1000 |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// 2K `grad_y` and 2 `grad_x` of g, K `grad_y` and one `grad_x` of f, K what each loop needs.
///
/// # Guarantee
///
/// Larger steps than V-PBGD's, by the smoothness of the penalised function in x alone.
///
/// # Target
///
/// Penalised. It is F2BA with accurate lower loops.
///
/// # Deviations
///
/// None known.
///
/// # Source
///
/// arXiv 2507.20400 and 2511.16796; released code Liuyuan999/PBGD_Free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AltPbgd {
    /// Weight λ of the value gap.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y on g + f/λ.
    pub step_y: f64,
    /// Step of z on g.
    pub step_z: f64,
    /// Prox-gradient at which a lower loop ends.
    pub lower_tol: f64,
    /// Most steps of a lower loop.
    pub max_lower_steps: u64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for AltPbgd {
    fn default() -> Self {
        Self {
            lambda: 10.0,
            step_x: 0.01,
            step_y: 0.01,
            step_z: 0.01,
            lower_tol: 1e-4,
            max_lower_steps: 1000,
            tol: None,
        }
    }
}

/// y ← prox(y − step(∇_y f/λ + ∇_y g(x, y))) along the loop; returns the norm of the last prox-gradient.
pub(super) fn descend_penalised<P: Problem>(
    oracles: &Oracles<P>,
    x: &P::X,
    y: &mut P::Y,
    lambda: f64,
    rule: Descent,
) -> OracleResult<f64> {
    let mut gradient = |y: &P::Y| {
        let mut gradient = oracles.lower.grad_y(x, y, Sample::Full)?;
        gradient.axpy(lambda.recip(), &oracles.upper.grad_y(x, y, Sample::Full)?);
        Ok(gradient)
    };
    descend(y, rule, &mut gradient, &|y, step| oracles.prox_y(y, step))
}

impl<P: Problem> Solver<P> for AltPbgd {
    type State = PairState<P::X, P::Y>;
    const NAME: &'static str = "alt-pbgd";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        positive("lower_tol", self.lower_tol)?;
        at_least_one("max_lower_steps", self.max_lower_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(PairState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let PairState { x, y, z, step } = state;
        let rule = |step: f64| Descent::plain(self.max_lower_steps, step).until(self.lower_tol);
        let by_z = descend_lower(oracles, x, z, rule(self.step_z))?;
        let by_y = descend_penalised(oracles, x, y, self.lambda, rule(self.step_y))?;

        let d = direction_x(oracles, x, (&*y, &*z), self.lambda, (Sample::Full, Sample::Full))?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        *step += 1;
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.lambda)]))
    }
}

impl Registered for AltPbgd {
    const CARD: Card = Card {
        title: "ALT-PBGD",
        summary: "value-gap penalty with both lower problems solved to a tolerance before each step in x",
        paper: "arXiv 2507.20400",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { max_lower_steps: 20, ..Self::default() }
    }
}
