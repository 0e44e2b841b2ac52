//! LancBiO: v on a Krylov space that grows by one vector a step.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{descend_lower, implicit_gradient},
    penalty::{Batches, at_least_one, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// What v is on the subspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubspaceSolve {
    /// The smallest residual |∇_y f − H v|, on a space inside the range of H: for singular H as well.
    #[default]
    LeastSquares,
    /// A residual orthogonal to the subspace, as published; for H positive definite.
    Galerkin,
}

/// Lanczos vectors of H kept across steps, restarted every so often.
///
/// # Problem
///
/// g(x, ·) strongly convex, or PŁ with `solve = "least-squares"`. X and Y may be constrained by their prox.
///
/// # Method
///
/// b = ∇_y f, everything at the new y.
///
/// ```text
/// 1  lower_steps times  y ← prox(y − step_y ∇_y g)
/// 2  when the subspace is full (restart):  v̄ ← v,  w̄ ← H v̄,  r ← b − w̄,  T empty,  β = 0
///    galerkin: q₁ ← r/|r|;   least-squares: q₁ ← H r/|H r|;   Q = [q₁]
/// 3  u ← H q − β q_prev,  α ← qᵀu;  T gains α and β;  ω ← u − αq,  β ← |ω|,  next q ← ω/β
/// 4  galerkin: T s = Qᵀ(b − w̄);   least-squares: min |T̄ s − Q̄ᵀ(b − w̄)|, with β and the next q appended;   v ← v̄ + Q s
/// 5  x ← prox(x − step_x(∇_x f − J v))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x`, `step_y` | λ, θ | 0.1, 0.1 | released hyper-cleaning: 500, 0.1 |
/// | `lower_steps` | – | 5 | released |
/// | `subspace` | m | 1 | released |
/// | `growth`, `growth_period`, `max_subspace` | – | 1.1, 20, 80 | released synthetic; cleaning 1.3, 50, 10 |
/// | `solve` | – | least-squares | ours; published galerkin |
/// | `tol` | – | none | ends the run when the prox-gradients in x and y are at most this |
///
/// # Cost
///
/// `lower_steps` `grad_y` of g, one `hvp_yy` and one more (two for least-squares) at a restart, one `jvp_xy`, one gradient of f.
///
/// # Guarantee
///
/// O(1/ε) steps to a squared norm ε (as stated by the paper), for strongly convex lower levels.
///
/// # Target
///
/// Selected.
///
/// # Deviations
///
/// T is singular when b − w̄ leaves the range of H, as it does on a PŁ lower level, and the solution of least residual then
/// gains a kernel part at every restart. The default starts the space at H(b − w̄) and takes the least residual on it, so
/// that v stays in the range (range-restricted MINRES, M. Hanke 1995). H moves while Q stays, so Q is a Krylov basis only approximately; a subspace that is invariant is restarted at once. The
/// warm-up of the released cleaning script (250 steps before the subspace grows) is not part of the method.
///
/// # Source
///
/// *LancBiO: dynamic Lanczos-aided bilevel optimization via Krylov subspace*, ICLR 2025, arXiv 2404.03331;
/// UCAS-YanYang/LancBiO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lancbio {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Steps of y in each step.
    pub lower_steps: u64,
    /// Dimension of the subspace at the start.
    pub subspace: u64,
    /// Factor by which the dimension grows.
    pub growth: f64,
    /// Steps from one growth to the next.
    pub growth_period: u64,
    /// Largest dimension.
    pub max_subspace: u64,
    /// What v is on the subspace.
    pub solve: SubspaceSolve,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Lancbio {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            lower_steps: 5,
            subspace: 1,
            growth: 1.1,
            growth_period: 20,
            max_subspace: 80,
            solve: SubspaceSolve::LeastSquares,
            tol: None,
        }
    }
}

/// The Krylov space since the last restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "Y: Vector")]
struct Krylov<Y> {
    /// v̄.
    from: Y,
    /// w̄.
    image: Y,
    /// Q and the next q.
    basis: Vec<Y>,
    /// Diagonal of T.
    alphas: Vec<f64>,
    /// What is beside it; the last one belongs to the next q.
    betas: Vec<f64>,
}

/// State of [`Lancbio`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct LancbioState<X, Y> {
    x: X,
    y: Y,
    v: Y,
    /// `None` when the next step restarts.
    krylov: Option<Krylov<Y>>,
    /// m, grown.
    subspace: f64,
    /// Largest entry of a T so far: entries far below are rounding.
    norm: f64,
    step: u64,
}

impl<X: Vector, Y: Vector> State<X, Y> for LancbioState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

/// Entries of T, and its singular values, below this multiple of the largest entry seen are zero.
const NEGLIGIBLE: f64 = 1e-10;

impl<Y: Vector> Krylov<Y> {
    /// s of line 4, in the coordinates of Q.
    fn solution(&self, b: &Y, solve: SubspaceSolve, cut: f64) -> DVector<f64> {
        let dim = self.alphas.len();
        let rows = match solve {
            SubspaceSolve::LeastSquares => self.basis.len().min(dim + 1),
            SubspaceSolve::Galerkin => dim,
        };
        let tridiagonal = DMatrix::from_fn(rows, dim, |i, j| match i.abs_diff(j) {
            0 => self.alphas[i],
            1 => self.betas[i.min(j)],
            _ => 0.0,
        });
        let residual = b.plus(-1.0, &self.image);
        let rhs = DVector::from_iterator(rows, self.basis.iter().take(rows).map(|q| q.dot(&residual)));
        // a singular value below the cut contributes nothing
        let svd = tridiagonal.svd(true, true);
        svd.solve(&rhs, cut).unwrap_or_else(|_| DVector::zeros(dim))
    }
}

impl<P: Problem> Solver<P> for Lancbio
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = LancbioState<P::X, P::Y>;
    const NAME: &'static str = "lancbio";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        at_least_one("lower_steps", self.lower_steps)?;
        at_least_one("subspace", self.subspace)?;
        ConfigError::require(
            self.growth >= 1.0 && self.growth.is_finite(),
            "growth",
            self.growth,
            "give 1 for a subspace of constant dimension, or more",
        )?;
        at_least_one("growth_period", self.growth_period)?;
        ConfigError::require(
            self.max_subspace >= self.subspace,
            "max_subspace",
            self.max_subspace,
            "the largest dimension is at least that of the start",
        )?;
        tolerance(self.tol)
    }

    fn init(&self, _oracles: &Oracles<P>, x: P::X, y: P::Y, _seed: u64) -> OracleResult<Self::State> {
        let v = y.zeros_like();
        Ok(LancbioState { x, y, v, krylov: None, subspace: self.subspace as f64, norm: 0.0, step: 0 })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let LancbioState { x, y, v, krylov, subspace, norm, step } = state;
        let by_y = descend_lower(oracles, x, y, (self.lower_steps, self.step_y), &mut Batches::full())?;
        let (f_x, b) = oracles.upper.grad(x, y, Sample::Full)?;

        let dim = subspace.floor();
        let mut space = if let Some(space) = krylov.take_if(|space| (space.alphas.len() as f64) < dim) {
            space
        } else {
            let image = oracles.lower.hvp_yy(x, y, v, Sample::Full)?;
            let mut first = b.plus(-1.0, &image);
            if self.solve == SubspaceSolve::LeastSquares {
                first = oracles.lower.hvp_yy(x, y, &first, Sample::Full)?;
            }
            let length = first.norm();
            if length > 0.0 {
                first.scale(length.recip());
            }
            Krylov { from: v.clone(), image, basis: vec![first], alphas: vec![], betas: vec![] }
        };

        // line 3
        let last = space.alphas.len();
        let q = &space.basis[last];
        let mut u = oracles.lower.hvp_yy(x, y, q, Sample::Full)?;
        if let Some(beta) = last.checked_sub(1).map(|i| space.betas[i]) {
            u.axpy(-beta, &space.basis[last - 1]);
        }
        let alpha = q.dot(&u);
        u.axpy(-alpha, q);
        let beta = u.norm();
        *norm = norm.max(alpha.abs()).max(beta);
        space.alphas.push(alpha);
        let is_invariant = beta <= NEGLIGIBLE * *norm;
        if !is_invariant {
            u.scale(beta.recip());
            space.betas.push(beta);
            space.basis.push(u);
        }

        // line 4
        let shares = space.solution(&b, self.solve, NEGLIGIBLE * *norm);
        v.clone_from(&space.from);
        for (share, q) in shares.iter().zip(&space.basis) {
            v.axpy(*share, q);
        }
        *krylov = (!is_invariant).then_some(space);

        let d = implicit_gradient(oracles, (x, y), f_x, v, Sample::Full)?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        *step += 1;
        if step.is_multiple_of(self.growth_period) {
            *subspace = (*subspace * self.growth).min(self.max_subspace as f64);
        }
        Ok(report(&[by_x, by_y], self.tol, &[("lower_gradient", by_y), ("v_norm", v.norm())]))
    }
}

impl Registered for Lancbio {
    const CARD: Card = Card {
        title: "LancBiO",
        summary: "v on a Krylov space of the lower Hessian that grows by one vector a step",
        paper: "arXiv 2404.03331",
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
        Self { step_y: 0.05, ..Self::default() }
    }
}
