//! The two lower loops of F2BA and its relatives, and the direction in x that they give.

use serde::{Deserialize, Serialize};

use super::{Batches, Descent, lower_loop::Walker};
use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// At which iterate the loop of y takes the gradient of g.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LowerGradient {
    /// At y.
    AtY,
    /// At z, as in the released code: y − z then drifts along −∇_y f and never contracts.
    AtZ,
}

/// Both loops: z on g, y on g + f/λ.
pub(in crate::solvers) struct TwoLoops {
    pub lambda: f64,
    pub y: Descent,
    pub z: Descent,
    pub lower_gradient: LowerGradient,
}

impl TwoLoops {
    /// Runs both loops in turn, one step of z and one of y at a time; returns the norms of the last prox-gradients of y
    /// and z.
    pub fn run<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        x: &P::X,
        (y, z): (&mut P::Y, &mut P::Y),
        batches: &mut Batches,
    ) -> OracleResult<(f64, f64)> {
        let prox = |y: &mut P::Y, step: f64| oracles.prox_y(y, step);
        let (mut walk_y, mut walk_z) = (Walker::new(self.y), Walker::new(self.z));
        let mut residuals = (0.0, 0.0);
        for _ in 0..self.z.steps {
            // ∇_y g at z
            let ahead_z = walk_z.ahead(z);
            let g_z = oracles.lower.grad_y(x, &ahead_z, batches.lower().sample())?;
            // ∇_y f/λ + ∇_y g at y (or, as released, the gradient at z)
            let ahead_y = walk_y.ahead(y);
            let mut h_y = match self.lower_gradient {
                LowerGradient::AtY => oracles.lower.grad_y(x, &ahead_y, batches.lower().sample())?,
                LowerGradient::AtZ => g_z.clone(),
            };
            let f_y = oracles.upper.grad_y(x, &ahead_y, batches.upper().sample())?;
            h_y.axpy(self.lambda.recip(), &f_y);

            residuals.1 = walk_z.advance(z, &ahead_z, g_z, &prox);
            residuals.0 = walk_y.advance(y, &ahead_y, h_y, &prox);
        }
        Ok(residuals)
    }
}

/// ∇_x f(x, y) + λ(∇_x g(x, y) − ∇_x g(x, z)); the two gradients of g are taken on one sample, so that their noise cancels.
pub(in crate::solvers) fn direction_x<P: Problem>(
    oracles: &Oracles<P>,
    x: &P::X,
    (y, z): (&P::Y, &P::Y),
    lambda: f64,
    (upper, lower): (Sample, Sample),
) -> OracleResult<P::X> {
    let mut d = oracles.upper.grad_x(x, y, upper)?;
    d.axpy(lambda, &oracles.lower.grad_x(x, y, lower)?);
    d.axpy(-lambda, &oracles.lower.grad_x(x, z, lower)?);
    Ok(d)
}
