//! AccF2BA and AccF2BA⁺: F2BA with restarted Nesterov momentum on x.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    f2ba::F2ba,
    penalty::{
        Batches, Descent, LowerGradient, Momentum, TwoLoops, Variant, ZStart, at_least_one, direction_x,
        fraction, positive, report, step_x, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Problem, Sample},
    vector::Vector,
};

/// F2BA with Nesterov momentum on x, restarted when x has moved far since the last restart.
///
/// # Problem
///
/// That of [`F2ba`].
///
/// # Method
///
/// ```text
/// 1  w = x + m(x − the previous x)
/// 2  the lower loops of F2BA at w (with Nesterov momentum in them: AccF2BA⁺)
/// 3  x ← prox(w − step_x(∇_x f(w, y) + λ[∇_x g(w, y) − ∇_x g(w, z)]))
/// 4  count += 1, sum += |Δx|²;  if count·sum > max(B, B_0)²:  count, sum, momentum ← 0,  B ← c·B
/// ```
///
/// # Parameters
///
/// Those of [`F2ba`] without batches, and
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `momentum` | m | 0.9 | released code |
/// | `restart` | B | 10 | released code |
/// | `restart_floor` | B_0 | 0.1 | released code |
/// | `restart_decay` | c | 0.99 | released code |
/// | `lower_momentum` | – | 0; AccF2BA⁺: 0.5 | released code |
///
/// # Cost
///
/// 2K `grad_y` and 2 `grad_x` of g, K `grad_y` and one `grad_x` of f.
///
/// # Guarantee
///
/// O(κ^3.5 ε^-2) gradients to |∇F| ≤ ε with accelerated lower loops is what is known; the momentum on x is a heuristic here.
///
/// # Target
///
/// Penalised, the limit of [`F2ba`].
///
/// # Deviations
///
/// The released code takes the gradient of g in the loop of y at z, and resets z: `variant = "as-released"`, wrong for the reason
/// given at [`F2ba`]. B falls at restarts alone, as released.
///
/// # Source
///
/// arXiv 2511.22331; released code TrueNobility303/F2BA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccF2ba {
    /// Weight λ of the value gap.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y on g + f/λ.
    pub step_y: f64,
    /// Step of z on g.
    pub step_z: f64,
    /// Steps K of y and z in each step.
    pub lower_steps: u64,
    /// Momentum m of x.
    pub momentum: f64,
    /// First threshold B of a restart.
    pub restart: f64,
    /// Least threshold B_0 of a restart.
    pub restart_floor: f64,
    /// Factor c of B at every restart.
    pub restart_decay: f64,
    /// Nesterov momentum of both lower loops; 0 for AccF2BA.
    pub lower_momentum: f64,
    /// Which text is run.
    pub variant: Variant,
    /// Where z starts; `None`: as the variant says.
    pub z_start: Option<ZStart>,
    /// Where the loop of y takes ∇_y g; `None`: as the variant says.
    pub lower_gradient: Option<LowerGradient>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for AccF2ba {
    fn default() -> Self {
        let F2ba {
            lambda, step_x, step_y, step_z, lower_steps, variant, z_start, lower_gradient, tol, ..
        } = F2ba::default();
        Self {
            lambda,
            step_x,
            step_y,
            step_z,
            lower_steps,
            momentum: 0.9,
            restart: 10.0,
            restart_floor: 0.1,
            restart_decay: 0.99,
            lower_momentum: 0.0,
            variant,
            z_start,
            lower_gradient,
            tol,
        }
    }
}

impl AccF2ba {
    /// AccF2BA⁺: momentum 0.5 in the lower loops too.
    pub fn plus() -> Self {
        Self { lower_momentum: 0.5, ..Self::default() }
    }
    /// The switches after the variant: where z starts, and where the loop of y takes ∇_y g.
    fn switches(&self) -> (ZStart, LowerGradient) {
        let Self { variant, z_start, lower_gradient, .. } = *self;
        let plain = F2ba { variant, z_start, lower_gradient, ..F2ba::default() };
        (plain.z_start(), plain.lower_gradient())
    }
}

/// State of [`AccF2ba`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct AccF2baState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate of f + λg.
    pub y: Y,
    /// Lower iterate of g alone.
    pub z: Y,
    /// The x before; `None` right after a restart.
    previous: Option<X>,
    /// Steps since the last restart.
    count: u64,
    /// Σ|Δx|² since the last restart.
    sum: f64,
    /// B.
    restart: f64,
}

impl<X: Vector, Y: Vector> State<X, Y> for AccF2baState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for AccF2ba {
    type State = AccF2baState<P::X, P::Y>;
    const NAME: &'static str = "acc-f2ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        fraction("momentum", self.momentum)?;
        positive("restart", self.restart)?;
        positive("restart_floor", self.restart_floor)?;
        let remedy = "give a number above 0, at most 1";
        let decay = self.restart_decay;
        ConfigError::require(decay > 0.0 && decay <= 1.0, "restart_decay", decay, remedy)?;
        fraction("lower_momentum", self.lower_momentum)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        let restart = self.restart;
        Ok(AccF2baState { x, z: y.clone(), y, previous: None, count: 0, sum: 0.0, restart })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let (z_start, lower_gradient) = self.switches();
        let AccF2baState { x, y, z, previous, count, sum, restart } = state;
        if z_start == ZStart::Reset {
            z.clone_from(y);
        }
        // w = x + m(x − the previous x)
        let mut w = x.clone();
        if let Some(previous) = previous.as_ref() {
            w.axpy(self.momentum, x);
            w.axpy(-self.momentum, previous);
        }
        let momentum =
            if self.lower_momentum == 0.0 { Momentum::None } else { Momentum::Nesterov(self.lower_momentum) };
        let loops = TwoLoops {
            lambda: self.lambda,
            y: Descent::plain(self.lower_steps, self.step_y).with(momentum),
            z: Descent::plain(self.lower_steps, self.step_z).with(momentum),
            lower_gradient,
        };
        let (by_y, by_z) = loops.run(oracles, &w, (&mut *y, &mut *z), &mut Batches::full())?;

        let d = direction_x(oracles, &w, (&*y, &*z), self.lambda, (Sample::Full, Sample::Full))?;
        let by_x = step_x(oracles, &mut w, &d, self.step_x);
        let old = std::mem::replace(x, w);

        // count·Σ|Δx|² > max(B, B_0)²: restart
        *count += 1;
        *sum += old.distance(x).powi(2);
        let has_moved_far = *count as f64 * *sum > restart.max(self.restart_floor).powi(2);
        *previous = if has_moved_far { None } else { Some(old) };
        if has_moved_far {
            (*count, *sum) = (0, 0.0);
            *restart *= self.restart_decay;
        }
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.lambda), ("restart", *restart)]))
    }
}

impl Registered for AccF2ba {
    const CARD: Card = Card {
        title: "AccF2BA",
        summary: "F2BA with restarted Nesterov momentum on x, in the lower loops too on request",
        paper: "arXiv 2511.22331",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.02, step_z: 0.02, ..Self::default() }
    }
}
