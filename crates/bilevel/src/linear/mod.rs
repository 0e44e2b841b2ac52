//! Linear systems with the lower Hessian, which is singular whenever S(x) is a manifold.
//!
//! | solver | operator | right-hand side | choose it when |
//! |---|---|---|---|
//! | [`cg::Cg`] | positive definite | any | the Hessian is damped, H + γI |
//! | [`minres::Minres`] | symmetric, may be singular or indefinite | in the range (or least squares) | the default without factorisation, through [`pseudoinverse::two_solve`] |
//! | [`lsmr::Lsmr`] | symmetric, any | any; least squares | far from S(x), or a part of the right-hand side outside the range |
//! | [`neumann::Neumann`] | positive semidefinite, norm known | in the range | a baseline only |
//! | [`dense::Spectrum`] | symmetric, dimension up to about 2,000 | any; least squares | exact rank, kernel and pseudoinverse are wanted |

mod any;
pub mod cg;
pub mod dense;
pub mod lanczos;
pub mod lsmr;
pub mod minres;
pub mod neumann;
pub mod pseudoinverse;
mod tridiagonal;

#[cfg(test)]
mod test_systems;

pub use any::AnyLinear;

use serde::{Deserialize, Serialize};

use crate::{
    error::{ConfigError, OracleError, OracleResult},
    vector::Vector,
};

/// A symmetric operator as its product with a vector.
pub type Apply<'a, V> = &'a mut dyn FnMut(&V) -> OracleResult<V>;

/// How a linear solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinearStatus {
    /// The residual, or with a damping the normal residual, is below the tolerance.
    Solved,
    /// The right-hand side has a part outside the range; the solution is the least-squares one as far as the solver
    /// supports it (CG does not: its solution is the last iterate before the breakdown).
    Inconsistent,
    /// A direction of negative curvature was met by a solver that needs positive definiteness.
    NegativeCurvature,
    /// The iteration limit was reached first.
    OutOfIterations,
}

impl LinearStatus {
    /// Whether the solution is one in the least-squares sense, as MINRES and LSMR give it: the system may be inconsistent.
    pub fn is_least_squares(self) -> bool {
        matches!(self, Self::Solved | Self::Inconsistent)
    }
}

/// What a linear solve returns.
#[derive(Clone, Debug)]
pub struct LinearSolution<V> {
    /// The solution v.
    pub solution: V,
    /// |A v − b|.
    pub residual: f64,
    /// |A (A v − b)|, zero at a least-squares solution; with a damping γ, |A (A v − b) + γ² v|. Measured, except that CG
    /// gives the bound ‖A‖·|A v − b| with its estimate of ‖A‖.
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

impl<V: Vector> LinearSolution<V> {
    /// The guess as an answer, and b − A·guess; the product is saved when the guess is zero.
    fn at_guess(apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<(Self, V)> {
        let mut answer = Self {
            solution: guess.clone(),
            residual: checked_norm(rhs)?,
            normal_residual: 0.0,
            products: 0,
            iterations: 0,
            operator_norm: None,
            smallest_ritz: None,
            status: LinearStatus::Solved,
        };
        let mut residual = rhs.clone();
        if checked_norm(guess)? > 0.0 {
            residual.axpy(-1.0, &checked_product(apply, guess)?);
            answer.products += 1;
            answer.residual = checked_norm(&residual)?;
        }
        Ok((answer, residual))
    }

    /// Measures the residual, for one product, and returns b − A·solution.
    fn measure_residual(&mut self, apply: Apply<V>, rhs: &V) -> OracleResult<V> {
        let residual = rhs.plus(-1.0, &checked_product(apply, &self.solution)?);
        self.residual = residual.norm();
        self.products += 1;
        Ok(residual)
    }

    /// Measures both residuals, for two products, and returns b − A·solution.
    fn measure(&mut self, apply: Apply<V>, rhs: &V) -> OracleResult<V> {
        let residual = self.measure_residual(apply, rhs)?;
        self.normal_residual = checked_product(apply, &residual)?.norm();
        self.products += 1;
        Ok(residual)
    }
}

/// A solver of A v = b with a symmetric operator A.
pub trait LinearSolver<V> {
    /// Solves from the starting guess. Fails only when the operator fails; every mathematical end is a status.
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>>;
}

/// The product, when it is finite.
fn checked_product<V: Vector>(apply: Apply<V>, v: &V) -> OracleResult<V> {
    let product = apply(v)?;
    if product.is_finite() {
        Ok(product)
    } else {
        Err(OracleError::NonFinite { oracle: "the linear operator" })
    }
}

/// The norm, when it is finite.
fn checked_norm<V: Vector>(v: &V) -> OracleResult<f64> {
    let norm = v.norm();
    if norm.is_finite() { Ok(norm) } else { Err(OracleError::NonFinite { oracle: "the linear system" }) }
}

fn require_tolerance(tolerance: f64) -> Result<(), ConfigError> {
    ConfigError::require(
        (1e-15..1.0).contains(&tolerance),
        "tolerance",
        tolerance,
        "a relative residual lies between 1e-15, the rounding of f64, and 1; 1e-10 is usual",
    )
}

fn require_max_iterations(max_iterations: u64) -> Result<(), ConfigError> {
    ConfigError::require(max_iterations >= 1, "max_iterations", max_iterations, "give at least 1")
}
