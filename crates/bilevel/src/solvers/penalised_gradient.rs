//! The penalised-gradient template: one joint gradient step on f + λ(g − min g).

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    penalty::{
        Descent, GapGradient, PairState, ZStart, at_least_one, descend_lower, positive, report, step_x,
        step_y, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::Problem,
};

/// Descends f + λ(g − min g) in (x, y) together, with min g taken at a second lower iterate z.
///
/// # Problem
///
/// min f subject to g − min_y g ≤ 0; g(x, ·) convex or nonconvex, f and g smooth. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  z ← y (reset) or kept;   lower_steps times  z ← prox(z − step_z ∇_y g(x, z))
/// 2  x ← prox(x − step_x(∇_x f + λ[∇_x g(x, y) − ∇_x g(x, z)]))
///    y ← prox(y − step_y(∇_y f + λ ∇_y g(x, y)))                       both from the old (x, y)
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `lambda` | α_k | 10 | ours |
/// | `step_x`, `step_y` | λ (one for both) | 0.05 | ours; both below 2/(λ L_g) |
/// | `step_z` | γ | 0.5 | ours; below 2/L_g |
/// | `lower_steps` | T | 10 | ours |
/// | `z_start` | – | persistent | ours; the template resets |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// T + 1 `grad_y` and 2 `grad_x` of g, one gradient of f.
///
/// # Guarantee
///
/// None by itself; BOME and V-PBGD are this template with a rule for λ.
///
/// # Target
///
/// Penalised: the optimistic hyper-objective with a bias O(1/λ), to a local minimiser of f along S(x). Where z is reset the
/// bias of its unfinished loop comes on top, and does not vanish with λ.
///
/// # Deviations
///
/// z is kept between steps unless `z_start = "reset"`. One step size for both variables must be below about 1/(λ L_g) although x
/// needs only 1/L_F, so the two are separate settings; equal values are the template.
///
/// # Source
///
/// F. Huang, slides on HJFBiO, ICML 2024, after BOME and V-PBGD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PenalisedGradient {
    /// Weight λ of the value gap.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of z.
    pub step_z: f64,
    /// Steps T of z in each step.
    pub lower_steps: u64,
    /// Where z starts.
    pub z_start: ZStart,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for PenalisedGradient {
    fn default() -> Self {
        Self {
            lambda: 10.0,
            step_x: 0.05,
            step_y: 0.05,
            step_z: 0.5,
            lower_steps: 10,
            z_start: ZStart::Persistent,
            tol: None,
        }
    }
}

impl<P: Problem> Solver<P> for PenalisedGradient {
    type State = PairState<P::X, P::Y>;
    const NAME: &'static str = "penalised-gradient";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(PairState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        state.start_z(self.z_start);
        let PairState { x, y, z, step } = state;
        let loop_z = Descent::plain(self.lower_steps, self.step_z);
        let by_z = descend_lower(oracles, x, z, loop_z)?;

        // ∇f + λ(∇g(x, y) − (∇_x g(x, z), 0))
        let (d_x, d_y) = GapGradient::at(oracles, x, y, z)?.combined(self.lambda);
        let by_x = step_x(oracles, x, &d_x, self.step_x);
        let by_y = step_y(oracles, y, &d_y, self.step_y);
        *step += 1;
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.lambda)]))
    }
}

impl Registered for PenalisedGradient {
    const CARD: Card = Card {
        title: "penalised-gradient template",
        summary: "joint descent of f + λ(g − min g) in (x, y)",
        paper: "slides on HJFBiO (arXiv 2407.17823), after BOME and V-PBGD",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.005, step_y: 0.005, step_z: 0.02, ..Self::default() }
    }
}
