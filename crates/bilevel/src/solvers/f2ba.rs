//! F2BA: first derivatives only, on two time scales.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{
        Batches, Descent, LowerGradient, TwoLoops, Variant, ZStart, at_least_one, batch, direction_x,
        positive, report, step_x, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::Problem,
    vector::Vector,
};

/// Descends min_y (f + λg) − λ min_y g in x, both minima followed by lower loops whose steps do not depend on λ.
///
/// # Problem
///
/// g + σf is PŁ in y for 0 ≤ σ ≤ σ̄, f Lipschitz in y, Lipschitz Hessians of f and g. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  lower_steps times  z ← prox(z − step_z ∇_y g(x, z)),   y ← prox(y − step_y(∇_y f(x, y)/λ + ∇_y g(x, y)))
/// 2  x ← prox(x − step_x(∇_x f(x, y) + λ[∇_x g(x, y) − ∇_x g(x, z)]))
/// ```
///
/// F2BSA, its stochastic form, is the same on batches: `batch` in line 1, `batch_x` in line 2.
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `lambda` | λ = 1/σ | 10 | tests; the paper: Θ(1/ε) for |∇F| ≤ ε |
/// | `step_z` | α | 0.5 | ours; the paper: Θ(1/L_g) |
/// | `step_y` | λτ | 0.5 | ours; the paper's τ multiplies the gradient of f + λg |
/// | `step_x` | η | 0.1 | ours; the paper: Θ(1/L_F), independent of λ |
/// | `lower_steps` | K | 10 | tests; the paper: O(κ log(1/ε)) |
/// | `variant` | – | library | sets the next two where they are not given |
/// | `z_start` | – | persistent; released: reset | |
/// | `lower_gradient` | – | at-y; released: at-z | |
/// | `batch`, `batch_x` | – | none: all terms | F2BSA |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// 2K `grad_y` and 2 `grad_x` of g, K `grad_y` and one `grad_x` of f. With `at-z` K `grad_y` of g.
///
/// # Guarantee
///
/// Õ(ε^-2) gradients to |∇F| ≤ ε, deterministic; Õ(ε^-4) with noise in f alone, Õ(ε^-6) with noise in both.
///
/// # Target
///
/// Penalised. For quadratics the limit is exactly the stationary point of f + λ(g − min g) over y, a bias O(1/λ).
///
/// # Deviations
///
/// In the authors' released `l2reg.py` the loop of y adds ∇_y g taken at z, so that y − z drifts along −∇_y f instead of
/// contracting. The paper is right and the code is wrong: on problems with a closed form the code ends at a gradient ten times the
/// bias of the penalty, and larger λ does not help. The code also resets z to y at every step, the paper keeps both.
/// `variant = "as-released"` does both, to redo its curves; the published and the library variant are the same.
/// Errors of y and z enter x multiplied by λ, so K must grow with λ.
///
/// # Source
///
/// L. Chen, J. Xu, J. Zhang, *On Finding Small Hyper-Gradients in Bilevel Optimization*, COLT 2024, arXiv 2301.00712;
/// L. Chen, Y. Ma, J. Zhang, *Near-Optimal Nonconvex-Strongly-Convex Bilevel Optimization with Fully First-Order Oracles*, JMLR
/// 2025, arXiv 2306.14853; released code TrueNobility303/F2BA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct F2ba {
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
    /// Which text is run.
    pub variant: Variant,
    /// Where z starts; `None`: as the variant says.
    pub z_start: Option<ZStart>,
    /// Where the loop of y takes ∇_y g; `None`: as the variant says.
    pub lower_gradient: Option<LowerGradient>,
    /// Terms in a batch of the lower loops; `None`: all.
    pub batch: Option<u64>,
    /// Terms in a batch of the direction in x; `None`: all.
    pub batch_x: Option<u64>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for F2ba {
    fn default() -> Self {
        Self {
            lambda: 10.0,
            step_x: 0.1,
            step_y: 0.5,
            step_z: 0.5,
            lower_steps: 10,
            variant: Variant::Library,
            z_start: None,
            lower_gradient: None,
            batch: None,
            batch_x: None,
            tol: None,
        }
    }
}

impl F2ba {
    /// Where z starts, after the variant.
    pub fn z_start(&self) -> ZStart {
        self.z_start.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => ZStart::Persistent,
            Variant::AsReleased => ZStart::Reset,
        })
    }
    /// Where the loop of y takes ∇_y g, after the variant.
    pub fn lower_gradient(&self) -> LowerGradient {
        self.lower_gradient.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => LowerGradient::AtY,
            Variant::AsReleased => LowerGradient::AtZ,
        })
    }
}

/// State of [`F2ba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct F2baState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate of f + λg.
    pub y: Y,
    /// Lower iterate of g alone.
    pub z: Y,
    batches: Batches,
    batches_x: Batches,
}

impl<X: Vector, Y: Vector> State<X, Y> for F2baState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for F2ba {
    type State = F2baState<P::X, P::Y>;
    const NAME: &'static str = "f2ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("lambda", self.lambda)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        batch("batch", self.batch)?;
        batch("batch_x", self.batch_x)?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        let batches_x = Batches::new(oracles, self.batch_x, seed, 1)?;
        Ok(F2baState { x, z: y.clone(), y, batches, batches_x })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let F2baState { x, y, z, batches, batches_x } = state;
        if self.z_start() == ZStart::Reset {
            z.clone_from(y);
        }
        let loops = TwoLoops {
            lambda: self.lambda,
            y: Descent::plain(self.lower_steps, self.step_y),
            z: Descent::plain(self.lower_steps, self.step_z),
            lower_gradient: self.lower_gradient(),
        };
        let (by_y, by_z) = loops.run(oracles, x, (&mut *y, &mut *z), batches)?;

        let (upper, lower) = (batches_x.upper(), batches_x.lower());
        let d = direction_x(oracles, x, (&*y, &*z), self.lambda, (upper.sample(), lower.sample()))?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", self.lambda)]))
    }
}

impl Registered for F2ba {
    const CARD: Card = Card {
        title: "F2BA, F2BSA",
        summary: "first derivatives on two time scales: y on f + λg, z on g, x on their difference",
        paper: "arXiv 2301.00712, 2306.14853",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.02, step_z: 0.02, batch: Some(2), batch_x: Some(3), ..Self::default() }
    }
}
