//! Prox-F2BA: F2BA with proximal lower loops, for constraints on both variables.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{
        Batches, Descent, at_least_one, batch, descend, direction_x, follow, positive, report, step_x,
        tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem},
    vector::Vector,
};

/// F2BA whose lower loops solve proximal subproblems around slowly moving centres y and z.
///
/// # Problem
///
/// A proximal error bound near solutions of the lower level; X and Y closed convex, reached by their prox; Lipschitz Hessian of f.
/// With h_σ = σf + g, the value error of ψ_σ = (min h_σ − min g)/σ is O(σ/μ) and its gradient error O(σ/μ³).
///
/// # Method
///
/// ```text
/// 1  w_y ← y, w_z ← z;  lower_steps times
///        w_y ← Π_Y(w_y − step_y(σ∇_y f(x, w_y) + ∇_y g(x, w_y) + (w_y − y)/ρ))
///        w_z ← Π_Y(w_z − step_z(∇_y g(x, w_z) + (w_z − z)/ρ))
/// 2  x ← Π_X(x − (step_x/σ)(σ∇_x f(x, w_y) + ∇_x g(x, w_y) − ∇_x g(x, w_z)))
/// 3  y ← (1 − β)y + β w_y,   z ← (1 − β)z + β w_z
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `sigma` | σ = 1/λ | 0.1 | ours; the paper: Θ(ε) for |∇F| ≤ ε |
/// | `step_x` | α | 0.1 | ours |
/// | `step_y`, `step_z` | γ | 0.4 | ours; below 2/(L_g + 1/ρ) |
/// | `rho` | ρ | 1 | ours |
/// | `beta` | β | 0.5 | ours |
/// | `lower_steps` | T | 10 | ours |
/// | `batch`, `batch_x` | – | none: all terms | the paper's stochastic form |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// 2T `grad_y` and 2 `grad_x` of g, T `grad_y` and one `grad_x` of f.
///
/// # Guarantee
///
/// O(ε^-3) gradients to |∇F| ≤ ε, deterministic; O(ε^-7) stochastic; O(ε^-5) for the single-loop form with momentum, under mean-squared
/// smoothness. Public reviews report gaps in the proofs under constraints.
///
/// # Target
///
/// Penalised. The proximal terms vanish at a fixed point, which is that of F2BA with λ = 1/σ.
///
/// # Deviations
///
/// The single-loop form with momentum is [`ProxF2baSingleLoop`](super::prox_f2ba_single_loop::ProxF2baSingleLoop). No released code is
/// known.
///
/// # Source
///
/// J. Kwon, D. Kwon, S. Wright, R. Nowak, *On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic
/// Approximation*, ICLR 2024, arXiv 2309.01753.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxF2ba {
    /// σ = 1/λ.
    pub sigma: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of `w_y`.
    pub step_y: f64,
    /// Step of `w_z`.
    pub step_z: f64,
    /// Radius ρ of the proximal terms.
    pub rho: f64,
    /// Part β of the way that y and z follow.
    pub beta: f64,
    /// Lower steps T in each step.
    pub lower_steps: u64,
    /// Terms in a batch of the lower loops; `None`: all.
    pub batch: Option<u64>,
    /// Terms in a batch of the direction in x; `None`: all.
    pub batch_x: Option<u64>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for ProxF2ba {
    fn default() -> Self {
        Self {
            sigma: 0.1,
            step_x: 0.1,
            step_y: 0.4,
            step_z: 0.4,
            rho: 1.0,
            beta: 0.5,
            lower_steps: 10,
            batch: None,
            batch_x: None,
            tol: None,
        }
    }
}

/// State of [`ProxF2ba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct ProxF2baState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Centre of the loop on σf + g.
    pub y: Y,
    /// Centre of the loop on g.
    pub z: Y,
    batches: Batches,
    batches_x: Batches,
}

impl<X: Vector, Y: Vector> State<X, Y> for ProxF2baState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for ProxF2ba {
    type State = ProxF2baState<P::X, P::Y>;
    const NAME: &'static str = "prox-f2ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("sigma", self.sigma)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        positive("rho", self.rho)?;
        let remedy = "give a number above 0, at most 1";
        ConfigError::require(self.beta > 0.0 && self.beta <= 1.0, "beta", self.beta, remedy)?;
        at_least_one("lower_steps", self.lower_steps)?;
        batch("batch", self.batch)?;
        batch("batch_x", self.batch_x)?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        let batches_x = Batches::new(oracles, self.batch_x, seed, 1)?;
        Ok(ProxF2baState { x, z: y.clone(), y, batches, batches_x })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ProxF2baState { x, y, z, batches, batches_x } = state;
        let prox = |y: &mut P::Y, step: f64| oracles.prox_y(y, step);
        let weight = self.rho.recip();

        // the loop on σf + g + |· − y|²/2ρ
        let mut w_y = y.clone();
        let mut gradient = |w: &P::Y| {
            let mut gradient = oracles.lower.grad_y(x, w, batches.lower().sample())?;
            gradient.axpy(self.sigma, &oracles.upper.grad_y(x, w, batches.upper().sample())?);
            gradient.axpy(weight, w);
            gradient.axpy(-weight, y);
            Ok(gradient)
        };
        descend(&mut w_y, Descent::plain(self.lower_steps, self.step_y), &mut gradient, &prox)?;

        // the loop on g + |· − z|²/2ρ
        let mut w_z = z.clone();
        let mut gradient = |w: &P::Y| {
            let mut gradient = oracles.lower.grad_y(x, w, batches.lower().sample())?;
            gradient.axpy(weight, w);
            gradient.axpy(-weight, z);
            Ok(gradient)
        };
        descend(&mut w_z, Descent::plain(self.lower_steps, self.step_z), &mut gradient, &prox)?;

        // ∇_x f(x, w_y) + (∇_x g(x, w_y) − ∇_x g(x, w_z))/σ
        let (upper, lower) = (batches_x.upper(), batches_x.lower());
        let samples = (upper.sample(), lower.sample());
        let d = direction_x(oracles, x, (&w_y, &w_z), self.sigma.recip(), samples)?;
        let by_x = step_x(oracles, x, &d, self.step_x);

        // (w − centre)/ρ is the gradient of the Moreau envelope at the centre, as far as the loop has come
        let (by_y, by_z) = (weight * y.distance(&w_y), weight * z.distance(&w_z));
        follow(y, &w_y, self.beta);
        follow(z, &w_z, self.beta);
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.sigma.recip())]))
    }
}

impl Registered for ProxF2ba {
    const CARD: Card = Card {
        title: "Prox-F2BA",
        summary: "F2BA with proximal lower loops, for constraints on both variables",
        paper: "arXiv 2309.01753",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.02, step_z: 0.02, batch: Some(2), batch_x: Some(3), ..Self::default() }
    }
}
