//! Linear systems with the lower Hessian, which is singular whenever S(x) is a manifold.
//!
//! | solver | operator | right-hand side | choose it when |
//! |---|---|---|---|
//! | [`cg::Cg`] | positive definite | any | the Hessian is damped, H + γI |
//! | [`minres::Minres`] | symmetric, may be singular or indefinite | in the range (or least squares) | the default without factorisation |
//! | [`lsmr::Lsmr`] | symmetric, any | any; least squares | far from S(x), or a part of the right-hand side outside the range |
//! | [`neumann::Neumann`] | positive semidefinite, norm known | in the range | a baseline only |
//! | [`dense::Spectrum`] | symmetric, dimension up to about 2,000 | any; least squares | exact rank, kernel and pseudoinverse are wanted |

pub mod dense;

use serde::{Deserialize, Serialize};

use crate::error::OracleResult;

/// A symmetric operator as its product with a vector.
pub type Apply<'a, V> = &'a mut dyn FnMut(&V) -> OracleResult<V>;

/// How a linear solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinearStatus {
    /// The residual, or for least squares the normal residual, is below the tolerance.
    Solved,
    /// The right-hand side has a part outside the range; the solution is the least-squares one as far as the solver
    /// supports it (CG does not: its solution is the last iterate before the breakdown).
    Inconsistent,
    /// A direction of negative curvature was met by a solver that needs positive definiteness.
    NegativeCurvature,
    /// The iteration limit was reached first.
    OutOfIterations,
}

/// What a linear solve returns.
#[derive(Clone, Debug)]
pub struct LinearSolution<V> {
    /// The solution v.
    pub solution: V,
    /// |A v − b|.
    pub residual: f64,
    /// |A (A v − b)|, zero at a least-squares solution.
    pub normal_residual: f64,
    /// Products with the operator.
    pub products: u64,
    /// Iterations.
    pub iterations: u64,
    /// Estimate of ‖A‖ from below, when the method has one.
    pub operator_norm: Option<f64>,
    /// Ritz value of smallest modulus on the Krylov space, when the method has one.
    pub smallest_ritz: Option<f64>,
    /// How it ended.
    pub status: LinearStatus,
}

/// A solver of A v = b with a symmetric operator A.
pub trait LinearSolver<V> {
    /// Solves from the starting guess. Fails only when the operator fails; every mathematical end is a status.
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>>;
}
