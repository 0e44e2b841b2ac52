//! Everything that a dense implicit step needs at one point, as a vector that can be averaged.

use serde::{Deserialize, Serialize};

use super::{ClippedInverse, SpectrumCache};
use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// ∇_x f, ∇_y f, ∇_y g, ∇²_yy g and ∇²_xy g at one point, or averages of them; matrices as their columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct Derivatives<X, Y> {
    /// ∇_x f.
    pub f_x: X,
    /// ∇_y f.
    pub f_y: Y,
    /// ∇_y g.
    pub g_y: Y,
    /// Columns of ∇²_yy g.
    pub hessian: Vec<Y>,
    /// Columns of ∇²_xy g.
    pub cross: Vec<X>,
}

/// The unit vectors of the space of `like`.
fn units<V: Vector>(like: &V) -> impl Iterator<Item = V> {
    let dim = like.dim();
    (0..dim).map(move |j| {
        let mut unit = vec![0.0; dim];
        unit[j] = 1.0;
        like.with_coordinates(&unit)
    })
}

/// Columns of ∇²_yy g: one product for each coordinate of y.
pub(in crate::solvers) fn hessian_columns<P: Problem>(
    oracles: &Oracles<P>,
    x: &P::X,
    y: &P::Y,
    s: Sample,
) -> OracleResult<Vec<P::Y>>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    units(y).map(|unit| oracles.lower.hvp_yy(x, y, &unit, s)).collect()
}

impl<X: Vector, Y: Vector> Derivatives<X, Y> {
    /// All of them at (x, y), with samples for f, for ∇_y g and for the second derivatives: one gradient of f, one `grad_y`
    /// of g, y.dim() products of each kind.
    pub(in crate::solvers) fn at<P: Problem<X = X, Y = Y>>(
        oracles: &Oracles<P>,
        x: &X,
        y: &Y,
        (upper, lower, second): (Sample, Sample, Sample),
    ) -> OracleResult<Self>
    where
        P::Lower: SecondOrder<X, Y>,
    {
        let (f_x, f_y) = oracles.upper.grad(x, y, upper)?;
        Ok(Self {
            f_x,
            f_y,
            g_y: oracles.lower.grad_y(x, y, lower)?,
            hessian: hessian_columns(oracles, x, y, second)?,
            cross: units(y)
                .map(|unit| oracles.lower.jvp_xy(x, y, &unit, second))
                .collect::<OracleResult<Vec<X>>>()?,
        })
    }

    /// self ← self + a·other.
    pub(in crate::solvers) fn axpy(&mut self, a: f64, other: &Self) {
        self.f_x.axpy(a, &other.f_x);
        self.f_y.axpy(a, &other.f_y);
        self.g_y.axpy(a, &other.g_y);
        self.hessian.iter_mut().zip(&other.hessian).for_each(|(column, other)| column.axpy(a, other));
        self.cross.iter_mut().zip(&other.cross).for_each(|(column, other)| column.axpy(a, other));
    }
    /// self ← a·self.
    pub(in crate::solvers) fn scale(&mut self, a: f64) {
        self.f_x.scale(a);
        self.f_y.scale(a);
        self.g_y.scale(a);
        self.hessian.iter_mut().for_each(|column| column.scale(a));
        self.cross.iter_mut().for_each(|column| column.scale(a));
    }

    /// (∇_x f − ∇²_xy g · v, v) with v = S(H)⁻¹∇_y f, S the clip.
    pub(in crate::solvers) fn direction(
        &self,
        inverse: &ClippedInverse,
        cache: &mut SpectrumCache,
    ) -> (X, Y) {
        let v = inverse.apply(cache.of(&self.hessian), &self.f_y);
        let mut direction = self.f_x.clone();
        for (share, column) in v.coordinates().iter().zip(&self.cross) {
            direction.axpy(-share, column);
        }
        (direction, v)
    }

    /// Projects ∇_y f on the ball of radius `gradient`, and ∇²_xy g on that of Frobenius norm `cross`.
    pub(in crate::solvers) fn bound(&mut self, gradient: Option<f64>, cross: Option<f64>) {
        let excess = |norm: f64, bound: Option<f64>| bound.filter(|bound| norm > *bound).map(|b| b / norm);
        if let Some(factor) = excess(self.f_y.norm(), gradient) {
            self.f_y.scale(factor);
        }
        let norm = self.cross.iter().map(|column| column.dot(column)).sum::<f64>().sqrt();
        if let Some(factor) = excess(norm, cross) {
            self.cross.iter_mut().for_each(|column| column.scale(factor));
        }
    }
}
