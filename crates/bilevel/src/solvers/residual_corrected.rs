//! Residual-corrected implicit step: an implicit single-loop method that selects.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    implicit::{ImplicitState, implicit_gradient},
    penalty::{not_negative, positive, report, step_x, step_y, tolerance},
    registry::{Card, Claim, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// The residual of the linear system is the gradient of f along S(x): y descends along it.
///
/// # Problem
///
/// PŁ lower level (its cross derivative then lies in the range of H), f with a Lipschitz gradient; products with the second
/// derivatives of g, exact or by differences. X and Y may be constrained by their prox.
///
/// # Method
///
/// All right-hand sides at the old (x, y, v); v starts at 0.
///
/// ```text
/// 1  r = ∇_y f − H v
/// 2  x ← prox(x − step_x(∇_x f − J v))
/// 3  y ← prox(y − step_y ∇_y g − step_residual r)
/// 4  v ← v + step_v H r
/// ```
///
/// v solves min |∇_y f − H v| and stays in the range of H, so r tends to Π_k∇_y f, the Riemannian gradient of f on S(x). Line 3
/// is then a gradient step on f along S(x) and one back to S(x). At a fixed point ∇_y g = 0, Π_k∇_y f = 0, H v = ∇_y f and
/// ∇_x f = J v.
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x` | – | 0.1; about 1/L_F | ours |
/// | `step_y` | – | 0.5; below 2/L_g | ours |
/// | `step_v` | – | 0.5; below 2/L_g² | ours |
/// | `step_residual` | – | 0.2; below 2/L_f, 0 for the selected target | ours |
/// | `residual_from` | – | none: always | ours; line 3 uses r only where ∇_y g is at most this |
/// | `tol` | – | none | ends the run when the prox-gradients in x and y and H r are at most this |
///
/// # Cost
///
/// 2 `hvp_yy`, one `jvp_xy`, one `grad_y` of g, one gradient of f; by differences 5 `grad_y` and 2 `grad_x` of g.
///
/// # Guarantee
///
/// None proved. Local: it finds a local minimiser of f along S(x).
///
/// # Target
///
/// Optimistic without bias; selected when `step_residual` is 0.
///
/// # Deviations
///
/// None: this is its definition. Where H is indefinite, far from S(x), r does not tend to the part along S(x);
/// `residual_from` waits until y is near. Whether the construction is new has not been established.
///
/// # Source
///
/// This project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualCorrected {
    /// Step of x.
    pub step_x: f64,
    /// Step of y against ∇_y g.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Step of y against r.
    pub step_residual: f64,
    /// Norm of ∇_y g above which line 3 leaves r out.
    pub residual_from: Option<f64>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for ResidualCorrected {
    fn default() -> Self {
        Self { step_x: 0.1, step_y: 0.5, step_v: 0.5, step_residual: 0.2, residual_from: None, tol: None }
    }
}

impl<P: Problem> Solver<P> for ResidualCorrected
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = ImplicitState<P::X, P::Y>;
    const NAME: &'static str = "residual-corrected";

    fn target(&self) -> HyperObjective {
        if self.step_residual == 0.0 { HyperObjective::Selected } else { HyperObjective::Optimistic }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        not_negative("step_residual", self.step_residual)?;
        self.residual_from.map_or(Ok(()), |from| positive("residual_from", from))?;
        tolerance(self.tol)
    }

    fn init(&self, _oracles: &Oracles<P>, x: P::X, y: P::Y, _seed: u64) -> OracleResult<Self::State> {
        Ok(ImplicitState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ImplicitState { x, y, v } = state;
        let (f_x, mut r) = oracles.upper.grad(x, y, Sample::Full)?;
        r.axpy(-1.0, &oracles.lower.hvp_yy(x, y, v, Sample::Full)?);
        let d_x = implicit_gradient(oracles, (x, y), f_x, v, Sample::Full)?;
        let mut d_y = oracles.lower.grad_y(x, y, Sample::Full)?;
        let image = oracles.lower.hvp_yy(x, y, &r, Sample::Full)?;

        let lower_gradient = d_y.norm();
        if self.residual_from.is_none_or(|from| lower_gradient <= from) {
            // one step for both parts, so that the prox belongs to the whole
            d_y.axpy(self.step_residual / self.step_y, &r);
        }
        let by_x = step_x(oracles, x, &d_x, self.step_x);
        let by_y = step_y(oracles, y, &d_y, self.step_y);
        v.axpy(self.step_v, &image);
        let extras = [("lower_gradient", lower_gradient), ("residual", r.norm()), ("v_norm", v.norm())];
        Ok(report(&[by_x, by_y, image.norm()], self.tol, &extras))
    }
}

impl Registered for ResidualCorrected {
    const CARD: Card = Card {
        title: "residual-corrected implicit step",
        summary: "single-loop implicit method whose y descends f along S(x) by the residual of the linear system",
        paper: "this project",
        targets: &[HyperObjective::Optimistic, HyperObjective::Selected],
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
        Self { step_y: 0.05, step_v: 0.005, step_residual: 0.02, ..Self::default() }
    }
    fn claims() -> Vec<Claim<Self>> {
        // both lower Hessians have norms below 7; the limit has no bias, so what is left is what the steps leave
        let solver = Self { step_x: 0.02, step_y: 0.1, step_v: 0.02, step_residual: 0.1, ..Self::default() };
        ["R3", "R9"].map(|run| Claim { run, solver: solver.clone(), steps: 5_000, distance: 1e-8 }).into()
    }
}
