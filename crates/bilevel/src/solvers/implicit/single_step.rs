//! What the methods that move x, y and v at once share: the three directions at a point, and the step along them.

use serde::{Deserialize, Serialize};

use super::{Direction, implicit_gradient};
use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample, SecondOrder},
    solvers::{
        StepInfo,
        penalty::{report, step_x, step_y},
    },
    vector::Vector,
};

/// D_x = ∇_x f − J v, D_y = ∇_y g and D_v = H v − ∇_y f, or H(H v − ∇_y f) for least squares; or estimates of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub(in crate::solvers) struct Directions<X, Y> {
    pub x: X,
    pub y: Y,
    pub v: Y,
}

impl<X: Vector, Y: Vector> Directions<X, Y> {
    /// At (x, y, v), on these terms of f, of g, and of g for the second H.
    pub fn at<P: Problem<X = X, Y = Y>>(
        oracles: &Oracles<P>,
        (x, y, v): (&X, &Y, &Y),
        direction: Direction,
        (upper, lower, second): (Sample, Sample, Sample),
    ) -> OracleResult<Self>
    where
        P::Lower: SecondOrder<X, Y>,
    {
        let d_y = oracles.lower.grad_y(x, y, lower)?;
        let mut d_v = oracles.lower.hvp_yy(x, y, v, lower)?;
        let (f_x, f_y) = oracles.upper.grad(x, y, upper)?;
        d_v.axpy(-1.0, &f_y);
        if direction == Direction::LeastSquares {
            d_v = oracles.lower.hvp_yy(x, y, &d_v, second)?;
        }
        Ok(Self { x: implicit_gradient(oracles, (x, y), f_x, v, lower)?, y: d_y, v: d_v })
    }

    pub fn axpy(&mut self, a: f64, other: &Self) {
        self.x.axpy(a, &other.x);
        self.y.axpy(a, &other.y);
        self.v.axpy(a, &other.v);
    }

    /// y ← prox(y − step_y D_y), v ← v − step_v D_v, x ← prox(x − step_x D_x), with steps of (x, y, v); reports the moves.
    pub fn advance<P: Problem<X = X, Y = Y>>(
        &self,
        oracles: &Oracles<P>,
        (x, y, v): (&mut X, &mut Y, &mut Y),
        (by_x, by_y, by_v): (f64, f64, f64),
        tol: Option<f64>,
    ) -> StepInfo {
        let moved_y = step_y(oracles, y, &self.y, by_y);
        v.axpy(-by_v, &self.v);
        let moved_x = step_x(oracles, x, &self.x, by_x);
        let residuals = [moved_x, moved_y, self.v.norm()];
        report(&residuals, tol, &[("lower_gradient", moved_y), ("v_norm", v.norm())])
    }
}
