//! The gradient-norm barrier: descend f as far as |∇_y g|² still falls.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{dot_pair, positive, report, step_x, step_y, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// Steps along the direction nearest to −∇f that lowers p = |∇_y g|² at rate a·p: a quadratic programme with one linear constraint,
/// solved in closed form.
///
/// # Problem
///
/// Nonconvex lower level with second derivatives, with or without a PŁ condition on p. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  r = ∇_y g(x, y),   p = |r|²,   ∇p = 2(∇²_xy g · r, H r)
/// 2  m = max(0, (a·p − ⟨∇f, ∇p⟩)/max(|∇p|², floor))
/// 3  (x, y) ← prox((x, y) − step(∇f + m∇p)),   the solution of  min |d + ∇f|²  subject to  ⟨∇p, d⟩ ≤ −a·p
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `decrease` | a | 0.5 | ours |
/// | `step_x`, `step_y` | – | 0.01 | ours; one value for both in the papers |
/// | `floor` | – | 1e-16 | ours |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x and y |
///
/// # Cost
///
/// One gradient of f, one `grad_y`, one `hvp_yy` and one `jvp_xy` of g.
///
/// # Guarantee
///
/// O(ε^-1.5) iterations with and O(ε^-3) without a PŁ condition on p (arXiv 2504.17215).
///
/// # Target
///
/// Penalised: BOME with |∇_y g|² for the value gap; m settles and leaves a bias proportional to the step.
///
/// # Deviations
///
/// The perturbed form (noise) and the form with a quadratic constraint and a line search (arXiv 2505.14647) have constants that are not
/// known to this project, and are not offered. Where ∇_y g is not in the range of H, ∇p can vanish with p > 0: an infeasible
/// stationary point; the floor keeps m finite there. No released code is known.
///
/// # Source
///
/// arXiv 2504.17215 and 2505.14647; the closed form of line 2 is derived here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientNormBarrier {
    /// Rate a at which p must fall.
    pub decrease: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Least |∇p|² in the denominator of m.
    pub floor: f64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for GradientNormBarrier {
    fn default() -> Self {
        Self { decrease: 0.5, step_x: 0.01, step_y: 0.01, floor: 1e-16, tol: None }
    }
}

/// State of [`GradientNormBarrier`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct GradientNormBarrierState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
}

impl<X: Vector, Y: Vector> State<X, Y> for GradientNormBarrierState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for GradientNormBarrier
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = GradientNormBarrierState<P::X, P::Y>;
    const NAME: &'static str = "gradient-norm-barrier";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("decrease", self.decrease)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("floor", self.floor)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(GradientNormBarrierState { x, y })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let GradientNormBarrierState { x, y } = state;
        let mut d = oracles.upper.grad(x, y, Sample::Full)?;
        // ∇p = 2(∇²_xy g · r, H r)
        let r = oracles.lower.grad_y(x, y, Sample::Full)?;
        let mut slope =
            (oracles.lower.jvp_xy(x, y, &r, Sample::Full)?, oracles.lower.hvp_yy(x, y, &r, Sample::Full)?);
        slope.0.scale(2.0);
        slope.1.scale(2.0);
        // m = max(0, (a·p − ⟨∇f, ∇p⟩)/max(|∇p|², floor))
        let p = r.dot(&r);
        let wanted = self.decrease * p - dot_pair(&d, &slope);
        let m = (wanted / dot_pair(&slope, &slope).max(self.floor)).max(0.0);

        d.0.axpy(m, &slope.0);
        d.1.axpy(m, &slope.1);
        let by_x = step_x(oracles, x, &d.0, self.step_x);
        let by_y = step_y(oracles, y, &d.1, self.step_y);
        Ok(report(&[by_x, by_y], self.tol, &[("multiplier", m), ("lower_gradient", p.sqrt())]))
    }
}

impl Registered for GradientNormBarrier {
    const CARD: Card = Card {
        title: "gradient-norm barrier",
        summary: "the direction nearest to −∇f along which |∇_y g|² falls",
        paper: "arXiv 2504.17215, 2505.14647",
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
        Self { step_x: 0.002, step_y: 0.002, ..Self::default() }
    }
}
