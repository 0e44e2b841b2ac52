//! BOME: a dynamic barrier chooses the weight of the value gap.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{
        Descent, GapGradient, Momentum, Variant, ZStart, at_least_one, descend_lower, dot_pair, fraction,
        positive, report, step_x, step_y, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// What the value gap must at least fall by in a step, to first order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Barrier {
    /// η|D|², D the gradient of the gap.
    GradNorm,
    /// η(g(x, y) − g(x, z)).
    ValueGap,
}

/// Descends f in (x, y) as far as the value gap g(x, y) − g(x, z) still falls.
///
/// # Problem
///
/// PŁ or local PŁ lower level, f and g smooth with bounded gradients; the measure is the KKT residual of the single-level form.
/// X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  z ← y (reset) or kept;   lower_steps times  z ← prox(z − step_z ∇_y g(x, z))
/// 2  D = (∇_x g(x, y) − ∇_x g(x, z), ∇_y g(x, y))
/// 3  b = η|D|²  (grad-norm)   or   η(g(x, y) − g(x, z))  (value-gap)
/// 4  λ = max(0, (b − ⟨∇f, D⟩)/(|D|² + floor))
/// 5  (x, y) ← prox((x, y) − step(∇f + λD))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_z` | α | 0.05 | toys of the released code |
/// | `step_x`, `step_y` | ξ | 0.05 | toys of the released code |
/// | `lower_steps` | T | 10 | released code |
/// | `eta` | η (flag u1) | 0.5 | released code |
/// | `floor` | – | 1e-8 | released code; one of its toys has 1e-4 |
/// | `variant` | – | library | sets the next four where they are not given |
/// | `z_start` | – | persistent; published and released: reset | |
/// | `barrier` | φ_k | grad-norm; released hyper-cleaning and 20newsgroups: value-gap | |
/// | `momentum` | – | 0; released hyper-cleaning: 0.9 on (x, y) | |
/// | `momentum_z` | – | 0; the released 20newsgroups grid: 0.9 | |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// T + 1 `grad_y` and 2 `grad_x` of g, one gradient of f, and 2 values of g for the value-gap barrier.
///
/// # Guarantee
///
/// O(ε^-1.5) gradients for PŁ and O(ε^-2) for local PŁ lower levels to a squared norm ε (as stated by the slides named below).
///
/// # Target
///
/// Penalised. λ settles near 2/(step_y λ_max(H)), the edge of stability of the step in y, so the accuracy floor is
/// proportional to the step.
///
/// # Deviations
///
/// Paper and released code reset z to y at every step. With T = 10 that bias outweighs the one of the penalty, and it does not
/// shrink with λ; z is kept unless `variant` or `z_start` asks for the reset. The released hyper-cleaning runs use the value-gap
/// barrier where the paper's default is the norm, and momentum 0.9 on x and y together, of which the paper says nothing:
/// `variant = "as-released"` does both. The momentum of z that one of its grids leaves on is a setting of its own. Here a buffer of
/// z lives for one loop.
///
/// # Source
///
/// B. Liu, M. Ye, S. Wright, P. Stone, Q. Liu, *BOME! Bilevel Optimization Made Easy*, NeurIPS 2022, arXiv 2209.08709; released
/// code Cranial-XIX/BOME. Rates: F. Huang, slides on HJFBiO, ICML 2024.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bome {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of z.
    pub step_z: f64,
    /// Steps T of z in each step.
    pub lower_steps: u64,
    /// Factor η of the barrier.
    pub eta: f64,
    /// Added to |D|² in the denominator of λ.
    pub floor: f64,
    /// Which text is run.
    pub variant: Variant,
    /// Where z starts; `None`: as the variant says.
    pub z_start: Option<ZStart>,
    /// The barrier; `None`: as the variant says.
    pub barrier: Option<Barrier>,
    /// Heavy-ball factor of x and y; `None`: as the variant says.
    pub momentum: Option<f64>,
    /// Heavy-ball factor of z.
    pub momentum_z: f64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Bome {
    fn default() -> Self {
        Self {
            step_x: 0.05,
            step_y: 0.05,
            step_z: 0.05,
            lower_steps: 10,
            eta: 0.5,
            floor: 1e-8,
            variant: Variant::Library,
            z_start: None,
            barrier: None,
            momentum: None,
            momentum_z: 0.0,
            tol: None,
        }
    }
}

impl Bome {
    /// Where z starts, after the variant.
    pub fn z_start(&self) -> ZStart {
        self.z_start.unwrap_or(match self.variant {
            Variant::Library => ZStart::Persistent,
            Variant::AsPublished | Variant::AsReleased => ZStart::Reset,
        })
    }
    /// The barrier, after the variant.
    pub fn barrier(&self) -> Barrier {
        self.barrier.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => Barrier::GradNorm,
            Variant::AsReleased => Barrier::ValueGap,
        })
    }
    /// Heavy-ball factor of x and y, after the variant.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => 0.0,
            Variant::AsReleased => 0.9,
        })
    }
}

/// State of [`Bome`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct BomeState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
    /// Lower iterate of g alone.
    pub z: Y,
    /// Momentum of x and y.
    buffer: Option<(X, Y)>,
}

impl<X: Vector, Y: Vector> State<X, Y> for BomeState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for Bome {
    type State = BomeState<P::X, P::Y>;
    const NAME: &'static str = "bome";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        positive("eta", self.eta)?;
        positive("floor", self.floor)?;
        fraction("momentum", self.momentum())?;
        fraction("momentum_z", self.momentum_z)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(BomeState { x, z: y.clone(), y, buffer: None })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let BomeState { x, y, z, buffer } = state;
        if self.z_start() == ZStart::Reset {
            z.clone_from(y);
        }
        let momentum =
            if self.momentum_z == 0.0 { Momentum::None } else { Momentum::HeavyBall(self.momentum_z) };
        let loop_z = Descent::plain(self.lower_steps, self.step_z).with(momentum);
        let by_z = descend_lower(oracles, x, z, loop_z)?;

        // D = (∇_x g(x, y) − ∇_x g(x, z), ∇_y g(x, y))
        let gradients = GapGradient::at(oracles, x, y, z)?;
        let squared = dot_pair(&gradients.gap, &gradients.gap);
        // b = η|D|² or η(g(x, y) − g(x, z))
        let barrier = self.eta
            * match self.barrier() {
                Barrier::GradNorm => squared,
                Barrier::ValueGap => {
                    oracles.lower.value(x, y, Sample::Full)? - oracles.lower.value(x, z, Sample::Full)?
                }
            };
        // λ = max(0, (b − ⟨∇f, D⟩)/(|D|² + floor))
        let slope = dot_pair(&gradients.upper, &gradients.gap);
        let lambda = ((barrier - slope) / (squared + self.floor)).max(0.0);

        // (x, y) ← (x, y) − step(∇f + λD)
        let (mut d_x, mut d_y) = gradients.combined(lambda);
        let momentum = self.momentum();
        if momentum > 0.0 {
            if let Some((b_x, b_y)) = buffer.as_ref() {
                d_x.axpy(momentum, b_x);
                d_y.axpy(momentum, b_y);
            }
            *buffer = Some((d_x.clone(), d_y.clone()));
        }
        let by_x = step_x(oracles, x, &d_x, self.step_x);
        let by_y = step_y(oracles, y, &d_y, self.step_y);
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", lambda)]))
    }
}

impl Registered for Bome {
    const CARD: Card = Card {
        title: "BOME",
        summary: "joint descent of f with a barrier that keeps the value gap falling",
        paper: "arXiv 2209.08709",
        targets: &[HyperObjective::Penalised],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerValue,
            Oracle::LowerGradX,
            Oracle::LowerGradY,
        ],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.01, step_z: 0.01, barrier: Some(Barrier::ValueGap), ..Self::default() }
    }
}
