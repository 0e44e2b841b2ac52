//! Both second-order products along one direction from two joint gradients.

use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// Central differences of ∇g along v: y ± δv.
#[derive(Clone, Copy, Debug)]
pub(in crate::solvers) enum Difference {
    /// δ = ε^(1/3)(1 + |y|)/|v|, at which truncation and rounding balance; ε the resolution of y.
    Relative,
    /// δ whatever the length of v.
    Fixed(f64),
}

impl Difference {
    /// δ; `None` for v = 0.
    fn radius<Y: Vector>(self, y: &Y, v: &Y) -> Option<f64> {
        let length = v.norm();
        (length > 0.0).then(|| match self {
            Self::Relative => y.resolution().cbrt() * (1.0 + y.norm()) / length,
            Self::Fixed(radius) => radius,
        })
    }
    /// (∇²_xy g · v, ∇²_yy g · v): two joint gradients, none for v = 0.
    pub fn products<P: Problem>(
        self,
        oracles: &Oracles<P>,
        x: &P::X,
        y: &P::Y,
        v: &P::Y,
    ) -> OracleResult<(P::X, P::Y)> {
        let Some(radius) = self.radius(y, v) else { return Ok((x.zeros_like(), y.zeros_like())) };
        let (mut by_x, mut by_y) = oracles.lower.grad(x, &y.plus(radius, v), Sample::Full)?;
        let behind = oracles.lower.grad(x, &y.plus(-radius, v), Sample::Full)?;
        by_x.axpy(-1.0, &behind.0);
        by_y.axpy(-1.0, &behind.1);
        by_x.scale(0.5 / radius);
        by_y.scale(0.5 / radius);
        Ok((by_x, by_y))
    }
    /// ∇²_yy g · v: two gradients in y, none for v = 0.
    pub fn hvp_yy<P: Problem>(
        self,
        oracles: &Oracles<P>,
        x: &P::X,
        y: &P::Y,
        v: &P::Y,
    ) -> OracleResult<P::Y> {
        let Some(radius) = self.radius(y, v) else { return Ok(y.zeros_like()) };
        let mut product = oracles.lower.grad_y(x, &y.plus(radius, v), Sample::Full)?;
        product.axpy(-1.0, &oracles.lower.grad_y(x, &y.plus(-radius, v), Sample::Full)?);
        product.scale(0.5 / radius);
        Ok(product)
    }
}
