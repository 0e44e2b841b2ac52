//! What the methods with an implicit hypergradient share: lower descent on batches, the direction of v, products by
//! differences, the clipped inverse, mirror maps and derivatives kept as averages.

mod clipped;
mod derivatives;
mod difference;
mod mirror;
mod single_step;

pub use clipped::{Clip, ClippedInverse};
pub use derivatives::Derivatives;
pub use mirror::MirrorMap;

pub(super) use clipped::SpectrumCache;
pub(super) use derivatives::hessian_columns;
pub(super) use difference::Difference;
pub(super) use single_step::Directions;

use serde::{Deserialize, Serialize};

use super::{
    State,
    penalty::{Batches, Descent, descend},
};
use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// How v follows the linear system `∇²_yy g · v = ∇_y f` by one product or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// v ← v − step_v(H v − ∇_y f). On a singular H the kernel part of v grows by step_v·Π_k∇_y f a step.
    #[default]
    Plain,
    /// v ← v + step_v H(∇_y f − H v), steepest descent on |∇_y f − H v|²/2: v stays in the range of H. Needs step_v < 2/L².
    LeastSquares,
}

/// Where v starts at every step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VStart {
    /// At 0.
    #[default]
    Zero,
    /// Where the step before left it.
    Warm,
}

/// State of a method that keeps x, y and v.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct ImplicitState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
    /// Iterate of the linear system.
    pub v: Y,
}

impl<X: Vector, Y: Vector> ImplicitState<X, Y> {
    /// v starts at 0.
    pub(super) fn new(x: X, y: Y) -> Self {
        Self { x, v: y.zeros_like(), y }
    }
}

impl<X: Vector, Y: Vector> State<X, Y> for ImplicitState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

/// `steps` times y ← prox(y − step ∇_y g(x, y)), a batch each; returns the norm of the last prox-gradient.
pub(super) fn descend_lower<P: Problem>(
    oracles: &Oracles<P>,
    x: &P::X,
    y: &mut P::Y,
    (steps, step): (u64, f64),
    batches: &mut Batches,
) -> OracleResult<f64> {
    descend(
        y,
        Descent::plain(steps, step),
        &mut |y| oracles.lower.grad_y(x, y, batches.lower().sample()),
        &|y, step| oracles.prox_y(y, step),
    )
}

/// ∇_x f − ∇²_xy g · v.
pub(super) fn implicit_gradient<P: Problem>(
    oracles: &Oracles<P>,
    (x, y): (&P::X, &P::Y),
    f_x: P::X,
    v: &P::Y,
    s: Sample,
) -> OracleResult<P::X>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let mut gradient = f_x;
    gradient.axpy(-1.0, &oracles.lower.jvp_xy(x, y, v, s)?);
    Ok(gradient)
}
