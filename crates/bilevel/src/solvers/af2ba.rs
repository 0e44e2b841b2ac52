//! AF2BA and A2F2BA (our reading): F2BA whose step sizes come from the gradients seen.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{at_least_one, direction_x, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// F2BA with AdaGrad-norm steps in all three variables and lower loops of variable length. **Our reading** of a paper without
/// released code, and to be called that in every report.
///
/// # Problem
///
/// g + σf is PŁ in y for 0 ≤ σ ≤ σ̄, f Lipschitz, Lipschitz gradients and Hessians. No constant of the problem has to be known.
///
/// # Method
///
/// ```text
/// 1  for u = z on g, and u = y on g + σf, until |∇| ≤ accuracy/(k + 1), at most max_lower_steps times:
///        a_u² ← a_u² + |∇|²,   u ← prox(u − ∇/a_u)
/// 2  d = ∇_x f(x, y) + (∇_x g(x, y) − ∇_x g(x, z))/σ
///    a_x² ← a_x² + |d|²,   x ← prox(x − d/a_x)
/// ```
///
/// With `accelerated` (A2F2BA) line 1 is Nesterov's method with step 1/L, restarted where it ascends; L is the largest ratio
/// |Δ∇|/|Δu| seen so far, at first of one probe.
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `sigma` | σ = 1/λ | 0.1 | ours; the paper: Θ(ε) for |∇F| ≤ ε |
/// | `accuracy` | – | 1 | ours |
/// | `max_lower_steps` | – | 1000 | ours |
/// | `initial` | `a_0` | 1 | ours, of all three sums |
/// | `accelerated` | – | false | |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// As F2BA with K of each loop what its accuracy asks for; a loop that has nothing to do costs one gradient. The first accelerated
/// loop of each lower variable costs one probe more.
///
/// # Guarantee
///
/// For the published methods O(ε^-2) steps to |∇F| ≤ ε, and Õ(ε^-2) first-order calls for A2F2BA.
///
/// # Target
///
/// Penalised, the limit of F2BA at λ = 1/σ.
///
/// # Deviations
///
/// The rule that ends the lower loops and the accelerated inner solver of the paper were not to be had: accuracy/(k + 1) and the
/// restarted method above are ours. The sums never forget, so a bad start makes steps small for good.
///
/// # Source
///
/// Shi, Du, Xiao, Jiang, arXiv 2512.24291.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Af2ba {
    /// σ = 1/λ.
    pub sigma: f64,
    /// Accuracy of the lower loops in the first step.
    pub accuracy: f64,
    /// Most steps of a lower loop.
    pub max_lower_steps: u64,
    /// First value of the three sums.
    pub initial: f64,
    /// Whether the lower loops are accelerated.
    pub accelerated: bool,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Af2ba {
    fn default() -> Self {
        Self { sigma: 0.1, accuracy: 1.0, max_lower_steps: 1000, initial: 1.0, accelerated: false, tol: None }
    }
}

/// A lower iterate with what has been learnt about its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tuned<Y> {
    y: Y,
    /// Σ|∇|².
    sum: f64,
    /// The largest |Δ∇|/|Δy| seen.
    smoothness: Option<f64>,
}

/// State of [`Af2ba`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct Af2baState<X, Y> {
    /// Upper iterate.
    pub x: X,
    y: Tuned<Y>,
    z: Tuned<Y>,
    sum_x: f64,
    step: u64,
}

impl<X: Vector, Y: Vector> State<X, Y> for Af2baState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y.y)
    }
}

type Gradient<'a, Y> = &'a mut dyn FnMut(&Y) -> OracleResult<Y>;

/// The point and the prox-gradient norm of one prox step.
fn trial<Y: Vector>(from: &Y, gradient: &Y, step: f64, prox: &dyn Fn(&mut Y, f64)) -> (Y, f64) {
    let mut next = from.plus(-step, gradient);
    prox(&mut next, step);
    let residual = from.distance(&next) / step;
    (next, residual)
}

impl<Y: Vector> Tuned<Y> {
    /// AdaGrad-norm steps until the prox-gradient is at most `accuracy`; returns its norm.
    fn descend(
        &mut self,
        (accuracy, steps): (f64, u64),
        gradient: Gradient<Y>,
        prox: &dyn Fn(&mut Y, f64),
    ) -> OracleResult<f64> {
        let mut residual = 0.0;
        for _ in 0..steps {
            let slope = gradient(&self.y)?;
            let sum = self.sum + slope.dot(&slope);
            let next;
            (next, residual) = trial(&self.y, &slope, sum.sqrt().recip(), prox);
            if residual <= accuracy {
                break;
            }
            (self.y, self.sum) = (next, sum);
        }
        Ok(residual)
    }

    /// Nesterov's method with a learnt smoothness and restarts, to the same accuracy.
    fn accelerate(
        &mut self,
        (accuracy, steps): (f64, u64),
        gradient: Gradient<Y>,
        prox: &dyn Fn(&mut Y, f64),
    ) -> OracleResult<f64> {
        let mut ahead = self.y.clone();
        let mut slope = gradient(&ahead)?;
        let mut t = 1.0_f64;
        let mut residual = slope.norm();
        for _ in 0..steps {
            let smoothness = match self.smoothness {
                Some(known) => known,
                None if residual == 0.0 => return Ok(0.0),
                None => {
                    // a probe one part in 10⁴ of the point's size away, far above rounding and below curvature
                    let probe = ahead.plus(-1e-4 * (1.0 + ahead.norm()) / slope.norm(), &slope);
                    let change = gradient(&probe)?.distance(&slope);
                    // a linear objective has no smoothness to learn: its gradient's norm makes a step of length 1
                    let ratio = change / probe.distance(&ahead);
                    if ratio > 0.0 { ratio } else { slope.norm() }
                }
            };
            self.smoothness = Some(smoothness);
            let next;
            (next, residual) = trial(&ahead, &slope, smoothness.recip(), prox);
            if residual <= accuracy {
                self.y = next;
                break;
            }
            let moved = next.plus(-1.0, &self.y);
            // restart where the step ascends
            let next_t = if slope.dot(&moved) > 0.0 { 1.0 } else { 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt()) };
            let momentum = if next_t == 1.0 { 0.0 } else { (t - 1.0) / next_t };
            let ahead_new = next.plus(momentum, &moved);
            let slope_new = gradient(&ahead_new)?;
            let distance = ahead_new.distance(&ahead);
            if distance > 0.0 {
                self.smoothness = Some(smoothness.max(slope_new.distance(&slope) / distance));
            }
            (self.y, ahead, slope, t) = (next, ahead_new, slope_new, next_t);
        }
        Ok(residual)
    }
}

impl<P: Problem> Solver<P> for Af2ba {
    type State = Af2baState<P::X, P::Y>;
    const NAME: &'static str = "af2ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("sigma", self.sigma)?;
        positive("accuracy", self.accuracy)?;
        at_least_one("max_lower_steps", self.max_lower_steps)?;
        positive("initial", self.initial)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        let sum = self.initial * self.initial;
        let tuned = Tuned { y, sum, smoothness: None };
        Ok(Af2baState { x, z: tuned.clone(), y: tuned, sum_x: sum, step: 0 })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let Af2baState { x, y, z, sum_x, step } = state;
        let prox = |y: &mut P::Y, step: f64| oracles.prox_y(y, step);
        let goal = (self.accuracy / (*step as f64 + 1.0), self.max_lower_steps);
        let mut lower = |z: &P::Y| oracles.lower.grad_y(x, z, Sample::Full);
        let mut shifted = |y: &P::Y| {
            let mut gradient = oracles.lower.grad_y(x, y, Sample::Full)?;
            gradient.axpy(self.sigma, &oracles.upper.grad_y(x, y, Sample::Full)?);
            Ok(gradient)
        };
        let (by_y, by_z) = if self.accelerated {
            (y.accelerate(goal, &mut shifted, &prox)?, z.accelerate(goal, &mut lower, &prox)?)
        } else {
            (y.descend(goal, &mut shifted, &prox)?, z.descend(goal, &mut lower, &prox)?)
        };

        let full = (Sample::Full, Sample::Full);
        let d = direction_x(oracles, x, (&y.y, &z.y), self.sigma.recip(), full)?;
        *sum_x += d.dot(&d);
        let step_size = sum_x.sqrt().recip();
        let by_x = step_x(oracles, x, &d, step_size);
        *step += 1;
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.sigma.recip()), ("step_x", step_size)]))
    }
}

impl Registered for Af2ba {
    const CARD: Card = Card {
        title: "AF2BA, A2F2BA (our reading)",
        summary: "F2BA with step sizes learnt from the gradients; lower loops to a falling accuracy",
        paper: "arXiv 2512.24291",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { max_lower_steps: 20, ..Self::default() }
    }
}
