//! V-PBGD: joint gradient descent on f plus a weighted value gap.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    penalty::{
        Descent, GapGradient, LambdaSchedule, PairState, Variant, ZStart, at_least_one, descend_lower,
        positive, report, step_x, step_y, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::Problem,
};

/// Penalty-based gradient descent with the value gap g − min g as penalty.
///
/// # Problem
///
/// PŁ lower level, f and g smooth. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  z ← y (reset) or kept;   lower_steps times  z ← prox(z − step_z ∇_y g(x, z))
/// 2  (x, y) ← prox((x, y) − step(∇f + λ_k[∇g(x, y) − (∇_x g(x, z), 0)]))
/// ```
///
/// λ_k is constant, or rises in a line from 0 to `lambda` over `ramp_steps`; with `scale_loss` both steps are multiplied by
/// min(1/λ_k, 1).
///
/// # Parameters
///
/// | field | symbol | default (as published) | as released, hyper-cleaning, linear / MLP |
/// |---|---|---|---|
/// | `lambda` | γ | 10; the paper: Θ(δ^(-1/2)) for accuracy δ | 0.2 / 0.1 |
/// | `step_x`, `step_y` | α | 0.05; the paper: 1/(L_f + γ(2L_g + L_g²μ)) | 0.1, 0.1 / 0.1, 0.01 |
/// | `step_z` | β | 0.5; the paper: 1/L_g | 0.01 / 0.01 |
/// | `lower_steps` | T | 1; the paper: Θ(log(αγk)) | 1 |
/// | `ramp_steps` | – | 30000, used by the ramp alone | 30000 / 10000 |
/// | `variant` | – | library | sets the next three where they are not given |
/// | `z_start` | ω | persistent; published: reset | persistent |
/// | `schedule` | – | constant | ramp |
/// | `scale_loss` | – | false | true |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// T + 1 `grad_y` and 2 `grad_x` of g, one gradient of f.
///
/// # Guarantee
///
/// Õ(ε^-1.5) gradients to a squared norm ε for PŁ and local PŁ lower levels (as stated by the slides named below). The paper's
/// "1/μ-PŁ" is |∇g|² ≥ (1/μ)(g − min g): its μ is the reciprocal of the usual one.
///
/// # Target
///
/// Penalised, bias O(1/λ). With a persistent z the limit is that of F2BA at the same λ.
///
/// # Deviations
///
/// The paper resets z; the released code keeps it, and so does the default. As released λ starts at 0, so that training is on f
/// alone at first, and ends below 1, which no theorem of the paper covers: `variant = "as-released"`. The released script of the
/// toy problem has a wrong ∂f/∂x: [`ToyGradient`](crate::problems::pbgd_toy::ToyGradient).
///
/// # Source
///
/// H. Shen, T. Chen, *On Penalty-based Bilevel Gradient Descent Method*, ICML 2023, arXiv 2302.05185; released code
/// hanshen95/penalized-bilevel-gradient-descent. Rates: F. Huang, slides on HJFBiO, ICML 2024.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VPbgd {
    /// Weight λ of the value gap, at the end of the ramp where there is one.
    pub lambda: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of z.
    pub step_z: f64,
    /// Steps T of z in each step.
    pub lower_steps: u64,
    /// Steps in which the ramp reaches `lambda`.
    pub ramp_steps: u64,
    /// Which text is run.
    pub variant: Variant,
    /// Where z starts; `None`: as the variant says.
    pub z_start: Option<ZStart>,
    /// How λ comes to its value; `None`: as the variant says.
    pub schedule: Option<LambdaSchedule>,
    /// Whether steps are multiplied by min(1/λ, 1); `None`: as the variant says.
    pub scale_loss: Option<bool>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for VPbgd {
    fn default() -> Self {
        Self {
            lambda: 10.0,
            step_x: 0.05,
            step_y: 0.05,
            step_z: 0.5,
            lower_steps: 1,
            ramp_steps: 30_000,
            variant: Variant::Library,
            z_start: None,
            schedule: None,
            scale_loss: None,
            tol: None,
        }
    }
}

impl VPbgd {
    /// Where z starts, after the variant.
    pub fn z_start(&self) -> ZStart {
        self.z_start.unwrap_or(match self.variant {
            Variant::Library | Variant::AsReleased => ZStart::Persistent,
            Variant::AsPublished => ZStart::Reset,
        })
    }
    /// How λ comes to its value, after the variant.
    pub fn schedule(&self) -> LambdaSchedule {
        self.schedule.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => LambdaSchedule::Constant,
            Variant::AsReleased => LambdaSchedule::Ramp,
        })
    }
    /// Whether steps are multiplied by min(1/λ, 1), after the variant.
    pub fn scale_loss(&self) -> bool {
        self.scale_loss.unwrap_or(self.variant == Variant::AsReleased)
    }
}

impl<P: Problem> Solver<P> for VPbgd {
    type State = PairState<P::X, P::Y>;
    const NAME: &'static str = "v-pbgd";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        at_least_one("ramp_steps", self.ramp_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(PairState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        state.start_z(self.z_start());
        let PairState { x, y, z, step } = state;
        let lambda = self.schedule().at(self.lambda, self.ramp_steps, *step);
        let by_z = descend_lower(oracles, x, z, Descent::plain(self.lower_steps, self.step_z))?;

        // ∇f + λ(∇g(x, y) − (∇_x g(x, z), 0))
        let (d_x, d_y) = GapGradient::at(oracles, x, y, z)?.combined(lambda);
        let scale = if self.scale_loss() { lambda.max(1.0).recip() } else { 1.0 };
        let by_x = step_x(oracles, x, &d_x, scale * self.step_x);
        let by_y = step_y(oracles, y, &d_y, scale * self.step_y);
        *step += 1;
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", lambda)]))
    }
}

impl Registered for VPbgd {
    const CARD: Card = Card {
        title: "V-PBGD",
        summary: "joint descent of f + λ(g − min g), λ constant or rising",
        paper: "arXiv 2302.05185",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.005, step_y: 0.005, step_z: 0.02, ..Self::default() }
    }
}
