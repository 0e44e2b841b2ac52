//! A⁺b and the kernel part of b by two consistent solves, without factorisation.

use super::{Apply, LinearSolution, LinearSolver, LinearStatus, checked_product};
use crate::{error::OracleResult, vector::Vector};

/// What [`two_solve`] returns.
#[derive(Clone, Debug)]
pub struct TwoSolve<V> {
    /// The solve A s = A b; its solution s is the part of b in the range of A.
    pub range: LinearSolution<V>,
    /// The solve A v = s; its solution v is A⁺b.
    pub inverse: LinearSolution<V>,
    /// b − s, the projection of b on the kernel of A.
    pub kernel_part: V,
    /// `Solved`, or the end of the first solve that ended otherwise.
    pub status: LinearStatus,
    /// Products with the operator, both solves together.
    pub products: u64,
}

impl<V> TwoSolve<V> {
    /// A⁺b.
    pub fn solution(&self) -> &V {
        &self.inverse.solution
    }
    /// The part of b in the range of A.
    pub fn range_part(&self) -> &V {
        &self.range.solution
    }
}

/// Splits b into its parts in the range and in the kernel of A, and returns A⁺b.
///
/// Solves A s = A b from zero, then A v = s from zero, by a solver whose iterates stay in the Krylov space of
/// its right-hand side ([`super::minres::Minres`]). Both right-hand sides lie in the range of A, so neither Krylov
/// space ever leaves it, whatever kernel part b has.
pub fn two_solve<V: Vector>(
    solver: &impl LinearSolver<V>,
    apply: Apply<V>,
    rhs: &V,
) -> OracleResult<TwoSolve<V>> {
    let zero = rhs.zeros_like();
    let image = checked_product(apply, rhs)?;
    let range = solver.solve(apply, &image, &zero)?;
    let inverse = solver.solve(apply, &range.solution, &zero)?;
    // A b carries rounding of this size, which a b (almost) in the kernel leaves as the whole right-hand side.
    let rounding = 100.0 * f64::EPSILON * range.operator_norm.unwrap_or(0.0) * rhs.norm();
    let is_split = range.status == LinearStatus::Solved || range.residual <= rounding;
    let is_inverted =
        inverse.status == LinearStatus::Solved || inverse.residual <= 100.0 * f64::EPSILON * rhs.norm();
    Ok(TwoSolve {
        kernel_part: rhs.plus(-1.0, &range.solution),
        status: match (is_split, is_inverted) {
            (true, true) => LinearStatus::Solved,
            (true, false) => inverse.status,
            (false, _) => range.status,
        },
        products: 1 + range.products + inverse.products,
        range,
        inverse,
    })
}
