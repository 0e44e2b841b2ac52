//! SubBiO: v on a plane made of ∇_y f and a gradient step of the old v.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    implicit::{ImplicitState, descend_lower, implicit_gradient},
    lancbio::SubspaceSolve,
    penalty::{Batches, at_least_one, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// The best v of a two-dimensional space, anew at every step.
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
/// 2  galerkin:       v ← the v of span{b, v − step_v H v} with b − H v orthogonal to it
///    least-squares:  v ← the v of span{H b, v − step_v H²v} of least |b − H v|
/// 3  x ← prox(x − step_x(∇_x f − J v))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x`, `step_y` | λ, θ | 0.1, 0.1 | released hyper-cleaning: 500, 0.1 |
/// | `step_v` | η | 0.5; below 2/L_g, for least-squares below 2/L_g² | ours |
/// | `lower_steps` | – | 5 | released |
/// | `solve` | – | least-squares | ours; published galerkin |
/// | `tol` | – | none | ends the run when the prox-gradients in x and y are at most this |
///
/// # Cost
///
/// `lower_steps` `grad_y` of g, 3 `hvp_yy` (5 for least-squares; one fewer while v = 0), one `jvp_xy`, one gradient of f.
///
/// # Guarantee
///
/// None known here beyond that of LancBiO.
///
/// # Target
///
/// Selected.
///
/// # Deviations
///
/// On a singular H the Galerkin condition couples the range to the part of b outside it, and its limit is biased. The default
/// applies the method to H²v = H b: the plane stays in the range, and H⁺b is a fixed point. The released synthetic script takes its Hessian product at (x, v) in place of (x, y),
/// which is a slip and is not offered.
///
/// # Source
///
/// As LancBiO: ICLR 2025, arXiv 2404.03331; UCAS-YanYang/LancBiO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subbio {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v inside the plane's second direction.
    pub step_v: f64,
    /// Steps of y in each step.
    pub lower_steps: u64,
    /// What v is on the plane.
    pub solve: SubspaceSolve,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Subbio {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            step_v: 0.5,
            lower_steps: 5,
            solve: SubspaceSolve::LeastSquares,
            tol: None,
        }
    }
}

/// A direction whose part outside the other is below this share of it adds nothing.
const NEGLIGIBLE: f64 = 1e-12;

/// An orthonormal basis of the span of two vectors.
fn orthonormal<Y: Vector>(first: Y, second: Y) -> Vec<Y> {
    let mut basis: Vec<Y> = Vec::new();
    for mut u in [first, second] {
        let length = u.norm();
        // twice: once leaves rounding of the size of the old length
        for _ in 0..2 {
            for q in &basis {
                let share = q.dot(&u);
                u.axpy(-share, q);
            }
        }
        let left = u.norm();
        if left > NEGLIGIBLE * length {
            u.scale(left.recip());
            basis.push(u);
        }
    }
    basis
}

impl<P: Problem> Solver<P> for Subbio
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = ImplicitState<P::X, P::Y>;
    const NAME: &'static str = "subbio";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        at_least_one("lower_steps", self.lower_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _oracles: &Oracles<P>, x: P::X, y: P::Y, _seed: u64) -> OracleResult<Self::State> {
        Ok(ImplicitState::new(x, y))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ImplicitState { x, y, v } = state;
        let by_y = descend_lower(oracles, x, y, (self.lower_steps, self.step_y), &mut Batches::full())?;
        let (f_x, b) = oracles.upper.grad(x, y, Sample::Full)?;

        let hessian = |u: &P::Y| oracles.lower.hvp_yy(x, y, u, Sample::Full);
        let basis = match self.solve {
            SubspaceSolve::Galerkin => orthonormal(b.clone(), v.plus(-self.step_v, &hessian(v)?)),
            SubspaceSolve::LeastSquares => {
                orthonormal(hessian(&b)?, v.plus(-self.step_v, &hessian(&hessian(v)?)?))
            }
        };
        let images = basis.iter().map(hessian).collect::<OracleResult<Vec<P::Y>>>()?;
        let dim = basis.len();
        let (matrix, rhs) = match self.solve {
            SubspaceSolve::Galerkin => (
                DMatrix::from_fn(dim, dim, |i, j| basis[i].dot(&images[j])),
                DVector::from_iterator(dim, basis.iter().map(|q| q.dot(&b))),
            ),
            SubspaceSolve::LeastSquares => {
                // in coordinates of the images, so that nothing is squared
                let tests = match &images[..] {
                    [first, second] => orthonormal(first.clone(), second.clone()),
                    _ => orthonormal(images.first().unwrap_or(&b).clone(), y.zeros_like()),
                };
                (
                    DMatrix::from_fn(tests.len(), dim, |i, j| tests[i].dot(&images[j])),
                    DVector::from_iterator(tests.len(), tests.iter().map(|test| test.dot(&b))),
                )
            }
        };
        let cut = NEGLIGIBLE * matrix.norm();
        let shares = matrix.svd(true, true).solve(&rhs, cut).unwrap_or_else(|_| DVector::zeros(dim));
        *v = y.zeros_like();
        for (share, q) in shares.iter().zip(&basis) {
            v.axpy(*share, q);
        }

        let d = implicit_gradient(oracles, (x, y), f_x, v, Sample::Full)?;
        let by_x = step_x(oracles, x, &d, self.step_x);
        Ok(report(&[by_x, by_y], self.tol, &[("lower_gradient", by_y), ("v_norm", v.norm())]))
    }
}

impl Registered for Subbio {
    const CARD: Card = Card {
        title: "SubBiO",
        summary: "v on a plane made of the gradient of f and a step from the old v",
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
        Self { step_y: 0.05, step_v: 0.005, ..Self::default() }
    }
}
