//! Prox-F2BA in a single loop with recursive momentum.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{Batches, batch, direction_x, follow, positive, report, schedule, step_x, step_y},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    schedule::Schedule,
    vector::Vector,
};

/// Prox-F2BA with one lower step of each variable and STORM estimators of its three gradients.
///
/// # Problem
///
/// That of [`ProxF2ba`](super::prox_f2ba::ProxF2ba), with stochastic gradients that are smooth in the mean square.
///
/// # Method
///
/// Old iterates bear a minus; both gradients of a line are taken on one batch; η = 1 in the first step.
///
/// ```text
/// 1  d_y ← G_y(x, y) + (1 − η)(d_y − G_y(x⁻, y⁻)),   G_y = σ∇_y f + ∇_y g;      d_z likewise with ∇_y g at z
/// 2  w_y ← Π_Y(y − step_y d_y),   w_z ← Π_Y(z − step_z d_z)
/// 3  d_x ← G_x(x, w_y, w_z) + (1 − η)(d_x − G_x(x⁻, w_y⁻, w_z⁻)),   G_x = ∇_x f(x, w_y) + (∇_x g(x, w_y) − ∇_x g(x, w_z))/σ
/// 4  x ← Π_X(x − step_x d_x),   y ← (1 − β)y + β w_y,   z ← (1 − β)z + β w_z
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `sigma` | σ_k = 1/λ_k | 0.1 | ours; the paper lets it fall |
/// | `step_x` | α | 0.05 | ours |
/// | `step_y`, `step_z` | γ | 0.4 | ours; below 2/L_g |
/// | `beta` | β_k | 1 | ours; the paper lets it fall |
/// | `momentum` | η_k | 0.1 | ours; 1 is no momentum |
/// | `batch` | – | none: all terms | the estimators are then exact |
///
/// # Cost
///
/// 4 `grad_y` and 4 `grad_x` of g, 2 `grad_y` and 2 `grad_x` of f; half of that in the first step, and wherever η = 1.
///
/// # Guarantee
///
/// O(ε^-5) gradients to |∇F| ≤ ε for the published method.
///
/// # Target
///
/// Penalised, the limit of F2BA at λ = 1/σ while σ is constant.
///
/// # Deviations
///
/// The outline (one lower step, recursive momentum on three gradients, falling σ and β) is the paper's; its schedules, and at which
/// points the old gradients are taken, were not to be had and are this project's reading. With one lower step from the centre the
/// proximal term is zero, so there is no ρ. No released code is known.
///
/// # Source
///
/// J. Kwon, D. Kwon, S. Wright, R. Nowak, *On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic
/// Approximation*, ICLR 2024, arXiv 2309.01753.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxF2baSingleLoop {
    /// σ = 1/λ.
    pub sigma: Schedule,
    /// Step of x.
    pub step_x: Schedule,
    /// Step of y.
    pub step_y: f64,
    /// Step of z.
    pub step_z: f64,
    /// Part β of the way that y and z follow.
    pub beta: Schedule,
    /// Weight η of the new gradient in the estimators.
    pub momentum: Schedule,
    /// Terms in a batch; `None`: all.
    pub batch: Option<u64>,
}

impl Default for ProxF2baSingleLoop {
    fn default() -> Self {
        Self {
            sigma: 0.1.into(),
            step_x: 0.05.into(),
            step_y: 0.4,
            step_z: 0.4,
            beta: 1.0.into(),
            momentum: 0.1.into(),
            batch: None,
        }
    }
}

/// What line 1 and line 3 remember of the step before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Memory<X, Y> {
    x: X,
    y: Y,
    z: Y,
    w_y: Y,
    w_z: Y,
    d_x: X,
    d_y: Y,
    d_z: Y,
}

/// State of [`ProxF2baSingleLoop`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct ProxF2baSingleLoopState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Centre of the steps on σf + g.
    pub y: Y,
    /// Centre of the steps on g.
    pub z: Y,
    memory: Option<Memory<X, Y>>,
    step: u64,
    batches: Batches,
}

impl<X: Vector, Y: Vector> State<X, Y> for ProxF2baSingleLoopState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

/// new + (1 − η)(estimate − gradient), the last two from the memory; its gradient is asked for only where it counts.
fn storm<M, V: Vector>(
    mut new: V,
    eta: f64,
    memory: Option<&M>,
    estimate: impl FnOnce(&M) -> &V,
    gradient: impl FnOnce(&M) -> OracleResult<V>,
) -> OracleResult<V> {
    if let Some(memory) = memory.filter(|_| eta < 1.0) {
        new.axpy(1.0 - eta, estimate(memory));
        new.axpy(eta - 1.0, &gradient(memory)?);
    }
    Ok(new)
}

impl<P: Problem> Solver<P> for ProxF2baSingleLoop {
    type State = ProxF2baSingleLoopState<P::X, P::Y>;
    const NAME: &'static str = "prox-f2ba-single-loop";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        schedule("sigma", self.sigma)?;
        schedule("step_x", self.step_x)?;
        schedule("beta", self.beta)?;
        schedule("momentum", self.momentum)?;
        let remedy = "give a number above 0, at most 1";
        for (field, values) in [("beta", self.beta), ("momentum", self.momentum)] {
            ConfigError::require(values.largest() <= 1.0, field, values.largest(), remedy)?;
        }
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        batch("batch", self.batch)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        Ok(ProxF2baSingleLoopState { x, z: y.clone(), y, memory: None, step: 0, batches })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ProxF2baSingleLoopState { x, y, z, memory, step, batches } = state;
        let (sigma, eta) = (self.sigma.at(*step), self.momentum.at(*step));
        let old = memory.as_ref();

        // the estimate of σ∇_y f + ∇_y g at (x, y)
        let (upper, lower) = (batches.upper(), batches.lower());
        let shifted = |x: &P::X, y: &P::Y| {
            let mut gradient = oracles.lower.grad_y(x, y, lower.sample())?;
            gradient.axpy(sigma, &oracles.upper.grad_y(x, y, upper.sample())?);
            Ok(gradient)
        };
        let d_y = storm(shifted(x, y)?, eta, old, |m| &m.d_y, |m| shifted(&m.x, &m.y))?;

        // the estimate of ∇_y g at (x, z)
        let lower = batches.lower();
        let plain = |x: &P::X, z: &P::Y| oracles.lower.grad_y(x, z, lower.sample());
        let d_z = storm(plain(x, z)?, eta, old, |m| &m.d_z, |m| plain(&m.x, &m.z))?;

        let (mut w_y, mut w_z) = (y.clone(), z.clone());
        let by_y = step_y(oracles, &mut w_y, &d_y, self.step_y);
        let by_z = step_y(oracles, &mut w_z, &d_z, self.step_z);

        // the estimate of ∇_x f + (∇_x g(x, w_y) − ∇_x g(x, w_z))/σ
        let (upper, lower) = (batches.upper(), batches.lower());
        let samples: (Sample, Sample) = (upper.sample(), lower.sample());
        let across =
            |x: &P::X, w_y: &P::Y, w_z: &P::Y| direction_x(oracles, x, (w_y, w_z), sigma.recip(), samples);
        let d_x = storm(across(x, &w_y, &w_z)?, eta, old, |m| &m.d_x, |m| across(&m.x, &m.w_y, &m.w_z))?;

        let (old_x, old_y, old_z) = (x.clone(), y.clone(), z.clone());
        let by_x = step_x(oracles, x, &d_x, self.step_x.at(*step));
        let beta = self.beta.at(*step);
        follow(y, &w_y, beta);
        follow(z, &w_z, beta);
        *memory = Some(Memory { x: old_x, y: old_y, z: old_z, w_y, w_z, d_x, d_y, d_z });
        *step += 1;
        Ok(report(&[by_x, by_y, by_z], None, &[("lambda", sigma.recip())]))
    }
}

impl Registered for ProxF2baSingleLoop {
    const CARD: Card = Card {
        title: "Prox-F2BA, single loop (our reading)",
        summary: "Prox-F2BA with one lower step and recursive momentum on its three gradients",
        paper: "arXiv 2309.01753",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01.into(), step_y: 0.02, step_z: 0.02, batch: Some(2), ..Self::default() }
    }
}
