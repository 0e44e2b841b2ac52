//! GALET: alternating steps with a least-squares inner loop for v.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    implicit::{ImplicitState, VStart, descend_lower, implicit_gradient},
    penalty::{Batches, at_least_one, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// Lower steps, steepest descent on |∇_y f − H v|²/2, one step in x.
///
/// # Problem
///
/// Convex PŁ lower level for the algorithm, nonconvex PŁ for its stationarity measure; f, g and H Lipschitz, and the smallest
/// non-zero eigenvalue of H bounded away from 0 over all (x, y). X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  lower_steps times  y ← prox(y − step_y ∇_y g(x, y))
/// 2  v ← 0 (or kept);   v_steps times  v ← v + step_v H(∇_y f − H v), at the new y
/// 3  x ← prox(x − step_x(∇_x f − J v))
/// ```
///
/// The paper's w is −v.
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x` | α | 0.1 | ours |
/// | `step_y` | β | 0.1 | ours |
/// | `step_v` | ρ | 0.5; below 2/L_g² | ours |
/// | `lower_steps`, `v_steps` | N, T | 5, 10 | ours |
/// | `v_start` | – | zero | the paper |
/// | `tol` | – | none | ends the run when the prox-gradients in x and y and H(∇_y f − H v) are at most this |
///
/// # Cost
///
/// N `grad_y` of g, one gradient of f, 2T `hvp_yy`, one `jvp_xy`: three loops.
///
/// # Guarantee
///
/// Õ(1/ε) for |∇_x f − J v|², |H(∇_y f − H v)|² and g − min g together (recalled from the paper). Under a Lipschitz H the bound
/// on its smallest non-zero eigenvalue for all (x, y) forces strong convexity, which is why F. Huang's slides call the PŁ case
/// meaningless.
///
/// # Target
///
/// Selected: the measure does not contain the gradient of f along S(x). v stays in the range of H, so a singular H does it no
/// harm.
///
/// # Deviations
///
/// The published v starts at 0 at every step. Its direction squares H, so T has to grow with κ² log(1/ε): a cold start with
/// T = 10 leaves a large bias where a warm one (`v_start = "warm"`) has none. No released code is known.
///
/// # Source
///
/// Q. Xiao, S. Lu, T. Chen, *A Generalized Alternating Method for Bilevel Learning under the Polyak–Łojasiewicz Condition*,
/// NeurIPS 2023, arXiv 2306.02422.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Galet {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Steps N of y in each step.
    pub lower_steps: u64,
    /// Steps T of v in each step.
    pub v_steps: u64,
    /// Where v starts.
    pub v_start: VStart,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Galet {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            step_v: 0.5,
            lower_steps: 5,
            v_steps: 10,
            v_start: VStart::Zero,
            tol: None,
        }
    }
}

impl<P: Problem> Solver<P> for Galet
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = ImplicitState<P::X, P::Y>;
    const NAME: &'static str = "galet";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        at_least_one("lower_steps", self.lower_steps)?;
        at_least_one("v_steps", self.v_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _oracles: &Oracles<P>, x: P::X, y: P::Y, _seed: u64) -> OracleResult<Self::State> {
        Ok(ImplicitState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ImplicitState { x, y, v } = state;
        let by_y = descend_lower(oracles, x, y, (self.lower_steps, self.step_y), &mut Batches::full())?;

        let (f_x, f_y) = oracles.upper.grad(x, y, Sample::Full)?;
        if self.v_start == VStart::Zero {
            *v = y.zeros_like();
        }
        let mut by_v = 0.0;
        for _ in 0..self.v_steps {
            // v ← v + step_v H(∇_y f − H v)
            let residual = f_y.plus(-1.0, &oracles.lower.hvp_yy(x, y, v, Sample::Full)?);
            let ascent = oracles.lower.hvp_yy(x, y, &residual, Sample::Full)?;
            v.axpy(self.step_v, &ascent);
            by_v = ascent.norm();
        }

        let d = implicit_gradient(oracles, (x, y), f_x, v, Sample::Full)?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        Ok(report(&[by_x, by_y, by_v], self.tol, &[("lower_gradient", by_y), ("v_norm", v.norm())]))
    }
}

impl Registered for Galet {
    const CARD: Card = Card {
        title: "GALET",
        summary: "lower steps, then steepest descent on the residual of the linear system, then a step in x",
        paper: "arXiv 2306.02422",
        targets: &[HyperObjective::Selected],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        // the problems of the tests have lower Hessians of norm 10
        Self { step_y: 0.05, step_v: 0.005, ..Self::default() }
    }
}
