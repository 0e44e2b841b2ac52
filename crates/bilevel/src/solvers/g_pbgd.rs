//! G-PBGD: joint gradient descent on f plus the squared norm of the lower gradient.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{LambdaSchedule, at_least_one, positive, report, step_x, step_y, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// Penalty-based gradient descent with (λ/2)|∇_y g|² as penalty.
///
/// # Problem
///
/// PŁ lower level with second derivatives and a lower bound on the nonzero eigenvalues of H. X and Y may be constrained by
/// their prox.
///
/// # Method
///
/// ```text
/// 1  r = ∇_y g(x, y)
/// 2  x ← prox(x − step_x(∇_x f + λ_k ∇²_xy g · r)),   y ← prox(y − step_y(∇_y f + λ_k H r))       both from the old (x, y)
/// ```
///
/// # Parameters
///
/// | field | symbol | default | as released, hyper-cleaning, linear / MLP |
/// |---|---|---|---|
/// | `lambda` | γ | 10 | 37 / 37 |
/// | `step_x`, `step_y` | α | 0.05 | 0.3, 0.5 / 0.5, 0.5 |
/// | `schedule` | – | constant | ramp |
/// | `ramp_steps` | – | 30000, used by the ramp alone | 5000 / 30000 |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x and y |
///
/// # Cost
///
/// One gradient of f, one `grad_y`, one `hvp_yy` and one `jvp_xy` of g.
///
/// # Guarantee
///
/// Where |∇_y g|² bounds the squared distance to S(x), local and global minima of the penalised problem are ε-minima of the
/// bilevel one.
///
/// # Target
///
/// Penalised, bias O(1/λ). Its limit is not that of F2BA: H² stands where F2BA has H.
///
/// # Deviations
///
/// None known; the factor ½ of the penalty is that of the released code.
///
/// # Source
///
/// H. Shen, T. Chen, *On Penalty-based Bilevel Gradient Descent Method*, ICML 2023, arXiv 2302.05185; released code
/// hanshen95/penalized-bilevel-gradient-descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GPbgd {
    /// Weight λ of ½|∇_y g|², at the end of the ramp where there is one.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// How λ comes to its value.
    pub schedule: LambdaSchedule,
    /// Steps in which the ramp reaches `lambda`.
    pub ramp_steps: u64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for GPbgd {
    fn default() -> Self {
        Self {
            lambda: 10.0,
            step_x: 0.05,
            step_y: 0.05,
            schedule: LambdaSchedule::Constant,
            ramp_steps: 30_000,
            tol: None,
        }
    }
}

/// State of [`GPbgd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct GPbgdState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
    step: u64,
}

impl<X: Vector, Y: Vector> State<X, Y> for GPbgdState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for GPbgd
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = GPbgdState<P::X, P::Y>;
    const NAME: &'static str = "g-pbgd";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        at_least_one("ramp_steps", self.ramp_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(GPbgdState { x, y, step: 0 })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let GPbgdState { x, y, step } = state;
        let lambda = self.schedule.at(self.lambda, self.ramp_steps, *step);
        // ∇f + λ(∇²_xy g · r, H r)
        let (mut d_x, mut d_y) = oracles.upper.grad(x, y, Sample::Full)?;
        let r = oracles.lower.grad_y(x, y, Sample::Full)?;
        d_x.axpy(lambda, &oracles.lower.jvp_xy(x, y, &r, Sample::Full)?);
        d_y.axpy(lambda, &oracles.lower.hvp_yy(x, y, &r, Sample::Full)?);

        let by_x = step_x(oracles, x, &d_x, self.step_x);
        let by_y = step_y(oracles, y, &d_y, self.step_y);
        *step += 1;
        Ok(report(&[by_x, by_y], self.tol, &[("lambda", lambda), ("lower_gradient", r.norm())]))
    }
}

impl Registered for GPbgd {
    const CARD: Card = Card {
        title: "G-PBGD",
        summary: "joint descent of f + (λ/2)|∇_y g|²",
        paper: "arXiv 2302.05185",
        targets: &[HyperObjective::Penalised],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        Self { lambda: 1.0, step_x: 0.002, step_y: 0.002, ..Self::default() }
    }
}
