//! One objective in y alone: what landing and refining see of a problem at a fixed x.

use crate::{
    error::{OracleError, OracleResult},
    oracles::Oracles,
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// A twice differentiable function of y.
pub trait Level<Y> {
    /// Its value.
    fn value(&self, y: &Y) -> OracleResult<f64>;
    /// Its gradient.
    fn gradient(&self, y: &Y) -> OracleResult<Y>;
    /// Its Hessian times v.
    fn hessian_product(&self, y: &Y, v: &Y) -> OracleResult<Y>;
}

/// A bilevel problem at a fixed x: both levels as functions of y, all calls counted.
pub struct At<'a, P: Problem> {
    /// The counted oracles.
    pub oracles: &'a Oracles<'a, P>,
    /// The upper variable.
    pub x: &'a P::X,
    /// f is multiplied by this: 1 when f is minimised over S(x), −1 when it is maximised.
    pub sign: f64,
}

impl<P: Problem> Clone for At<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Problem> Copy for At<'_, P> {}

impl<'a, P: Problem> At<'a, P> {
    /// The same problem at another x.
    #[must_use]
    pub fn moved_to<'b>(&self, x: &'b P::X) -> At<'b, P>
    where
        'a: 'b,
    {
        At { oracles: self.oracles, x, sign: self.sign }
    }
    /// ±f.
    pub fn f(&self, y: &P::Y) -> OracleResult<f64> {
        Ok(self.sign * self.oracles.upper.value(self.x, y, Sample::Full)?)
    }
    /// ±∇_x f.
    pub fn f_x(&self, y: &P::Y) -> OracleResult<P::X> {
        Ok(self.oracles.upper.grad_x(self.x, y, Sample::Full)?.scaled(self.sign))
    }
    /// ±∇_y f.
    pub fn f_y(&self, y: &P::Y) -> OracleResult<P::Y> {
        Ok(self.oracles.upper.grad_y(self.x, y, Sample::Full)?.scaled(self.sign))
    }
    /// ∇_x g.
    pub fn g_x(&self, y: &P::Y) -> OracleResult<P::X> {
        self.oracles.lower.grad_x(self.x, y, Sample::Full)
    }
}

impl<P: Problem> At<'_, P>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    /// J v = ∇²_xy g · v.
    pub fn j(&self, y: &P::Y, v: &P::Y) -> OracleResult<P::X> {
        self.oracles.lower.jvp_xy(self.x, y, v, Sample::Full)
    }
    /// Jᵀ u by a central difference of ∇_y g along x: two `grad_y`.
    pub fn j_transposed(&self, y: &P::Y, u: &P::X) -> OracleResult<P::Y> {
        let Some(h) = difference_step(self.x, u) else { return Ok(y.zeros_like()) };
        let (ahead, behind) = (self.x.plus(h, u), self.x.plus(-h, u));
        let (ahead, behind) = (self.moved_to(&ahead).gradient(y)?, self.moved_to(&behind).gradient(y)?);
        Ok(central_difference(&ahead, &behind, h))
    }
}

/// The lower level g(x, ·).
impl<P: Problem> Level<P::Y> for At<'_, P>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    fn value(&self, y: &P::Y) -> OracleResult<f64> {
        self.oracles.lower.value(self.x, y, Sample::Full)
    }
    fn gradient(&self, y: &P::Y) -> OracleResult<P::Y> {
        self.oracles.lower.grad_y(self.x, y, Sample::Full)
    }
    fn hessian_product(&self, y: &P::Y, v: &P::Y) -> OracleResult<P::Y> {
        self.oracles.lower.hvp_yy(self.x, y, v, Sample::Full)
    }
}

/// g(x, ·) + σ f(x, ·), whose minimiser tends to the selection as σ → 0. The Hessian of f by differences.
pub struct PenalisedLevel<'a, P: Problem> {
    /// The problem at x.
    pub at: At<'a, P>,
    /// Weight σ of the upper objective; 1/σ is the multiplier of g in the penalty methods.
    pub sigma: f64,
}

impl<P: Problem> Level<P::Y> for PenalisedLevel<'_, P>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    fn value(&self, y: &P::Y) -> OracleResult<f64> {
        Ok(self.at.value(y)? + self.sigma * self.at.f(y)?)
    }
    fn gradient(&self, y: &P::Y) -> OracleResult<P::Y> {
        Ok(self.at.gradient(y)?.plus(self.sigma, &self.at.f_y(y)?))
    }
    fn hessian_product(&self, y: &P::Y, v: &P::Y) -> OracleResult<P::Y> {
        let product = self.at.hessian_product(y, v)?;
        Ok(product.plus(self.sigma, &differential(y, v, |y| self.at.f_y(y))?))
    }
}

/// Step of a central difference at `point` along `direction`: ε^(1/3)(1 + |point|)/|direction|, which balances the
/// truncation error O(h²) and the rounding error O(ε/h). `None` along the zero direction.
pub fn difference_step<V: Vector>(point: &V, direction: &V) -> Option<f64> {
    let norm = direction.norm();
    (norm > 0.0).then(|| point.resolution().cbrt() * (1.0 + point.norm()) / norm)
}

/// (ahead − behind)/2h.
fn central_difference<V: Vector>(ahead: &V, behind: &V, h: f64) -> V {
    ahead.plus(-1.0, behind).scaled(0.5 / h)
}

/// Derivative at y along t of a vector-valued function, by a central difference: two evaluations.
pub fn differential<Y: Vector, V: Vector>(
    y: &Y,
    t: &Y,
    mut function: impl FnMut(&Y) -> OracleResult<V>,
) -> OracleResult<V> {
    match difference_step(y, t) {
        Some(h) => Ok(central_difference(&function(&y.plus(h, t))?, &function(&y.plus(-h, t))?, h)),
        None => Ok(function(y)?.scaled(0.0)),
    }
}

/// A value at a trial point: a point where the function is not finite is merely a bad one.
pub fn trial_value(value: OracleResult<f64>) -> OracleResult<f64> {
    match value {
        Err(OracleError::NonFinite { .. }) => Ok(f64::INFINITY),
        other => other,
    }
}
