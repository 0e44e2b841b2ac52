//! What a user states: two objectives, a start, and constraints by proximal maps.

use crate::{error::OracleResult, vector::Vector};

/// Which terms of an expectation or finite sum an oracle call averages over.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// All terms, or the exact expectation.
    Full,
    /// The terms with these indices (for a stream: the draws with these numbers), each with equal weight.
    Batch(&'a [u64]),
}

impl Sample<'_> {
    /// Number of samples that one call touches, of `n` in all; 1 when the objective is not a sum.
    pub fn size(&self, n: Option<u64>) -> u64 {
        match self {
            Sample::Full => n.unwrap_or(1),
            Sample::Batch(indices) => indices.len() as u64,
        }
    }
}

/// One level's objective, differentiable in (x, y).
pub trait Objective<X, Y> {
    /// The value at (x, y).
    fn value(&self, x: &X, y: &Y, s: Sample) -> OracleResult<f64>;
    /// Gradient with respect to the upper variable x.
    fn grad_x(&self, x: &X, y: &Y, s: Sample) -> OracleResult<X>;
    /// Gradient with respect to the lower variable y.
    fn grad_y(&self, x: &X, y: &Y, s: Sample) -> OracleResult<Y>;
    /// Both gradients; override when one pass gives both.
    fn grad(&self, x: &X, y: &Y, s: Sample) -> OracleResult<(X, Y)> {
        Ok((self.grad_x(x, y, s)?, self.grad_y(x, y, s)?))
    }
    /// Number of terms of a finite sum; `None` for one deterministic term or a stream.
    fn n_samples(&self) -> Option<u64> {
        None
    }
}

/// Products with second derivatives.
pub trait SecondOrder<X, Y>: Objective<X, Y> {
    /// H v = ∇²_yy · v.
    fn hvp_yy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<Y>;
    /// J v = ∇²_xy · v, a vector of X.
    fn jvp_xy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<X>;
    /// What one product costs.
    fn second_order_cost(&self) -> SecondOrderCost {
        SecondOrderCost::Exact
    }
}

/// The price of one product with a second derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondOrderCost {
    /// A product of its own, counted as such.
    Exact,
    /// Made of this many gradients (finite differences), counted as gradients.
    Gradients(u64),
}

/// A bilevel problem: min over x of f(x, y) with y in S(x) = argmin g(x, ·).
pub trait Problem {
    /// Upper variable.
    type X: Vector;
    /// Lower variable.
    type Y: Vector;
    /// Type of the upper objective f.
    type Upper: Objective<Self::X, Self::Y>;
    /// Type of the lower objective g.
    type Lower: Objective<Self::X, Self::Y>;
    /// The upper objective f.
    fn upper(&self) -> &Self::Upper;
    /// The lower objective g.
    fn lower(&self) -> &Self::Lower;
    /// A starting point for a seed.
    fn start(&self, seed: u64) -> (Self::X, Self::Y);
    /// x ← prox of the upper constraint or regulariser with this step; the identity when there is none.
    fn prox_x(&self, _x: &mut Self::X, _step: f64) {}
    /// Whether [`Problem::prox_x`] does anything.
    fn is_x_constrained(&self) -> bool {
        false
    }
    /// y ← prox of the lower constraint or regulariser with this step; the identity when there is none.
    fn prox_y(&self, _y: &mut Self::Y, _step: f64) {}
}
